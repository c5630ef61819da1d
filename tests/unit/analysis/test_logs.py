"""JSON logs of runs."""
import json
import math

import pytest

from facesr.analysis.logs import read_runs
from facesr.utils.errors import UserError


def write_log(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{record if isinstance(record, str) else json.dumps(record)}\n' for record in records))
    return path


def train(i, loss=.1, **more):
    return dict(mode='train', epoch=1, iter=i, loss=loss, **more)


def val(i, psnr, **more):
    return dict(mode='val', epoch=1, iter=i, PSNR=psnr, **more)


def read(*paths):
    runs = read_runs(paths)
    return runs[0] if len(runs) == 1 else runs


def test_resumed_logs_are_joined_and_later_ones_count(tmp_path):
    write_log(tmp_path / '1.log.json', dict(env_info=''), *(train(i, .5) for i in range(10, 60, 10)), val(50, 20.))
    write_log(tmp_path / '2.log.json', dict(env_info=''))  # stopped before its first record
    write_log(tmp_path / '3.log.json', dict(env_info=''), *(train(i, .4) for i in range(35, 60, 5)), val(55, 21.))
    run = read(tmp_path)
    assert run.series('train', 'loss') == ([10, 20, 30, 35, 40, 45, 50, 55], [.5] * 3 + [.4] * 5)
    assert run.series('val', 'PSNR') == ([50, 55], [20., 21.])
    assert run.resumes == [35] and run.name == tmp_path.name and run.notes() == []


def test_broken_lines_are_skipped_and_counted(tmp_path):
    broken = ['{"mode": "tra', '[1, 2]', '7', '\0\0\0', '{"mode": "train", "loss": 1}', '[' * 100_000,
              '{"mode": "train", "iter": "5"}', '{"mode": "val", "iter": -5}', '{"mode": "train", "iter": true}']
    log = write_log(tmp_path / 'a.log.json', '', train(1, .5), *broken, train(2, .4), '{"other": 1}')
    with open(log, 'ab') as file:
        file.write(b'\xff\xfe{"mode"')
    run = read(log)
    assert run.series('train', 'loss') == ([1, 2], [.5, .4])
    assert run.notes() == [f'{len(broken) + 1} broken lines skipped in {log}'] and run.name == 'a'
    write_log(log, train(1), '{')
    assert read(log).notes() == [f'1 broken line skipped in {log}']


def test_values_that_are_no_numbers_are_passed_over(tmp_path):
    log = write_log(tmp_path / 'a.log.json', train(1, math.nan), train(2, None), val(2, 27.), train(3, 10**400),
                    val(3, math.inf), train(4, 1), val(4, 27.))
    run = read(log)
    assert run.series('train', 'loss')[0] == [1, 4] and run.best() == (2, 27.)
    assert run.best('SSIM') is None


def test_validations_of_mmediting_are_at_their_iterations(tmp_path):
    """MMEditing 0.x writes no training record in an iteration that it validates; this project writes both."""
    log = write_log(tmp_path / 'a.log.json', *(val(i, i / 10) if i % 300 == 0 else train(i)
                                               for i in range(100, 1000, 100)), train(1000), val(1000, 99.))
    assert read(log).series('val', 'PSNR') == ([300, 600, 900, 1000], [30, 60, 90, 99])


@pytest.mark.parametrize('images', [12, 150, 400])
def test_a_number_of_images_is_not_taken_for_an_iteration(tmp_path, images):
    log = write_log(tmp_path / 'a.log.json', val(images, 19.), train(100), val(images, 20.), train(200),
                    val(images, 21.), train(300))
    assert read(log).series('val', 'PSNR') == ([100, 200], [20, 21])
    write_log(log, train(100), train(200), val(100, 20.), val(200, 21.))  # in an order of its own, but iterations
    assert read(log).series('val', 'PSNR') == ([100, 200], [20, 21])


def test_a_log_that_a_resumed_run_was_added_to(tmp_path):
    log = write_log(tmp_path / 'a.log.json', train(100), train(200), val(250, 20.), train(100), val(150, 21.),
                    train(200), val(250, 22.))
    assert read(log).series('val', 'PSNR') == ([150, 250], [21, 22])


@pytest.mark.parametrize('wrap', [float, lambda rate: dict(generator=rate, discriminator=1.)])
def test_restarts_are_where_the_rate_jumps_up(tmp_path, wrap):
    cosine = [1e-7 + 1e-4 * (1 + math.cos(math.pi * (i % 100) / 100)) for i in range(250)]
    records = [train(i + 1, lr=wrap(rate)) for i, rate in enumerate(cosine)]
    assert read(write_log(tmp_path / 'cosine.log.json', *records)).restarts == [100, 200]
    warm_up = [2e-4 * min((i + 1) / 20, 1) * .5**(i // 50) for i in range(150)]
    records = [train(i + 1, lr=wrap(rate)) for i, rate in enumerate(warm_up)]
    assert read(write_log(tmp_path / 'steps.log.json', *records)).restarts == []


def test_logs_of_mmediting_1(tmp_path):
    step = [dict(lr=1e-4, loss=.1, iter=i, step=i) for i in (100, 200)]
    folder = tmp_path / 'run'
    write_log(folder / '20230101_000000/vis_data/scalars.json', step[0], dict(PSNR=25., time=1., step=100), step[1],
              dict(PSNR=26., time=1., step=200))
    for path in (folder, folder / '20230101_000000/vis_data/scalars.json'):
        run = read(path)
        assert run.series('train', 'loss')[0] == [100, 200] and run.name == 'run'
        assert run.series('val', 'PSNR') == ([100, 200], [25, 26])


def test_logs_of_mmagic_with_data_sets_in_front(tmp_path):
    """And with a learning rate for each optimizer."""
    rates = {'generator.lr': 1e-4, 'discriminator.lr': 1e-5}
    records = [dict(rates, loss=.1, iter=i, step=i) for i in (100, 200)]
    values = [{'Set5/PSNR': 30. + i, 'Set14/PSNR': 27., 'time': 1., 'step': i} for i in (100, 200)]
    write_log(tmp_path / 'run/20230101_000000/vis_data/scalars.json', records[0], values[0], records[1], values[1],
              dict(records[0], step=300, **{'generator.lr': 2e-4}))
    for path in (tmp_path / 'run', tmp_path / 'run/20230101_000000'):
        run = read(path)
        assert run.series('train', 'loss')[0] == [100, 200, 300]
        assert run.keys('val', 'PSNR') == ['Set5/PSNR', 'Set14/PSNR'] and run.keys('val', 'SSIM') == []
        assert run.best('Set5/PSNR') == (200, 230.) and run.best('Set14/PSNR') == (100, 27.)
    fallen = [dict(rates, step=1), dict(rates, step=2, **{'generator.lr': 1e-6}), dict(rates, step=3)]
    assert read(write_log(tmp_path / 'a.log.json', *fallen)).restarts == [2]
    both = read(write_log(tmp_path / 'b.log.json', val(1, 27., **{'Set5/PSNR': 30.}), train(1)))
    assert both.keys('val', 'PSNR') == ['PSNR', 'Set5/PSNR']


@pytest.mark.parametrize('name', ['a.jsonl', 'a.log.json.txt', 'a.log', 'a.txt', 'a.json', 'a.JSON.bak', 'a'])
def test_a_log_under_another_ending(tmp_path, name):
    log = write_log(tmp_path / 'run' / name, dict(env_info=''), '', '{"broken', train(1, .5), val(1, 27.))
    run = read(log)
    assert run.series('train', 'loss') == ([1], [.5]) and run.best() == (1, 27.)
    assert run.name == ('a.JSON.bak' if name.endswith('bak') else 'a')


def test_a_work_dir_whose_logs_have_another_ending(tmp_path):
    write_log(tmp_path / '1.jsonl', train(1, .5), train(2, .5))
    write_log(tmp_path / '2.jsonl', train(2, .4))
    (tmp_path / 'metrics.json').write_text('{\n  "PSNR": 27.0\n}\n')
    (tmp_path / 'run.config.json').write_text('{"total_iters": 1}')
    (tmp_path / 'run.log').write_text('2023-01-01 INFO\n' * 500)
    assert read(tmp_path).series('train', 'loss') == ([1, 2], [.5, .4])
    write_log(tmp_path / '3.log.json', train(7))
    assert read(tmp_path).series('train', 'loss')[0] == [7]  # what has a log's name comes first


def test_a_run_shorter_than_a_log_interval(tmp_path):
    run = read(write_log(tmp_path / 'a.log.json', dict(env_info=''), val(50, 26.), val(60, 27.)))
    assert run.train == [] and run.series('val', 'PSNR') == ([50, 60], [26, 27])


def test_names_tell_runs_apart(tmp_path):
    logs = [write_log(tmp_path / folder / 'x/20230101_000000.log.json', train(1)) for folder in 'ab']
    assert read(logs[0]).name == 'x/20230101_000000'
    assert [run.name for run in read(*logs)] == [str(log) for log in logs]
    assert [run.name for run in read(*(log.parent for log in logs))] == [str(log.parent) for log in logs]
    assert read(logs[0], logs[0].parent / '../x' / logs[0].name).train  # one run


def test_what_is_no_log_is_named(tmp_path):
    text, binary, empty = tmp_path / 'a.log', tmp_path / 'b.json', write_log(tmp_path / 'c.log.json', dict(env_info=''))
    text.write_text('2023-01-01 INFO')
    binary.write_bytes(bytes(range(256)) * 10)
    for path, message in ((tmp_path / 'none', 'no such work dir or log'), (tmp_path / 'sub', 'no JSON log in it'),
                          (text, 'not a JSON log; give the'), (empty, 'no training records; give'),
                          (binary, 'no training records, but .* broken lines; give')):
        (tmp_path / 'sub').mkdir(exist_ok=True)
        with pytest.raises(UserError, match=f'{path}: {message}'):
            read_runs([path])
