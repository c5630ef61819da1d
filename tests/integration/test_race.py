"""benchmarks/race.py: two tiny entries on a few iterations."""
import argparse
import json
import signal
import subprocess
import sys
import time

import pytest
import race
import race_entries
import race_run
import torch
from conftest import HANGS, SMALL_OPTIONS
from forked import Forked, command_lines
from race_entries import Length

from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config
from facesr.engine.train import build_stream
from facesr.evaluation.evaluator import bicubic_psnr, evaluate
from facesr.evaluation.metrics import build_metrics
from facesr.evaluation.test import load_split
from facesr.inference.network import network
from facesr.models.build import load_model
from facesr.utils.errors import UserError
from facesr.utils.lock import WorkDirLock

TINY = f'configs/srresnet_ffhq.py {" ".join(SMALL_OPTIONS)}'
HOW = ('--points', '2', '--batch', '1', '--patch', '32', '--jobs', '2')
ENTRIES = (f'l1={TINY} ema=0.5', f'psnr={TINY} model.pixel_loss.type=PSNRLoss')


@pytest.fixture
def command(tiny_root, tmp_path):
    """The command line of a race in `tmp_path/race`."""

    def of(*arguments):
        return [sys.executable, 'benchmarks/race.py', *ENTRIES, '--data-root', str(tiny_root), '--out-dir',
                str(tmp_path / 'race'), *HOW, *arguments]

    return of


@pytest.fixture
def prepare(tiny_root, tmp_path, monkeypatch):
    """Does what a race does before it trains, with arguments as on the command line."""

    def run(*arguments):
        entries = [] if any('=' in argument for argument in arguments) else ENTRIES[:1]
        monkeypatch.setattr(sys, 'argv', ['race.py', *entries, *arguments, '--data-root', str(tiny_root), '--out-dir',
                                          str(tmp_path / 'race'), '--points', '2', '--batch', '1', '--patch', '32'])
        args = race.parse_args()
        return race.prepare([race.parse_entry(text) for text in args.entries], args)

    return run


@pytest.fixture
def race_here(tiny_root, tmp_path, monkeypatch, capsys):
    """Runs a race in this process, with its runs; returns what it printed and `race.json`."""

    class Done:
        returncode = 0

        def poll(self):
            return 0

    def start(job, args):
        monkeypatch.setattr(sys, 'argv', ['race_run.py', *map(str, job.arguments), '--out', str(job.result)])
        job.result.parent.mkdir(parents=True, exist_ok=True)
        race_run.main()
        return Done()

    def run(*arguments):
        monkeypatch.setattr(race, 'start', start)
        monkeypatch.setattr(sys, 'argv', ['race.py', *arguments, '--data-root', str(tiny_root), '--out-dir',
                                          str(tmp_path / 'race')])
        race.main()
        return capsys.readouterr().out, json.loads((tmp_path / 'race/race.json').read_text())

    return run


@pytest.mark.slow
def test_a_race_and_its_continuation(command, run_command, race_here, prepare, tmp_path):
    done = run_command(command('--iterations', '4', '--seeds', '1'))
    assert 'l1, seed 0: done' in done.stdout and 'one seed says nothing' in done.stdout, done.stderr
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob('race/*/*/seed_0/iter_4.pth')}
    assert len(before) == 2

    out, found = race_here(*ENTRIES, '--iterations', '4', '--seeds', '2', *HOW)
    assert 'seed 0: done' not in out and 'psnr, seed 1: done' in out and 'done (2 of 2)' in out
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # nothing is trained twice
    labels = [row['label'] for row in found['results']]
    assert labels == ['l1', 'l1 (EMA)', 'psnr'] and 0 < found['cpu_hours'] < 1
    reference, _, psnr = found['results']
    assert [iteration for iteration, _ in psnr['curves']['1']] == [2, 4]
    assert reference['difference'] is None and psnr['final']['1'] == psnr['curves']['1'][-1][1]
    assert psnr['difference']['mean'] == pytest.approx(
        sum(psnr['final'][seed] - reference['final'][seed] for seed in '01') / 2)
    assert (tmp_path / 'race/race.png').read_bytes().startswith(b'\x89PNG')

    first = [build_stream(load_config(tmp_path / f'race/{label}/iterations_4.py')).next() for label in ('l1', 'psnr')]
    assert torch.equal(first[0]['lq'], first[1]['lq']) and torch.equal(first[0]['gt'], first[1]['gt'])
    for changed, message in ((['--iterations', '6'], 'race: has a race with iterations=4; give another --out-dir'),
                             ([f'l1={TINY} ema=0.9', f'psnr={TINY}', '--iterations', '4'],
                              'the entry l1 was another one when it was trained'),
                             (['--iterations', '4', '--seeds', '2'], 'its results also have psnr; give them too'),
                             ([*ENTRIES, '--iterations', '4', '--seeds', '1'], 'its results also have 2 seeds')):
        with pytest.raises(UserError, match=message):
            prepare(*changed)


@pytest.mark.slow
def test_a_race_that_is_stopped_goes_on(command, tmp_path):
    process = Forked(command('--iterations', '3000', '--seeds', '1'), stderr=tmp_path / 'stderr')
    try:
        deadline = time.monotonic() + HANGS
        while not any('Iter [' in path.read_text() for path in tmp_path.glob('race/*/*/seed_0.txt')):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
    finally:  # also of a test that failed
        process.send_signal(signal.SIGTERM)
        process.wait(HANGS)
    assert process.returncode == 2 and 'the same command goes on' in (tmp_path / 'stderr').read_text()
    assert list(tmp_path.glob('race/*/*/seed_0/iter_*.pth'))  # saved
    assert not any(f'{tmp_path}/race' in line for line in command_lines())


def test_an_entry_that_was_not_trained_may_change_or_go(race_here, prepare, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    how = ['--iterations', '4', '--seeds', '1', *HOW]
    race_here(ENTRIES[0], *how)
    with monkeypatch.context() as here:
        here.setattr(race, 'run_all', stop)
        with pytest.raises(SystemExit, match='2'):
            race_here(*ENTRIES, *how)
    assert (tmp_path / 'race/psnr/iterations_4.py').exists()
    prepare(*ENTRIES[:1], *how[:4])
    prepare(ENTRIES[0], f'psnr={TINY} model.pixel_loss.type=MSELoss', *how[:4])
    for kept in ('seed_0/iter_2.pth', 'seed_0.json'):
        path = tmp_path / 'race/psnr/iterations_4' / kept
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        with pytest.raises(UserError, match='the entry psnr was another one when it was trained'):
            prepare(ENTRIES[0], f'psnr={TINY} model.pixel_loss.type=MSELoss', *how[:4])
        path.unlink()


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
    ([f'a={TINY}', f'b={TINY} optimizers.generator.weight_decoy=3'], 'b: config key "optimizers": .*weight_decoy'),
    ([f'a={TINY}', f'b={TINY} data.train.pipeline.1.flip_ratio=two'], 'b: .*"data.train.pipeline": Flip cannot'),
    ([f'a={TINY}', f'b={TINY} model.pixel_loss.loss_weight=abc'], 'b: in iteration 1: TypeError'),
    ([f'a={TINY}', f'b={TINY} lr_config.step=[a]'], 'config key "lr_config"'),
    ([f'a={TINY}', f'b={TINY} model.generator.mid_channels=0'], 'config key "model'),
    ([f'a={TINY}', f'b={TINY} lr_config.policy=Cosin'], 'b: config key "lr_config": .*Cosin'),
])
def test_mistakes_are_one_line(entries, message, prepare, tmp_path):
    with pytest.raises(UserError, match=message):
        prepare(*entries)
    assert not (tmp_path / 'race').exists()


@pytest.mark.slow
def test_equal_multiply_adds(race_here, prepare, tmp_path):
    # 3x3 convolutions: in, two of the block, two that upscale, two at 32x32.
    side = 32 // 4
    macs = side**2 * 9 * (3 * 8 + 2 * 8 * 8 + 8 * 32 + 4 * 8 * 32 + 16 * 8 * 8 + 16 * 8 * 3)
    base = f'{TINY} data.train_dataloader.samples_per_gpu=2'
    entries = [f'a={base} gt_patch_size=32', f'b={base} gt_patch_size=64 ema=0.5', f'c={TINY} amp=bf16']
    short, long = amounts = Length('macs', 8 * macs / 1e12), Length('macs', 16 * macs / 1e12)
    how = ['--macs', *(length.text for length in amounts), '--patch', '32', '--batch', '1', '--points', '2']
    out, found = race_here(*entries[:2], *how, '--seeds', '2', '1')
    assert f'a, {short}, seed 1: done (3 of 6)' in out and f'b, {long}, seed 0: done (6 of 6)' in out
    assert 'one seed says nothing of others; over images:' in out
    rows = {(row['length'], row['label']): row for row in found['results']}
    short, long = (float(length.text) for length in amounts)
    assert [rows[key]['iterations'] for key in ((short, 'a'), (short, 'b'), (long, 'a'), (long, 'b'))] == [4, 1, 8, 2]
    assert rows[long, 'a']['patch_macs'] == macs and rows[long, 'a']['macs'] == macs * (128 // side)**2
    assert sorted(rows[short, 'b (EMA)']['final']) == ['0', '1'] and list(rows[long, 'b (EMA)']['final']) == ['0']
    for row in rows.values():
        for seed, images in row['images'].items():
            assert len(images) == 2 and sum(images.values()) / 2 == pytest.approx(row['final'][seed])
            assert row['cpu_hours'][seed] > 0 and row['curves'][seed][-1] == [row['iterations'], row['final'][seed]]
    assert [iteration for iteration, _ in rows[long, 'a']['curves']['0']] == [4, 8]

    folder = tmp_path / f'race/a/macs_{amounts[1].text}'
    images, cfg = json.loads((folder / 'seed_0.json').read_text())['images'], load_config(f'{folder}.py')
    net, pairs = network(load_model(cfg, folder / 'seed_0/iter_8.pth')), load_split(cfg, 'val')
    for restored, result in evaluate(net, pairs, build_metrics(dict(metrics=['PSNR']))):
        assert images[result.name] == dict(PSNR=result.metrics['PSNR'],
                                           bicubic=bicubic_psnr(restored.lq, restored.gt))

    # One more entry, which the others' results wait for; what is finished stays.
    recipes, _ = prepare(*entries, *how, '--seeds', '2', '1', '--only', 'c')
    args = race.parse_args()
    trials = race.trials_of([race.parse_entry(text) for text in entries], recipes, args)
    assert [job.name for job in race.jobs_of(trials, args)] == [
        f'c, {amounts[0]}, seed 0', f'c, {amounts[0]}, seed 1', f'c, {amounts[1]}, seed 0']
    args.only = None
    assert len(race.jobs_of(trials, args)) == 3
    cfg = race_entries.race_config(trials[2].entry, trials[2].iterations, args)
    assert (trials[2].iterations, cfg.gt_patch_size, cfg.amp) == (8, 32, 'bf16')  # as --patch and --batch say
    for changed, message in ((['--macs', amounts[1].text], f'has a race with macs={amounts[0].text}; give another --o'),
                             ([*how[:3], '--seeds', '1'], 'its results also have 2 seeds of'),
                             (['--faces', '4'], 'has a race with cost=macs; give another --out-dir'),
                             ([*how[:3], '--only', 'd'], '--only d: no entry has this label')):
        with pytest.raises(UserError, match=message):
            prepare(*entries, *changed)


@pytest.mark.slow
def test_equal_cpu_time(race_here, prepare, monkeypatch, tmp_path):
    monkeypatch.setattr(race_run, 'WARM_UP', 1)
    monkeypatch.setattr(race_run, 'MEASURED', 2)
    entries = [f'a={TINY}', f'b={TINY} data.train_dataloader.samples_per_gpu=2']
    how = ['--patch', '32', '--batch', '1', '--points', '1', '--seeds', '1']
    out, found = race_here(entries[0], '--cpu-hours', '0.0001', *how)
    assert 'a, CPU seconds of an iteration: done (1 of 1)' in out
    measured = (tmp_path / 'race/a/calibration.json').read_bytes()
    row, = found['results']
    assert row['iterations'] == round(0.36 / json.loads(measured)['seconds'])
    assert 0.1 < row['cpu_hours']['0'] / 0.0001 < 10 and len(row['curves']['0']) == 1
    assert not list(tmp_path.glob('race/a/*/seed_0/best_*'))  # not validated twice at the end

    monkeypatch.setattr(race_run, 'calibrate', lambda *_: dict(seconds=0.12))
    race_here(entries[0], f'b={TINY}', '--cpu-hours', '0.0001', *how, '--only', 'a')
    out, found = race_here(*entries, '--cpu-hours', '0.0001', '0.0002', *how, '--only', 'b')
    assert 'b, CPU seconds of an iteration: done (1 of 1)' in out  # of another b
    assert (tmp_path / 'race/a/calibration.json').read_bytes() == measured
    before = (tmp_path / 'race/race.json').read_bytes()
    with pytest.raises(SystemExit, match='2'):
        race_here(f'{entries[0]} ema=0.5', entries[1], '--cpu-hours', '0.0001', '0.0002', *how)
    assert (tmp_path / 'race/race.json').read_bytes() == before
    assert [(row['label'], row['iterations']) for row in found['results']] == [('a', row['iterations']), ('b', 3)]
    assert json.loads((tmp_path / 'race/b/cpu_hours_0.0002/seed_0.json').read_text())['iterations'] == 6


def test_cpu_seconds_go_on_after_a_resume(tiny_config, tmp_path):
    def seconds(**more):
        cfg = tiny_config(**more)
        race_run._train(cfg, 'tiny', validate=True)
        checkpoint = tmp_path / f'work/iter_{cfg.total_iters}.pth'
        return read_checkpoint(checkpoint)['meta']['hook_msgs'][race_run.CPU]

    before = time.process_time()
    first = seconds()
    assert 0 < first < time.process_time() - before
    before = time.process_time()
    assert first < seconds(total_iters=4) < first + time.process_time() - before


def test_equal_faces_and_what_is_too_short(prepare):
    args = [f'a={TINY} data.train_dataloader.samples_per_gpu=8', f'b={TINY}', '--faces', '100', '20']
    recipes, _ = prepare(*args)
    entries, args = [race.parse_entry(text) for text in args[:2]], race.parse_args()
    trials = race.trials_of(entries, recipes, args)
    assert [(str(trial.length), trial.iterations) for trial in trials] == [
        ('20 faces', 2), ('20 faces', 20), ('100 faces', 12), ('100 faces', 100)]
    assert race_entries.race_config(entries[0], 12, args).lr_config.periods == [6, 6]
    with pytest.raises(UserError, match='a: 4 faces are less than an iteration'):
        prepare(f'a={TINY} data.train_dataloader.samples_per_gpu=9', '--faces', '4')


@pytest.mark.parametrize('arguments, message', [
    (['--macs', '0'], "argument --macs: '0' is not a number above 0"),
    (['--macs', '1', '--faces', '8'], 'argument --faces: not allowed with argument --macs'),
    (['--macs', '1', '2', '3', '--seeds', '3', '1'], '--seeds: 2 numbers for 3 lengths; give one, or one for each'),
])
def test_wrong_arguments_are_one_line(arguments, message, prepare, capsys):
    with pytest.raises(SystemExit, match='2'):
        prepare(*arguments)
    assert message in capsys.readouterr().err


def test_a_folder_has_one_race_at_a_time(race_here, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(race, 'prepare', lambda *_: ([], []))  # else the lock were something else in the folder
    with WorkDirLock(tmp_path / 'race', inherited=True), pytest.raises(SystemExit, match='2'):
        race_here(*ENTRIES)
    error = capsys.readouterr().err
    assert error.startswith(f'error: {tmp_path}/race: another training is using it') and error.endswith('--out-dir\n')


def test_the_former_name_of_its_folder_works(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, 'argv', ['race.py', 'a=x', '--data-root', 'x', '--out', str(tmp_path)])
    assert race.parse_args().out_dir == tmp_path
    assert capsys.readouterr().err.startswith('note: --out is called --out-dir now; ')


def test_a_schedule_shrinks():
    def short(config, iterations, **options):
        return race_entries._short_schedule(load_config(config, options), iterations)

    assert short('configs/srresnet_ffhq.py', 1001) == {'lr_config.periods': [500, 501]}
    assert short('configs/rrdbnet_ffhq.py', 4000) == {'lr_config.step': [500, 1000, 2000, 3000]}
    warm = {'lr_config.warmup': 'linear', 'lr_config.warmup_iters': 3000}
    assert short('configs/srresnet_ffhq_one_cycle.py', 1000, **warm) == {
        'lr_config.periods': [1000], 'lr_config.warmup_iters': 10}
    assert short('configs/rrdbnet_ffhq.py', 4000, **{'lr_config.step': 50000}) == {'lr_config.step': 500}
    once = {'lr_config': dict(policy='OneCycle', max_lr=1e-3, total_steps=300000)}
    assert short('configs/srresnet_ffhq.py', 1000, **once) == {
        'lr_config.periods': [500, 500], 'lr_config.total_steps': 1000}  # the former's stay, unread


@pytest.mark.parametrize('text', ['{', '{"settings": {}}', '[]'])
def test_another_programs_results_are_left_alone(text, prepare, tmp_path):
    (tmp_path / 'race').mkdir()
    (tmp_path / 'race/race.json').write_text(text)
    with pytest.raises(UserError, match='race.json: not the results of a race, or damaged; give another --out-dir'):
        prepare()
    assert (tmp_path / 'race/race.json').read_text() == text


def test_old_results_are_refused(prepare, tmp_path):
    (tmp_path / 'race').mkdir()
    settings = dict(data_root='x', iterations='4', points='2', patch='32', batch='1', amp='None')
    old = json.dumps(dict(settings=settings, entries=[], results=[], cpu_hours=1))
    (tmp_path / 'race/race.json').write_text(old)
    with pytest.raises(UserError, match='race.json: is of an earlier race.py, which kept other files; give another'):
        prepare()
    assert (tmp_path / 'race/race.json').read_text() == old


def test_of_an_error_in_a_run_the_line_is_shown(monkeypatch, tmp_path):
    def start(job, args):
        job.output.write_text('a line of the log\nerror: config key "optimizers": is wrong\n')
        return subprocess.Popen([sys.executable, '-c', 'raise SystemExit(2)'])

    monkeypatch.setattr(race, 'start', start)
    args = argparse.Namespace(jobs=1)
    with pytest.raises(UserError, match='^a, seed 0: config key "optimizers": is wrong$'):
        race.run_all([race.Job('a, seed 0', [], tmp_path / 'seed_0.json')], args, lambda seconds: None)
