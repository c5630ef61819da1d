"""One update of the weights: forward, backward and optimizer step."""
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from facesr.utils import dist
from facesr.utils.errors import UserError
from facesr.utils.precision import gradient_scaler

SMALLEST_SCALE = 2.0**-10
PATIENCE = 10  # losses in a row that are not finite, until training stops


class TrainingDiverged(UserError):
    """The loss, or its gradient in fp16, was not finite too often in a row."""


class OptimizerStep:
    """Computes losses and takes optimizer steps, without waiting for the device where it can be avoided.

    A loss that is NaN or infinite on any rank leaves the weights as they are. Whether it is finite is
    known when the forward pass is done; the device is busy with the backward pass by then, so asking
    does not let it idle. The losses themselves stay tensors on the device.

    Args:
        dtype (torch.dtype | None): What autocast computes in; None for full precision. fp16 brings a
            `GradScaler`, kept in `scaler`.
        device (torch.device): Where model and batches are.
        accumulation_steps (int): Chunks that a batch is cut into, one after the other. Gradients are those of
            the whole batch; memory is that of a chunk.
        grad_clip (float | None): Largest L2 norm of the gradient; longer ones are shortened to it.
        network (str): What is updated, as `optimizers` calls it; for messages. Default: 'generator'.
    """

    def __init__(self, dtype: torch.dtype | None = None, device: torch.device | None = None,
                 accumulation_steps: int = 1, grad_clip: float | None = None, network: str = 'generator'):
        self.device, self.network = device or torch.device('cpu'), network
        self.dtype, self.accumulation_steps, self.grad_clip = dtype, accumulation_steps, grad_clip
        self.scaler = gradient_scaler(dtype, self.device)
        self.skipped_in_a_row = 0
        self.stepping = False  # True while the weights are being changed

    def autocast(self) -> AbstractContextManager:
        """The context that forward passes run in."""
        return torch.autocast(self.device.type, dtype=self.dtype) if self.dtype else nullcontext()

    def __call__(self, losses_of: Callable, batch: dict, optimizer, net) -> dict:
        """Update the optimizer's parameters once.

        Args:
            losses_of (Callable): From the tensors of a chunk (keyword arguments) to a dict of losses, each a scalar
                that is a mean over the chunk's images; those with 'loss' in their names are added up.
            batch (dict[str, Tensor]): Tensors with the images along the first axis.
            optimizer (Optimizer): Of the parameters to update.
            net (nn.Module): What `losses_of` calls; if it is DDP, gradients are exchanged once per update.

        Returns:
            dict: The losses of the whole batch and their sum `loss` (0-dim tensors), or nothing if skipped.

        Raises:
            TrainingDiverged: For the tenth time in a row the loss is not finite, or fp16 overflows at any scale.
        """
        optimizer.zero_grad()
        logged = {}
        chunks = self._chunks(batch)
        for number, (chunk, share) in enumerate(chunks, start=1):
            last = number == len(chunks)
            with nullcontext() if last or not hasattr(net, 'no_sync') else net.no_sync():
                with self.autocast():
                    losses = losses_of(**chunk)
                loss = sum(value for name, value in losses.items() if 'loss' in name)
                for name, value in dict(losses, loss=loss).items():
                    logged[name] = logged.get(name, 0) + value.detach() * share
                finite = _FlagOnItsWay(logged['loss'].isfinite()) if last else None
                (self.scaler.scale(loss * share) if self.scaler else loss * share).backward()
        if dist.highest(int(not finite.read())):
            self._skip(optimizer)
            return {}
        self.skipped_in_a_row = 0
        self._step(optimizer)
        return logged

    def state_dict(self) -> dict:
        """What a resumed run needs to know: the scaler's state and how many losses in a row were not finite."""
        return dict(scaler=self.scaler.state_dict() if self.scaler else None, skipped_in_a_row=self.skipped_in_a_row)

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave; a scaler's state is of no use to another precision."""
        self.skipped_in_a_row = state['skipped_in_a_row']
        if self.scaler and state['scaler']:
            self.scaler.load_state_dict(state['scaler'])

    def _chunks(self, batch: dict) -> list:
        size = len(next(iter(batch.values())))
        parts = {name: torch.tensor_split(value, min(self.accumulation_steps, size)) for name, value in batch.items()}
        chunks = [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
        return [(chunk, len(next(iter(chunk.values()))) / size) for chunk in chunks]

    def _step(self, optimizer) -> None:
        self.stepping = True
        if self.scaler and self.grad_clip:
            self.scaler.unscale_(optimizer)
        if self.grad_clip:
            parameters = [p for group in optimizer.param_groups for p in group['params']]
            torch.nn.utils.clip_grad_norm_(parameters, self.grad_clip)
        if self.scaler:
            # It asks the device whether gradients are finite, and leaves the step out where not.
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step()
        self.stepping = False
        if self.scaler and self.scaler.get_scale() < SMALLEST_SCALE:
            raise TrainingDiverged('gradients overflow fp16 at any scale, so no step is taken any more; go on with '
                                   '--resume and amp=bf16, amp=None or grad_clip=1')

    def _skip(self, optimizer) -> None:
        optimizer.zero_grad()
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= PATIENCE:
            raise TrainingDiverged(
                f'the loss was NaN or infinite {PATIENCE} times in a row; the checkpoints are as they were: go on from '
                f'one with --resume and a lower optimizers.{self.network}.lr, with grad_clip=1, or without amp')


class AdversarialSteps:
    """The updates of a generator and of its discriminator, saved and resumed as one.

    Attributes:
        generator (OptimizerStep): With the generator's scaler and count of skipped losses.
        discriminator (OptimizerStep): With its own.
        steps (int): Training steps so far, whichever of the two they updated.
        halfway (bool): True while one network has made a step that the other has not.
    """

    def __init__(self, generator: OptimizerStep, discriminator: OptimizerStep):
        self.generator, self.discriminator = generator, discriminator
        self.steps, self.halfway = 0, False

    @property
    def scaler(self) -> Any:
        """The generator's, which the log shows."""
        return self.generator.scaler

    @property
    def stepping(self) -> bool:
        """True while the weights are not those of a whole number of steps."""
        return self.generator.stepping or self.halfway or self.discriminator.stepping

    def state_dict(self) -> dict:
        """What a resumed run needs to know."""
        return dict(generator=self.generator.state_dict(), discriminator=self.discriminator.state_dict(),
                    steps=self.steps)

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave."""
        self.generator.load_state_dict(state['generator'])
        self.discriminator.load_state_dict(state['discriminator'])
        self.steps = state['steps']


class _FlagOnItsWay:
    """A boolean on the device, copied to the host in the background; `read` waits for it."""

    def __init__(self, flag: torch.Tensor):
        self._flag, self._event = flag, None
        if flag.is_cuda:
            self._flag = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(flag, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> bool:
        if self._event:
            self._event.synchronize()
        return bool(self._flag)
