"""The degradation of a batch on the training device, by the same plans as on the host."""
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

from facesr.degradation.cpu import INTERPOLATION, through_jpeg
from facesr.degradation.fft import Correlation
from facesr.degradation.kernels import full_kernel, trimmed
from facesr.degradation.noise import noise_field
from facesr.degradation.plan import Blur, Jpeg, Noise, Plan, Quantize, Resize
from facesr.degradation.transfer import download, upload

KEPT = 4096  # resizes whose taps are remembered, of some 10 KB each: a recipe with one random size has 3000


class BatchDegradation(nn.Module):
    """Makes LQ images from a batch of GT images, each by its own plan; without parameters or state.

    Every number comes from the plans, those of the noise from a generator on the device that the plan seeds, so
    a batch is the same before and after a resume.

    Args:
        noise (Callable): Makes the noise fields (see `noise_field`).
    """

    def __init__(self, noise: Callable = noise_field):
        super().__init__()
        self.noise = noise

    @torch.no_grad()
    def forward(self, gt: torch.Tensor, plans: Sequence) -> tuple:
        """LQ and GT patches.

        Args:
            gt (Tensor): (n, 3, h, w), float, RGB in [0, 1].
            plans (list[Plan]): One for each image.

        Returns:
            tuple[Tensor, Tensor]: LQ (n, 3, h', w'), and GT cropped to the plans' patches.
        """
        images, plans = list(gt.float() * 255), list(plans)
        for kind, group in in_order([plan.steps for plan in plans]):
            members = [index for index, _ in group]
            done = _APPLY[kind](self, [images[i] for i in members], [plans[i].steps[number] for i, number in group])
            for index, image in zip(members, done, strict=True):
                images[index] = image
        scale = gt.shape[-2] // images[0].shape[-2]
        lq = [_crop(image / 255, plan, 1) for image, plan in zip(images, plans, strict=True)]
        gt = [_crop(image, plan, scale) for image, plan in zip(gt, plans, strict=True)]
        return torch.stack(lq), torch.stack(gt)

    def _blur(self, images, blurs) -> list:
        """Images of one size in one transform, as all are in the first step."""
        blurred, sizes = [None] * len(images), [image.shape for image in images]
        for size in set(sizes):
            members = [index for index, other in enumerate(sizes) if other == size]
            together = _blur_together(torch.stack([images[i] for i in members]), [blurs[i] for i in members])
            for index, image in zip(members, together, strict=True):
                blurred[index] = image
        return blurred

    def _resize(self, images, resizes) -> list:
        matrices = {}  # of one size and mode they are the same for rows, columns and images
        return [resize(image, step, matrices) for image, step in zip(images, resizes, strict=True)]

    def _add_noise(self, images, steps) -> list:
        fields = [self.noise(step, image.permute(1, 2, 0)) for image, step in zip(images, steps, strict=True)]
        return [image + field.permute(2, 0, 1) for image, field in zip(images, fields, strict=True)]

    def _jpeg(self, images, steps) -> list:
        return _through_jpeg([image.round().clamp(0, 255).to(torch.uint8) for image in images], steps)

    def _quantize(self, images, _steps) -> list:
        return [image.round().clamp(0, 255) for image in images]


_APPLY = {Blur: BatchDegradation._blur, Resize: BatchDegradation._resize, Noise: BatchDegradation._add_noise,
          Jpeg: BatchDegradation._jpeg, Quantize: BatchDegradation._quantize}


def in_order(steps) -> Iterator:
    """What to do next in a batch, so that the device has to be waited for as seldom as may be.

    JPEGs are made on the host: all that are due are done together, and only when nothing else can be. Images that
    are blurred in a step of the same number are blurred together.

    Args:
        steps (list[tuple]): Of each image.

    Yields:
        tuple[type, list[tuple[int, int]]]: A kind of step, and the images that are to take it, each with the number
            of its step.
    """
    done = [0] * len(steps)
    while waiting := [(index, done[index]) for index in range(len(steps)) if done[index] < len(steps[index])]:
        due = {}
        for index, number in waiting:
            due.setdefault(type(steps[index][number]), []).append((index, number))
        blurred = {}
        for index, number in due.pop(Blur, []):
            blurred.setdefault(number, []).append((index, number))
        whole = [group for number, group in blurred.items()
                 if len(group) == sum(len(own) > number and type(own[number]) is Blur for own in steps)]
        jpeg = due.pop(Jpeg, [])
        groups = [*due.items(), *((Blur, group) for group in whole)] or [(Jpeg, jpeg)]
        for kind, group in groups:
            yield kind, group
            for index, _ in group:
                done[index] += 1


def _blur_together(images: torch.Tensor, blurs) -> torch.Tensor:
    kernels = [torch.from_numpy(trimmed(full_kernel(blur))).float() for blur in blurs]
    rows, columns = (max(kernel.shape[axis] for kernel in kernels) // 2 for axis in (0, 1))
    kernels = torch.stack([_centered(kernel, rows, columns) for kernel in kernels])
    (y, x) = (upload(_reflected(side, margin), images.device)
              for side, margin in zip(images.shape[-2:], (rows, columns), strict=True))
    height, width = images.shape[-2:]
    return Correlation(kernels.unsqueeze(1), height, width, images.device)(images[..., y[:, None], x])


def _centered(kernel: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The kernel with zeros around it: (2 rows + 1, 2 columns + 1)."""
    margins = columns - kernel.shape[1] // 2, rows - kernel.shape[0] // 2
    return pad(kernel, (margins[0], margins[0], margins[1], margins[1]))


def _reflected(side: int, margin: int) -> torch.Tensor:
    """Indices of a side with `margin` pixels mirrored at each end, as often as it takes (BORDER_REFLECT_101)."""
    return torch.from_numpy(np.pad(np.arange(side), margin, mode='reflect'))


def resize(image: torch.Tensor, step: Resize, matrices: dict | None = None) -> torch.Tensor:
    """OpenCV's resize as two matrix products: (3, h, w) to (3, h', w').

    Args:
        image (Tensor): In float.
        step (Resize): To which size, and how.
        matrices (dict | None): Where the matrices on the device are kept for others.
    """
    if image.shape[1:] == (step.height, step.width):
        return image
    matrices = {} if matrices is None else matrices
    for key in ((image.shape[1], step.height, step.mode), (image.shape[2], step.width, step.mode)):
        if key not in matrices:
            matrices[key] = _matrix(*key, image.device)
    rows = matrices[image.shape[1], step.height, step.mode]
    columns = matrices[image.shape[2], step.width, step.mode]
    return rows @ image @ columns.T


def _matrix(source: int, target: int, mode: str, device: torch.device) -> torch.Tensor:
    """(target, source): what becomes of the unit vectors."""
    places, weights = (upload(part, device) for part in _taps(source, target, mode))
    return torch.zeros(target, source, device=device).scatter_(1, places.long(), weights)


@lru_cache(KEPT)
def _taps(source: int, target: int, mode: str) -> tuple:
    """Where each row of a resize's matrix is not zero, and what is there: (target, taps) each, on the host.

    OpenCV is asked what it makes of the unit vectors, so that its conventions need no second telling. Rows with fewer
    taps than others name their last again.
    """
    matrix = cv2.resize(np.eye(source, dtype=np.float32), (source, target), interpolation=INTERPOLATION[mode])
    rows, columns = np.nonzero(matrix)
    counts = np.bincount(rows, minlength=target)[:, None]
    taps = (np.cumsum(counts) - counts[:, 0])[:, None] + np.minimum(np.arange(counts.max()), counts - 1)
    return torch.from_numpy(columns[taps].astype(np.int32)), torch.from_numpy(matrix[rows[taps], columns[taps]])


def _through_jpeg(images, steps) -> list:
    """On the host, as the reference does it, all images in one copy there and one back.

    torchvision's codec would stay on the device, but on CUDA it writes colour in full resolution (4:4:4), where the
    reference has 4:2:0.
    """
    device, shapes = images[0].device, [image.shape[1:] for image in images]
    flat = download(torch.cat([image.permute(1, 2, 0).flatten() for image in images]))
    on_host = [part.reshape(*shape, 3).numpy() for part, shape in zip(_split(flat, shapes), shapes, strict=True)]
    with ThreadPoolExecutor() as pool:  # OpenCV lets go of the interpreter
        decoded = list(pool.map(through_jpeg, on_host, steps))
    flat = upload(torch.cat([torch.from_numpy(image).flatten() for image in decoded]), device).float()
    return [part.reshape(*shape, 3).permute(2, 0, 1) for part, shape in zip(_split(flat, shapes), shapes, strict=True)]


def _split(flat: torch.Tensor, shapes):
    return flat.split([3 * height * width for height, width in shapes])


def _crop(image: torch.Tensor, plan: Plan, scale: int) -> torch.Tensor:
    if plan.crop is None:
        return image
    top, left, side = (scale * number for number in plan.crop)
    return image[:, top:top + side, left:left + side]
