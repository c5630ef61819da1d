"""Checkpoints: written whole, read without executing pickled code, never loaded in part.

The format is mmcv's (`meta`, `state_dict`, `optimizer`), so MMEditing's own tools read ours.
"""
import contextlib
import io
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facesr.checkpoint.safetensors import read_safetensors
from facesr.checkpoint.weights import GENERATOR
from facesr.utils.dist import unwrapped
from facesr.utils.errors import CheckpointError
from facesr.utils.files import require_space, write_atomic
from facesr.utils.versions import version

# What torch raises on files that are something else; its unpickler takes texts for pickles.
NOT_A_CHECKPOINT = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
                    AssertionError, struct.error)


def save_checkpoint(path: str | Path, model: nn.Module, optimizer: dict | None = None, meta: dict | None = None,
                    **more) -> None:
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
    weights = model.state_dict()  # mmcv's own would add buffers that torch leaves out
    for name, value in weights.items():
        weights[name] = value.cpu()
    checkpoint = dict(meta=dict(meta or {}, mmcv_version=version('mmcv')), state_dict=weights,
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


def read_checkpoint(path: str | Path, map_location: str | torch.device = 'cpu') -> dict:
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


def _read_generator(path: Path, map_location) -> dict:
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
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6):  # allows no names of an older NumPy
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
