"""Whether a checkpoint is what was once written, and has the shape of one: looked at before anything is done with it.

torch reads neither a zip's checksums nor whether its parts are compressed, and gives whatever values are in it.
"""
import errno
import math
import os
import zipfile
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from facesr.checkpoint.weights import TRAINING_ONLY
from facesr.utils.errors import CheckpointError

ZIP = b'PK\3\4'  # what torch knows its own format by
BLOCK = 2**20
# What reading a zip raises, as seen with flipped bits.
DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError)
SHARED = 4  # times that a file may hold fewer bytes than its tensors take (tied weights are in it once)
DEEPEST, LONGEST = 32, 1000  # of nested values; letters of a name


def check_archive(path) -> None:
    """See that every part of a zip has the checksum it was written with, and that no part is compressed or there twice.

    What is no zip is passed over: torch's old format has no checksums. It costs a reading of the file, 0.4 s for
    100 MB on one core.

    Raises:
        zipfile.BadZipFile: The zip is damaged, or would take more memory than it has bytes.
        OSError: It may not be read, or the disk fails.
    """
    with open(path, 'rb') as file:
        if file.read(len(ZIP)) != ZIP:
            return
    try:
        _read_all(path)
    except DAMAGE as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        raise zipfile.BadZipFile(' '.join(str(error).split())) from error


def is_damage(error: OSError) -> bool:
    """Whether it comes from what is in a file (a place before its beginning), not from its disk or rights."""
    return error.filename is None and error.errno in (None, errno.EINVAL)


def _read_all(path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise zipfile.BadZipFile('a part is compressed, as torch never writes it')
        if sum(part.file_size for part in parts) > os.path.getsize(path):
            raise zipfile.BadZipFile('its parts overlap')
        if not any(part.CRC for part in parts):
            return  # written with torch.serialization.set_crc32_options(False)
        for part in parts:
            with archive.open(part) as content:
                while content.read(BLOCK):
                    pass


def check_shape(checkpoint: dict, path) -> None:
    """See that a checkpoint's entries are of the kinds that training writes, so that no later step can trip over them.

    Args:
        checkpoint (dict): With `meta` and `state_dict`, and perhaps what a run goes on from.
        path (str | Path): Where it came from, for the message and the size.

    Raises:
        CheckpointError: One is not; the message names it.
    """
    _check_size(checkpoint, path)
    for name, value in checkpoint['state_dict'].items():
        if not isinstance(name, str) or len(name) > LONGEST:
            raise CheckpointError(f'{path}: a weight is called {str(name)[:40]!r}')
        if not name.startswith(TRAINING_ONLY) and not bool(value.isfinite().all()):
            raise CheckpointError(f'{path}: weights are NaN or infinite ({name}); give an earlier checkpoint')
    for entry, fits in SHAPE.items():
        if entry in checkpoint and not fits(checkpoint[entry]):
            raise CheckpointError(f'{path}: its entry "{entry}" is not what training writes')
    for entry, fits in META.items():
        value = checkpoint['meta'].get(entry)
        if entry in checkpoint['meta'] and not fits(value):
            raise CheckpointError(f'{path}: its entry "meta.{entry}" is {str(value)[:40]!r}, which training does not '
                                  'write')


def check_ranks(checkpoint: dict, path) -> None:
    """See that what a checkpoint has of each process is what a run can go on from.

    Raises:
        CheckpointError: It is not.
    """
    if not all(map(_rank, checkpoint.get('ranks', []))):
        raise CheckpointError(f'{path}: its entry "ranks" is not what training writes')


def _check_size(checkpoint: dict, path) -> None:
    """That tensors are plain ones, of what is in the file."""
    total, seen = 0, set()
    todo: list[tuple[Any, int]] = [(checkpoint, 0)]
    while todo:
        node, depth = todo.pop()
        if torch.is_tensor(node):
            if node.layout != torch.strided or node.is_quantized or node.is_complex() or node.is_meta:
                raise CheckpointError(f'{path}: has tensors of another kind than weights are (sparse, quantized, ...)')
            total += node.numel() * node.element_size()
            if node.numel() * node.element_size() > node.untyped_storage().nbytes():
                raise CheckpointError(f'{path}: has tensors that are larger than what the file has of them')
        elif isinstance(node, (dict, list, tuple)) and id(node) not in seen:
            seen.add(id(node))
            if depth > DEEPEST:
                raise CheckpointError(f'{path}: has values nested more than {DEEPEST} deep')
            todo += [(child, depth + 1) for child in (node.values() if isinstance(node, dict) else node)]
    if total > SHARED * Path(path).stat().st_size + BLOCK:
        raise CheckpointError(f'{path}: has tensors that are larger than what the file has of them')


def _natural(value) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)


def _word(value) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST


def _table(value, fits, keys=str) -> bool:
    return isinstance(value, dict) and all(isinstance(key, keys) and fits(item) for key, item in value.items())


def _texts(value) -> bool:
    return _table(value, lambda text: isinstance(text, str))


def _numbers(value) -> bool:
    return isinstance(value, list) and all(isinstance(item, Real) for item in value)


def _group(value) -> bool:
    return _table(value, lambda _: True) and isinstance(value.get('params'), list) and all(
        map(_natural, value['params']))


def _optimizer(value) -> bool:
    if not isinstance(value, dict):
        return False
    if 'param_groups' not in value:  # MMEditing's: one by name
        return _table(value, lambda one: isinstance(one, dict) and 'param_groups' in one and _optimizer(one))
    return (isinstance(value['param_groups'], list) and all(map(_group, value['param_groups']))
            and _table(value.get('state'), lambda state: _table(state, _slot), (int, str)))


def _slot(value) -> bool:
    return value is None or torch.is_tensor(value) or isinstance(value, Real)


def _update(value) -> bool:
    if not isinstance(value, dict):
        return False
    if 'steps' in value:  # of a GAN
        return (_natural(value['steps']) and value.keys() == {'generator', 'discriminator', 'steps'}
                and _update(value['generator']) and _update(value['discriminator']))
    scaler = value.get('scaler')
    return (value.keys() == {'scaler', 'skipped_in_a_row'} and _natural(value['skipped_in_a_row'])
            and (scaler is None or _table(scaler, _number)))


def _rank(value) -> bool:
    window = value.get('log_window') if isinstance(value, dict) else None
    return (isinstance(window, dict) and window.keys() == {'values', 'counts'}
            and all(_table(part, _numbers) for part in window.values()) and isinstance(value.get('random'), dict))


def _messages(value) -> bool:
    return isinstance(value, dict) and all(fits(value[name]) for name, fits in MESSAGES.items() if name in value)


MESSAGES = dict(
    best_score=_number,
    best_ckpt=_word,
    best_since=_natural,
    last_ckpt=_word,
    counts=lambda value: _table(value, _natural),
    validation_due=lambda value: type(value) is bool)
META = dict(
    iter=_natural,
    epoch=_natural,
    exp_name=_word,
    hook_msgs=_messages,
    parameters=_natural,
    seed=lambda value: value is None or _natural(value),
    settings=_texts,
    facesr=_texts,
    notice=lambda value: isinstance(value, str))
SHAPE = dict(
    meta=lambda value: _table(value, lambda _: True),
    optimizer=_optimizer,
    update=_update,
    samples=_natural,
    ranks=lambda value: isinstance(value, list))
