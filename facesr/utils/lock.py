"""One training per work dir: a lock that the kernel lets go of when its process is gone, however it ends."""
import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from facesr.utils.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = '.lock'
HELD = (errno.EACCES, errno.EAGAIN)  # what POSIX says of a lock that another process has


class WorkDirLock:
    """A context in which no other process has the lock of a folder; the folder is made if need be.

    A record lock (`fcntl`), which child processes do not inherit, so that orphaned workers do not hold it. The file
    says who has it. On leaving it goes, and the folder too if nothing is in it and it was made here.

    Args:
        folder (str | Path): The work dir.
        warn (Callable[[str], None]): Told where the folder's drive cannot lock; training goes on then. Default: print.
        option (str): What the folder was given with. Default: --work-dir.
        inherited (bool): Processes that get `fileno()` hold it too, until the last of them has ended. Default: False.

    Raises:
        UserError: Another process has it; the message says on which host, which one and since when.
        OSError: The folder cannot be made or written.
    """

    def __init__(self, folder, warn: Callable = print, option: str = '--work-dir', inherited: bool = False):
        self.path, self._warn, self._made = Path(folder) / NAME, warn, []
        self._option, self._inherited = option, inherited
        self._handle: int | None = None

    def __enter__(self):
        self._made = [folder for folder in (self.path.parent, *self.path.parent.parents) if not folder.exists()]
        self.renew()
        return self

    def __exit__(self, *_):
        if self._handle is None:
            return
        with contextlib.suppress(OSError):
            if self._is_current():
                self.path.unlink()
        self._close()
        with contextlib.suppress(OSError):  # something is in it
            for folder in self._made:
                folder.rmdir()

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._handle

    def renew(self) -> None:
        """Take the lock; again where the folder was moved or removed and has been made anew."""
        while self._handle is None or not self._is_current():
            self._close()
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
                if fcntl is None:
                    raise OSError(errno.ENOSYS, 'not on this system')
                (fcntl.flock if self._inherited else fcntl.lockf)(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if self._handle is None:
                    raise
                if error.errno in HELD:
                    holder = self._holder()
                    self._close()
                    raise UserError(f'{self.path.parent}: another training is using it ({holder}); wait for its end, '
                                    f'or give another {self._option}') from None
                self._warn(f'{self.path.parent}: its drive cannot lock ({error.strerror}), so two trainings there '
                           'would not notice each other; see that there is one')
                break
        os.ftruncate(self._handle, 0)
        since = datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')
        about = dict(host=socket.gethostname(), pid=os.getpid(), since=since)
        os.pwrite(self._handle, f'{json.dumps(about)}\n'.encode(), 0)

    def _is_current(self) -> bool:
        """Whether the file that is open is the one of that name: its last holder may have removed it meanwhile."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _holder(self) -> str:
        try:
            about = json.loads(os.pread(self._handle, 4096, 0))
            return f'host {about["host"]}, process {about["pid"]}, since {about["since"]}'
        except (OSError, ValueError, KeyError, TypeError):
            return 'which does not say who it is'

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
