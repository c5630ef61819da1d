"""What an image is measured by."""
from collections.abc import Callable

import torch
from mmedit.core import psnr, ssim


def build_metrics(test_cfg, device='cpu') -> dict[str, Callable]:
    """The metrics that a config's `test_cfg` names, by name.

    Args:
        test_cfg (dict): `metrics` (list[str]) and `crop_border` (int, default 0).
        device (torch.device): Where they are to be computed.

    Returns:
        dict[str, Callable]: Each takes HQ and GT, uint8, RGB, (n, 3, h, w), and returns n values (Tensor, float64).
    """
    border = test_cfg.get('crop_border', 0)

    def batched(function):
        return lambda hq, gt: torch.tensor([float(function(a.numpy(), b.numpy(), border, 'CHW'))
                                            for a, b in zip(hq, gt, strict=True)], dtype=torch.float64)

    return {name: batched(dict(PSNR=psnr, SSIM=ssim)[name]) for name in test_cfg['metrics']}
