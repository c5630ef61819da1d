"""The degradation of a batch on the training device, by the same plans as on the host."""
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
from facesr.utils.errors import UserError

OPENCV, TORCHVISION = 'opencv', 'torchvision'
MATRICES = 32  # kept, of some 1 MB each
RGB_TO_BGR = [2, 1, 0]


class BatchDegradation(nn.Module):
    """Makes LQ images from a batch of GT images, each by its own plan; without parameters or state.

    Every number comes from the plans, those of the noise from a generator on the device that the plan seeds, so
    a batch is the same before and after a resume.

    Args:
        jpeg (str): 'opencv' writes and reads JPEG files on the host, several at a time, as the reference does.
            'torchvision' stays on the device where its codec supports that, but differs there: its CUDA encoder
            writes colour in full resolution (4:4:4, the reference 4:2:0). On the host both give the same. Default:
            'opencv'.
        noise (Callable): Makes the noise fields (see `noise_field`).

    Raises:
        UserError: The installed torchvision has no JPEG codec, which is asked for.
    """

    def __init__(self, jpeg: str = OPENCV, noise=noise_field):
        super().__init__()
        self.noise = noise
        self._through_jpeg = _torchvision_jpeg() if jpeg == TORCHVISION else _opencv_jpeg

    @torch.no_grad()
    def forward(self, gt: torch.Tensor, plans) -> tuple:
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
        return self._through_jpeg([image.round().clamp(0, 255).to(torch.uint8) for image in images], steps)

    def _quantize(self, images, _steps) -> list:
        return [image.round().clamp(0, 255) for image in images]


_APPLY = {Blur: BatchDegradation._blur, Resize: BatchDegradation._resize, Noise: BatchDegradation._add_noise,
          Jpeg: BatchDegradation._jpeg, Quantize: BatchDegradation._quantize}


def _blur_together(images: torch.Tensor, blurs) -> torch.Tensor:
    kernels = [torch.from_numpy(trimmed(full_kernel(blur))).float() for blur in blurs]
    rows, columns = (max(kernel.shape[axis] for kernel in kernels) // 2 for axis in (0, 1))
    kernels = torch.stack([_centered(kernel, rows, columns) for kernel in kernels])
    (y, x) = (_reflected(side, margin, images.device)
              for side, margin in zip(images.shape[-2:], (rows, columns), strict=True))
    return Correlation(kernels.unsqueeze(1), *images.shape[-2:], images.device)(images[..., y[:, None], x])


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


def _opencv_jpeg(images, steps) -> list:
    """On the host, all images in one copy there and one back."""
    device, shapes = images[0].device, [image.shape[1:] for image in images]
    flat = torch.cat([image.permute(1, 2, 0).flatten() for image in images]).cpu()
    on_host = [part.reshape(*shape, 3).numpy() for part, shape in zip(_split(flat, shapes), shapes, strict=True)]
    with ThreadPoolExecutor() as pool:  # OpenCV lets go of the interpreter
        decoded = list(pool.map(through_jpeg, on_host, steps))
    flat = torch.cat([torch.from_numpy(image).flatten() for image in decoded]).to(device).float()
    return [part.reshape(*shape, 3).permute(2, 0, 1) for part, shape in zip(_split(flat, shapes), shapes, strict=True)]


def _split(flat: torch.Tensor, shapes):
    return flat.split([3 * height * width for height, width in shapes])


def _torchvision_jpeg():
    """On the images' device where torchvision's codec supports it, else on the host."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
        encode_jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8))
    except (ImportError, RuntimeError):  # its extension may be missing
        raise UserError(f'config key "degrade_jpeg": this torchvision has no JPEG codec; use "{OPENCV}"') from None

    @lru_cache
    def able(device) -> bool:
        try:
            encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8, device=device))
        except RuntimeError:  # built without nvJPEG
            return False
        return True

    def through(images, steps) -> list:
        device = images[0].device
        place = device if able(device) else torch.device('cpu')
        files = [encode_jpeg(image[RGB_TO_BGR].to(place), step.quality)
                 for image, step in zip(images, steps, strict=True)]
        # What comes from a CUDA encoder is decoded from the host's memory, where the headers are read.
        decoded = [decode_jpeg(file.cpu(), ImageReadMode.RGB, device=place) for file in files]
        return [image.to(device)[RGB_TO_BGR].float() for image in decoded]

    return through


def _crop(image: torch.Tensor, plan: Plan, scale: int) -> torch.Tensor:
    if plan.crop is None:
        return image
    top, left, side = (scale * number for number in plan.crop)
    return image[:, top:top + side, left:left + side]
