"""What training a config takes of a CUDA card, computed without one.

A training step is gone through on tensors that have a shape and no numbers, and what lives at a time is added up as
CUDA's allocator in torch would. It takes seconds, and no memory to speak of.
"""
import weakref
from typing import NamedTuple

import torch
from mmedit.core import build_optimizers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from facesr.config import Config, batch_size, train_dataset_cfg
from facesr.models.build import build_restorer, is_face_restorer

BLOCK = 512  # bytes; the allocator hands out multiples of it
MIB = 2**20
CPU = torch.device('cpu')


class TrainingMemory(NamedTuple):
    """Peak memory of the tensors of a training step, in MiB; `activations` are all that is there at the peak besides.

    Not in it are what cuDNN works in (with `cudnn_benchmark` as much as it may have), what degrading on the device
    takes, what the allocator cannot use of what it has taken, and some 500 MiB that CUDA itself takes of a card.
    """
    weights: float
    gradients: float
    optimizer: float
    activations: float

    def describe(self) -> str:
        """In words, in GiB and MiB."""
        parts = ', '.join(f'{name} {size:.0f}' for name, size in self._asdict().items())
        return f'{self.total / 1024:.2f} GiB (MiB: {parts}; without what cuDNN works in, and some 500 of CUDA itself)'

    @property
    def total(self) -> float:
        """The sum, in MiB."""
        return sum(self)


def training_memory(cfg: Config, dtype: torch.dtype | None = None) -> TrainingMemory | None:
    """Memory of a config's training step at its batch, patch and parts, with its discriminator and moving average.

    Args:
        cfg (Config): From `load_config`.
        dtype (torch.dtype | None): What autocast computes in on the card; None for full precision. Default: None.

    Returns:
        TrainingMemory | None: None for a model that is no `FaceRestorer`, or whose images have no size of their own.
    """
    side, scale = cfg.get('gt_patch_size'), train_dataset_cfg(cfg).get('scale', 4)
    if not side or not is_face_restorer(cfg.model.type):
        return None
    with torch.random.fork_rng(devices=[]):
        restorer = build_restorer(cfg)
    if cfg.get('ema') is not None:
        restorer.add_ema()
    perceptual = getattr(restorer, 'perceptual_loss', None)
    if hasattr(perceptual, 'load'):
        perceptual.load = perceptual.load_nothing
    # Tensors without numbers are the CPU's, for those of CUDA cannot go backwards without a card. Autocast has another
    # list of operations for either; for the networks here they lead to the same but for a few per cent.
    restorer.prepare_training(CPU, dtype, accumulation_steps=cfg.get('accumulation_steps', 1))
    frozen = getattr(perceptual, 'layers', torch.nn.Module())
    with FakeTensorMode() as mode:
        for module in (*restorer.modules(), *frozen.modules()):
            _take_numbers(module, mode)
        optimizers = build_optimizers(restorer, cfg.optimizers)
        restorer.train()
        alive = _Alive()
        own = alive.add([*restorer.state_dict().values(), *frozen.state_dict().values()])
        with alive:
            for count in (1, batch_size(cfg, 'train')):  # the optimizer's averages are there from the first step on
                images = dict(lq=torch.zeros(count, 3, side // scale, side // scale),
                              gt=torch.zeros(count, 3, side, side))
                restorer.compute_step(images, optimizers)
                for optimizer in optimizers.values():
                    optimizer.step()
        trained = [p for optimizer in optimizers.values() for group in optimizer.param_groups for p in group['params']]
        gradients = sum(_size(p.grad) for p in trained if p.grad is not None)
        averages = sum(_size(value) for optimizer in optimizers.values() for state in optimizer.state.values()
                       for value in state.values() if torch.is_tensor(value) and value.dim())
    rest = alive.peak - own - gradients - averages
    return TrainingMemory(*(size / MIB for size in (own, gradients, averages, rest)))


def _take_numbers(module, mode: FakeTensorMode) -> None:
    """Leave a module's tensors their shapes alone."""
    for own in (module._parameters, module._buffers, vars(module)):
        own.update([(name, mode.from_tensor(value)) for name, value in own.items() if torch.is_tensor(value)])


def _size(tensor: torch.Tensor) -> int:
    return -(-tensor.untyped_storage().nbytes() // BLOCK) * BLOCK


class _Alive(TorchDispatchMode):
    """Within, every tensor's memory is counted from its making until nothing refers to it.

    Attributes:
        now (int): Bytes at the moment.
        peak (int): The most that there were.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.add(value for value in tree_leaves(result) if torch.is_tensor(value))
        return result

    def add(self, tensors) -> int:
        """Count tensors that are new; returns their bytes."""
        before = self.now
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:  # views share one
                size = _size(tensor)
                self._known.add(storage._cdata)
                weakref.finalize(storage, self._remove, storage._cdata, size)
                self.now += size
        self.peak = max(self.peak, self.now)
        return self.now - before

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
