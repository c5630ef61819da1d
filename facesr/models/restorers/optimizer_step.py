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
    """Computes losses and takes optimizer steps, waiting for the device once where it has to at all.

    A loss that is NaN or infinite on any rank leaves the weights as they are. Whether it is finite is known when the
    forward pass is done; the device is busy with the backward pass by then, so asking does not let it idle. In fp16
    whether the gradients are finite is asked with it, after the backward pass. The losses themselves stay tensors on
    the device.

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
        """Update the optimizer's parameters once: `compute`, and `finish` what came of it.

        Returns:
            dict: The losses of the whole batch and their sum `loss` (0-dim tensors), or nothing if skipped.

        Raises:
            TrainingDiverged: As `finish`.
        """
        return self.finish(self.compute(losses_of, batch, optimizer, net))

    def compute(self, losses_of: Callable, batch: dict, optimizer, net) -> 'Computed':
        """Losses and gradients of a batch; the device is not waited for.

        Args:
            losses_of (Callable): From the tensors of a chunk (keyword arguments) to a dict of losses, each a scalar
                that is a mean over the chunk's images; those with 'loss' in their names are added up.
            batch (dict[str, Tensor]): Tensors with the images along the first axis.
            optimizer (Optimizer): Of the parameters to update.
            net (nn.Module): What `losses_of` calls; if it is DDP, gradients are exchanged once per update.
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
                flags = _OnTheirWay(logged['loss'].isfinite()) if last and not self.scaler else None
                (self.scaler.scale(loss * share) if self.scaler else loss * share).backward()
        return Computed(logged, optimizer, flags)

    def finish(self, computed: 'Computed') -> dict:
        """Take the optimizer's step with what was computed, or leave it out.

        Returns:
            dict: The losses of the whole batch and their sum `loss` (0-dim tensors), or nothing if skipped.

        Raises:
            TrainingDiverged: For the tenth time in a row the loss is not finite, or fp16 overflows at any scale.
        """
        optimizer, flags = computed.optimizer, self.settle(computed)
        if self.scaler and self.grad_clip:  # while the device computes; an overflow is not stepped with anyway
            self._clip(optimizer)
        finite, overflow, scale = (*flags.read(), 0.0, 0.0)[:3]
        if dist.highest(int(not finite)):
            self.drop(computed)
            self._count_skipped()
            return {}
        self.skipped_in_a_row = 0
        if self.grad_clip and not self.scaler:
            self._clip(optimizer)
        self.stepping = True
        if not overflow:
            optimizer.step()
        if self.scaler:
            self.scaler.update()
        self.stepping = False
        if overflow and scale * self.scaler.get_backoff_factor() < SMALLEST_SCALE:
            raise TrainingDiverged('gradients overflow fp16 at any scale, so no step is taken any more; go on with '
                                   '--resume and amp=bf16, amp=None or grad_clip=1')
        return computed.logged

    def drop(self, computed: 'Computed') -> None:
        """Leave the step out."""
        computed.optimizer.zero_grad()
        if self.scaler:
            self.scaler.update(self.settle(computed).read()[-1])  # the scale stays: the loss says nothing about it

    def settle(self, computed: 'Computed') -> '_OnTheirWay':
        """What has to be known before a step, on its way to the host: whether the loss is finite; in fp16 also whether
        the gradients overflowed, and at which scale.
        """
        if computed.flags is None:
            self.scaler.unscale_(computed.optimizer)
            # What `GradScaler.step` would ask for and wait, and `get_scale` again.
            overflows = self.scaler._per_optimizer_states[id(computed.optimizer)]['found_inf_per_device'].values()
            computed.flags = _OnTheirWay(
                torch.stack([computed.logged['loss'].isfinite().float(), sum(overflows), self.scaler._scale]))
        return computed.flags

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

    def _clip(self, optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        torch.nn.utils.clip_grad_norm_(parameters, self.grad_clip)

    def _count_skipped(self) -> None:
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= PATIENCE:
            raise TrainingDiverged(
                f'the loss was NaN or infinite {PATIENCE} times in a row; the checkpoints are as they were: go on from '
                f'one with --resume and a lower optimizers.{self.network}.lr, with grad_clip=1, or without amp')


class Computed:
    """Gradients that wait in an optimizer's parameters, with the losses they are of.

    Attributes:
        logged (dict): The losses of the whole batch and their sum `loss` (0-dim tensors).
        optimizer (Optimizer): Of the parameters.
        flags (_OnTheirWay | None): What has to be known before a step; None until it is asked for.
    """

    def __init__(self, logged: dict, optimizer, flags=None):
        self.logged, self.optimizer, self.flags = logged, optimizer, flags


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

    def finish(self, generator: Computed | None, discriminator: Computed) -> dict:
        """Take both steps, after one wait for what has to be known of either.

        Args:
            generator (Computed | None): None where it is not its turn. If its loss is not finite, the discriminator is
                left as it is too.
            discriminator (Computed): Its own.

        Returns:
            dict: The losses of both, of which `loss` is the generator's; nothing if one was not finite.
        """
        self.steps += 1
        if generator:
            self.generator.settle(generator)
        self.discriminator.settle(discriminator).wait()  # it comes last: then the generator's are there as well
        losses = self.generator.finish(generator) if generator else {}
        if generator and not losses:
            self.discriminator.drop(discriminator)
            return {}
        self.halfway = bool(generator)
        more = self.discriminator.finish(discriminator)
        self.halfway = False
        more.pop('loss', None)
        return {**losses, **more} if more else {}

    def state_dict(self) -> dict:
        """What a resumed run needs to know."""
        return dict(generator=self.generator.state_dict(), discriminator=self.discriminator.state_dict(),
                    steps=self.steps)

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave."""
        self.generator.load_state_dict(state['generator'])
        self.discriminator.load_state_dict(state['discriminator'])
        self.steps = state['steps']


class _OnTheirWay:
    """Numbers on the device, copied to the host in the background."""

    def __init__(self, numbers: torch.Tensor):
        self._numbers, self._event = numbers, None
        if numbers.is_cuda:
            there = torch.zeros(numbers.shape, dtype=numbers.dtype, pin_memory=True)  # of flags: no step is taken
            self._numbers = there.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def wait(self) -> None:
        """Until they have come, if they have not yet."""
        if self._event and not self._event.query():
            self._event.synchronize()

    def read(self) -> list:
        """Them, as plain numbers; once they have come."""
        self.wait()
        return self._numbers.reshape(-1).tolist()
