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

from facesr.checkpoint.foreign import plain_checkpoint, read_mmengine
from facesr.checkpoint.integrity import check_archive, check_shape, is_damage
from facesr.checkpoint.naming import LATEST, numbered_checkpoints
from facesr.checkpoint.safetensors import ABOUT, is_safetensors, read_safetensors
from facesr.checkpoint.weights import GENERATOR, NOTICE, notice_of
from facesr.utils.dist import unwrapped
from facesr.utils.errors import CheckpointError, DamagedCheckpoint
from facesr.utils.files import require_space, write_atomic
from facesr.utils.memory import enough_memory, is_out_of_memory
from facesr.utils.versions import version

# What torch raises on files that are something else; its unpickler takes texts for pickles.
NOT_A_CHECKPOINT = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
                    AssertionError, struct.error, RecursionError, MemoryError, zipfile.BadZipFile)

NO_ROOM = 'memory does not suffice to read it; free some, and run the same again'


def save_checkpoint(path: str | Path, model: nn.Module, optimizer: dict | None = None, meta: dict | None = None,
                    **more) -> None:
    """Write an mmcv-style checkpoint atomically.

    Args:
        path (str | Path): The file; replaced only once the new one is whole.
        model (nn.Module): Its weights are stored without a wrapper's prefix. They and everything else are stored as
            tensors of the CPU, so that any machine reads them.
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
    about = dict(meta or {}, mmcv_version=version('mmcv'), **notice_of(getattr(model, NOTICE, None)))
    checkpoint = dict(meta=about, state_dict=weights,
                      **{name: _on_host(value) for name, value in more.items() if value is not None})
    if optimizer:
        checkpoint['optimizer'] = {name: _on_host(optim.state_dict()) for name, optim in optimizer.items()}
    if not all(bool(value.isfinite().all()) for value in checkpoint['state_dict'].values()):
        raise FloatingPointError('weights are NaN or infinite')
    # By way of memory: torch reports a full disk as some RuntimeError, and only after filling it.
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    require_space(path, buffer.tell())
    write_atomic(path, buffer.getbuffer())


def _on_host(thing):
    if torch.is_tensor(thing):
        return thing.cpu()
    if isinstance(thing, dict):
        return {key: _on_host(value) for key, value in thing.items()}
    return type(thing)(map(_on_host, thing)) if isinstance(thing, (list, tuple)) else thing


def read_checkpoint(path, map_location='cpu') -> dict:
    """Read a checkpoint; only tensors and plain values are accepted (`weights_only`), and only as they were written.

    Args:
        path (str | Path): A file of ours, of MMEditing's, BasicSR's or MMagic's, a bare state dict, or a generator's
            weights as .safetensors.
            Of `latest.pth` the checkpoint that `newest_of` names.
        map_location (str | torch.device): As for `torch.load`.

    Returns:
        dict: With `state_dict` (names without `module.`) and `meta`, and `optimizer` if it has one.

    Raises:
        CheckpointError: The file is missing, is no checkpoint, contains pickled code, or values that training cannot
            have written.
        DamagedCheckpoint: It is not what was written once.
    """
    return _read(newest_of(path), map_location)


def _read(path: Path, map_location) -> dict:
    if re.match(r'[a-z][a-z0-9]+:/', str(path)):  # an address, of whose slashes a Path has one
        raise CheckpointError(f'{path}: nothing is downloaded; download it and give the file')
    if path.is_dir():
        raise CheckpointError(f'{path}: is a folder; give a checkpoint{_checkpoints_in(path)}')
    if not path.is_file():
        raise CheckpointError(f'{path}: no such checkpoint{_checkpoints_in(path.parent)}')
    if path.suffix == '.onnx':
        raise CheckpointError(f'{path}: is an exported network; give the checkpoint it was made of')
    if is_safetensors(path):
        return _read_generator(path, map_location)
    try:
        check_archive(path)
        with _numpy_scalars_allowed(), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # what is odd is refused below, without torch's lines before it
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (*NOT_A_CHECKPOINT, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # it may not be read
        if isinstance(error, OSError) and not is_damage(error):
            raise CheckpointError(f'{path}: cannot be read ({error.strerror}); run the same when it can') from error
        if is_out_of_memory(error) and zipfile.is_zipfile(path):  # whose checksums are right
            raise CheckpointError(f'{path}: {NO_ROOM}') from error
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            return _checked(_read_mmengine_or_refuse(path, map_location), path)
        detail = f' ({error})' if isinstance(error, zipfile.BadZipFile) else ''
        raise DamagedCheckpoint(f'{path}: not a PyTorch checkpoint, or a damaged one{detail}'
                                f'{_checkpoints_in(path.parent)}') from error
    return _checked(checkpoint, path)


def _read_mmengine_or_refuse(path: Path, map_location) -> dict:
    try:
        return read_mmengine(path, map_location)
    except NOT_A_CHECKPOINT as error:
        raise CheckpointError(f'{path}: refused, because reading it would execute pickled code '
                              '(or it is damaged); save it again with tensors and plain values only') from error


def _checked(checkpoint, path: Path) -> dict:
    checkpoint = _normalised(checkpoint, path)
    with enough_memory(f'{path}: {NO_ROOM}'):
        check_shape(checkpoint, path)
    return checkpoint


def newest_of(path) -> Path:
    """The checkpoint that is meant by a path: itself, or of `latest.pth` the newest whole one of its folder.

    A kill between writing a checkpoint and letting `latest.pth` lead to it leaves that behind.
    """
    path = Path(path)
    if path.name != LATEST:
        return path
    place = path.resolve() if path.is_file() else None
    known = {other.resolve(): number for number, _, other in numbered_checkpoints(path.parent)}
    at = -1 if place is None else known.get(place)
    if at is None:  # a copy
        at = _read(path, 'cpu')['meta'].get('iter', -1)
    for number, _, other in reversed(numbered_checkpoints(path.parent)):
        if number <= at:
            break
        if is_whole(other):
            return other
    return path


def is_whole(path) -> bool:
    """Whether a file is a checkpoint in torch's format with everything as it was written."""
    try:
        check_archive(path)
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, OSError):
        return False


def _read_generator(path: Path, map_location) -> dict:
    weights, about = read_safetensors(path)
    return _checked(dict(meta=meta_of(about), state_dict={GENERATOR + name: value.to(map_location)
                                                          for name, value in weights.items()}), path)


def meta_of(about: dict) -> dict:
    """The `meta` of a generator's checkpoint, of what an exported file says about itself."""
    meta = {key: about[said] for key, said in (('exp_name', 'config'), (NOTICE, NOTICE)) if said in about}
    if about.get('iteration', '').isdecimal():
        meta['iter'] = int(about['iteration'])
    return dict(meta, **{ABOUT: about} if about else {})


def _normalised(checkpoint, path) -> dict:
    if isinstance(checkpoint, dict):
        checkpoint = plain_checkpoint(checkpoint)
    if isinstance(checkpoint, dict) and 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    state_dict = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else None
    if not isinstance(state_dict, dict) or not all(torch.is_tensor(v) for v in state_dict.values()):
        raise CheckpointError(f'{path}: has no state_dict with weights')
    checkpoint['state_dict'] = {re.sub(r'^module\.', '', str(name)): value for name, value in state_dict.items()}
    if not isinstance(checkpoint.setdefault('meta', {}), dict):
        raise CheckpointError(f'{path}: its entry "meta" is not what training writes')
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
