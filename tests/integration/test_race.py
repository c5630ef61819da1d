"""benchmarks/race.py: two tiny entries on a few iterations."""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import scipy.stats
import torch
from conftest import HANGS, ROOT, SMALL_OPTIONS

sys.path.insert(0, str(ROOT / 'benchmarks'))
import race  # noqa: E402

from facesr.config import load_config  # noqa: E402
from facesr.errors import UserError  # noqa: E402
from facesr.training import build_stream  # noqa: E402

TINY = f'configs/srresnet_ffhq.py {" ".join(SMALL_OPTIONS)}'
ENTRIES = (f'l1={TINY} ema=0.5', f'psnr={TINY} model.pixel_loss.type=PSNRLoss')


@pytest.fixture
def command(tiny_root, tmp_path):
    """The command line of a race in `tmp_path/race`."""

    def of(*arguments):
        return [sys.executable, 'benchmarks/race.py', *ENTRIES, '--data-root', str(tiny_root), '--out',
                str(tmp_path / 'race'), '--points', '2', '--batch', '1', '--patch', '32', '--jobs', '2', *arguments]

    return of


@pytest.fixture
def prepare(tiny_root, tmp_path, monkeypatch):
    """Does what a race does before it trains, with arguments as on the command line."""

    def run(*arguments):
        entries = [] if any('=' in argument for argument in arguments) else ENTRIES[:1]
        monkeypatch.setattr(sys, 'argv', ['race.py', *entries, *arguments, '--data-root', str(tiny_root), '--out',
                                          str(tmp_path / 'race'), '--points', '2', '--batch', '1', '--patch', '32'])
        args = race.parse_args()
        return race.prepare([race.parse_entry(text) for text in args.entries], args)

    return run


@pytest.mark.slow
def test_a_race_and_its_continuation(command, run_command, prepare, tmp_path):
    done = run_command(command('--iterations', '4', '--seeds', '1'))
    assert 'l1, seed 0: done' in done.stdout and 'one seed says nothing' in done.stdout, done.stderr
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob('race/*/seed_0/iter_4.pth')}
    assert len(before) == 2

    done = run_command(command('--iterations', '4', '--seeds', '2'))
    assert 'seed 0: done' not in done.stdout and 'psnr, seed 1: done' in done.stdout, done.stderr
    assert 'done (2 of 2)' in done.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # nothing is trained twice
    found = json.loads((tmp_path / 'race/race.json').read_text())
    labels = [row['label'] for row in found['results']]
    assert labels == ['l1', 'l1 (EMA)', 'psnr'] and 0 < found['cpu_hours'] < 1
    reference, _, psnr = found['results']
    assert [iteration for iteration, _ in psnr['curves']['1']] == [2, 4]
    assert reference['difference'] is None and psnr['final']['1'] == psnr['curves']['1'][-1][1]
    assert psnr['difference']['mean'] == pytest.approx(
        sum(psnr['final'][seed] - reference['final'][seed] for seed in '01') / 2)
    assert (tmp_path / 'race/race.png').read_bytes().startswith(b'\x89PNG')

    first = [build_stream(load_config(tmp_path / f'race/{label}.py')).next() for label in ('l1', 'psnr')]
    assert torch.equal(first[0]['lq'], first[1]['lq']) and torch.equal(first[0]['gt'], first[1]['gt'])
    for changed, message in ((['--iterations', '6'], 'race: has a race with iterations=4; give another --out'),
                             (['--iterations', '4', f'l1={TINY} ema=0.9', f'psnr={TINY}'],
                              'the entry l1 was another one before'),
                             (['--iterations', '4', '--seeds', '2'], 'its results also have psnr; give them too'),
                             (['--iterations', '4', '--seeds', '1', *ENTRIES], 'its results also have 2 seeds')):
        with pytest.raises(UserError, match=message):
            prepare(*changed)


@pytest.mark.slow
def test_a_race_that_is_stopped_goes_on(command, tmp_path):
    process = subprocess.Popen(command('--iterations', '3000', '--seeds', '1'), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + HANGS
        while not any('Iter [' in path.read_text() for path in tmp_path.glob('race/*/seed_0.txt')):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
    finally:  # also of a test that failed
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 2 and 'the same command goes on' in errors
    assert list(tmp_path.glob('race/*/seed_0/iter_*.pth'))  # saved
    assert not any(f'{tmp_path}/race' in line for line in os.popen('ps -eo args').read().splitlines())


@pytest.mark.parametrize('entries, message', [
    (['nonsense'], "'nonsense': write LABEL=CONFIG"),
    (['"open'], 'write LABEL=CONFIG'),
    (['a/b=configs/srresnet_ffhq.py'], 'a label is made of letters'),
    (['a=configs/none.py'], 'configs/none.py: no such config'),
    ([f'a={TINY}', f'a={TINY} ema=0.9'], 'two entries have the same label'),
    ([f'a={TINY} total_iter=5'], 'no key "total_iter"'),
    ([f'a={TINY} amp=bf16'], 'a: amp is the same for all entries'),
    ([f'a={TINY} test_cfg.metrics=[SSIM]'], 'a: test_cfg.metrics lacks PSNR'),
    (['a=configs/esrgan_ffhq.py'], 'takes patches of 128x128 alone'),
])
def test_mistakes_are_one_line(entries, message, prepare, tmp_path):
    with pytest.raises(UserError, match=message):
        prepare(*entries)
    assert not (tmp_path / 'race').exists()


def test_a_schedule_shrinks():
    def short(config, iterations, **options):
        return race._short_schedule(load_config(config, options), iterations)

    assert short('configs/srresnet_ffhq.py', 1001) == {'lr_config.periods': [500, 501]}
    assert short('configs/rrdbnet_ffhq.py', 4000) == {'lr_config.step': [500, 1000, 2000, 3000]}
    warm = {'lr_config.warmup': 'linear', 'lr_config.warmup_iters': 3000}
    assert short('configs/srresnet_ffhq_one_cycle.py', 1000, **warm) == {
        'lr_config.periods': [1000], 'lr_config.warmup_iters': 10}


def test_the_interval_is_students():
    finals = {'a': [28.1, 28.3, 28.2, 28.6], 'b': [28.2, 28.5, 28.2, 28.8]}
    a, b = (race.Row(label, 1, {seed: [(1, 0.), (2, psnr)] for seed, psnr in enumerate(values)}, {})
            for label, values in finals.items())
    found = race.difference(b, a)
    expected = scipy.stats.ttest_rel(finals['b'], finals['a']).confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(tuple(expected))
    assert found.verdict() == 'not told apart: the difference is within its interval'
    assert race.Difference(0.2, 0.1).verdict() == 'better' and race.Difference(-0.2, 0.1).verdict() == 'worse'


@pytest.mark.parametrize('text', ['{', '{"settings": {}}', '[]'])
def test_another_programs_results_are_left_alone(text, prepare, tmp_path):
    (tmp_path / 'race').mkdir()
    (tmp_path / 'race/race.json').write_text(text)
    with pytest.raises(UserError, match='race.json: not the results of a race, or damaged; give another --out'):
        prepare()
    assert (tmp_path / 'race/race.json').read_text() == text


def test_a_picture_of_many_rows():
    rows = [race.Row(f'r{i}', 1, {seed: [(1, 28.1), (2, 28.1 + seed)] for seed in range(3)}, {}) for i in range(9)]
    assert len(race.figure_of(rows).legends[0].get_texts()) == 9


def test_seeds_that_only_one_has_are_left_out():
    a, b = (race.Row('x', 1, {seed: [(1, float(seed))] for seed in seeds}, {}) for seeds in ((0, 1, 2), (1, )))
    assert race.difference(b, a) == race.Difference(0., None)
    assert race.difference(a, race.Row('none', 1, {}, {})) is None


def test_of_an_error_in_a_run_the_line_is_shown(monkeypatch, tmp_path):
    def start(entry, seed, args):
        output = race.output_of(entry, seed, args)
        output.parent.mkdir()
        output.write_text('a line of the log\nerror: config key "optimizers": is wrong\n')
        return subprocess.Popen([sys.executable, '-c', 'raise SystemExit(2)'])

    monkeypatch.setattr(race, 'start', start)
    args = argparse.Namespace(out=tmp_path, seeds=1, jobs=1, iterations=4)
    with pytest.raises(UserError, match='^a, seed 0: config key "optimizers": is wrong$'):
        race.run_all([race.Entry('a', 'a.py', {})], args, lambda seconds: None)
