"""Several processes, one per device, started by `torchrun` (MMCV's launcher 'pytorch').

Everything here also works in a single process, where it costs nothing. What the ranks have to agree
on travels over gloo, on the host: the devices are not made to wait for it.
"""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from facesr.utils.device import cuda_available
from facesr.utils.errors import UserError

NEEDED = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')  # what torchrun sets
_host_group = None  # gloo's: neither flags nor pickled objects belong on a GPU


def started() -> bool:
    """Whether `torchrun` started this process, alone or among others."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, 0 when it is alone."""
    return dist.get_rank() if started() else 0


def world_size() -> int:
    """Number of processes, 1 when this one is alone."""
    return dist.get_world_size() if started() else 1


def local_rank() -> int:
    """Number of this process among those on this machine."""
    return int(os.environ['LOCAL_RANK']) if started() else 0


def local_processes() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get('LOCAL_WORLD_SIZE', 1)) if started() else 1


def device() -> torch.device:
    """This process's device: its own CUDA device if there is one, else the CPU."""
    if not cuda_available():
        return torch.device('cpu')
    return torch.device('cuda', local_rank())


@contextmanager
def launched(launcher: str) -> Iterator[None]:
    """Join the other processes for the time of the context; nothing with launcher 'none'.

    Raises:
        UserError: The launcher is 'pytorch', but `torchrun` did not start this process, or there are
            fewer CUDA devices than processes.
    """
    global _host_group
    if launcher == 'none':
        if int(os.environ.get('WORLD_SIZE', 1)) > 1:
            raise UserError('torchrun started several processes; add --launcher pytorch, or start without torchrun')
        yield
        return
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise UserError('--launcher pytorch: start with torchrun, for example '
                        '"torchrun --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch"')
    local = int(os.environ['LOCAL_RANK'])
    cuda = cuda_available()
    if cuda:
        if local >= torch.cuda.device_count():
            raise UserError(f'torchrun started process {local} on this machine, which has {torch.cuda.device_count()} '
                            'CUDA devices; lower --nproc_per_node')
        torch.cuda.set_device(local)
    # Where NCCL is not built (on Windows), gloo serves CUDA too.
    dist.init_process_group('cpu:gloo,cuda:nccl' if cuda and dist.is_nccl_available() else 'gloo')
    _host_group = dist.new_group(backend='gloo')
    try:
        yield
    finally:
        dist.destroy_process_group()
        _host_group = None


def highest(code: int) -> int:
    """The largest of the ranks' codes, on every rank."""
    if world_size() == 1:
        return code
    value = torch.tensor(code)
    dist.all_reduce(value, dist.ReduceOp.MAX, group=_host_group)
    return int(value)


def mean(values: list) -> list:
    """The ranks' mean of each of some floats, on every rank."""
    if world_size() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total, group=_host_group)
    return (total / world_size()).tolist()


def gather(thing: Any, patient: bool = False) -> list:
    """What every rank gave (anything that pickles), in the order of ranks, on every rank.

    Args:
        thing: This rank's.
        patient (bool): Wait longer than gloo does (half an hour) for a rank that has long work first. Default: False.
    """
    if world_size() == 1:
        return [thing]
    group = dist.new_group(backend='gloo', timeout=timedelta(days=1)) if patient else _host_group
    things = [None] * world_size()
    dist.all_gather_object(things, thing, group=group)
    if patient:
        dist.destroy_process_group(group)
    return things


def unwrapped(model):
    """The restorer inside MMEditing's or torch's wrapper for devices, if it is in one."""
    from mmcv.parallel import is_module_wrapper
    return model.module if is_module_wrapper(model) else model
