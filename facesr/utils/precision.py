"""What a config's `amp` means on a device."""
from typing import Any

import torch

from facesr.utils.choices import AMP_MODES
from facesr.utils.errors import UserError

TENSOR_CORES = (7, 0)  # compute capability (Volta) from which fp16 is faster than fp32


def amp_dtype(amp: str | None, device: torch.device) -> torch.dtype | None:
    """The type that `torch.autocast` computes in, or None for full precision.

    Args:
        amp (str | None): 'fp16', 'bf16', None (or 'none'), or 'auto': on CUDA bf16 where the card computes in it, else
            fp16 where it has tensor cores, else None; on the CPU None.
        device (torch.device): Where the model is trained.

    Raises:
        UserError: `amp` is something else, or the device cannot.
    """
    if amp in (None, 'none'):
        return None
    if amp not in AMP_MODES:
        raise UserError(f'config key "amp" is {amp!r}: give None, {", ".join(map(repr, AMP_MODES))}')
    cuda = device.type == 'cuda'
    native_bf16 = cuda and torch.cuda.get_device_capability(device) >= (8, 0)
    if amp == 'auto':
        if not cuda:
            return None
        if native_bf16:
            return torch.bfloat16
        return torch.float16 if torch.cuda.get_device_capability(device) >= TENSOR_CORES else None
    if amp == 'bf16' and cuda and not native_bf16:
        raise UserError(f'config key "amp": {torch.cuda.get_device_name(device)} does not compute in bf16; '
                        'use amp=fp16 or amp=auto')
    dtype = torch.bfloat16 if amp == 'bf16' else torch.float16
    if not cuda:
        _try_on_cpu(amp, dtype)
    return dtype


def gradient_scaler(dtype: torch.dtype | None, device: torch.device) -> Any:
    """A `GradScaler` if `dtype` is fp16, whose small gradients would vanish, else None."""
    if dtype is not torch.float16:
        return None
    if hasattr(torch.amp, 'GradScaler'):
        return torch.amp.GradScaler(device.type)
    return torch.cuda.amp.GradScaler()  # torch < 2.3


def _try_on_cpu(amp: str, dtype) -> None:
    try:
        if dtype is torch.float16 and not hasattr(torch.amp, 'GradScaler'):
            raise RuntimeError('torch < 2.3 scales gradients on CUDA only')
        kernel = torch.zeros(3, 3, 3, 3, requires_grad=True)
        with torch.autocast('cpu', dtype=dtype):
            output = torch.nn.functional.conv2d(torch.zeros(1, 3, 4, 4), kernel)
        if output.dtype is not dtype:
            raise RuntimeError('the layer ignored it')
        output.float().sum().backward()
    except RuntimeError as error:
        raise UserError(f'config key "amp": this CPU does not train in {amp} ({error}); use amp=None') from error
