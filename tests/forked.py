"""Processes of their own that begin with torch and other libraries imported, which costs four CPU-seconds each.

They are forked from a server that has imported those (see third_party.py) and run nothing: torch's backward pass cannot
follow a fork of a process that has run one. A script imports MMCV, MMEditing and facesr itself, as it does when Python
starts; what that is like from nothing is tested in tests/tools and test_compat.py.
"""
import multiprocessing
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

from conftest import HANGS, ROOT

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['third_party'])


def command_lines() -> list:
    """Of the processes that there are."""
    lines = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        with suppress(OSError):  # it has ended
            lines.append(path.read_bytes().replace(b'\0', b' ').decode(errors='replace'))
    assert lines
    return lines


class Forked:
    """As `subprocess.Popen([python, script, arguments...], start_new_session=True)`, as far as the tests use it.

    Args:
        command (list): Python, a script and its arguments.
        stdout, stderr (Path | str): Files that they are appended to. Default: nowhere.
        first (Callable[[], None]): What the process does before. Default: nothing.
        cwd (Path): Where it runs. Default: the repository.
        env (str): More of its environment.
    """

    def __init__(self, command: list, stdout=os.devnull, stderr=os.devnull, first=None, cwd=ROOT, **env):
        command = [str(word) for word in command[1:]]
        self._process = CONTEXT.Process(target=_run, args=(command, str(stdout), str(stderr), first, str(cwd),
                                                           {**os.environ, **env}))
        with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT / 'tests')):
            self._process.start()
        self.pid = self._process.pid
        with suppress(ProcessLookupError):  # it has ended already
            while os.getpgid(self.pid) != self.pid:
                time.sleep(0.001)

    @property
    def returncode(self):
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()


def _run(command, stdout, stderr, first, cwd, env):
    import numpy
    import torch

    for path, descriptor, name in ((stdout, 1, 'stdout'), (stderr, 2, 'stderr')):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
        setattr(sys, name, open(descriptor, 'w', 1, errors='backslashreplace', closefd=False))  # noqa: SIM115
    os.setsid()  # what `Forked` waits for
    # As in a process that was not forked from a server.
    multiprocessing.set_start_method('fork', force=True)
    random.seed()
    numpy.random.seed()
    torch.default_generator.seed()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv[:] = command
    sys.path[:] = [str(Path(command[0]).absolute().parent), *env.get('PYTHONPATH', '').split(os.pathsep),
                   *(path for path in sys.path if not Path(path).is_relative_to(ROOT / 'tests'))]
    if first:
        first()
    runpy.run_path(command[0], run_name='__main__')


def run_forked(command: list, cwd=ROOT, **env) -> subprocess.CompletedProcess:
    """As `subprocess.run([python, script, arguments...], capture_output=True, text=True)`."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder) / 'stdout', Path(folder) / 'stderr'
        status = Forked(command, stdout, stderr, cwd=cwd, **env).wait(HANGS)
        return subprocess.CompletedProcess(command, status, *(path.read_text() for path in (stdout, stderr)))


def run_ranks(command: list, count: int, stderr: Path, status: int = 0) -> str:
    """Run a script in as many processes as `torchrun --nproc_per_node=COUNT` would; all must end with that status.

    Returns what they wrote to stderr, into the file of that name.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    ranks = [Forked(command, stderr=stderr, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count),
                    LOCAL_WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
             for rank in range(count)]
    try:
        assert [rank.wait(HANGS) for rank in ranks] == [status] * count, stderr.read_text()[-4000:]
    finally:
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.killpg(rank.pid, signal.SIGKILL)
            rank.wait()
    return stderr.read_text()
