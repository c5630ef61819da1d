"""For train_step.py and models.py: the clock, rows that are processes of their own, and what needs no measuring."""
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn


def default_device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device('cuda', 0) if torch.cuda.is_available() else torch.device('cpu')


def device_name(threads: int) -> str:
    """What is measured on, for a table's caption."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else f'CPU, {threads} threads'


def fastest(work: Callable, times: int, warm_up: int, device: torch.device) -> float:
    """Seconds of the fastest of `times` calls, after some that warm up."""
    seconds = []
    for _ in range(warm_up + times):
        start = time.perf_counter()
        work()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[warm_up:])


def take_turns(commands: dict, rounds: int, threads: int) -> tuple:
    """Run the rows' commands one after the other, so often; a row that fails is not run again.

    Args:
        commands (dict[str, list]): Arguments for Python by row. What it prints that begins with `{` is JSON.
        rounds (int): How often.
        threads (int): That torch computes with.

    Returns:
        tuple: What each row printed, merged into a dict, of several values of a key the smallest; and the last line
            of the error of each row that failed.
    """
    found, failed = {row: {} for row in commands}, {}
    for _ in range(rounds):
        for row, command in commands.items():
            if row in failed:
                continue
            done = subprocess.run([sys.executable, *command], capture_output=True, text=True,
                                  env=dict(os.environ, OMP_NUM_THREADS=str(threads)))
            for line in done.stdout.splitlines():
                if line.startswith('{'):
                    for key, value in json.loads(line).items():
                        found[row][key] = min(value, found[row].get(key, value))
            if done.returncode:
                killed = f'killed by signal {-done.returncode}; out of memory?'
                last = (done.stderr.strip().splitlines() or ['failed'])[-1].removeprefix('error: ')
                failed[row] = killed if done.returncode < 0 else last
    return found, failed


def without_memory(net: nn.Module) -> nn.Module:
    """A copy on torch's meta device: it has shapes and types, but no numbers, so it computes at no cost."""
    known = {id(value): value.to('meta') for value in net.buffers()}
    known.update((id(value), nn.Parameter(value.detach().to('meta'), value.requires_grad))
                 for value in net.parameters())
    return deepcopy(net, known)


def saved_bytes(net: nn.Module, lq: torch.Tensor) -> int:
    """What a network and an L1 loss keep of images for the backward pass, the network's parameters left out."""
    # By the storage's address: views share one, and on the meta device all data are at 0.
    own = {value.untyped_storage()._cdata for value in net.parameters()}
    found = {}

    def pack(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage.nbytes()
        return value

    net.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        output = net(lq)
        nn.functional.l1_loss(output, torch.empty_like(output))
    return sum(found.values())
