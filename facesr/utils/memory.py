"""Memory: how much was used, a limit to test the promise of 6 GB with, and what to do when it runs out."""
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from facesr.utils.errors import OneRankError, UserError

MIB, GIB = 2**20, 2**30
# In the messages of torch, CUDA, cuBLAS and cuDNN 8; of cuDNN 9, which finds no engine if none's workspace fits.
SIGNS = ("can't allocate memory", 'out of memory', 'ALLOC_FAILED', 'ALLOCATION_FAILED', 'unable to find an engine')


class OutOfMemory(OneRankError):
    """The device's memory did not suffice; the message says which keys to change, and to what."""


def peak_allocated(device: torch.device) -> float:
    """Peak memory of a CUDA device's tensors in MiB: what `facesr.models.training_memory` computes."""
    return torch.cuda.max_memory_allocated(device) / MIB


def peak_memory(device: torch.device):
    """Peak memory in MiB: on CUDA what the allocator reserved on the card (what `limit_memory` limits; CUDA itself
    takes some 500 MiB besides), else the process's resident memory; None where unknown.
    """
    if device.type == 'cuda':
        return torch.cuda.max_memory_reserved(device) / MIB
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == 'darwin' else peak / 1024


def format_peak(peak: float, device: torch.device) -> str:
    """`peak_memory` in words; on CUDA beside what tensors took."""
    reserved = f'{peak / 1024:.2f} GiB'
    if device.type != 'cuda':
        return reserved
    return f'{peak_allocated(device) / 1024:.2f} GiB allocated, {reserved} reserved'


def limit_memory(limit_gb, device: torch.device) -> None:
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


def let_go(error: BaseException | None) -> None:
    """Free what an error that was caught keeps on a device: the variables of the functions that it came through.

    With a full card nothing could be saved before.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def enough_memory(otherwise: str) -> Iterator[None]:
    """Running out of memory within becomes a line.

    Raises:
        OutOfMemory: Memory does not suffice; `otherwise` is its message.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        let_go(error)
        raise OutOfMemory(otherwise) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a GPU or the host."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS))
