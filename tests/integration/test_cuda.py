"""Training, resume and test on CUDA, as a user would run them; only where there is a device."""
import os
import subprocess
import sys

import pytest
import torch
from conftest import CUDA_DEVICES

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(scope='module')
def cuda_env():
    """The environment without conftest's mask, or a skip."""
    env = {key: value for key, value in os.environ.items() if key != 'CUDA_VISIBLE_DEVICES'}
    if CUDA_DEVICES is not None:
        env['CUDA_VISIBLE_DEVICES'] = CUDA_DEVICES
    probe = [sys.executable, '-c', 'import torch; print(torch.cuda.is_available())']
    if subprocess.run(probe, env=env, capture_output=True, text=True).stdout.strip() != 'True':
        pytest.skip('no CUDA device')
    return env


def test_train_resume_and_test_on_cuda(cuda_env, tiny_root, tmp_path):

    def tool(name, *arguments, start=(sys.executable, )):
        command = [*start, f'tools/{name}', 'configs/srresnet_ffhq.py', *map(str, arguments)]
        done = subprocess.run([*command, '--data-root', tiny_root], env=cuda_env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    work = tmp_path / 'work'
    options = [f'data.train.ann_file={tiny_root}/train.txt', 'gt_patch_size=64', 'evaluation.interval=2',
               'data.train_dataloader.samples_per_gpu=2', 'log_config.interval=1']
    assert 'on CUDA (' in tool('train.py', '--work-dir', work, '--cfg-options', 'total_iters=2', *options)
    resumed = tool('train.py', '--work-dir', work, '--resume', '--cfg-options', 'total_iters=4', *options)
    assert 'at iteration 2' in resumed
    best = next(work.glob('best_PSNR_iter_*.pth'))
    assert all(value.device.type == 'cpu' for value in torch.load(best, weights_only=True)['state_dict'].values())
    # Mixed precision with all the rest, under a limit of memory, resumed, and as one process of DDP (NCCL).
    for amp in ('fp16', 'auto'):
        folder = ['--work-dir', tmp_path / amp, '--amp', amp, '--resume', 'auto', '--cfg-options', *options]
        how = ['channels_last=True', 'accumulation_steps=2', 'grad_clip=1.0', 'ema=0.9', 'memory_limit_gb=2']
        tool('train.py', *folder, 'total_iters=2', *how)
        assert 'data_time: ' in tool('train.py', *folder, 'total_iters=4', *how)
        assert 'on cuda:0' in tool('test.py', tmp_path / amp / 'latest.pth', '--ema')
    tool('train.py', '--work-dir', tmp_path / 'device', '--cfg-options', 'total_iters=2', 'degrade_on=device', *options)
    assert 'nothing was written' in tool('train.py', '--dry-run', '--cfg-options', *options)
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=1']
    if os.environ.get('FAKE_CUDA'):  # the stand-in has no NCCL
        torchrun += ['tests/integration/cuda_probe.py', 'gloo']
    log = tool('train.py', '--launcher', 'pytorch', '--work-dir', tmp_path / 'ddp', '--cfg-options', 'total_iters=2',
               *options, start=torchrun)
    assert 'done: 2 iterations' in log
    assert 'on cuda:0' in tool('test.py', best)
    assert 'on cuda:0' in tool('test.py', best, '--split', 'test', '--zip', tmp_path / 'hand_in.zip')
    slow = tool('test.py', best, '--self-ensemble', '--amp', 'fp16', '--cfg-options',
                'data.val_dataloader.samples_per_gpu=2')
    assert 'PSNR: ' in slow and 'SSIM: ' in slow


@pytest.mark.parametrize('config', ['esrgan', 'srresnet_ca', 'plksr', 'safmn'])
def test_other_models_train_resume_and_test_on_cuda(config, cuda_env, tiny_root, tmp_path):
    options = [f'data.train.ann_file={tiny_root}/train.txt', 'gt_patch_size=128', 'evaluation.interval=2',
               'data.train_dataloader.samples_per_gpu=2', 'log_config.interval=1', 'load_from=None', 'ema=0.9',
               'grad_clip=1.0', 'channels_last=True', 'accumulation_steps=2', 'model.pixel_loss.type=PSNRLoss']
    options += ['model.perceptual_loss=None'] if config == 'esrgan' else []
    how = ['--work-dir', tmp_path / 'work', '--resume', 'auto', '--amp', 'fp16', '--cfg-options', *options]
    for name, arguments in (('train', [*how, 'total_iters=2']), ('train', [*how, 'total_iters=4']),
                            ('test', [tmp_path / 'work/latest.pth', '--ema'])):
        command = [sys.executable, f'tools/{name}.py', f'configs/{config}_ffhq.py', *map(str, arguments)]
        done = subprocess.run([*command, '--data-root', tiny_root], env=cuda_env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert 'on CUDA (' in done.stderr or 'on cuda:0' in done.stdout


def test_metrics_are_the_same_on_cuda(cuda_env):
    script = """
import torch
from facesr.evaluation.metrics import METRICS
hq, gt = (torch.randint(0, 256, (3, 3, 64, 80), dtype=torch.uint8) for _ in range(2))
hq[1] = gt[1].clip(0, 250)
for name in ('PSNR', 'SSIM', 'PSNR_Y', 'SSIM_Y'):
    compute = METRICS[name].build()
    error = (compute(hq, gt) - compute(hq.cuda(), gt.cuda()).cpu()).abs().max()
    assert error < (1e-4 if name.startswith('PSNR') else 1e-5), (name, error)
"""
    done = subprocess.run([sys.executable, '-c', script], env=cuda_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
