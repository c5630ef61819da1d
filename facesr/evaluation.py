"""Restoring images with a model, and measuring them as the competition does."""
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmcv.parallel import is_module_wrapper
from mmedit.core import psnr, tensor2img
from tqdm import tqdm

EMA_SUFFIX = '_ema'  # of metrics of the weights' moving average


class Restored(NamedTuple):
    """One image that went through a model; arrays are uint8, BGR, (height, width, 3)."""
    lq_path: str
    hq: np.ndarray
    lq: np.ndarray
    gt: np.ndarray | None


class ImageResult(NamedTuple):
    """Metrics of one image by name, as float (PSNR in dB)."""
    name: str
    metrics: dict


@torch.no_grad()
def restore(model, loader, ema: bool = False) -> Iterator[Restored]:
    """Run a restorer over a loader, image by image in the loader's order.

    Rounding and clipping are MMEditing's `tensor2img`, so the arrays equal what
    `BasicRestorer.forward_test` writes.

    Args:
        model (BasicRestorer): On its device, wrapped or not; set to eval mode here.
        loader (DataLoader): Batches with `lq` (n, 3, h, w) in [0, 1], `meta`, and `gt` if there is one.
        ema (bool): Use `FaceRestorer`'s moving average of the generator. Default: False.

    Yields:
        Restored: Per image.
    """
    model = model.module if is_module_wrapper(model) else model
    device = next(model.parameters()).device
    net = model.generator_ema if ema else model.forward_dummy
    model.eval()
    progress = tqdm(total=len(loader.sampler), desc='restore', unit='image', leave=False, disable=None)
    with progress:
        for batch in loader:
            output = net(batch['lq'].to(device, non_blocking=True))
            metas = [meta for chunk in batch['meta'].data for meta in chunk]
            for i, meta in enumerate(metas):
                gt = tensor2img(batch['gt'][i]) if 'gt' in batch else None
                yield Restored(meta['lq_path'], tensor2img(output[i]), tensor2img(batch['lq'][i]), gt)
                progress.update()


def measure(model, restored: Restored) -> ImageResult:
    """Metrics of one image, as the model's `test_cfg` names them (`metrics`, `crop_border`)."""
    model = model.module if is_module_wrapper(model) else model
    return ImageResult(
        Path(restored.lq_path).name, {
            name: float(model.allowed_metrics[name](restored.hq, restored.gt, model.test_cfg.get('crop_border', 0)))
            for name in model.test_cfg['metrics']
        })


def evaluate_loader(model, loader, stop=lambda: False, keep=None, keep_at_most: int = 0):
    """Restore and measure every pair of a loader, with the generator and its moving average if there is one.

    Args:
        model (BasicRestorer): On its device, wrapped or not; set to eval mode here.
        loader (DataLoader): Pairs.
        stop (Callable[[], bool]): Asked after each image whether to give up.
        keep (list | None): The first `keep_at_most` `Restored` are put there.
        keep_at_most (int): Their number. Default: 0.

    Returns:
        list[ImageResult] | None: Per image, the average's metrics with `_ema` appended to their names; None
            if it was given up.
    """
    results = []
    for image in restore(model, loader):
        results.append(measure(model, image))
        if keep is not None and len(keep) < keep_at_most:
            keep.append(image)
        if stop():
            return None
    if hasattr(model, 'generator_ema'):
        for result, image in zip(results, restore(model, loader, ema=True), strict=True):
            result.metrics.update({name + EMA_SUFFIX: value for name, value in measure(model, image).metrics.items()})
            if stop():
                return None
    return results


def mean_metrics(results) -> dict:
    """Mean of each metric over images."""
    return {name: math.fsum(r.metrics[name] for r in results) / len(results) for name in results[0].metrics}


def bicubic(lq: np.ndarray, scale: int = 4) -> np.ndarray:
    """What a model has to beat: OpenCV's bicubic upscaling, uint8 (h, w, 3) -> (scale h, scale w, 3)."""
    return cv2.resize(lq, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def bicubic_psnr(restored: Restored, crop_border: int = 0) -> float:
    """PSNR in dB of bicubic upscaling on the same pair."""
    return float(psnr(bicubic(restored.lq, restored.gt.shape[0] // restored.lq.shape[0]), restored.gt, crop_border))
