"""What `tools/compare.py` compares: checkpoints, images made before, and plain upscaling."""
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from facesr.analysis.work_dir import Sources, find_sources
from facesr.evaluation.evaluator import Batch, restore_batch
from facesr.inference.network import as_arrays, network
from facesr.models.build import count_macs, count_parameters, load_model
from facesr.submission.png import BadImage
from facesr.submission.predictions import PredictionError, open_predictions
from facesr.submission.scoring import check_names
from facesr.utils.choices import ENSEMBLES, FLIP
from facesr.utils.errors import UserError
from facesr.utils.images import list_images

# What may follow a checkpoint, after a colon; of the self-ensembles also what `network` takes.
EMA = 'ema'
VIEWS: dict[str, bool | str] = {'x8': True, 'x2': FLIP}
OPTIONS = (EMA, *VIEWS)
PREDICTIONS = '.zip'
INTERPOLATIONS = dict(bicubic=cv2.INTER_CUBIC, bilinear=cv2.INTER_LINEAR)


class Entry(NamedTuple):
    """An argument of the tool: `[LABEL=][CONFIG:]PATH[:ema][:x8|:x2]`.

    Attributes:
        label (str): What to call it.
        path (Path): Checkpoint, work dir, folder of images or zip.
        config (str | None): The checkpoint's config.
        options (tuple[str]): Of `OPTIONS`.
        is_model (bool): Whether it is a checkpoint or a work dir.
    """
    label: str
    path: Path
    config: str | None
    options: tuple
    is_model: bool

    @property
    def self_ensemble(self) -> bool | str:
        """As `facesr.inference.network.network` takes it."""
        return next((VIEWS[option] for option in self.options if option in VIEWS), False)


class Contestant:
    """Makes HQ images of LQ ones.

    Attributes:
        label (str): What it is called.
        source (str): Where it comes from; may be empty.
        parameters (int | None): Of its network; None if it has none.
        macs (int | None): Multiply-accumulate operations for the first image, known once `prepare` was called.
        seconds (list[float]): Per image of each batch, of the network alone.
    """

    def __init__(self, label: str, source: str = ''):
        self.label, self.source = label, source
        self.parameters: int | None = None
        self.macs: int | None = None
        self.seconds: list[float] = []

    def prepare(self, batch: Batch) -> None:
        """Look at the first batch before it is timed."""

    def restore(self, batch: Batch) -> torch.Tensor:
        """HQ images of a batch: uint8, RGB, (n, 3, h, w)."""
        raise NotImplementedError


class Interpolation(Contestant):
    """OpenCV's upscaling; `label` is a key of `INTERPOLATIONS`."""

    def restore(self, batch: Batch) -> torch.Tensor:
        """See `Contestant`."""
        size, method = tuple(batch.gt.shape[:-3:-1]), INTERPOLATIONS[self.label]
        return _as_tensor([cv2.resize(lq, size, interpolation=method) for lq in as_arrays(batch.lq)])


class HandedIn(Contestant):
    """HQ images in a folder or zip.

    Args:
        label (str): What it is called.
        path (Path): The folder or zip.
        names (dict[str, str]): Name of the HQ image by the LQ image's path.

    Raises:
        UserError: It does not have exactly these images; all that is wrong is named.
    """

    def __init__(self, label: str, path: Path, names: dict):
        super().__init__(label, str(path))
        self._names, self._predictions = names, open_predictions(path, len(names))
        problems = check_names(self._predictions.names, names.values())
        problems.update(self._predictions.problems)
        if problems:
            raise PredictionError(path, problems)

    def restore(self, batch: Batch) -> torch.Tensor:
        """See `Contestant`."""
        return _as_tensor([self._read(self._names[path], batch.gt.shape[-2:]) for path in batch.lq_paths])

    def _read(self, name: str, size) -> np.ndarray:
        try:
            return self._predictions.read(name, size)
        except BadImage as error:
            raise UserError(f'{self.source}: {name}: {error}') from None


class Model(Contestant):
    """A checkpoint's network.

    Args:
        label (str): What it is called.
        sources (Sources): From `find_model`.
        self_ensemble (bool | str): As for `facesr.inference.network.network`.

    Raises:
        UserError: The checkpoint does not fit its config.
    """

    def __init__(self, label: str, sources: Sources, self_ensemble: bool | str):
        how = [text for text in ('EMA' if sources.ema else None, ENSEMBLES[self_ensemble]) if text]
        super().__init__(label, ', '.join([str(sources.checkpoint), *how, f'config {sources.config}']))
        model = load_model(sources.cfg, sources.checkpoint, sources.ema)
        self.parameters = count_parameters(model.generator)
        self.device = next(model.parameters()).device
        self._net = network(model, self_ensemble=self_ensemble)

    def prepare(self, batch: Batch) -> None:
        """Count the operations for the first image, which also warms up."""
        self.macs = count_macs(self._net, batch.lq[:1].float())
        if len(batch.lq) > 1:
            restore_batch(self._net, batch)

    def restore(self, batch: Batch) -> torch.Tensor:
        """See `Contestant`."""
        return restore_batch(self._timed, batch)

    def _timed(self, lq: torch.Tensor) -> torch.Tensor:
        lq = lq.to(self.device)
        _wait_for(self.device)
        start = time.perf_counter()
        output = self._net(lq)
        _wait_for(self.device)
        self.seconds.append((time.perf_counter() - start) / len(lq))
        return output


def parse_entry(text: str) -> Entry:
    """Read an argument of the tool.

    Raises:
        UserError: It names nothing, or has options that do not belong there.
    """
    label, equals, rest = text.partition('=')
    if not equals or '/' in label or Path(text).exists():
        label, rest = '', text
    parts = [rest] if Path(rest).exists() else rest.split(':')
    config = parts.pop(0) if len(parts) > 1 and parts[0].endswith('.py') else None
    path, options = Path(parts[0]), tuple(parts[1:])
    if not path.exists():
        raise UserError(f'{path}: no such checkpoint, work dir, folder or zip')
    if path.suffix == '.py':
        raise UserError(f'{text}: is a config; write {path}:CHECKPOINT')
    if path.suffix == '.onnx':
        raise UserError(f'{text}: is an exported network; give the checkpoint it was made of')
    runs = sorted({found.parent for found in path.glob('*/*.pth')}) if path.is_dir() else []
    if runs and not any(path.glob('*.pth')) and not list_images(path):
        raise UserError(f'{text}: is a folder of work dirs; name those to compare, as '
                        f'{" ".join(map(str, runs[:2]))}')
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise UserError(f'{text}: ":{unknown.pop()}" is unknown; give :{", :".join(OPTIONS)}, or :{EMA} and one other')
    if set(VIEWS) <= set(options):
        raise UserError(f'{text}: give :{" or :".join(VIEWS)}, not both')
    is_model = any(path.glob('*.pth')) if path.is_dir() else path.suffix.lower() != PREDICTIONS
    if not is_model and (config or options):
        raise UserError(f'{text}: {path} has images made before; config and :{", :".join(OPTIONS)} go with a '
                        'checkpoint')
    return Entry(label or ' '.join([path.stem if path.is_file() else path.resolve().name, *options]), path, config,
                 options, is_model)


def find_model(entry: Entry, default_config: str | Path | None = None, options: dict | None = None,
               data_root: str | None = None) -> Sources:
    """The checkpoint and config of an entry that is a model.

    The config is the entry's own, else the one beside the checkpoint, else `default_config`. Of a work dir the best
    checkpoint is taken, with the moving average where that is what it was chosen by.

    Raises:
        UserError: Something is missing or unreadable, or there are several configs.
    """
    folder, checkpoint = (entry.path, None) if entry.path.is_dir() else (entry.path.parent, entry.path)
    ema = True if EMA in entry.options else None if checkpoint is None else False

    def find(config) -> Sources:
        return find_sources(folder, config, checkpoint, options, data_root, ema)

    try:
        return find(entry.config)
    except UserError:
        if entry.config or default_config is None:
            raise
    return find(default_config)


def with_unique_labels(entries: list) -> list:
    """Put the folder's name before labels that are there twice, and a number behind those that still are."""

    def is_twice(label: str) -> bool:
        return [*INTERPOLATIONS, *(entry.label for entry in entries)].count(label) > 1

    def is_told_apart(entry: Entry) -> bool:
        return len({other.path.resolve().parent for other in entries if other.label == entry.label}) > 1

    entries = [entry._replace(label=f'{entry.path.resolve().parent.name}/{entry.label}')
               if is_twice(entry.label) and (entry.label in INTERPOLATIONS or is_told_apart(entry)) else entry
               for entry in entries]
    return [entry._replace(label=f'{entry.label} ({i})') if is_twice(entry.label) else entry
            for i, entry in enumerate(entries, 1)]


def _as_tensor(images: list) -> torch.Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def _wait_for(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
