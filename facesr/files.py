"""Files written whole or not at all, and the images in a folder."""
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from mmedit.datasets.base_sr_dataset import IMG_EXTENSIONS

from facesr.errors import UserError


@contextmanager
def atomic_path(path):
    """Yields a temporary path beside `path` that replaces it on success and is removed on failure.

    The data are flushed to the disk before the rename, so a kill at any moment leaves either the
    old file or the new one, whole.

    Raises:
        UserError: `path` is a folder.
    """
    path = refuse_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp')
    os.close(handle)
    try:
        yield temporary
        with open(temporary, 'rb+') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp made it private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def refuse_folder(path) -> Path:
    """The path, if a file may be written there.

    Raises:
        UserError: It is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f'{path}: is a folder; give the name of a file')
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_atomic(path, data) -> None:
    """Write str (as UTF-8) or bytes to `path` at once, making its folder if need be."""
    data = data.encode() if isinstance(data, str) else data
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(data)


def list_images(folder) -> list:
    """Names of the image files directly in `folder` (MMEditing's extensions), sorted."""
    return sorted(
        entry.name for entry in os.scandir(folder)
        if entry.name.endswith(IMG_EXTENSIONS) and not entry.name.startswith('.') and entry.is_file())
