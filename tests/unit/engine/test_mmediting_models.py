"""MMEditing's generators and restorers for one image: trained, validated, tested, for each scale they have."""
import cv2
import numpy as np
import pytest
import torch
from mmediting_forms import organiser, paired_pipeline

from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config, notices
from facesr.engine.dry_run import dry_run, format_dry_run
from facesr.engine.train import prepare, train
from facesr.evaluation.metrics import build_metrics
from facesr.evaluation.test import load_split, run_test
from facesr.inference.network import network
from facesr.models.build import load_model
from facesr.utils.errors import UserError

PAIRS = paired_pipeline(24) + '''
data['train']['dataset'].update(pipeline=train_pipeline, lq_folder='ROOT/train/LQ', scale=SCALE)
data['workers_per_gpu'] = 0
for split in ('val', 'test'):
    data[split]['scale'] = SCALE
'''
GENERATORS = {
    'MSRResNet': 'mid_channels=4, num_blocks=1',
    'EDSR': 'mid_channels=4, num_blocks=1, res_scale=1, rgb_mean=[0.45, 0.44, 0.4], rgb_std=[1.0, 1.0, 1.0]',
    'RDN': 'mid_channels=4, num_blocks=1, num_layers=1, channel_growth=4',
    'RRDBNet': 'mid_channels=4, num_blocks=1, growth_channels=4',
}
SHUFFLED = '''
train_pipeline = [
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', channel_order='rgb'),
    dict(type='RescaleToZeroOne', keys=['gt']),
    dict(type='UnsharpMasking', keys=['gt'], kernel_size=51, sigma=0, weight=0.5, threshold=10),
    dict(type='CopyValues', src_keys=['gt_unsharp'], dst_keys=['lq']),
    dict(type='DegradationsWithShuffle', keys=['lq'], degradations=[
        dict(type='RandomJPEGCompression', params=dict(quality=[5, 50])),
        dict(type='RandomResize', params=dict(target_size=(12, 12), resize_opt=['area'], resize_prob=[1])),
        dict(type='RandomNoise', params=dict(noise_type=['gaussian'], noise_prob=[1], gaussian_sigma=[9, 9],
                                             gaussian_gray_noise_prob=0))]),
    dict(type='ImageToTensor', keys=['lq', 'gt', 'gt_unsharp']),
    dict(type='Collect', keys=['lq', 'gt', 'gt_unsharp'], meta_keys=['gt_path'])
]
data['train']['dataset']['pipeline'] = train_pipeline
model.update(type='RealESRGAN', is_use_sharpened_gt_in_pixel=True, is_use_ema=True)
train_cfg = dict(start_iter=1)
checkpoint_config['interval'] = 2
custom_hooks = [dict(type='ExponentialMovingAverageHook', module_keys=('generator_ema'), interval=1,
                     interp_cfg=dict(momentum=0.75))]
'''


@pytest.fixture
def config(tmp_path):
    """Writes a config for paired images of a scale, with more lines, and loads it."""

    def load(scale, *more, work='work'):
        rng, root = np.random.default_rng(0), tmp_path / f'x{scale}'
        for number in range(3):
            gt = cv2.GaussianBlur(rng.integers(0, 256, (48, 48, 3), np.uint8), (0, 0), 2)
            lq = cv2.resize(gt, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_CUBIC)
            for folder, image in (('train/GT', gt), ('train/LQ', lq), ('val/GT', gt), ('val/LQ', lq), ('test/LQ', lq)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / folder / f'{number}.png'), image)
        path = tmp_path / 'paired.py'
        path.write_text(organiser(root, f'work_dir = {str(tmp_path / work)!r}',
                                  PAIRS.replace('ROOT', str(root)).replace('SCALE', str(scale)), *more))
        return load_config(path)

    return load


def generator(kind: str, scale: int) -> str:
    if kind == 'SRCNN':
        return f'model["generator"] = dict(type="SRCNN", channels=(3, 4, 2, 3), kernel_sizes=(9, 1, 5), ' \
            f'upscale_factor={scale})'
    return f'model["generator"] = dict(type="{kind}", in_channels=3, out_channels=3, upscale_factor={scale}, ' \
        f'{GENERATORS[kind]})'


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('kind', ['MSRResNet', 'EDSR', 'RDN', 'SRCNN', 'RRDBNet'])
def test_each_generator_for_each_scale(kind, scale, config, tmp_path):
    cfg = config(scale, generator(kind, scale))
    if (kind, scale) == ('RRDBNet', 3):
        with pytest.raises(UserError, match='"model": .*Unsupported scale factor 3'):
            train(cfg, 'paired')
        return
    train(cfg, 'paired')
    best, = (tmp_path / 'work').glob('best_PSNR_iter_*.pth')
    net = network(load_model(cfg, best, device='cpu'))
    assert set(run_test(net, load_split(cfg, 'val'), build_metrics(cfg.test_cfg)).mean) == {'PSNR', 'SSIM'}
    tested = run_test(net, load_split(cfg, 'test'), zip_file=tmp_path / 'x.zip')
    assert tested.sizes == {f'{number}.png': (48, 48) for number in range(3)}


def test_one_scale_starts_from_another(config, tmp_path):
    """As MMEditing's x3 and x4 of EDSR do from its x2; what upsamples starts anew where it does not fit."""
    train(config(2, generator('EDSR', 2), work='x2-run'), 'paired', validate=False)
    two = read_checkpoint(tmp_path / 'x2-run/iter_2.pth')['state_dict']
    for scale, anew in ((3, ['upsample.0.upsample_conv.weight', 'upsample.0.upsample_conv.bias']),
                        (4, ['upsample.1.upsample_conv.weight', 'upsample.1.upsample_conv.bias'])):
        cfg = config(scale, generator('EDSR', scale), f'load_from = {str(tmp_path / "x2-run/iter_2.pth")!r}')
        model, _ = prepare(cfg)
        weights = model.state_dict()
        assert {name for name, value in weights.items() if not torch.equal(value, two.get(name, torch.empty(0)))
                } == {f'generator.{name}' for name in anew}
        assert any('x2-run/iter_2.pth is of another scale; 2 weights' in line for line in notices(cfg))
    with pytest.raises(UserError, match='does not fit this config: weights'):
        load_model(cfg, tmp_path / 'x2-run/iter_2.pth')  # tested, it has to fit
    with pytest.raises(UserError, match='does not fit this config: weights'):
        prepare(config(2, generator('RDN', 2), f'load_from = {str(tmp_path / "x2-run/iter_2.pth")!r}'))


def test_real_esrgan(config, tmp_path):
    """MMEditing validates its average; a resume goes on bit for bit, whatever order its shuffled steps were in."""
    cfg = config(4, generator('RRDBNet', 4), SHUFFLED, 'total_iters = 4', work='whole')
    assert cfg.model.type == 'RealESRGAN' and cfg.evaluation.save_best == 'PSNR_ema'
    train(cfg, 'paired')
    assert [path.name for path in (tmp_path / 'whole').glob('best_*')][0].startswith('best_PSNR_ema_iter_')
    train(config(4, generator('RRDBNet', 4), SHUFFLED, 'total_iters = 2'), 'paired')
    recorded = load_config(tmp_path / 'work/paired.py', {'total_iters': 4})  # it can be read: nothing was built in it
    train(recorded, 'paired', resume='latest')
    whole, parts = (read_checkpoint(tmp_path / name / 'iter_4.pth')['state_dict'] for name in ('whole', 'work'))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)
    assert whole['step_counter'] == 4 and any(name.startswith('generator_ema.') for name in whole)
    assert load_model(recorded, tmp_path / 'work/iter_4.pth', ema=True)


def test_an_adversarial_dry_run_shows_its_losses(config):
    """MMEditing's adversarial restorers give no sum of them."""
    cfg = config(4, generator('RRDBNet', 4), SHUFFLED)
    assert 'one step: loss_pix 0.' in format_dry_run(dry_run(cfg), cfg)
