"""A look at a run before it starts: what `tools/train.py --dry-run` does."""
import datetime
import logging
import time
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader

from facesr.config import Config, notices
from facesr.datasets.batch_stream import to_device
from facesr.engine.hooks.eval_hook import SREvalHook
from facesr.engine.preflight import advice
from facesr.engine.runner import TRACEBACK, reason_of
from facesr.engine.train import build_runner, build_stream, prepare
from facesr.evaluation.evaluator import evaluate_loader, mean_metrics
from facesr.models.build import count_discriminator
from facesr.models.training_memory import TrainingMemory, training_memory
from facesr.utils.errors import UserError
from facesr.utils.memory import GIB, MIB, format_peak, peak_memory
from facesr.utils.precision import amp_dtype


class FirstOnly:
    """A loader cut after its first batch."""

    def __init__(self, loader: DataLoader):
        self.dataset, self.sampler, self._loader = loader.dataset, range(loader.batch_size), loader

    def __iter__(self):
        return islice(self._loader, 1)


class DryRun(NamedTuple):
    """What was found; times in seconds, peak memory (None where unknown) and what a cache lacks in words."""
    parameters: int
    discriminator_parameters: int
    budget: int | None
    training_images: int
    validation_images: int
    shapes: dict
    losses: dict
    data_time: float
    step_time: float
    validation_time: float
    metrics: dict
    memory: str | None
    card_memory: TrainingMemory | None
    warnings: list
    caches: list
    expected_time: float


def dry_run(cfg: Config, validate: bool = True) -> DryRun:
    """Build everything, load some batches, take a step and validate an image; nothing is written.

    Where kernels are searched for or compiled first (CUDA, `compile`) the second step is the one that counts, and
    everywhere the second time that an image is validated.

    Raises:
        UserError: As training would raise it.
    """
    model, parameters = prepare(cfg, validate)
    runner = build_runner(model, cfg, logging.getLogger('facesr.engine.dry_run'), validate)
    stream = build_stream(cfg, model=model)
    stream.next()  # workers have to start first
    count = 2 * max(1, stream.loader.num_workers)  # workers load ahead: one batch alone would seem to cost nothing
    data_time, batch = _timed(lambda: [stream.next() for _ in range(count)][-1], runner.device)
    data_time, batch = data_time / count, to_device(batch, runner.device)

    model.train()
    times = range(2 if runner.device.type == 'cuda' or cfg.get('compile') else 1)
    for _ in times:
        try:
            with runner.readable_failures():
                step_time, outputs = _timed(lambda: model.train_step(batch, runner.optimizer), runner.device)
        except UserError:
            raise
        except Exception as error:  # of a value that only computing finds wrong; as training says it
            raise UserError(f'in iteration 1: {reason_of(error)}; {TRACEBACK}') from error
    losses = outputs['log_vars']
    losses = dict(loss=losses['loss']) if 'loss' in losses else losses  # MMEditing's adversarial ones have no sum

    validations = [hook for hook in runner.hooks if isinstance(hook, SREvalHook)]
    images = sum(len(hook.dataloader.dataset) for hook in validations)
    validation_time, metrics = 0.0, {}
    for hook in validations:
        first = partial(evaluate_loader, model, FirstOnly(hook.dataloader))
        for _ in range(2):  # the first image costs more than all that follow
            with runner.readable_failures():
                validation_time, results = _timed(first, runner.device)
        if results:  # a rank may have none
            validation_time, metrics = validation_time / len(results), mean_metrics(results)
    # Loading goes on while the device works, unless this process does both.
    per_iteration = step_time + data_time if stream.loader.num_workers == 0 else max(step_time, data_time)
    validated = images * -(-cfg.total_iters // cfg.evaluation.interval) if validations else 0  # the last one always
    card_memory = training_memory(cfg, amp_dtype(cfg.get('amp'), runner.device))
    peak = peak_memory(runner.device)
    return DryRun(
        parameters=parameters, discriminator_parameters=count_discriminator(model), budget=cfg.get('budget'),
        training_images=len(stream.loader.dataset), validation_images=images,
        shapes={key: tuple(value.shape) for key, value in batch.items() if torch.is_tensor(value)}, losses=losses,
        data_time=data_time, step_time=step_time, validation_time=validation_time, metrics=metrics,
        memory=peak and format_peak(peak, runner.device), card_memory=card_memory,
        warnings=_memory_warnings(card_memory, cfg, runner.device),
        caches=[load.cached.lacking(stream.loader.dataset.paths)[-1] for load in stream.loader.dataset.caches],
        expected_time=per_iteration * cfg.total_iters + validated * validation_time)


def format_dry_run(found: DryRun, cfg: Config) -> str:
    """The lines that `--dry-run` prints."""
    all_of_it = found.parameters + found.discriminator_parameters
    cap = f'{all_of_it / found.budget:.1%} of the cap of {found.budget:,}' if found.budget else 'no cap'
    more = f' + {found.discriminator_parameters:,} of the discriminator' if found.discriminator_parameters else ''
    shapes = ', '.join(f'{name} {"x".join(map(str, shape))}' for name, shape in found.shapes.items())
    metrics, losses = (', '.join(f'{name} {value:.4f}' for name, value in values.items())
                       for values in (found.metrics, found.losses))
    return '\n'.join(filter(None, (
        f'parameters: {found.parameters:,}{more} ({cap})',
        f'images: {found.training_images} for training, {found.validation_images} for validation',
        f'one batch: {shapes}',
        f'one step: {losses}, {found.step_time:.3f} s, and {found.data_time:.3f} s to load a batch',
        metrics and f'one validation image, untrained: {metrics}, {found.validation_time:.3f} s',
        *(f'note: {line}' for line in notices(cfg)),
        *found.caches,
        found.memory and f'peak memory: {found.memory}',
        found.card_memory and f'computed, of a CUDA card: {found.card_memory.describe()}',
        *found.warnings,
        f'expected time for {cfg.total_iters} iterations with validation, at this rate: '
        f'{datetime.timedelta(seconds=round(found.expected_time))}',
        'nothing was written')))


def _memory_warnings(computed: TrainingMemory | None, cfg: Config, device: torch.device) -> list:
    """Whether what was computed is more than there may be, or is."""
    limits = {}
    if cfg.get('memory_limit_gb'):
        limits['memory_limit_gb'] = cfg.memory_limit_gb * GIB / MIB
    if device.type == 'cuda':
        limits[torch.cuda.get_device_name(device)] = torch.cuda.get_device_properties(device).total_memory / MIB
    return [f'warning: that is more than {name} ({limit / 1024:.1f} GiB): {advice(cfg, torch.device("cuda"))}'
            for name, limit in limits.items() if computed and computed.total > limit]


def _timed(call, device) -> tuple:
    start = time.perf_counter()
    result = call()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result
