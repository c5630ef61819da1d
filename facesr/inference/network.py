"""How images go through a model: which weights, which precision, and the self-ensembles."""
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from facesr.utils.choices import FLIP
from facesr.utils.dist import unwrapped
from facesr.utils.precision import amp_dtype


def network(model: nn.Module, ema: bool = False, self_ensemble: bool | str = False,
            amp: str | None = None) -> Callable:
    """What restores a batch of LQ images: (n, 3, h, w) -> (n, 3, scale h, scale w), RGB in [0, 1], float32.

    Results are not clipped. The model is set to eval mode; batches go to its device.

    Args:
        model (BasicRestorer): On its device, wrapped or not.
        ema (bool): Use `FaceRestorer`'s moving average of the generator. Default: False.
        self_ensemble (bool | str): True: mean over the eight flips and transposes; FLIP: over the image and its
            mirror image (see `geometric_self_ensemble`). Default: False.
        amp (str | None): Mixed precision, as the config's `amp`. Default: None.

    Raises:
        UserError: The device cannot compute in `amp`.
    """
    model = unwrapped(model).eval()
    device = next(model.parameters()).device
    net, dtype = model.generator_ema if ema else model.forward_dummy, amp_dtype(amp, device)

    @torch.no_grad()
    def forward(lq: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return net(lq).float()

    def restore(lq: torch.Tensor) -> torch.Tensor:
        lq = lq.to(device, non_blocking=True)
        return geometric_self_ensemble(forward, lq, self_ensemble != FLIP) if self_ensemble else forward(lq)

    return restore


def geometric_self_ensemble(net: Callable, lq: torch.Tensor, turned: bool = True) -> torch.Tensor:
    """Mean of a network's outputs over the eight flips and transposes of its input, each undone ("EDSR+").

    A network that knows upright faces alone has six of the eight views to guess at: without `turned` they are the image
    and its mirror image.

    Args:
        net (Callable): (n, c, h, w) -> (n, c, scale h, scale w).
        lq (Tensor): (n, c, h, w).
        turned (bool): All eight views. Default: True.

    Source: Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016.
    """
    views = [((), False), ((-1, ), False)]
    if turned:
        views = [(flips, transpose) for transpose in (False, True) for flips in ((), (-1, ), (-2, ), (-2, -1))]

    def restored(flips: tuple, transpose: bool) -> torch.Tensor:
        output = net((lq.mT if transpose else lq).flip(flips)).flip(flips)
        return output.mT if transpose else output

    return sum(restored(*view) for view in views) / len(views)


def as_arrays(images: torch.Tensor) -> np.ndarray:
    """Images (n, 3, h, w) as arrays (n, h, w, 3) on the host."""
    return np.ascontiguousarray(images.cpu().numpy().transpose(0, 2, 3, 1))
