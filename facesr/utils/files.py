"""Files written whole or not at all, their hashes, and where torch keeps what it downloads."""
import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facesr.utils.errors import UserError
from facesr.utils.ownership import require_replaceable

UMASK = os.umask(0)  # can only be read by setting it, which threads must not do
os.umask(UMASK)
SPARE = 2**20  # bytes to leave on a disk, for the logs
HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]  # in the names of temporary files
TEMPORARY = re.compile(r'\.([0-9a-f]{6})-(\d+)\.[^.]+\.tmp')  # how they end: host, process, what mkstemp chose
LONGEST = 200  # bytes of the file's own name that a temporary one has; the system takes 255 in all
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
_tidied = set()  # folders that were looked through for what killed processes left


@contextmanager
def atomic_path(path: str | Path) -> Iterator[str]:
    """Yields a temporary path beside `path` that replaces it on success and is removed on failure.

    The data are flushed to the disk before the rename, so a kill at any moment leaves either the
    old file or the new one, whole.

    Raises:
        OSError: The file cannot be written; it names `path`, not the temporary file.
    """
    path = Path(path)
    temporary = elsewhere = None
    name = os.fsdecode(os.fsencode(path.name)[:LONGEST])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{name}.{HOST}-{os.getpid()}.', suffix='.tmp')
        os.close(handle)
        try:
            yield temporary
        except OSError as error:
            elsewhere = error if error.filename not in (None, temporary) else None
            raise
        with open(temporary, 'rb+') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~UMASK)  # mkstemp made it private
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except BaseException as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError) and error is not elsewhere:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def output_file(path: str | Path, suffix: str) -> Path:
    """The path of a file that a tool is about to write, if it has the suffix that belongs to it.

    The suffix keeps a slip of the keyboard from replacing a checkpoint or a config.

    Raises:
        UserError: It is a folder or has another suffix, or is a file that no tool wrote (`require_replaceable`).
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() != suffix:
        raise UserError(f'{path}: give the name of a {suffix} file to write')
    require_replaceable(path)
    return path


def require_space(path, size: int) -> None:
    """Look for room for `size` bytes beside `path` before anything is written, and make its folder if need be.

    Raises:
        OSError: There is less, or the folder cannot be made.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        message = (f'the disk is full: {size / 2**20:.1f} MiB are needed and {SPARE / 2**20:.0f} MiB kept in reserve, '
                   f'{free / 2**20:.1f} MiB are free')
        raise OSError(errno.ENOSPC, message, str(path))


def remedy(error: OSError) -> str:
    """What to do about a file that cannot be written."""
    if error.errno in FULL:
        return 'free disk space'
    if error.errno in NO_ACCESS:
        return 'make the folder writable'
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return 'allow more open files (ulimit -n)'
    return 'see that its drive is there and sound'


def remove_old(path, warn) -> None:
    """Delete a file that is of no more use; where that is not allowed, `warn` is told and it stays."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        warn(f'{path}: cannot be deleted ({error.strerror}); it stays')


def remove_leftovers(folder, pattern: str = '*') -> None:
    """Remove what a kill in the middle of `atomic_path` left in a folder, of files like `pattern`.

    What another process is writing at the moment is left alone.
    """
    for path in Path(folder).glob(f'.{pattern}.*.tmp'):
        made_by = TEMPORARY.search(path.name)
        if made_by is None or _is_gone(made_by):
            path.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Remove what killed processes of this host left of files in a folder; once in a process."""
    place = folder.resolve()
    if place in _tidied:
        return
    _tidied.add(place)
    with contextlib.suppress(OSError):  # what may not be removed does no harm
        for entry in os.scandir(place):
            made_by = TEMPORARY.search(entry.name)
            if made_by and _is_gone(made_by):
                os.unlink(entry)


def _is_gone(made_by: re.Match) -> bool:
    """Whether the process that a temporary file is named after was one of this host and has ended."""
    if made_by[1] != HOST or os.name == 'nt':  # where signal 0 is none
        return False
    try:
        os.kill(int(made_by[2]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    return False


def _flush_folder(folder: Path) -> None:
    """Let the renaming survive a power cut too, where folders can be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: str | Path, data: str | bytes | memoryview) -> None:
    """Write str (as UTF-8) or bytes-like data to `path` at once, making its folder if need be."""
    data = data.encode() if isinstance(data, str) else data
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(data)


def is_there(path: str | Path, data: bytes, remedy: str, error: type[UserError] = UserError,
             replace: bool = False) -> bool:
    """Whether a file with just these bytes is there already.

    Args:
        path (str | Path): The file that is to be written.
        data (bytes): What it will have.
        remedy (str): What to do about another one.
        error (type[UserError]): What is raised about it.
        replace (bool): Another file may be replaced; a folder may not. Default: False.

    Raises:
        UserError: Something else is there.
    """
    path = Path(path)
    if path.is_file() and path.read_bytes() == data:
        return True
    if path.exists() and (path.is_dir() or not replace):
        raise error(f'{path}: is there already and has other content; {remedy}')
    return False


def as_json(content: Any) -> str:
    """Plain values as indented JSON; null where a number is infinite or NaN, which JSON has not."""
    return f'{json.dumps(_finite(content), indent=2, allow_nan=False)}\n'


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def hub_path(url: str) -> Path:
    """Where torchvision keeps what it downloads from a URL (TORCH_HOME moves it): weights that others published have to
    be there already, for nothing is downloaded unasked.
    """
    import torch  # here, because most of what writes files needs no torch
    return Path(torch.hub.get_dir()) / 'checkpoints' / url.rpartition('/')[2]
