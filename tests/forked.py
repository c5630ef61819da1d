"""Processes of their own that begin with the imports done, which cost five CPU-seconds each.

They are forked from a server that has imported all and run nothing: torch's backward pass cannot follow a fork of a
process that has run one. For kills, signals, limits and several ranks; what a start from nothing does is tested in
tests/tools, and with torchrun in test_distributed.py.
"""
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

from conftest import HANGS, ROOT

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['in_process'])


class Forked:
    """As `subprocess.Popen([python, script, arguments...], start_new_session=True)`, as far as the tests use it.

    Args:
        command (list): Python, a script and its arguments.
        stdout, stderr (Path | str): Files that they are appended to. Default: nowhere.
        first (Callable[[], None]): What the process does before. Default: nothing.
        env (str): More of its environment.
    """

    def __init__(self, command: list, stdout=os.devnull, stderr=os.devnull, first=None, **env):
        command = [str(word) for word in command[1:]]
        self._process = CONTEXT.Process(target=_run, args=(command, str(stdout), str(stderr), first,
                                                           {**os.environ, **env}))
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (ROOT, ROOT / 'tests')))):
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


def _run(command, stdout, stderr, first, env):
    import torch
    from in_process import run_new

    os.setsid()
    multiprocessing.set_start_method('fork', force=True)  # as in a process that was not forked from a server
    torch.version.cuda = None  # which cannot be asked for a card again after a fork
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    if first:
        first()
    sys.exit(run_new(Path(command[0]), command[1:], ROOT, env))


def run_ranks(command: list, count: int, stderr: Path) -> str:
    """Run a script in as many processes as `torchrun --nproc_per_node=COUNT` would; all must end well.

    Returns what they wrote to stderr, into the file of that name.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    ranks = [Forked(command, stderr=stderr, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count),
                    LOCAL_WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
             for rank in range(count)]
    try:
        assert [rank.wait(HANGS) for rank in ranks] == [0] * count, stderr.read_text()[-4000:]
    finally:
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.killpg(rank.pid, signal.SIGKILL)
            rank.wait()
    return stderr.read_text()
