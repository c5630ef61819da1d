"""How checkpoints are called in a work dir, and which is the newest."""
import contextlib
import platform
import re
import shutil
from pathlib import Path

from facesr.utils.files import atomic_path

LATEST = 'latest.pth'


def point_latest_to(path: str | Path) -> None:
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


def numbered_checkpoints(work_dir: str | Path) -> list:
    """The checkpoints of a work dir that are named after an iteration: `iter_*.pth` and `best_*_iter_*.pth`.

    Returns:
        list[tuple[int, bool, Path]]: Iteration, whether it is an `iter_*.pth`, and path, the newest last.
    """
    return sorted((int(match[2]), match[1] is None, path) for path in Path(work_dir).glob('*.pth')
                  if (match := re.fullmatch(r'(best_.+_)?iter_(\d+)\.pth', path.name)))


def find_latest(work_dir: str | Path) -> Path | None:
    """The checkpoint of a work dir with the most iterations: an `iter_*.pth`, or a `best_*_iter_*.pth` where
    the run was cut off after that; else `latest.pth`; else None.
    """
    numbered, latest = numbered_checkpoints(work_dir), Path(work_dir) / LATEST
    if numbered:
        return numbered[-1][2]
    return latest if latest.is_file() else None
