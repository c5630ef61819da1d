"""What a user sees of a run: lines, bar, TensorBoard, dry run, memory and advice."""
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
import time

import pytest
import torch
from conftest import HANGS, SMALL_OPTIONS
from forked import Forked
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from facesr.analysis.logs import read_runs
from facesr.config import load_config
from facesr.engine.dry_run import dry_run
from facesr.engine.hooks.text_logger import SRTextLoggerHook
from facesr.engine.log_buffer import LazyLogBuffer
from facesr.engine.preflight import advice
from facesr.engine.train import train
from facesr.evaluation.evaluator import evaluate_loader
from facesr.utils import memory
from facesr.utils.errors import UserError
from facesr.utils.signals import EXIT_STOPPED


def test_lines_tell_what_one_asks(tiny_config, tmp_path):
    how = {'log_config.interval': 2, 'evaluation.interval': 100, 'grad_clip': 1.0, 'ema': 0.9}
    train(tiny_config(total_iters=4, **how), 'run')
    log = next((tmp_path / 'work').glob('*.log')).read_text()
    line = next(line for line in log.splitlines() if 'Iter [4/4]' in line)
    for part in ('eta: 0:00:00', ' it/s', 'loss: 0.', 'lr_generator: 2.000e-04', 'memory: ', ' MiB', 'data_time: '):
        assert part in line
    assert 'with grad_clip=1.0, ema=0.9' in log
    assert log.count('Iter [') == 2 and 'peak memory: ' in log.splitlines()[-1]


def test_a_run_shorter_than_a_logging_window_is_logged_at_its_end(tiny_config, tmp_path):
    hooks = [dict(type='SRTextLoggerHook', interval=50)]
    train(tiny_config(total_iters=3, **{'log_config.hooks': hooks}), 'run', validate=False)
    run, = read_runs([tmp_path / 'work'])
    assert run.series('train', 'loss')[0] == [3]


def test_waiting_for_data_is_said_with_a_remedy(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr('facesr.engine.hooks.text_logger.most_workers', lambda: 8)
    train(tiny_config(total_iters=6, **{'log_config.interval': 2}), 'run', validate=False)
    log = next((tmp_path / 'work').glob('*.log')).read_text()
    assert log.count('the device waits for data ') == 1  # once, not at every window
    assert '% of the time (data_time); use data.workers_per_gpu=8 (now 0; 8 cores)' in log


def test_validation_is_not_part_of_an_iterations_time(tiny_config, tmp_path, monkeypatch):
    from facesr.evaluation.evaluator import evaluate_loader
    monkeypatch.setattr('facesr.engine.hooks.eval_hook.evaluate_loader',
                        lambda *args, **kwargs: (time.sleep(1.5), evaluate_loader(*args, **kwargs))[1])
    train(tiny_config(total_iters=3), 'run')
    times = [record['time'] for line in next((tmp_path / 'work').glob('*.log.json')).read_text().splitlines()
             if (record := json.loads(line)).get('mode') == 'train']
    assert len(times) == 3 and max(times) < 1.4


def test_losses_are_read_in_one_go_and_only_for_the_log(monkeypatch):
    reads, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda self: (reads.append(self.numel()), tolist(self))[1])
    buffer = LazyLogBuffer(length=3)
    for value in (9.0, 1.0, 2.0, 3.0):
        buffer.update(dict(loss=torch.tensor(value), data_time=lambda: 0.5), 4)
    assert not reads
    buffer.average(3)
    assert buffer.output == dict(loss=2.0, data_time=0.5) and reads == [3]
    other = LazyLogBuffer(length=3)
    buffer.average(3)  # by a second logger: nothing new
    assert buffer.output == dict(loss=2.0, data_time=0.5)
    buffer.update(dict(loss=torch.tensor(3.0)), 4)
    other.load_state_dict(buffer.state_dict())
    other.update(dict(loss=torch.tensor(7.0)))
    other.average()
    assert other.output['loss'] == pytest.approx((3 * 4 + 7) / 5)


def test_tensorboard_has_scalars_and_pictures(tiny_config, tmp_path):
    train(tiny_config(ema=0.9), 'run')
    events = EventAccumulator(str(tmp_path / 'work/tf_logs'), size_guidance=dict(images=0)).Reload()
    assert {'train/loss', 'val/PSNR', 'val/PSNR_ema', 'learning_rate/generator'} <= set(events.Tags()['scalars'])
    assert [event.step for event in events.Scalars('val/PSNR')] == [1, 2]
    pictures = events.Tags()['images']
    assert len(pictures) == 2 and all(name.startswith('val/LQ | HQ | GT ') for name in pictures)
    first = events.Images(pictures[0])
    assert [event.step for event in first] == [1, 2] and (first[0].width, first[0].height) == (3 * 64, 64)


def in_a_terminal(tiny_root, tmp_path, *options):
    """A training that writes to a terminal, and the end of that from which it is read."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 150, 0, 0))  # rows, columns, and pixels
    terminal = os.ttyname(slave)
    process = Forked(
        [sys.executable, 'tools/train.py', 'configs/srresnet_ffhq.py', '--data-root', tiny_root, '--work-dir',
         tmp_path / 'work', '--cfg-options', *SMALL_OPTIONS, f'data.train.ann_file={tiny_root}/train.txt',
         'gt_patch_size=32', 'log_config.interval=2', 'data.workers_per_gpu=0', *options], terminal, terminal)
    os.close(slave)
    return process, master


@pytest.mark.slow
def test_a_terminal_that_goes_away_costs_nothing(tiny_root, tmp_path):
    process, master = in_a_terminal(tiny_root, tmp_path, 'total_iters=100000', 'evaluation.interval=100000')
    shown = b''
    while b'loss: ' not in shown:
        shown += os.read(master, 4096)
    os.close(master)  # from now on writing fails
    process.send_signal(signal.SIGHUP)
    assert process.wait(HANGS) == EXIT_STOPPED
    log, saved = next((tmp_path / 'work').glob('*.log')).read_text(), (tmp_path / 'work/latest.pth').resolve()
    assert f'stopped after iteration {saved.stem.removeprefix("iter_")} of 100000' in log


@pytest.mark.slow
def test_a_terminal_has_a_bar_and_the_file_the_lines(tiny_root, tmp_path):
    process, master = in_a_terminal(tiny_root, tmp_path, 'total_iters=4', 'evaluation.interval=4')
    shown = b''
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        shown += chunk
        if not chunk:
            break
    assert process.wait(HANGS) == 0, shown
    shown = shown.decode()
    assert '4/4 [' in shown and 'it/s' in shown and 'loss: ' in shown
    assert 'Iter [2/4]' not in shown and 'Iter(val) [4]' in shown
    assert 'Iter [2/4]' in next((tmp_path / 'work').glob('*.log')).read_text()


def test_dry_run_tells_all_and_writes_nothing(run_tool, tiny_root, tmp_path):
    work = tmp_path / 'work'
    done = run_tool('train.py', 'configs/srresnet_ffhq.py', '--data-root', tiny_root, '--work-dir', work, '--dry-run',
                    '--cfg-options', f'data.train.ann_file={tiny_root}/train.txt', 'gt_patch_size=32', 'ema=0.999',
                    'data.train_dataloader.samples_per_gpu=3', 'data.workers_per_gpu=0', 'total_iters=1000',
                    'memory_limit_gb=0.01')
    assert done.returncode == 0, done.stderr
    for part in ('parameters: 1,812,995 (99.6% of the cap of 1,821,085)', 'images: 2 for training, 2 for validation',
                 'lq 3x3x8x8, gt 3x3x32x32', 'one step: loss 0.', 'one validation image', 'PSNR_ema', 'peak memory: ',
                 'expected time for 1000 iterations', 'nothing was written', 'computed, of a CUDA card: 0.0',
                 'warning: that is more than memory_limit_gb (0.0 GiB): use --cfg-options with one of: '):
        assert part in done.stdout
    assert not work.exists()


def test_dry_run_counts_no_cold_validation(tiny_config, monkeypatch):
    calls = []

    def cold_at_first(*args):
        calls.append(time.sleep(0.5 if not calls else 0))
        return evaluate_loader(*args)

    monkeypatch.setattr('facesr.engine.dry_run.evaluate_loader', cold_at_first)
    found = dry_run(tiny_config(**{'total_iters': 1, 'evaluation.interval': 1}))
    assert len(calls) == 2 and found.validation_time < 0.5
    assert found.expected_time <= found.step_time + found.data_time + found.validation_images * found.validation_time


def test_ema_weights_are_tested_with_one_flag(tiny_config, tiny_root, tmp_path, run_tool, refused):
    train(tiny_config(ema=0.9), 'run')
    options = ['--data-root', tiny_root, '--cfg-options', *SMALL_OPTIONS]
    checkpoint = tmp_path / 'work/latest.pth'
    logged = next((tmp_path / 'work').glob('*.log')).read_text()
    plain, ema = (run_tool('test.py', 'configs/srresnet_ffhq.py', checkpoint, *flags, *options).stdout
                  for flags in ([], ['--ema']))
    psnr, psnr_ema = (text.partition('PSNR: ')[2].split()[0] for text in (plain, ema))
    assert psnr != psnr_ema
    last = next(line for line in logged.splitlines() if 'Iter(val) [2]' in line)
    assert f'PSNR: {psnr}' in last and f'PSNR_ema: {psnr_ema}' in last
    train(tiny_config(work_dir=str(tmp_path / 'without')), 'run', validate=False)
    message = refused('test.py', 'configs/srresnet_ffhq.py', tmp_path / 'without/latest.pth', '--ema', *options)
    assert 'has no moving average of the weights; leave --ema out' in message


def test_ema_may_be_switched_on_and_off_at_a_resume(tiny_config, tmp_path):
    train(tiny_config(), 'run', validate=False)
    train(tiny_config(ema=0.5, total_iters=3), 'run', resume='auto', validate=False)
    train(tiny_config(total_iters=4), 'run', resume='auto', validate=False)


def test_out_of_memory_becomes_advice(tiny_config, tmp_path, monkeypatch):
    def no_room(*_, **__):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory.')

    monkeypatch.setattr('facesr.models.restorers.face_restorer.FaceRestorer.forward_train', no_room)
    with pytest.raises(memory.OutOfMemory, match='out of memory on cpu in iteration 1; use --cfg-options with one of: '
                       'accumulation_steps=2 .*, gt_patch_size=128, data.train_dataloader.samples_per_gpu=4; nothing'):
        train(tiny_config(gt_patch_size=256, **{'data.train_dataloader.samples_per_gpu': 8}), 'run', validate=False)


def test_advice_follows_the_config():
    cfg = load_config('configs/srresnet_ffhq.py', {
        'accumulation_steps': 8, 'amp': 'bf16', 'gt_patch_size': 64, 'data.train_dataloader.samples_per_gpu': 8})
    tip = advice(cfg, torch.device('cuda'))
    assert tip == 'use --cfg-options with one of: data.train_dataloader.samples_per_gpu=4'


def test_memory_limit_is_a_share_of_the_card(monkeypatch):
    asked = []
    card = type('Card', (), dict(total_memory=24 * memory.GIB))
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: card)
    monkeypatch.setattr(torch.cuda, 'set_per_process_memory_fraction', lambda share, _: asked.append(share))
    memory.limit_memory(6, torch.device('cuda', 0))
    memory.limit_memory(48, torch.device('cuda', 0))
    memory.limit_memory(None, torch.device('cuda', 0))
    memory.limit_memory(6, torch.device('cpu'))
    assert asked == [0.25, 1.0]
    with pytest.raises(UserError, match='"memory_limit_gb" is \'six\''):
        memory.limit_memory('six', torch.device('cpu'))


def test_peak_memory_is_plausible():
    assert 50 < memory.peak_memory(torch.device('cpu')) < 100_000
    assert memory.is_out_of_memory(RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED'))
    assert memory.is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not memory.is_out_of_memory(RuntimeError('shape mismatch'))


def test_log_settings_that_mean_nothing_are_refused(tiny_config):
    with pytest.raises(TypeError):
        SRTextLoggerHook(nonsense=1)
    with pytest.raises(UserError, match='"ema" is 2: give a decay in'):
        train(tiny_config(ema=2), 'run')
