"""Checkpoints: written whole, read without executing pickled code, never loaded in part.

The format is mmcv's (`meta`, `state_dict`, `optimizer`), so MMEditing's own tools read ours.
"""
import contextlib
import io
import pickle
import platform
import re
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmcv.runner.checkpoint import weights_to_cpu
from mmcv.utils import digit_version

from facesr.errors import UserError
from facesr.files import atomic_path, require_space, write_atomic
from facesr.inference import unwrapped

LATEST = 'latest.pth'
# What torch raises on files that are something else; its unpickler takes texts for pickles.
NOT_A_CHECKPOINT = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
                    AssertionError, struct.error)
GENERATOR, EMA = 'generator.', 'generator_ema.'  # what the names of weights start with, as in MMEditing
# What serves training alone: a model may have it and a checkpoint not, and the other way round.
TRAINING_ONLY = ('discriminator.', 'perceptual_loss.')


class CheckpointError(UserError):
    """A checkpoint is missing, broken, unsafe or does not fit the model."""


def save_checkpoint(path, model, optimizer=None, meta=None, **more) -> None:
    """Write an mmcv-style checkpoint atomically.

    Args:
        path (str | Path): The file; replaced only once the new one is whole.
        model (nn.Module): Its weights are stored from the CPU, without a wrapper's prefix.
        optimizer (dict[str, Optimizer] | None): Optimizers by name, as MMEditing has them.
        meta (dict | None): Plain values only (str, numbers, lists, dicts).
        more: Further entries, tensors and plain values only; None is left out.

    Raises:
        OSError: There is no room for it, or it cannot be written.
        FloatingPointError: A weight is NaN or infinite: such a checkpoint must not replace a good one.
    """
    model = unwrapped(model)
    checkpoint = dict(
        meta=dict(meta or {}, mmcv_version=mmcv.__version__),
        state_dict=weights_to_cpu(model.state_dict()),  # mmcv's own would add buffers that torch leaves out
        **{name: value for name, value in more.items() if value is not None})
    if not all(bool(value.isfinite().all()) for value in checkpoint['state_dict'].values()):
        raise FloatingPointError('weights are NaN or infinite')
    if optimizer:
        checkpoint['optimizer'] = {name: optim.state_dict() for name, optim in optimizer.items()}
    # By way of memory: torch reports a full disk as some RuntimeError, and only after filling it.
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    require_space(path, buffer.tell())
    write_atomic(path, buffer.getbuffer())


def point_latest_to(path) -> None:
    """Let `latest.pth` in the checkpoint's folder lead to it: a link, or a copy where links fail."""
    path = Path(path)
    with contextlib.suppress(OSError, NotImplementedError):
        if platform.system() != 'Windows':
            link = path.with_name(f'.{LATEST}.tmp')
            link.unlink(missing_ok=True)
            link.symlink_to(path.name)
            link.replace(path.with_name(LATEST))
            return
    with atomic_path(path.with_name(LATEST)) as temporary:
        shutil.copyfile(path, temporary)


def numbered_checkpoints(work_dir) -> list:
    """The checkpoints of a work dir that are named after an iteration: `iter_*.pth` and `best_*_iter_*.pth`.

    Returns:
        list[tuple[int, bool, Path]]: Iteration, whether it is an `iter_*.pth`, and path, the newest last.
    """
    return sorted((int(match[2]), match[1] is None, path) for path in Path(work_dir).glob('*.pth')
                  if (match := re.fullmatch(r'(best_.+_)?iter_(\d+)\.pth', path.name)))


def find_latest(work_dir):
    """The checkpoint of a work dir with the most iterations: an `iter_*.pth`, or a `best_*_iter_*.pth` where
    the run was cut off after that; else `latest.pth`; else None.
    """
    numbered, latest = numbered_checkpoints(work_dir), Path(work_dir) / LATEST
    if numbered:
        return numbered[-1][2]
    return latest if latest.is_file() else None


def read_checkpoint(path, map_location='cpu') -> dict:
    """Read a checkpoint; only tensors and plain values are accepted (`weights_only`).

    Args:
        path (str | Path): A file of ours, of MMEditing's, a bare state dict, or a generator's weights as .safetensors.
        map_location (str | torch.device): As for `torch.load`.

    Returns:
        dict: With `state_dict` (names without `module.`) and `meta`, and `optimizer` if it has one.

    Raises:
        CheckpointError: The file is missing, is no checkpoint, or contains pickled code.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f'{path}: is a folder; give a checkpoint{_checkpoints_in(path)}')
    if not path.is_file():
        raise CheckpointError(f'{path}: no such checkpoint{_checkpoints_in(path.parent)}')
    if path.suffix.lower() == '.safetensors':
        return _read_generator(path, map_location)
    try:
        with _numpy_scalars_allowed(), warnings.catch_warnings():
            warnings.filterwarnings('ignore', '.*TorchScript archive')  # refused below, without torch's lines before it
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (*NOT_A_CHECKPOINT, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # it may not be read; without a name it comes from torch's reader of a zip that is cut off
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            raise CheckpointError(f'{path}: refused, because reading it would execute pickled code '
                                  '(or it is damaged); save it again with tensors and plain values only') from error
        raise CheckpointError(f'{path}: not a PyTorch checkpoint, or a damaged one'
                              f'{_checkpoints_in(path.parent)}') from error
    return _normalised(checkpoint, path)


def load_weights(model, checkpoint: dict, path, ema: bool = False) -> None:
    """Put a checkpoint's weights into a model: all of them, or an error and none.

    A moving average in the checkpoint is passed over by a model that has none; a model's own starts
    from the generator where the checkpoint has none. A discriminator (and the weights of MMEditing's perceptual
    loss) in the checkpoint is passed over too by a model that has none; a model's own stays as it is where the
    checkpoint has none at all.

    Args:
        model (nn.Module): The model, wrapped or not.
        checkpoint (dict): From `read_checkpoint`.
        path (str | Path): Where it came from, for the message.
        ema (bool): Take the generator's moving average for the generator. Default: False.

    Raises:
        CheckpointError: There is no moving average to take, or names or shapes differ; the message counts them
            and gives examples.
    """
    model = unwrapped(model)
    ours = model.state_dict()
    theirs = _with_matching_parts(_with_matching_ema(checkpoint['state_dict'], ours, path, ema), ours)
    wrong = {
        'missing': sorted(ours.keys() - theirs.keys()),
        'not in the model': sorted(theirs.keys() - ours.keys()),
        'of another shape': [
            f'{name} {tuple(theirs[name].shape)}, here {tuple(ours[name].shape)}' for name in ours
            if name in theirs and theirs[name].shape != ours[name].shape
        ]
    }
    if any(wrong.values()):
        found = '; '.join(f'{len(names)} {what} ({names[0]})' for what, names in wrong.items() if names)
        origin = checkpoint['meta'].get('exp_name')
        made_by = f', it was made with {origin}' if origin else ''
        raise CheckpointError(f'{path} does not fit this config: weights {found}{made_by}; '
                              'give the config and the checkpoint that belong together')
    model.load_state_dict(theirs)


def generator_weights(checkpoint: dict, path, ema: bool = False) -> dict:
    """A checkpoint's generator alone, or its moving average, under the generator's own names.

    Args:
        checkpoint (dict): From `read_checkpoint`.
        path (str | Path): Where it came from, for the message.
        ema (bool): Take the moving average. Default: False.

    Raises:
        CheckpointError: It has none.
    """
    weights = _with_matching_ema(checkpoint['state_dict'], {}, path, ema)
    generator = {name[len(GENERATOR):]: value for name, value in weights.items() if name.startswith(GENERATOR)}
    if not generator:
        raise CheckpointError(f'{path}: has no weights of a generator; give a checkpoint of a training run')
    return generator


def _with_matching_ema(theirs: dict, ours: dict, path, take_ema: bool) -> dict:
    average = {name[len(EMA):]: value for name, value in theirs.items() if name.startswith(EMA)}
    if take_ema and not average:
        raise CheckpointError(f'{path}: has no moving average of the weights; leave --ema out, or train with '
                              '--cfg-options ema=0.999')
    theirs = {name: value for name, value in theirs.items() if not name.startswith(EMA)}
    generator = {name[len(GENERATOR):]: value for name, value in theirs.items() if name.startswith(GENERATOR)}
    if take_ema:
        theirs.update({GENERATOR + name: value for name, value in average.items()})
    if any(name.startswith(EMA) for name in ours):
        theirs.update({EMA + name: value for name, value in (average or generator).items()})
    return theirs


def _with_matching_parts(theirs: dict, ours: dict) -> dict:
    for part in TRAINING_ONLY:
        own = {name: value for name, value in ours.items() if name.startswith(part)}
        if not own:
            theirs = {name: value for name, value in theirs.items() if not name.startswith(part)}
        elif not any(name.startswith(part) for name in theirs):
            theirs = {**theirs, **own}
    return theirs


def _read_generator(path: Path, map_location) -> dict:
    from facesr.export.weights import read_safetensors  # which imports this module
    weights, about = read_safetensors(path)
    origin = dict(exp_name=about['config']) if 'config' in about else {}
    return dict(meta=origin, state_dict={GENERATOR + name: value.to(map_location) for name, value in weights.items()})


def _normalised(checkpoint, path) -> dict:
    if isinstance(checkpoint, dict) and 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    state_dict = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else None
    if not isinstance(state_dict, dict) or not all(torch.is_tensor(v) for v in state_dict.values()):
        raise CheckpointError(f'{path}: has no state_dict with weights')
    checkpoint['state_dict'] = {re.sub(r'^module\.', '', name): value for name, value in state_dict.items()}
    checkpoint.setdefault('meta', {})
    return checkpoint


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, bare (torch's old format) or in a zip (its new one)."""
    with path.open('rb') as file:
        return file.read(1) == pickle.PROTO or zipfile.is_zipfile(path)


def _numpy_scalars_allowed():
    """mmcv's EvalHook stores the best score as a NumPy scalar: harmless, but not allowed by default."""
    if digit_version(torch.__version__) < digit_version('2.6'):  # allows no names of an older NumPy
        return contextlib.nullcontext()
    core = np._core if hasattr(np, '_core') else np.core
    kinds = {type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64')}
    return torch.serialization.safe_globals([
        (core.multiarray.scalar, 'numpy.core.multiarray.scalar'),  # pickled by NumPy 1
        core.multiarray.scalar, np.dtype, *kinds
    ])


def _checkpoints_in(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob('*.pth'))
    return f'; {folder} has {", ".join(names)}' if names else ''
