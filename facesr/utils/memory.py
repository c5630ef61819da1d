"""Memory: how much was used, a limit to test the promise of 6 GB with, and what to do when it runs out."""
import sys

import torch

from facesr.utils.errors import OneRankError, UserError

MIB, GIB = 2**20, 2**30
SIGNS = ("can't allocate memory", 'out of memory', 'ALLOC_FAILED')  # in the messages of torch, CUDA, cuBLAS, cuDNN


class OutOfMemory(OneRankError):
    """The device's memory did not suffice; the message says which keys to change, and to what."""


def peak_memory(device: torch.device) -> float | None:
    """Peak memory in MiB: on CUDA what the allocator took from the card (what `limit_memory` limits; CUDA itself takes
    some 500 MiB besides), else the process's resident memory; None where unknown.
    """
    if device.type == 'cuda':
        return torch.cuda.max_memory_reserved(device) / MIB
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == 'darwin' else peak / 1024


def limit_memory(limit_gb: float | None, device: torch.device) -> None:
    """Let the CUDA allocator take at most `limit_gb` GiB, as if the card were that small; no effect on a CPU.

    Raises:
        UserError: It is no positive number.
    """
    if limit_gb is None:
        return
    if not isinstance(limit_gb, (int, float)) or limit_gb <= 0:
        raise UserError(f'config key "memory_limit_gb" is {limit_gb!r}: give a positive number, or None')
    if device.type == 'cuda':
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_gb * GIB / total), device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a GPU or the host."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS))
