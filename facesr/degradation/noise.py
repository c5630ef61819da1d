"""Noise fields, from a generator of their own on the image's device."""
import torch

from facesr.degradation.plan import Noise
from facesr.degradation.transfer import upload

LUMA = [0.299, 0.587, 0.114]  # of R, G and B, as OpenCV has it


def noise_field(step: Noise, image: torch.Tensor) -> torch.Tensor:
    """What the step adds to an image, as MMEditing's `RandomNoise` does.

    Args:
        step (Noise): Equal steps give equal fields of images of one size and device (Poisson: for equal images).
        image (Tensor): (h, w, 3), float, RGB, in units of 1/255.

    Returns:
        Tensor: (h, w, 3 or 1) in units of 1/255.
    """
    generator = torch.Generator(image.device).manual_seed(step.seed)
    if step.kind == 'poisson':
        return _poisson(image, step.gray, generator).mul_(255 * step.amount)
    shape = (*image.shape[:2], 1 if step.gray else 3)
    return torch.randn(shape, generator=generator, device=image.device).mul_(255 * step.amount)


def _poisson(image: torch.Tensor, gray: bool, generator: torch.Generator) -> torch.Tensor:
    """The noise of counting photons, in [0, 1]: as many for white as the image has levels, rounded up to 2^n."""
    if gray:
        image = image @ upload(torch.tensor(LUMA), image.device).unsqueeze(1)
    levels = image.round().clamp(0, 255)
    # All of it on the device, which would have to be waited for if a number were read.
    used = levels.new_zeros(256).scatter_(0, levels.flatten().long(), 1.0).sum()
    _, exponent = torch.frexp(used - 1)  # the least power of two that is not below `used`
    photons = torch.ones_like(exponent) << exponent
    levels /= 255
    return torch.poisson(levels * photons, generator=generator) / photons - levels
