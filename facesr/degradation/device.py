"""The degradation of a batch on the training device, by the same plans as on the host."""
from collections.abc import Callable, Sequence
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

MATRICES = 32  # kept, of some 1 MB each


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
        for number in range(max(len(plan.steps) for plan in plans)):
            # All images take their next step together, as far as it is of one kind.
            due = {}
            for index, plan in enumerate(plans):
                if number < len(plan.steps):
                    due.setdefault(type(plan.steps[number]), []).append(index)
            for kind, members in due.items():
                done = _APPLY[kind](self, [images[i] for i in members], [plans[i].steps[number] for i in members])
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
        return [resize(image, step) for image, step in zip(images, resizes, strict=True)]

    def _add_noise(self, images, steps) -> list:
        fields = [self.noise(step, image.permute(1, 2, 0)) for image, step in zip(images, steps, strict=True)]
        return [image + field.permute(2, 0, 1) for image, field in zip(images, fields, strict=True)]

    def _jpeg(self, images, steps) -> list:
        return _through_jpeg([image.round().clamp(0, 255).to(torch.uint8) for image in images], steps)

    def _quantize(self, images, _steps) -> list:
        return [image.round().clamp(0, 255) for image in images]


_APPLY = {Blur: BatchDegradation._blur, Resize: BatchDegradation._resize, Noise: BatchDegradation._add_noise,
          Jpeg: BatchDegradation._jpeg, Quantize: BatchDegradation._quantize}


def _blur_together(images: torch.Tensor, blurs) -> torch.Tensor:
    kernels = [torch.from_numpy(trimmed(full_kernel(blur))).float() for blur in blurs]
    rows, columns = (max(kernel.shape[axis] for kernel in kernels) // 2 for axis in (0, 1))
    kernels = torch.stack([_centered(kernel, rows, columns) for kernel in kernels])
    height, width = images.shape[-2:]
    y, x = _reflected(height, rows, images.device), _reflected(width, columns, images.device)
    return Correlation(kernels.unsqueeze(1), height, width, images.device)(images[..., y[:, None], x])


def _centered(kernel: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The kernel with zeros around it: (2 rows + 1, 2 columns + 1)."""
    margins = columns - kernel.shape[1] // 2, rows - kernel.shape[0] // 2
    return pad(kernel, (margins[0], margins[0], margins[1], margins[1]))


@lru_cache(MATRICES)
def _reflected(side: int, margin: int, device: torch.device) -> torch.Tensor:
    """Indices of a side with `margin` pixels mirrored at each end, as often as it takes (BORDER_REFLECT_101)."""
    return torch.from_numpy(np.pad(np.arange(side), margin, mode='reflect')).to(device)


def resize(image: torch.Tensor, step: Resize) -> torch.Tensor:
    """OpenCV's resize as two matrix products: (3, h, w) to (3, h', w')."""
    if image.shape[1:] == (step.height, step.width):
        return image
    rows = _matrix(image.shape[1], step.height, step.mode, image.device)
    columns = _matrix(image.shape[2], step.width, step.mode, image.device)
    return rows @ image @ columns.T


@lru_cache(MATRICES)
def _matrix(source: int, target: int, mode: str, device: torch.device) -> torch.Tensor:
    """(target, source): what OpenCV makes of the unit vectors, so that its conventions need no second telling."""
    units = cv2.resize(np.eye(source, dtype=np.float32), (source, target), interpolation=INTERPOLATION[mode])
    return torch.from_numpy(units).to(device)


def _through_jpeg(images, steps) -> list:
    """On the host, as the reference does it, all images in one copy there and one back.

    torchvision's codec would stay on the device, but on CUDA it writes colour in full resolution (4:4:4), where the
    reference has 4:2:0.
    """
    device, shapes = images[0].device, [image.shape[1:] for image in images]
    flat = torch.cat([image.permute(1, 2, 0).flatten() for image in images]).cpu()
    on_host = [part.reshape(*shape, 3).numpy() for part, shape in zip(_split(flat, shapes), shapes, strict=True)]
    with ThreadPoolExecutor() as pool:  # OpenCV lets go of the interpreter
        decoded = list(pool.map(through_jpeg, on_host, steps))
    flat = torch.cat([torch.from_numpy(image).flatten() for image in decoded]).to(device).float()
    return [part.reshape(*shape, 3).permute(2, 0, 1) for part, shape in zip(_split(flat, shapes), shapes, strict=True)]


def _split(flat: torch.Tensor, shapes):
    return flat.split([3 * height * width for height, width in shapes])


def _crop(image: torch.Tensor, plan: Plan, scale: int) -> torch.Tensor:
    if plan.crop is None:
        return image
    top, left, side = (scale * number for number in plan.crop)
    return image[:, top:top + side, left:left + side]
