"""What a training loses and what it says when something goes wrong, and when it is gone on with otherwise."""
import json
import logging
import os
import shlex
import shutil
import signal
from pathlib import Path

import facesr.register  # noqa: F401

import cv2
import pytest
import torch
from conftest import ROOT
from mmcv import DictAction
from mmcv.runner import HOOKS, Hook, IterBasedRunner
from mmedit.datasets.registry import PIPELINES

from facesr.analysis.logs import read_runs
from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config
from facesr.datasets.annotation import scan_folder, write_annotation
from facesr.engine.preflight import check_schedule, longer
from facesr.engine.settings import changes, settings_of
from facesr.engine.train import train
from facesr.utils.errors import UserError
from facesr.utils.files import remedy
from facesr.utils.signals import Stopped, StopSignals

TINY_NET = {'model.generator.num_blocks': 1, 'model.generator.mid_channels': 8}
RARELY = {'checkpoint_config.interval': 1000, 'evaluation.interval': 1000}


@pytest.fixture
def work(tmp_path):
    return tmp_path / 'work'


@HOOKS.register_module()
class _AtIteration(Hook):
    """Calls a function after an iteration, within training."""
    action = None

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner):
        if runner.done == self.at:
            type(self).action(runner)


@pytest.fixture
def at_iteration(monkeypatch):
    """Lets something happen within training after an iteration; returns the option for it."""

    def plan(iteration, action):
        monkeypatch.setattr(_AtIteration, 'action', staticmethod(action))
        return dict(custom_hooks=[dict(type='_AtIteration', at=iteration)])

    return plan


def log_text(work):
    return ''.join(path.read_text() for path in sorted(work.glob('*.log')))


def fail(*_):
    raise ValueError('a bug\nof mine')


# Lost work


def test_two_trainings_never_share_a_work_dir(lock_holder, tiny_config, work):
    process = lock_holder(work)
    (work / '.iter_9.pth.abc.tmp').touch()
    for resume in (None, 'auto', 'latest'):
        with pytest.raises(UserError, match=f'another training is using it .*process {process.pid}, since'):
            train(tiny_config(**TINY_NET), 'run', resume=resume)
    assert sorted(path.name for path in work.iterdir()) == ['.iter_9.pth.abc.tmp', '.lock']
    process.kill()
    process.wait()
    train(tiny_config(**TINY_NET), 'run', resume='auto', validate=False)
    assert (work / 'iter_2.pth').is_file() and not (work / '.lock').exists()


@pytest.mark.parametrize('how', ['moved', 'removed'])
def test_a_work_dir_that_goes_while_training_is_made_anew(how, tiny_config, work, at_iteration):
    def go(_):
        if how == 'moved':
            work.rename(work.with_name('elsewhere'))
        else:
            for path in sorted(work.rglob('*'), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            work.rmdir()

    cfg = tiny_config(total_iters=4, **TINY_NET, **RARELY, **at_iteration(2, go))
    train(cfg, 'run', validate=False)
    assert read_checkpoint(work / 'latest.pth')['meta']['iter'] == 4
    assert (work / 'run.py').is_file() and not (work / '.lock').exists()
    assert 'is gone (moved or removed while training); it is made anew' in log_text(work)


def test_a_failing_hook_costs_nothing(tiny_config, work, at_iteration):
    how = dict(TINY_NET, ema=0.5, **RARELY)
    with pytest.raises(UserError, match='in iteration 3: ValueError: a bug of mine; iteration 3 is saved in .*: go on '
                       'with --resume; FACESR_TRACEBACK=1') as caught:
        train(tiny_config(total_iters=4, **how, **at_iteration(3, fail)), 'run', validate=False)
    assert isinstance(caught.value.__cause__, ValueError) and '\n' not in str(caught.value)
    train(tiny_config(total_iters=4, **how), 'run', resume='auto', validate=False)
    train(tiny_config(total_iters=4, work_dir=str(work.with_name('straight')), **how), 'run', validate=False)
    parts, straight = (read_checkpoint(folder / 'iter_4.pth')['state_dict'] for folder in (
        work, work.with_name('straight')))
    assert all(parts[name].equal(value) for name, value in straight.items())  # the average too


@PIPELINES.register_module()
class _Buggy:
    """A transform that fails at its fifth image."""
    calls = 0

    def __call__(self, results):
        type(self).calls += 1
        if type(self).calls == 5:
            fail()
        return results


@pytest.mark.parametrize('workers', [0, 1])
def test_a_failing_transform_costs_nothing(workers, tiny_config, work, monkeypatch):
    monkeypatch.setattr(_Buggy, 'calls', 0)
    cfg = tiny_config(total_iters=9, **TINY_NET, **RARELY)
    cfg.data.train.pipeline.insert(1, dict(type='_Buggy'))
    cfg.data.workers_per_gpu = workers
    with pytest.raises(UserError, match='ValueError: a bug of mine.*iteration 4 is saved'):
        train(cfg, 'run', validate=False)
    assert read_checkpoint(work / 'latest.pth')['meta']['iter'] == 4


def test_too_few_files_may_be_open(tiny_config, work, at_iteration):
    def exhaust(_):
        raise OSError(24, 'Too many open files')

    with pytest.raises(UserError, match='Too many open files; iteration 2 is saved'):
        train(tiny_config(**TINY_NET, **RARELY, **at_iteration(2, exhaust)), 'run', validate=False)


@pytest.mark.parametrize('name', ['SIGHUP', 'SIGUSR1'])
def test_signals_of_terminals_and_schedulers(name, tiny_config, work, at_iteration):
    number = getattr(signal, name)

    def twice(_):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # as bash and the kernel both do

    with pytest.raises(Stopped, match='stopped after iteration 2 of 4; iteration 2 is saved'):
        train(tiny_config(total_iters=4, **TINY_NET, **RARELY, **at_iteration(2, twice)), 'run', validate=False)
    assert signal.getsignal(number) == signal.SIG_DFL


def test_nohup_keeps_working():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.requested is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_file_that_cannot_be_deleted_is_a_warning(tiny_config, work, monkeypatch):
    unlink = Path.unlink

    def refuse(path, *args, **kwargs):
        if path.name in ('iter_1.pth', 'best_PSNR_iter_1.pth'):
            raise PermissionError(13, 'Permission denied', str(path))
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(Path, 'unlink', refuse)
    how = {'checkpoint_config.interval': 1, 'checkpoint_config.max_keep_ckpts': 1, 'optimizers.generator.lr': 1e-3}
    train(tiny_config(total_iters=3, **TINY_NET, **how), 'run')
    assert (work / 'iter_3.pth').is_file() and not (work / 'iter_2.pth').exists()
    assert 'iter_1.pth: cannot be deleted (Permission denied); it stays' in log_text(work)


def test_advice_fits_the_error():
    words = {number: remedy(OSError(number, 'x')) for number in (28, 13, 30, 24, 5, 2, 116)}
    assert words[28] == 'free disk space' and words[13] == words[30] == 'make the folder writable'
    assert 'ulimit' in words[24] and 'drive' in words[5] == words[2] == words[116]


# Silently wrong


def test_latest_is_mended(tiny_config, work):
    train(tiny_config(**TINY_NET, **{'checkpoint_config.interval': 1}), 'run', validate=False)
    (work / 'latest.pth').unlink()
    (work / 'latest.pth').symlink_to('iter_1.pth')  # a kill between the last save and the link
    train(tiny_config(**TINY_NET), 'run', resume='auto', validate=False)  # nothing is left to do
    assert (work / 'latest.pth').resolve().name == 'iter_2.pth'


@pytest.mark.parametrize('resume', ['auto', 'latest'])
def test_a_damaged_checkpoint_is_put_aside(resume, tiny_config, work):
    how = dict(TINY_NET, **{'checkpoint_config.interval': 1})
    train(tiny_config(total_iters=3, **how), 'run', validate=False)
    weight = read_checkpoint(work / 'iter_3.pth')['state_dict']['generator.conv_last.weight']
    damaged = bytearray((work / 'iter_3.pth').read_bytes())
    damaged[damaged.find(weight.numpy().tobytes())] ^= 1
    (work / 'iter_3.pth').write_bytes(damaged)
    (work / 'iter_2.pth').write_bytes(b'')
    train(tiny_config(total_iters=3, **how), 'run', resume=resume, validate=False)
    assert read_checkpoint(work / 'iter_3.pth')['meta']['iter'] == 3
    assert (work / 'iter_3.pth.damaged').read_bytes() == damaged and (work / 'iter_2.pth.damaged').is_file()
    text = log_text(work)
    assert 'iter_3.pth: not a PyTorch checkpoint, or a damaged one (Bad CRC-32' in text
    assert 'it is called iter_3.pth.damaged from now on' in text and 'resumed from' in text


def test_a_run_with_nothing_but_damage(tiny_config, work):
    train(tiny_config(**TINY_NET, total_iters=1), 'run', validate=False)
    (work / 'iter_1.pth').write_bytes(b'half')
    with pytest.raises(UserError, match='iter_1.pth: not a PyTorch checkpoint, or a damaged one'):
        train(tiny_config(**TINY_NET), 'run', resume='latest', validate=False)
    assert (work / 'iter_1.pth').read_bytes() == b'half'
    train(tiny_config(**TINY_NET), 'run', resume='auto', validate=False)
    assert (work / 'iter_1.pth.damaged').is_file() and (work / 'iter_2.pth').is_file()


def told(work, options, tiny_config, tiny_root, **more):
    """What a resume with other options says."""
    before = len(log_text(work))
    train(tiny_config(total_iters=3, **{**TINY_NET, **options}, **more), 'run', resume='auto')
    return [line.split('other than before iteration 2: ')[1] for line in log_text(work)[before:].splitlines()
            if 'other than before' in line]


@pytest.mark.parametrize(('options', 'line'), [
    ({'gt_patch_size': 64}, 'gt_patch_size: was 32, is 64'),
    ({'data.train_dataloader.samples_per_gpu': 2}, 'batch of all processes: was 1, is 2'),
    ({'model.pixel_loss.loss_weight': 0.5}, 'model.pixel_loss.loss_weight: was 1.0, is 0.5'),
    ({'optimizers.generator.lr': 1e-5}, 'optimizers.generator.lr: was 0.0002, is 1e-05'),
    ({'lr_config.periods': [9, 9]}, 'lr_config.periods: was [150000, 150000], is [9, 9]'),
    ({}, None)])
def test_a_resume_says_what_it_has_otherwise(options, line, tiny_config, tiny_root, work):
    train(tiny_config(**TINY_NET), 'run')
    first = (work / 'run.py').read_text()
    assert told(work, options, tiny_config, tiny_root) == ([line] if line else [])
    assert (work / 'config_history/run.1.py').read_text() == first  # total_iters was another
    history = work / 'config_history/changes.txt'
    assert line in history.read_text() if line else not history.exists()
    assert json.loads((work / 'run.config.json').read_text())['total_iters'] == 3
    best = read_checkpoint(work / 'latest.pth')['meta']['hook_msgs']['best_score']
    assert best >= read_checkpoint(work / 'iter_2.pth')['meta']['hook_msgs']['best_score']


@pytest.mark.parametrize(('config', 'options', 'lines'), [
    ('configs/recommended_ffhq.py', {'total_iters': 600000}, ['total_iters: was 300000, is 600000']),
    ('configs/srresnet_ffhq.py', {'total_iters': 200000}, []),  # periods are not spread over the run
    ('configs/srresnet_ffhq.py', {'seed': 5, 'accumulation_steps': 2}, ['seed: was 0, is 5']),
    ('configs/esrgan_ffhq.py', {'accumulation_steps': 2}, ['accumulation_steps: was 1, is 2']),
    ('configs/srresnet_ffhq.py', {'custom_hooks': [dict(type='Mine')]}, ['custom_hooks.0.type: was None, is Mine'])])
def test_what_a_result_depends_on(config, options, lines):
    before = settings_of(load_config(config))
    assert changes(before, settings_of(load_config(config, options))) == lines


def test_other_images_are_told_and_another_measure_starts_the_best_anew(tiny_config, tiny_root, work, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(tiny_root, root)

    def cfg(**options):
        how = {**TINY_NET, 'data.train.ann_file': str(root / 'train.txt'), 'model.pixel_loss.loss_weight': 0.0}
        loaded = tiny_config(**how, **options)
        for split in ('train', 'val'):
            for key in ('gt_folder', 'lq_folder'):
                if key in loaded.data[split]:
                    loaded.data[split][key] = loaded.data[split][key].replace(str(tiny_root), str(root))
        return loaded

    def resumed(total, **options):
        before = len(log_text(work))
        train(cfg(total_iters=total, **options), 'run', resume='auto')
        return log_text(work)[before:]

    train(cfg(), 'run')
    names = sorted(path.name for path in (root / 'train/GT').iterdir())
    cv2.imwrite(str(root / 'train/GT' / names[0]), 255 - cv2.imread(str(root / 'train/GT' / names[0])))
    assert 'training images: as many (2), but others or with other contents' in resumed(3)
    (root / 'train/GT' / names[1]).unlink()
    write_annotation(scan_folder(root / 'train/GT'), root / 'train.txt', force=True)
    assert 'training images: was 2 (' in resumed(4)
    assert 'no longer counts' not in log_text(work)
    best = read_checkpoint(work / 'latest.pth')['meta']['hook_msgs']
    text = resumed(5, **{'test_cfg.crop_border': 4})
    assert 'test_cfg.crop_border: was 0, is 4' in text
    assert f'the best score so far ({best["best_score"]:.4f}) was measured otherwise and no longer counts' in text
    anew = read_checkpoint(work / 'latest.pth')['meta']['hook_msgs']
    assert Path(anew['best_ckpt']).name == 'best_PSNR_iter_5.pth'
    assert (work / Path(best['best_ckpt']).name).is_file() and (work / 'best_PSNR_iter_5.pth').is_file()
    name = sorted((root / 'val/GT').iterdir())[0]
    cv2.imwrite(str(name), 255 - cv2.imread(str(name)))
    text = resumed(6, **{'test_cfg.crop_border': 4})
    assert 'validation images: as many (4), but others or with other contents' in text and 'no longer counts' in text
    assert 'other than before' not in resumed(7, **{'test_cfg.crop_border': 4})


def test_logs_are_joined_in_the_order_they_were_written(tiny_config, work, monkeypatch):
    times = iter(['20260102_000000', '20260101_000000', '20260101_000000'])  # the clock was set back
    monkeypatch.setattr('mmcv.runner.base_runner.get_time_str', lambda: next(times))
    train(tiny_config(**TINY_NET), 'run', validate=False)
    for total in (3, 4):
        train(tiny_config(total_iters=total, **TINY_NET), 'run', resume='auto', validate=False)
    assert len(list(work.glob('*.log.json'))) == 3
    # What a later log says counts: let the first have been gone on from iteration 1.
    first = work / '20260102_000000.log.json'
    lines = first.read_text().splitlines()
    lines.append(lines[-1].replace('"iter": 2', '"iter": 3').replace('"loss": ', '"loss": 9'))
    first.write_text('\n'.join(lines) + '\n')
    run = read_runs([work])[0]
    assert [record['iter'] for record in run.train] == [1, 2, 3, 4] and run.resumes == [3, 4]
    assert dict(zip(*run.series('train', 'loss'), strict=True))[3] < 9


CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').glob('*_ffhq*.py'))


@pytest.mark.parametrize('config', CONFIGS)
def test_training_longer_leaves_the_rates_so_far(config):
    """For each shipped schedule the line that the tool gives can be given as it is, and changes no earlier rate."""
    cfg = load_config(config)
    options = dict(word.split('=', 1) for word in shlex.split(longer(cfg, 2 * cfg.total_iters)))
    extended = load_config(config, {key: DictAction._parse_iterable(value) for key, value in options.items()})
    assert extended.total_iters == 2 * cfg.total_iters
    check_schedule(extended)
    iterations = range(0, cfg.total_iters, cfg.total_iters // 50)
    assert rates(extended, iterations) == pytest.approx(rates(cfg, iterations), rel=1e-9)


def rates(cfg, iterations):
    """The learning rates of a config's schedule at some iterations."""
    model = torch.nn.Linear(1, 1)
    model.train_step = None
    runner = IterBasedRunner(model, optimizer=torch.optim.Adam(model.parameters(), lr=1e-3), meta={},
                             logger=logging.getLogger('rates'), max_iters=cfg.total_iters)
    runner.register_lr_hook(dict(cfg.lr_config))
    runner.hooks[0].before_run(runner)
    found = []
    for runner._iter in iterations:
        runner.hooks[0].before_train_iter(runner)
        found += runner.current_lr()
    return found
