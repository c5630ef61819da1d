"""Restoring images with a model, and measuring them as the competition does."""
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmedit.core import psnr, tensor2img
from tqdm import tqdm

from facesr.inference import network
from facesr.metrics import build_metrics

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


def restore(net: Callable, loader) -> Iterator[Restored]:
    """Run a restorer over a loader, image by image in the loader's order.

    Rounding and clipping are MMEditing's `tensor2img`, so the arrays equal what
    `BasicRestorer.forward_test` writes.

    Args:
        net (Callable): From `facesr.inference.network`.
        loader (DataLoader): Batches with `lq` (n, 3, h, w) in [0, 1], `meta`, and `gt` if there is one.

    Yields:
        Restored: Per image.
    """
    progress = tqdm(total=len(loader.sampler), desc='restore', unit='image', leave=False, disable=None)
    with progress:
        for batch in loader:
            output = net(batch['lq'])
            metas = [meta for chunk in batch['meta'].data for meta in chunk]
            for i, meta in enumerate(metas):
                gt = tensor2img(batch['gt'][i]) if 'gt' in batch else None
                yield Restored(meta['lq_path'], tensor2img(output[i]), tensor2img(batch['lq'][i]), gt)
                progress.update()


def evaluate(net: Callable, loader, metrics: dict) -> Iterator[tuple[Restored, ImageResult]]:
    """As `restore`, of pairs, with what each image measures.

    Args:
        net (Callable): From `facesr.inference.network`.
        loader (DataLoader): Pairs.
        metrics (dict[str, Callable]): From `facesr.metrics.build_metrics`.
    """
    for image in restore(net, loader):
        hq, gt = (torch.from_numpy(x[..., ::-1].transpose(2, 0, 1).copy())[None] for x in (image.hq, image.gt))
        yield image, ImageResult(Path(image.lq_path).name, {name: float(f(hq, gt)) for name, f in metrics.items()})


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
    results, metrics = [], build_metrics(model.test_cfg)
    for image, result in evaluate(network(model), loader, metrics):
        results.append(result)
        if keep is not None and len(keep) < keep_at_most:
            keep.append(image)
        if stop():
            return None
    if hasattr(model, 'generator_ema'):
        for result, (_, of_ema) in zip(results, evaluate(network(model, ema=True), loader, metrics), strict=True):
            result.metrics.update({name + EMA_SUFFIX: value for name, value in of_ema.metrics.items()})
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
