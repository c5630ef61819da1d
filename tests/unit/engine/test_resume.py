"""Nothing is lost: stops, full disks, broken data; kills are in test_kills.py."""
import json
import os
import shutil
import signal

import kill
import pytest
import torch
from conftest import SMALL_NAF
from faults import flat

from facesr.checkpoint.io import read_checkpoint
from facesr.checkpoint.naming import find_latest
from facesr.datasets.batch_stream import BatchStream
from facesr.engine.train import train
from facesr.evaluation.evaluator import ImageResult
from facesr.models.restorers.optimizer_step import TrainingDiverged
from facesr.utils.errors import UserError
from facesr.utils.signals import Stopped, StopSignals


def weights(path):
    return read_checkpoint(path)['state_dict']


@pytest.mark.parametrize('config, net', [(None, {}), ('configs/naf_unet_ffhq.py', {
    **SMALL_NAF, 'lr_config.policy': 'CosineRestart'})], ids=['srresnet', 'naf_unet'])
def test_a_checkpoint_holds_all_that_a_resume_needs(config, net, tiny_config, tmp_path):
    """Straight and in two parts: weights, optimizer, EMA, scaler, log window, random states, best score."""
    straight, parts = tmp_path / 'straight', tmp_path / 'parts'
    how = dict(net, amp='fp16', ema=0.9, accumulation_steps=2, **{
        'data.train_dataloader.samples_per_gpu': 2, 'log_config.interval': 4, 'checkpoint_config.interval': 3,
        'lr_config.periods': [9], 'lr_config.restart_weights': [1], 'evaluation.interval': 2})
    train(tiny_config(config, work_dir=str(straight), total_iters=8, **how), 'run')
    train(tiny_config(config, work_dir=str(parts), total_iters=6, **how), 'run')  # in the middle of a logging window
    train(tiny_config(config, work_dir=str(parts), total_iters=8, **how), 'run', resume='auto')
    a, b = (read_checkpoint(folder / 'iter_8.pth') for folder in (straight, parts))
    assert a.keys() >= {'optimizer', 'update', 'ranks', 'samples'}
    assert a['samples'] == 16 and a['update']['scaler']['scale'] > 0
    for key in ('state_dict', 'optimizer', 'update', 'samples'):
        assert flat(a[key]) == flat(b[key]), key
    for generator, state in a['ranks'][0]['random'].items():
        assert flat(state) == flat(b['ranks'][0]['random'][generator]), generator
    assert any(name.startswith('generator_ema.') for name in a['state_dict'])
    assert a['meta']['hook_msgs']['best_score'] == b['meta']['hook_msgs']['best_score']
    losses = [{record['iter']: record['loss'] for log in folder.glob('*.log.json')
               for record in map(json.loads, log.read_text().splitlines()) if record.get('mode') == 'train'}
              for folder in (straight, parts)]
    assert losses[0] == losses[1] and set(losses[0]) == {4, 8}  # the window from 5 to 8 spans the resume


def test_a_signal_during_validation_does_not_wait_for_it(tiny_config, tmp_path, monkeypatch):
    work = tmp_path / 'work'
    measured = []

    def stop_after_the_first(_metrics, batch, _hq):
        measured.extend(batch.lq_paths)
        if len(measured) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return [ImageResult('x', dict(PSNR=20.0, SSIM=0.5))]

    monkeypatch.setattr('facesr.evaluation.evaluator.measure', stop_after_the_first)
    how = {'evaluation.interval': 2}
    with pytest.raises(Stopped, match='stopped after iteration 2 of 4'):
        train(tiny_config(total_iters=4, **how), 'run')
    assert len(measured) == 1 and not list(work.glob('best*'))
    train(tiny_config(total_iters=4, **how), 'run', resume='auto')
    assert len(measured) == 1 + 2 + 2  # the one cut short is made up for, before iteration 3
    validated = [json.loads(line)['iter'] for log in sorted(work.glob('*.log.json'))
                 for line in log.read_text().splitlines() if '"mode": "val"' in line]
    assert validated == [2, 4] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_stops_at_once():
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.requested == 'SIGINT'
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.code == 143
    with StopSignals(echo=60) as signals:  # torchrun hands on what the terminal has sent already
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.requested == 'SIGINT'


def test_a_full_disk_stops_nothing_and_replaces_nothing(tiny_config, tmp_path, caplog, monkeypatch):
    work, full = tmp_path / 'work', []
    usage = type('Usage', (), {'free': 10})
    real = shutil.disk_usage
    monkeypatch.setattr('facesr.utils.files.shutil.disk_usage', lambda path: usage if full else real(path))
    how = {'checkpoint_config.interval': 1, 'checkpoint_config.max_keep_ckpts': 1}
    train(tiny_config(total_iters=2, **how), 'run')
    before = {path.name: path.read_bytes() for path in work.glob('*.pth')}
    best = read_checkpoint(work / 'iter_2.pth')['meta']['hook_msgs']['best_score']
    full.append(True)
    with pytest.raises(UserError, match='iteration 4 could not be written; free disk space and go on with --resume'):
        train(tiny_config(total_iters=4, **how, **{'evaluation.interval': 1}), 'run', resume='auto')
    assert {path.name: path.read_bytes() for path in work.glob('*.pth')} == before
    log = ''.join(path.read_text() for path in sorted(work.glob('*.log')))
    assert 'iter_3.pth: not saved (the disk is full: ' in log and 'Iter [4/4]' in log
    full.clear()
    train(tiny_config(total_iters=4, **how), 'run', resume='auto')
    assert read_checkpoint(work / 'latest.pth')['meta']['hook_msgs']['best_score'] >= best
    assert [path.name for path in work.glob('iter_*')] == ['iter_4.pth']


def test_a_resume_takes_the_learning_rate_of_the_config(tiny_config, tmp_path):
    train(tiny_config(), 'run', validate=False)
    how = {'optimizers.generator.lr': 1e-5}
    train(tiny_config(total_iters=3, **how), 'run', resume='auto', validate=False)
    records = [json.loads(line) for log in sorted((tmp_path / 'work').glob('*.log.json'))
               for line in log.read_text().splitlines()]
    rates = [record['lr']['generator'] for record in records if record.get('iter') == 3]
    assert rates == [pytest.approx(1e-5, rel=0.01)]


def test_resuming_an_older_checkpoint_leaves_no_newer_one_behind(tiny_config, tmp_path):
    train(tiny_config(**{'checkpoint_config.interval': 1}), 'run', validate=False)
    older = str(tmp_path / 'work/iter_1.pth')
    with pytest.raises(UserError, match='is at iteration 1, but .* has iter_2.pth; .* with --work-dir'):
        train(tiny_config(), 'run', resume=older, validate=False)
    train(tiny_config(work_dir=str(tmp_path / 'other')), 'run', resume=older, validate=False)


def test_a_signal_in_the_last_validation_does_not_lose_it(tiny_config, tmp_path, monkeypatch):
    from facesr.evaluation import evaluator as evaluation
    measure, signals = evaluation.measure, [signal.SIGTERM]
    monkeypatch.setattr('facesr.evaluation.evaluator.measure', lambda *args: (
        signals and os.kill(os.getpid(), signals.pop()), measure(*args))[1])
    with pytest.raises(Stopped, match='after iteration 2 of 2; iteration 2 is saved'):
        train(tiny_config(**{'evaluation.interval': 2}), 'run')
    train(tiny_config(**{'evaluation.interval': 2}), 'run', resume='auto')
    assert (tmp_path / 'work/best_PSNR_iter_2.pth').is_file()


@pytest.mark.parametrize('error, message', [
    (OSError(5, 'Input/output error', 'val/0.png'), 'a validation image cannot be read any more'),
    (RuntimeError('DataLoader worker (pid 1) is killed by signal: Killed.'), 'data.val_dataloader.workers_per_gpu=0'),
    (EOFError(), 'data.val_dataloader.workers_per_gpu=0'),
    (torch.cuda.OutOfMemoryError('CUDA out of memory.'), 'out of memory in validation'),
])
def test_a_validation_that_fails_loses_nothing(error, message, tiny_config, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr('facesr.evaluation.evaluator.measure', fail)
    with pytest.raises(UserError, match=f'{message}.*iteration 1 is saved'):
        train(tiny_config(**{'checkpoint_config.interval': 100}), 'run')
    monkeypatch.undo()
    train(tiny_config(), 'run', resume='auto')
    assert (tmp_path / 'work/best_PSNR_iter_2.pth').is_file() or (tmp_path / 'work/best_PSNR_iter_1.pth').is_file()


def test_leftovers_of_a_kill_are_cleared(tiny_config, tmp_path):
    work = tmp_path / 'work'
    work.mkdir()
    (work / '.iter_1.pth.abc.tmp').write_bytes(b'half')
    train(tiny_config(), 'run', validate=False)
    assert not list(work.glob('.*.tmp'))


def test_pruning_counts_files_and_spares_the_best(tiny_config, tmp_path):
    how = {'checkpoint_config.interval': 2, 'checkpoint_config.max_keep_ckpts': 2}
    train(tiny_config(total_iters=3, **how), 'run')  # ends between the intervals
    train(tiny_config(total_iters=8, **how, **{'evaluation.interval': 100}), 'run', resume='auto', validate=False)
    names = sorted(path.name for path in (tmp_path / 'work').glob('*.pth'))
    assert [name for name in names if name.startswith('iter')] == ['iter_6.pth', 'iter_8.pth']
    assert any(name.startswith('best_PSNR_iter_') for name in names)


def test_a_diverging_run_stops_with_its_last_good_checkpoint(tiny_config, tmp_path):
    work = tmp_path / 'work'
    train(tiny_config(), 'run', validate=False)
    before = (work / 'iter_2.pth').read_bytes()
    how = {'model.pixel_loss.loss_weight': float('inf'), 'checkpoint_config.interval': 100}
    with pytest.raises(TrainingDiverged):
        train(tiny_config(total_iters=50, **how), 'run', resume='auto', validate=False)
    assert [path.name for path in work.glob('iter_*')] == ['iter_2.pth']
    assert (work / 'iter_2.pth').read_bytes() == before
    assert 'the loss is NaN or infinite; weights left as they are (9 times so far)' in ''.join(
        path.read_text() for path in work.glob('*.log'))


def test_weights_that_are_not_finite_are_not_saved(tiny_config, tmp_path):
    work = tmp_path / 'work'
    train(tiny_config(), 'run', validate=False)
    before = (work / 'iter_2.pth').read_bytes()
    how = {'lr_config.min_lr': float('nan')}
    with pytest.raises(UserError, match='could not be written'):
        train(tiny_config(total_iters=3, load_from=str(work / 'iter_2.pth'), work_dir=str(tmp_path / 'other'), **how),
              'run', validate=False)
    assert not list((tmp_path / 'other').glob('*.pth')) and (work / 'iter_2.pth').read_bytes() == before


@pytest.fixture
def broken_root(tiny_root, tmp_path):
    """A training set of four images, the second damaged after it was annotated."""
    folder = tmp_path / 'data/train/GT'
    folder.mkdir(parents=True)
    source = sorted((tiny_root / 'train/GT').iterdir())[0]
    for i in range(4):
        (folder / f'{i}.png').write_bytes(source.read_bytes())
    (folder / '1.png').write_bytes(source.read_bytes()[:1000])
    (tmp_path / 'data/train.txt').write_text(''.join(f'{i}.png (512,512,3)\n' for i in range(4)))
    for split in ('val', 'test'):
        (tmp_path / 'data' / split).symlink_to(tiny_root / split)
    return tmp_path / 'data'


@pytest.mark.parametrize('workers', [0, 2])
def test_an_unreadable_image_stops_with_everything_saved(workers, broken_root, run_command, tmp_path):
    done = run_command(kill.command(broken_root, tmp_path / 'work', 9, workers, 'checkpoint_config.interval=100',
                                    'data.train_dataloader.samples_per_gpu=1', 'evaluation.interval=100', 'seed=1'))
    assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f'error: {broken_root}/train/GT/1.png: this training image cannot be used (')
    saved = find_latest(tmp_path / 'work')
    if saved is None:
        assert 'nothing is lost: start again' in last
    else:
        assert f'iteration {read_checkpoint(saved)["meta"]["iter"]} is saved' in last


def test_an_unreadable_image_is_skipped_and_counted(broken_root, run_command, tmp_path):
    done = run_command(kill.command(broken_root, tmp_path / 'work', 6, 2, 'on_data_error=skip'))
    assert done.returncode == 0, done.stderr
    for times in (1, 2, 3):
        assert f'1.png: this training image cannot be used; another is taken ({times} times so far)' in done.stderr
    counted = read_checkpoint(tmp_path / 'work/iter_6.pth')['meta']['hook_msgs']['counts']['skipped_images']
    assert counted == 3  # 12 samples are three passes over four images
    assert f'skipped_images: {counted}' in done.stderr


@pytest.mark.parametrize('error', [ConnectionResetError(104, 'Connection reset by peer'), EOFError()])
def test_a_signal_while_a_worker_hands_over_a_batch_saves(error, tiny_config, tmp_path, monkeypatch):
    """torchrun's SIGTERM reaches the workers too, at times with a batch half in its receiver's hands."""
    following, calls = BatchStream.next, []

    def next_batch(stream):
        calls.append(stream)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            stream._batches = broken()
        return following(stream)

    def broken():
        raise error
        yield

    monkeypatch.setattr(BatchStream, 'next', next_batch)
    with pytest.raises(Stopped, match='after iteration 1 of 2; iteration 1 is saved'):
        train(tiny_config(), 'run')
    assert read_checkpoint(find_latest(tmp_path / 'work'))['meta']['iter'] == 1
