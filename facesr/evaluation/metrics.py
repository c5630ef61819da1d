"""What an image is measured by, for batches on any device.

| name | convention |
|---|---|
| `PSNR`, `SSIM` | RGB, 8 bits; SSIM with an 11x11 window of sigma 1.5, no padding, per channel, then averaged |
| `PSNR_Y`, `SSIM_Y` | the same on luma of BT.601 in [16, 235], not rounded |
| `LPIPS` | AlexNet, version 0.1, RGB in [-1, 1]; less is better |
| `NIQE` | of the HQ image alone, on rounded luma, in 96x96 blocks; less is better |

Of all, `crop_border` pixels at each side are cut off first (the competition: 0; most papers: the scale, on luma).
PSNR on luma is about 2 dB higher than on RGB: figures of different conventions are not comparable. Equal to MMEditing's
`psnr`, `ssim` and `niqe` (0.16.1), except where its `ssim` with a `crop_border` looks at the blue channel alone.
"""
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from facesr.config import Config, averages
from facesr.utils.errors import UserError, similar
from facesr.utils.files import hub_path
from facesr.utils.psnr import mean_squared_error, psnr_of
from facesr.utils.threads import one_thread

EMA_SUFFIX = '_ema'  # of metrics of the weights' moving average

C1, C2 = (0.01 * 255)**2, (0.03 * 255)**2  # SSIM's constants for 8 bits
WINDOW, SIGMA = 11, 1.5  # SSIM's Gaussian
NIQE_PARAMETERS = Path(importlib.util.find_spec('mmedit').origin).parent / 'core/evaluation/niqe_pris_params.npz'


class Metric(NamedTuple):
    """A measure of HQ images against GT.

    Attributes:
        build (Callable): Without arguments; gives a function of HQ and GT, uint8, RGB, (n, 3, h, w), on one device,
            that returns n values (Tensor, float64).
        convention (str): What exactly it measures, in a few words.
        unit (str): With a space in front, or ''.
        rule (str): 'greater' or 'less' is better.
    """
    build: Callable
    convention: str
    unit: str = ''
    rule: str = 'greater'


@one_thread()
def psnr(hq: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / MSE), exactly; inf for equal images.

    Args:
        hq (Tensor): (n, c, h, w), in [0, 255].
        gt (Tensor): The same.

    Returns:
        Tensor: (n, ), float64.
    """
    if hq.device.type == 'cpu':
        errors = map(mean_squared_error, hq.numpy(), gt.numpy())
    else:
        errors = ((hq.float() - gt.float()).square_().flatten(1).sum(1, dtype=_wide(hq)) / hq[0].numel()).tolist()
    return torch.tensor([psnr_of(error) for error in errors], dtype=torch.float64)


@one_thread()
def ssim(hq: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """Structural similarity, the mean over channels.

    Computed from the sum and the difference of the images: two blurred squares instead of three. float32 is
    enough, since where images are alike the difference is small, and the sum has its mean taken off before it is
    squared, which leaves its variance as it is. On a CPU OpenCV filters, plane by plane, which stays in the cache.

    Args:
        hq (Tensor): (n, c, h, w), in [0, 255], at least 11x11.
        gt (Tensor): The same.

    Returns:
        Tensor: (n, ), float64.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    if hq.device.type != 'cpu':
        total, difference = hq.float() + gt, hq.float() - gt
        centre = total.mean((-2, -1), keepdim=True).round_()
        total -= centre
        return _similarity(map(_blur, (total, difference, total.square(), difference.square())), centre).mean(1)
    planes = map(_ssim_of_plane, hq.flatten(0, 1).numpy(), gt.flatten(0, 1).numpy())
    return torch.stack(list(planes)).view(hq.shape[:2]).mean(1)


@one_thread()
def luma(images: torch.Tensor) -> torch.Tensor:
    """BT.601's luma in [16, 235], not rounded, as `mmcv.bgr2ycbcr(y_only=True)`: (n, 3, h, w) -> (n, 1, h, w)."""
    # Rounded where mmcv rounds: between almost equal images that is seen in the fourth decimal.
    red, green, blue = (images.float() / 255).to(_wide(images)).unbind(1)
    y = 65.481 * red + 128.553 * green + 24.966 * blue + 16
    return (y / 255).float().mul_(255)[:, None]


def _ssim_of_plane(x: np.ndarray, y: np.ndarray) -> torch.Tensor:
    """Of two planes (h, w)."""
    total, difference = cv2.add(x, y, dtype=cv2.CV_32F), cv2.subtract(x, y, dtype=cv2.CV_32F)
    centre = round(cv2.mean(total)[0])
    total = cv2.subtract(total, float(centre))
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    blurred = (cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA)[inside, inside]
               for values in (total, difference, cv2.multiply(total, total), cv2.multiply(difference, difference)))
    return _similarity(map(torch.from_numpy, blurred), centre)


def _similarity(blurred, centre) -> torch.Tensor:
    """From the blurred sum (less `centre`) and difference of images (..., h, w), and their blurred squares: (...),
    float64.
    """
    # With means mx, my and blurred squares, SSIM is
    #   (2 mx my + C1) (2 cov + C2) / ((mx^2 + my^2 + C1) (var x + var y + C2)).
    # In s = x + y and d = x - y: 4 mx my = ms^2 - md^2, 2 (mx^2 + my^2) = ms^2 + md^2, and the same of the variances:
    # 4 cov = var s - var d, 2 (var x + var y) = var s + var d. Each factor below is doubled, which cancels.
    total, difference, total_variance, difference_variance = blurred
    total_variance, difference_variance = total_variance - total.square(), difference_variance - difference.square()
    total, difference = (total + centre).square_(), difference.square()  # from here on: the squares of the means
    similarity = (total - difference).add_(2 * C1).mul_((total_variance - difference_variance).add_(2 * C2))
    similarity.div_(total.add_(difference).add_(2 * C1)).div_(total_variance.add_(difference_variance).add_(2 * C2))
    return similarity.mean((-2, -1), dtype=_wide(similarity)).double()


def _blur(images: torch.Tensor) -> torch.Tensor:
    """SSIM's Gaussian without padding. Additions beat torch's convolutions of single channels."""
    taps, middle = _gaussian(), WINDOW // 2
    for dim in (-1, -2):
        size = images.shape[dim] - 2 * middle
        blurred = images.narrow(dim, middle, size) * taps[middle]
        for i in range(middle):
            for start in (i, WINDOW - 1 - i):
                blurred.add_(images.narrow(dim, start, size), alpha=taps[i])
        images = blurred
    return images


@cache
def _gaussian() -> list:
    return cv2.getGaussianKernel(WINDOW, SIGMA).flatten().tolist()


def _wide(tensor: torch.Tensor):
    """The type to sum in: not every device (Apple's) has float64."""
    return torch.float32 if tensor.device.type == 'mps' else torch.float64


def _on_luma(function: Callable) -> Callable:
    return lambda hq, gt: function(luma(hq), luma(gt))


def _lpips() -> Callable:
    """torchmetrics ships LPIPS's own weights; AlexNet's have to be there already: nothing is downloaded unasked.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
    """
    from torchvision.models import AlexNet_Weights
    url = AlexNet_Weights.DEFAULT.url
    weights = hub_path(url)
    if not weights.is_file():
        raise UserError(f'metric "LPIPS": needs AlexNet\'s weights, {weights}; download them from {url}')
    net = _lpips_net(weights)

    @torch.no_grad()
    def compute(hq, gt):
        return net.to(hq.device)(hq / 127.5 - 1, gt / 127.5 - 1).flatten().double()

    return compute


@cache
def _lpips_net(_weights: Path) -> torch.nn.Module:
    try:
        from torchmetrics.image import LearnedPerceptualImagePatchSimilarity
    except ImportError:
        raise UserError('metric "LPIPS": needs torchmetrics; pip install torchmetrics') from None
    with torch.random.fork_rng(devices=[]):  # the weights are drawn before they are read: not from training's numbers
        return LearnedPerceptualImagePatchSimilarity('alex').net.eval()


def _niqe() -> Callable:
    """MMEditing has the code; its wheel lacks the parameters.

    Source: Mittal et al., "Making a completely blind image quality analyzer", 2013.
    """
    if not NIQE_PARAMETERS.is_file():
        raise UserError(f'metric "NIQE": MMEditing\'s package lacks {NIQE_PARAMETERS.name}; put the one of its '
                        f'repository (mmedit/core/evaluation, version 0.16) at {NIQE_PARAMETERS}')
    from mmedit.core.evaluation.metrics import niqe

    def compute(hq, _gt):
        images = hq.cpu().numpy()[:, ::-1]  # BGR
        return torch.tensor([float(niqe(image, 0, 'CHW')) for image in images], dtype=torch.float64)

    return compute


METRICS = {
    'PSNR': Metric(lambda: psnr, 'RGB, 8 bits', ' dB'),
    'SSIM': Metric(lambda: ssim, 'RGB, 8 bits'),
    'PSNR_Y': Metric(lambda: _on_luma(psnr), 'luma of BT.601', ' dB'),
    'SSIM_Y': Metric(lambda: _on_luma(ssim), 'luma of BT.601'),
    'LPIPS': Metric(_lpips, 'AlexNet, version 0.1; less is better', rule='less'),
    'NIQE': Metric(_niqe, 'no reference, luma; less is better', rule='less'),
}


def build_metrics(test_cfg: dict | None) -> dict[str, Callable]:
    """The metrics that a config's `test_cfg` names.

    Args:
        test_cfg (dict): `metrics` (list[str]) and `crop_border` (int, pixels at each side, default 0).

    Returns:
        dict[str, Callable]: By name; each takes HQ and GT, uint8, RGB, (n, 3, h, w), on one device, and returns n
            values (Tensor, float64).

    Raises:
        UserError: A metric is unknown, or what it needs is not there.
    """
    test_cfg = test_cfg or {}
    names, border = test_cfg.get('metrics') or [], test_cfg.get('crop_border', 0)
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        close = similar(str(unknown[0]).upper(), METRICS) if unknown else ()
        raise UserError(f'config key "test_cfg.metrics" is {names}: give some of {", ".join(METRICS)}'
                        + (f' ({close[0]} instead of {unknown[0]}?)' if close else ''))
    if not isinstance(border, int) or border < 0:
        raise UserError(f'config key "test_cfg.crop_border" is {border!r}: give a whole number of pixels, at least 0')
    return {name: _cropped(METRICS[name].build(), border) for name in names}


def least_side(test_cfg: dict | None) -> int:
    """Pixels a side that an image has to have for the metrics that a config's `test_cfg` names."""
    test_cfg = test_cfg or {}
    return 2 * test_cfg.get('crop_border', 0) + (WINDOW if 'SSIM' in str(test_cfg.get('metrics')) else 1)


def _cropped(compute: Callable, border: int) -> Callable:
    if not border:
        return compute
    inside = slice(border, -border)
    return lambda hq, gt: compute(hq[..., inside, inside], gt[..., inside, inside])


def check_metrics(cfg: Config) -> None:
    """That validation knows how to compute what `test_cfg.metrics` and `evaluation.save_best` name.

    Raises:
        UserError: A metric is unknown or lacks what it needs, or `save_best` is not among the metrics.
    """
    metrics = list(build_metrics(cfg.get('test_cfg')))
    best = (cfg.get('evaluation') or {}).get('save_best')
    logged = metrics + [name + EMA_SUFFIX for name in metrics if averages(cfg)]
    if best is not None and best not in logged:
        raise UserError(f'config key "evaluation.save_best" is {best!r}: give one of {", ".join(logged)}, or None')
