"""Random states: kept for a resume, and set aside while a training sample is drawn."""
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from facesr.utils.device import cuda_available


def random_state() -> dict:
    """The states of Python's, NumPy's and torch's generators (CUDA's too), as tensors and plain values."""
    numpy_state = np.random.get_state(legacy=False)
    numpy_state['state']['key'] = torch.from_numpy(numpy_state['state']['key'].astype(np.int64))
    state = dict(python=random.getstate(), numpy=numpy_state, torch=torch.get_rng_state())
    if cuda_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict) -> None:
    """Put back what `random_state` gave."""
    version, internal, gauss = state['python']
    random.setstate((version, tuple(internal), gauss))
    numpy_state = dict(state['numpy'], state=dict(state['numpy']['state']))
    numpy_state['state']['key'] = numpy_state['state']['key'].cpu().numpy().astype(np.uint32)
    np.random.set_state(numpy_state)
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and cuda_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Within, the host's generators start from `seed` (non-negative integers); after it they go on as before."""
    words = np.random.SeedSequence(seed).generate_state(3)
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
