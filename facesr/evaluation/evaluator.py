"""Restoring images with a model, and measuring them as the competition does."""
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from facesr.evaluation.metrics import EMA_SUFFIX, build_metrics
from facesr.inference.network import as_arrays, network
from facesr.utils.device import cuda_available
from facesr.utils.dist import unwrapped
from facesr.utils.errors import UserError, from_worker
from facesr.utils.memory import enough_memory
from facesr.utils.pixels import to_float, to_uint8
from facesr.utils.psnr import psnr_of_arrays


class Restored(NamedTuple):
    """One image that went through a model; arrays are uint8, RGB, (height, width, 3)."""
    lq_path: str
    hq: np.ndarray
    lq: np.ndarray
    gt: np.ndarray | None


class ImageResult(NamedTuple):
    """Metrics of one image by name, as float (PSNR in dB)."""
    name: str
    metrics: dict


class Batch(NamedTuple):
    """Images of a loader: uint8, RGB, (n, 3, h, w), on the host; `gt` is None where there is none."""
    lq_paths: list
    lq: torch.Tensor
    gt: torch.Tensor | None


def restore(net: Callable, loader: DataLoader) -> Iterator[Restored]:
    """Run a restorer over a loader, image by image in the loader's order.

    Rounding and clipping are MMEditing's `tensor2img`, so the arrays equal what
    `BasicRestorer.forward_test` writes.

    Args:
        net (Callable): From `facesr.inference.network.network`.
        loader (DataLoader): Batches with `lq` (n, 3, h, w), `meta`, and `gt` if there is one: uint8, or float in
            [0, 1].

    Yields:
        Restored: Per image.

    Raises:
        UserError: What the network gives is not finite.
    """
    for batch in read_batches(loader):
        yield from _as_images(batch, restore_batch(net, batch))


def evaluate(net: Callable, loader: DataLoader, metrics: dict) -> Iterator[tuple[Restored, ImageResult]]:
    """As `restore`, of pairs, with what each image measures.

    Args:
        net (Callable): From `facesr.inference.network.network`.
        loader (DataLoader): Pairs.
        metrics (dict[str, Callable]): From `facesr.evaluation.metrics.build_metrics`.
    """
    for batch in read_batches(loader):
        hq = restore_batch(net, batch)
        yield from zip(_as_images(batch, hq), measure(metrics, batch, hq), strict=True)


def read_batches(loader: DataLoader) -> Iterator[Batch]:
    """A loader's batches, with a progress bar.

    Raises:
        UserError: A transform of the pipeline cannot do its work.
    """
    try:
        with tqdm(total=len(loader.sampler), desc='restore', unit='image', leave=False, disable=None) as progress:
            for batch in _ahead(iter(loader)):
                paths = [meta['lq_path'] for chunk in batch['meta'].data for meta in chunk]
                yield Batch(paths, to_uint8(batch['lq']), to_uint8(batch['gt']) if 'gt' in batch else None)
                progress.update(len(paths))
    except UserError as error:
        raise from_worker(error) from error


def _ahead(batches: Iterator) -> Iterator:
    """The same, but the next one is loaded by a thread while this one is worked on."""
    same_device = partial(torch.cuda.set_device, torch.cuda.current_device()) if cuda_available() else None
    with ThreadPoolExecutor(1, initializer=same_device) as loading:
        following = loading.submit(next, batches, None)
        try:
            while (batch := following.result()) is not None:
                following = loading.submit(next, batches, None)
                yield batch
        finally:
            del following  # a failed one's traceback leads back here and would keep the loader's processes


def _enough_memory(batch: Batch) -> AbstractContextManager:
    """Running out of memory within becomes a line with a remedy; training has another."""
    count, (height, width) = len(batch.lq), batch.lq.shape[-2:]
    fewer = f'a smaller samples_per_gpu of the dataloader (now {count}), ' if count > 1 else ''
    return enough_memory(f'{batch.lq_paths[0]}: memory does not suffice for {count} LQ image{"s" * (count > 1)} of '
                         f'{width}x{height} at a time; use {fewer}--amp auto or --device cpu')


def restore_batch(net: Callable, batch: Batch) -> torch.Tensor:
    """HQ images: uint8, RGB, (n, 3, scale h, scale w), on the network's device.

    Raises:
        UserError: What the network gives is not finite.
        OutOfMemory: Memory does not suffice.
    """
    with _enough_memory(batch):
        output = net(to_float(batch.lq))
    finite = output.isfinite().flatten(1).all(1).tolist()
    if not all(finite):
        raise UserError(f'{batch.lq_paths[finite.index(False)]}: the network gives NaN or infinite values; take an '
                        'earlier checkpoint, or full precision if --amp was given')
    return to_uint8(output)


def require_size(hq: torch.Tensor, batch: Batch, maker: str, remedy: str) -> None:
    """That HQ images (n, 3, h, w) of a batch of pairs are as large as its GT.

    Raises:
        UserError: They are not; it names `maker` and the `remedy`.
    """
    if hq.shape != batch.gt.shape:
        (height, width), (gt_height, gt_width) = hq.shape[-2:], batch.gt.shape[-2:]
        raise UserError(f'{batch.lq_paths[0]}: {maker} makes {width}x{height} of it, but its GT is '
                        f'{gt_width}x{gt_height}; {remedy}')


def measure(metrics: dict, batch: Batch, hq: torch.Tensor) -> list:
    """An `ImageResult` per image of a batch of pairs, computed where `hq` is.

    Raises:
        UserError: HQ and GT have different sizes.
        OutOfMemory: Memory does not suffice.
    """
    require_size(hq, batch, 'the network', 'give a config whose scale fits')
    with _enough_memory(batch):
        gt = batch.gt.to(hq.device, non_blocking=True)
        values = {name: compute(hq, gt).tolist() for name, compute in metrics.items()}
    return [ImageResult(Path(path).name, {name: values[name][i] for name in metrics})
            for i, path in enumerate(batch.lq_paths)]


def evaluate_loader(model, loader, stop=lambda: False, keep=None, keep_at_most: int = 0, each=None):
    """Restore and measure every pair of a loader, with the generator and its moving average if there is one.

    Args:
        model (BasicRestorer): On its device, wrapped or not; set to eval mode here.
        loader (DataLoader): Pairs.
        stop (Callable[[], bool]): Asked after each batch whether to give up.
        keep (list | None): The first `keep_at_most` `Restored` are put there.
        keep_at_most (int): Their number. Default: 0.
        each (Callable[[Restored], None] | None): Called with every one. Default: None.

    Returns:
        list[ImageResult] | None: Per image, the average's metrics with `_ema` appended to their names; None
            if it was given up.
    """
    model = unwrapped(model)
    averaged = getattr(model, 'generator_ema', None) is not None
    net, ema = network(model), network(model, ema=True) if averaged else None
    results, metrics = [], build_metrics(model.test_cfg)
    for batch in read_batches(loader):
        hq = restore_batch(net, batch)
        measured = measure(metrics, batch, hq)
        if keep is not None and len(keep) < keep_at_most:
            keep.extend(_as_images(batch, hq)[:keep_at_most - len(keep)])
        for restored in _as_images(batch, hq) if each else ():
            each(restored)
        if ema:
            for result, average in zip(measured, measure(metrics, batch, restore_batch(ema, batch)), strict=True):
                result.metrics.update({name + EMA_SUFFIX: value for name, value in average.metrics.items()})
        results += measured
        if stop():
            return None
    return results


def mean_metrics(results: Sequence) -> dict:
    """Mean of each metric over images."""
    return {name: math.fsum(r.metrics[name] for r in results) / len(results) for name in results[0].metrics}


def bicubic(lq: np.ndarray, scale: int = 4) -> np.ndarray:
    """What a model has to beat: OpenCV's bicubic upscaling, uint8 (h, w, 3) -> (scale h, scale w, 3)."""
    return cv2.resize(lq, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def bicubic_psnr(lq: np.ndarray, gt: np.ndarray, crop_border: int = 0) -> float:
    """PSNR in dB of bicubic upscaling of a pair of uint8 images (h, w, 3)."""
    return psnr_of_arrays(bicubic(lq, gt.shape[0] // lq.shape[0]), gt, crop_border)


def _as_images(batch: Batch, hq: torch.Tensor) -> list:
    gt = [None] * len(hq) if batch.gt is None else as_arrays(batch.gt)
    return list(map(Restored, batch.lq_paths, as_arrays(hq), as_arrays(batch.lq), gt))
