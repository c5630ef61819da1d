"""Pixel losses that MMEditing lacks. It has `L1Loss`, `MSELoss` and `CharbonnierLoss`."""
import math

import torch
from mmedit.models.builder import build_loss
from mmedit.models.registry import LOSSES
from torch import nn
from torch.nn import functional

DECIBEL = 10 / math.log(10)  # 10 log10(x) = DECIBEL ln(x)
SMALLEST_MSE = 1e-8  # of images in [0, 1]: 80 dB, far above what is reached, where the logarithm would run away


@LOSSES.register_module()
class PSNRLoss(nn.Module):
    """The negative PSNR of each image in dB, averaged over images: what the competition measures, but for rounding.

    The gradient is that of each image's MSE divided by the MSE, so easy images count as much as hard ones.

    Args:
        loss_weight (float): Factor of the loss. With 1 its value is -PSNR, for example -28.9. Adam does not
            care for it; beside other losses and with `grad_clip` it matters. Default: 1.

    Source: Chen et al., "HINet: Half Instance Normalization Network for Image Restoration", CVPRW 2021.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of images (n, c, h, w) in [0, 1]; a scalar, at least -80 times the weight."""
        # Not `flatten`, which copies images that are channels_last.
        mse = functional.mse_loss(pred, target, reduction='none').mean((1, 2, 3))
        return self.loss_weight * DECIBEL * (mse + SMALLEST_MSE).log().mean()


@LOSSES.register_module()
class FrequencyL1Loss(nn.Module):
    """L1 between Fourier transforms: mean of the absolute differences of real and imaginary parts.

    The transforms are orthonormal, so values are of the order of L1's on pixels. Meant beside a pixel loss (see
    `SumLoss`).

    Args:
        loss_weight (float): Factor of the loss. Default: 1.

    Source: Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (MIMO-UNet), ICCV 2021.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of images (n, c, h, w) in [0, 1]; a scalar."""
        # In float32 also under autocast: CUDA transforms halves only where sides are powers of two.
        spectrum = torch.fft.rfft2((pred - target).to(torch.promote_types(pred.dtype, torch.float32)), norm='ortho')
        return self.loss_weight * torch.view_as_real(spectrum).abs().mean()


@LOSSES.register_module()
class SumLoss(nn.Module):
    """The sum of several losses of the same images, for example L1 and a tenth of `FrequencyL1Loss`.

    Args:
        losses (list[dict]): Their configs, each with its own `loss_weight`; at least one.
        loss_weight (float): Factor of the sum. Default: 1.
    """

    def __init__(self, losses: list, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight
        if not losses:
            raise ValueError('losses is empty: give the configs of the losses to add up')
        self.losses = nn.ModuleList(map(build_loss, losses))

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of images (n, c, h, w) in [0, 1]; a scalar."""
        return self.loss_weight * sum(loss(pred, target) for loss in self.losses)
