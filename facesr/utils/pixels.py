"""8-bit images and images in [0, 1]: the one place where either becomes the other."""
import torch

from facesr.utils.threads import one_thread


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1], float32, of 8-bit ones; others stay as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


@one_thread()
def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """8-bit images of such in [0, 1], clipped and rounded as MMEditing's `tensor2img`; 8-bit ones stay as they are."""
    return images if images.dtype == torch.uint8 else images.clamp(0, 1).mul_(255).round_().to(torch.uint8)
