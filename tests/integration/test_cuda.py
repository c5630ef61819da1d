"""The tools on CUDA, as a user would run them: on a real device, or on the stand-in for one (docs/cuda.md)."""
import re

import pytest
import torch
from conftest import SMALL_OPTIONS

pytestmark = pytest.mark.gpu_standin
SRRESNET = 'configs/srresnet_ffhq.py'
NET = ['--cfg-options', *SMALL_OPTIONS]
SPANDREL = ['model.generator.dim=8', 'model.generator.n_blocks=1']
OTHERS = {  # small ones of the other networks
    'esrgan': [*SMALL_OPTIONS, 'model.generator.growth_channels=4', 'model.discriminator.mid_channels=2',
               'model.perceptual_loss=None', 'load_from=None'],
    'srresnet_ca': [*SMALL_OPTIONS, 'model.generator.reduction=4'], 'plksr': SPANDREL, 'safmn': SPANDREL,
    'naf_unet': ['model.generator.mid_channels=[8,12]', 'model.generator.num_blocks=[1,1]',
                 'model.generator.num_up_blocks=[1]']}


@pytest.fixture
def tool(cuda, tiny_root):
    """Runs a tool on the tiny images; returns what it printed."""

    def run(name, *arguments, root=('--data-root', tiny_root)):
        done = cuda.run(f'tools/{name}.py', *arguments, *root)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout + done.stderr

    return run


@pytest.fixture
def options(tiny_root):
    """Of trainings."""
    return [f'data.train.ann_file={tiny_root}/train.txt', 'gt_patch_size=64', 'evaluation.interval=2',
            'data.train_dataloader.samples_per_gpu=2', 'data.workers_per_gpu=0', 'log_config.interval=1']


def test_tools_one_after_the_other(tool, options, tiny_root, tmp_path):
    """Training with a process that loads images, and what one does with it afterwards."""
    work, options = tmp_path / 'work', [*options, 'data.workers_per_gpu=1']
    train = ['train', SRRESNET, '--work-dir', work, *NET, *options]
    log = tool(*train, 'total_iters=2')
    assert 'on CUDA (' in log and re.search(r'memory: \d+ MiB \(\d+ reserved\)', log)
    assert 'at iteration 2' in tool(*train, 'total_iters=4', '--resume')
    looked = tool('train', SRRESNET, '--dry-run', *NET, *options)
    assert 'nothing was written' in looked and 'allocated' in looked and 'reserved' in looked
    best = next(work.glob('best_PSNR_iter_*.pth'))
    assert 'on cuda:0' in tool('test', SRRESNET, best, *NET)
    assert 'on cuda:0' in tool('test', SRRESNET, best, '--split', 'test', '--zip', tmp_path / 'hand_in.zip', *NET)
    slow = tool('test', SRRESNET, best, '--self-ensemble', '--amp', 'fp16', *NET,
                'data.val_dataloader.samples_per_gpu=2')
    assert 'PSNR: ' in slow and 'SSIM: ' in slow
    tool('compare', f'a={best}', f'b={best}', '--config', SRRESNET, *NET)
    tool('report', work, '--out', tmp_path / 'report.html', root=())
    tool('restore', SRRESNET, best, tiny_root / 'test/LQ', '--out-dir', tmp_path / 'hq', '--tile', 12, *NET,
         root=())
    assert list((tmp_path / 'hq').glob('*.png'))
    tool('export', SRRESNET, best, '--format', 'safetensors', '--half', '--out', tmp_path / 'net.safetensors', *NET,
         root=())
    # This process sees no device, so torch would refuse to read anything of one: checkpoints are for any machine.
    checkpoint = torch.load(best, weights_only=True)
    assert checkpoint['optimizer']['generator']['state'][0]['exp_avg'].device.type == 'cpu'


@pytest.mark.parametrize('amp, place', [('fp16', 'device'), ('auto', 'loader')])
def test_mixed_precision_with_all_the_rest(amp, place, tool, options, tmp_path):
    """Under a limit of memory, and resumed."""
    train = ['train', SRRESNET, '--work-dir', tmp_path, '--amp', amp, '--resume', 'auto', *NET, *options,
             f'degrade_on={place}', 'channels_last=True', 'accumulation_steps=2',
             'grad_clip=1.0', 'ema=0.9', 'memory_limit_gb=2']
    tool(*train, 'total_iters=2')
    assert 'data_time: ' in tool(*train, 'total_iters=4')
    assert 'on cuda:0' in tool('test', SRRESNET, tmp_path / 'latest.pth', '--ema', *NET)


@pytest.mark.parametrize('config', OTHERS)
def test_other_models_train_resume_and_test_on_cuda(config, tool, options, tmp_path):
    path, net = f'configs/{config}_ffhq.py', ['--cfg-options', *OTHERS[config]]
    train = ['train', path, '--work-dir', tmp_path, '--resume', 'auto', '--amp', 'fp16', *net, *options,
             'gt_patch_size=128', 'ema=0.9', 'grad_clip=1.0', 'channels_last=True',
             'accumulation_steps=2', 'model.pixel_loss.type=PSNRLoss']
    assert 'on CUDA (' in tool(*train, 'total_iters=2')
    tool(*train, 'total_iters=4')
    assert 'on cuda:0' in tool('test', path, tmp_path / 'latest.pth', '--ema', *net)


def test_one_process_of_ddp(cuda, options, tiny_root, tmp_path):
    """With NCCL on a real device."""
    done = cuda.run(cuda.PROBE, 'torchrun', 1, 'tools/train.py', SRRESNET, '--launcher', 'pytorch', '--work-dir',
                    tmp_path, '--data-root', tiny_root, *NET, *options, 'total_iters=2')
    assert done.returncode == 0 and 'done: 2 iterations' in done.stderr, done.stderr[-4000:]


def test_metrics_are_the_same_on_cuda(cuda):
    for name, error in cuda.probe('metrics').items():
        assert error < (1e-4 if name.startswith('PSNR') else 1e-5), name
