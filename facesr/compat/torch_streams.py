"""Since torch 2.1, `torch.nn.parallel._functions._get_stream` wants a `torch.device`.

mmcv 1.7.2 (`mmcv.parallel._functions.Scatter`) hands it a device index, so the first batch on a
GPU dies with "'int' object has no attribute 'type'". Can go with mmcv 1.x.
"""
import functools
from collections.abc import Callable

import torch


def accept_index(get_stream: Callable) -> Callable:
    """Wrap `_get_stream` so that it takes a CUDA index (int) as well as a `torch.device`."""

    @functools.wraps(get_stream)
    def wrapper(device):
        if isinstance(device, int):
            device = torch.device('cuda', device) if device >= 0 else torch.device('cpu')
        return get_stream(device)

    wrapper.accepts_index = True  # type: ignore[attr-defined]
    return wrapper


def apply() -> bool:
    """Let mmcv's `_get_stream` take an index."""
    from mmcv.parallel import _functions  # late: the other bridges must be in place first
    if getattr(_functions._get_stream, 'accepts_index', False):
        return False
    _functions._get_stream = accept_index(_functions._get_stream)
    return True
