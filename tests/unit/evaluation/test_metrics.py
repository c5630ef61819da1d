"""Batched metrics against MMEditing's, on the same 8-bit images."""
import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmedit.core import psnr as mmedit_psnr
from mmedit.core import ssim as mmedit_ssim

from facesr.datasets.loader import build_eval_loader
from facesr.engine.hooks.eval_hook import SREvalHook
from facesr.evaluation import metrics as ours
from facesr.evaluation.metrics import METRICS, build_metrics, check_metrics
from facesr.utils.errors import UserError

DB, SIMILARITY = 1e-4, 1e-5  # what ours may differ by


def as_batch(images):
    """BGR arrays as an RGB batch."""
    return torch.from_numpy(np.stack(images)[..., ::-1].transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope='module')
def pairs(sample_root):
    """HQ and GT, uint8, BGR: bicubic of real portraits, almost equal ones, noise, flat ones; not square."""
    gt = [cv2.imread(str(path))[:200, :311] for path in sorted((sample_root / 'val/GT').iterdir())[:2]]
    rng = np.random.default_rng(0)
    hq = [cv2.resize(cv2.resize(image, None, fx=.25, fy=.25, interpolation=cv2.INTER_AREA), gt[0].shape[1::-1],
                     interpolation=cv2.INTER_CUBIC) for image in gt]
    near = gt[0].copy()
    near[50, 60, 1] ^= 1
    noise = [rng.integers(0, 256, gt[0].shape, np.uint8) for _ in range(2)]
    flat = [np.full_like(gt[0], 255), np.full_like(gt[0], 254)]
    grain = rng.normal(0, 5, gt[0].shape)
    bright = [(230 + sign * grain).round().clip(0, 255).astype(np.uint8) for sign in (1, -1)]
    even = np.full_like(gt[0], 230)
    return [*hq, near, noise[0], flat[0], even, bright[0]], [*gt, gt[0], noise[1], flat[1], bright[0], bright[1]]


@pytest.mark.parametrize('border', [0, 4])
def test_psnr_equals_mmedits(pairs, border):
    values = build_metrics(dict(metrics=['PSNR'], crop_border=border))['PSNR'](*map(as_batch, pairs))
    expected = [mmedit_psnr(*pair, border) for pair in zip(*pairs, strict=True)]
    if border:  # nothing differs there any more than here
        assert values[2].isfinite()
    assert values.tolist() == pytest.approx(expected, abs=DB)


def test_ssim_equals_mmedits(pairs):
    values = build_metrics(dict(metrics=['SSIM']))['SSIM'](*map(as_batch, pairs))
    expected = [mmedit_ssim(*pair) for pair in zip(*pairs, strict=True)]
    assert values.tolist() == pytest.approx(expected, abs=SIMILARITY)


def test_ssim_with_a_border_is_of_all_channels(pairs):
    """MMEditing's takes the first channel alone; cropped before, the images show what it means."""
    values = build_metrics(dict(metrics=['SSIM'], crop_border=4))['SSIM'](*map(as_batch, pairs))
    expected = [mmedit_ssim(x[4:-4, 4:-4], y[4:-4, 4:-4]) for x, y in zip(*pairs, strict=True)]
    assert values.tolist() == pytest.approx(expected, abs=SIMILARITY)


@pytest.mark.parametrize('border', [0, 4])
def test_luma_equals_mmedits(pairs, border):
    metrics = build_metrics(dict(metrics=['PSNR_Y', 'SSIM_Y'], crop_border=border))
    for name, function, tolerance in (('PSNR_Y', mmedit_psnr, DB), ('SSIM_Y', mmedit_ssim, SIMILARITY)):
        values = metrics[name](*map(as_batch, pairs))
        expected = [function(*pair, border, convert_to='y') for pair in zip(*pairs, strict=True)]
        assert values.tolist() == pytest.approx(expected, abs=tolerance)


def test_luma_is_mmcvs(pairs):
    theirs = mmcv.bgr2ycbcr(pairs[1][0].astype(np.float32) / 255, y_only=True) * 255
    assert np.abs(ours.luma(as_batch(pairs[1][:1]))[0, 0].numpy() - theirs).max() < 1e-3


def test_the_devices_ways_agree_with_the_cpus(pairs, monkeypatch):
    """What is computed on a GPU, computed here."""
    hq, gt = map(as_batch, pairs)
    here = [compute(hq, gt) for compute in (ours.psnr, ours.ssim)]

    class Elsewhere(torch.Tensor):
        device = torch.device('meta')

    there = [compute(hq.as_subclass(Elsewhere), gt).as_subclass(torch.Tensor) for compute in (ours.psnr, ours.ssim)]
    assert torch.allclose(here[0], there[0], rtol=1e-12) and torch.allclose(here[1], there[1], atol=1e-6)


def test_equal_images_are_perfect(pairs):
    gt = as_batch(pairs[1])
    assert ours.psnr(gt, gt).isinf().all()
    assert ours.ssim(gt, gt).tolist() == pytest.approx([1] * len(gt), abs=1e-7)


def test_a_batch_changes_nothing(pairs):
    hq, gt = map(as_batch, pairs)
    for name in ('PSNR', 'SSIM', 'PSNR_Y', 'SSIM_Y'):
        compute = METRICS[name].build()
        alone = [float(compute(x[None], y[None])) for x, y in zip(hq, gt, strict=True)]
        assert compute(hq, gt).tolist() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize('test_cfg, message', [
    (dict(metrics=['PSNR', 'ssim']), r'give some of PSNR, SSIM, PSNR_Y.*\(SSIM instead of ssim\?\)'),
    (dict(metrics=[]), 'give some of'),
    (None, 'give some of'), (dict(metrics=['PSNR'], crop_border=-1), 'crop_border" is -1')])
def test_what_is_no_metric(test_cfg, message):
    with pytest.raises(UserError, match=message):
        build_metrics(test_cfg)


def test_missing_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(UserError, match=rf'{tmp_path}/.*alexnet.*\.pth; download them from https'):
        build_metrics(dict(metrics=['LPIPS']))
    monkeypatch.setattr(ours, 'NIQE_PARAMETERS', tmp_path / 'niqe_pris_params.npz')
    with pytest.raises(UserError, match=f'put the one of its repository .* at {tmp_path}/niqe_pris_params.npz'):
        build_metrics(dict(metrics=['NIQE']))


def test_lpips_with_weights_in_the_cache(pairs, tmp_path, monkeypatch):
    """AlexNet's weights are not ours to ship: random ones show that equal images are at 0 and others are not."""
    from torchvision.models import AlexNet_Weights, alexnet
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder = tmp_path / 'hub/checkpoints'
    folder.mkdir(parents=True)
    torch.save(alexnet(weights=None).state_dict(), folder / AlexNet_Weights.DEFAULT.url.rpartition('/')[2])
    hq, gt = (as_batch(images[:5]) for images in pairs)
    values = build_metrics(dict(metrics=['LPIPS']))['LPIPS'](hq, torch.cat([gt[:4], hq[4:5]]))
    assert values.shape == (5, ) and values[4] == 0 and (values[:4] > 0).all() and values[3] > values[2]


def test_niqe_with_parameters(pairs, tmp_path, monkeypatch):
    import mmedit.core.evaluation.metrics as theirs
    path = tmp_path / 'niqe_pris_params.npz'
    window = cv2.getGaussianKernel(7, 7 / 6)
    np.savez(path, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36), gaussian_window=window @ window.T)
    monkeypatch.setattr(ours, 'NIQE_PARAMETERS', path)
    monkeypatch.setattr(theirs.os.path, 'dirname', lambda _: str(tmp_path))
    values = build_metrics(dict(metrics=['NIQE']))['NIQE'](as_batch(pairs[0][:2]), None)
    assert values.tolist() == pytest.approx([float(theirs.niqe(image, 0)) for image in pairs[0][:2]])


def test_what_is_better_follows_the_metric(tiny_config):
    loader = build_eval_loader(tiny_config().data, 'val')
    assert SREvalHook(loader, 1, 'PSNR').rule == 'greater' and SREvalHook(loader, 1, 'SSIM_ema').rule == 'greater'
    assert SREvalHook(loader, 1, 'LPIPS').rule == 'less'
    with pytest.raises(UserError, match='"evaluation.save_best" is \'PSNR_Y\': give one of PSNR, SSIM, or None'):
        check_metrics(tiny_config(**{'evaluation.save_best': 'PSNR_Y'}))
