"""Tools run in the process of the tests: a start of one costs five CPU-seconds of imports, and the tests have 160.

What a process would have for itself is as new when the tool begins and put back when it ends. What only a start of
its own shows (imports and their order, kills, memory) has tests of its own, in tests/tools and tests/integration.
"""
import faulthandler
import logging
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from contextlib import ExitStack, contextmanager
from unittest import mock


@contextmanager
def as_python_starts():
    """Python's own filters and printing of warnings, instead of pytest's."""

    def show(message, category, filename, lineno, file=None, line=None):
        print(warnings.formatwarning(message, category, filename, lineno, line), end='', file=file or sys.stderr)

    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (ResourceWarning, ImportWarning, PendingDeprecationWarning, DeprecationWarning):
            warnings.simplefilter('ignore', category)
        warnings.filterwarnings('default', category=DeprecationWarning, module='__main__')
        warnings.showwarning = show
        yield


with as_python_starts():
    import facesr.register  # noqa: F401
    FILTERS = warnings.filters[:]  # those of the libraries and of facesr.compat.notices too

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from mmcv.utils import logging as mmcv_logging  # noqa: E402
from torch.utils.data._utils import signal_handling  # noqa: E402

from facesr.checkpoint import weights  # noqa: E402

TIMEOUT = 600
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM]


def run_in_process(script, arguments, cwd, env: dict) -> subprocess.CompletedProcess:
    """Run a Python script as `python SCRIPT ARGUMENTS` would; what it and its children print is captured.

    Args:
        script (Path): The script.
        arguments (list[str]): Its arguments.
        cwd (Path): Where it runs.
        env (dict): Its environment, all of it.
    """
    weights._tell.cache_clear()
    with ExitStack() as stack:
        for state in (_environment(cwd, env), _random_numbers(), _threads(), _signals(), _torch_flags()):
            stack.enter_context(state)
        stack.enter_context(mock.patch.object(sys, 'argv', [str(script), *arguments]))
        stack.enter_context(mock.patch.object(sys, 'path', [str(script.parent), *sys.path]))
        texts = stack.enter_context(_captured())
        stack.enter_context(_loggers())  # their handlers take the streams of the moment they are made
        stack.enter_context(_warnings())
        status = _status(script)
    return subprocess.CompletedProcess([str(script), *arguments], status, *texts)


def _status(script) -> int:
    try:
        runpy.run_path(str(script), run_name='__main__')
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    except Exception:  # as the interpreter does with what nobody caught
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def _captured():
    """stdout and stderr in files, down to their descriptors: C libraries and children write there too.

    Gives a list that has both texts at the end.
    """
    texts = []
    with _to_file('stdout', 1, texts), _to_file('stderr', 2, texts):
        yield texts
    texts.reverse()  # the inner one ends first


@contextmanager
def _to_file(name, descriptor, texts):
    getattr(sys, name).flush()
    before = os.dup(descriptor)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), descriptor)
        try:
            with open(os.dup(descriptor), 'w', 1, encoding='utf-8', errors='backslashreplace') as stream, \
                    mock.patch.object(sys, name, stream):
                yield
        finally:
            os.dup2(before, descriptor)
            os.close(before)
            file.seek(0)
            texts.append(file.read().decode(errors='backslashreplace'))


@contextmanager
def _environment(cwd, env):
    before = os.getcwd()
    with mock.patch.dict(os.environ, env, clear=True):
        os.chdir(cwd)
        try:
            yield
        finally:
            os.chdir(before)


@contextmanager
def _loggers():
    """As after the imports: MMCV's loggers are not made yet, the others' handlers write to this stderr.

    A handler keeps the stderr that there was when it was made. pytest's own, at the root, would keep Python from
    printing what no logger has a handler for.
    """
    root, initialized = logging.getLogger(), dict(mmcv_logging.logger_initialized)
    before = {logger: (logger.handlers[:], logger.level, logger.propagate) for logger in (root, *_all_loggers())}
    streams = [(handler, handler.stream) for handlers, *_ in before.values() for handler in handlers
               if type(handler) is logging.StreamHandler]
    mmcv_logging.logger_initialized.clear()
    for logger in (root, *map(logging.getLogger, initialized)):
        logger.handlers[:] = []
    for handler, _ in streams:
        handler.stream = sys.stderr  # `setStream` would flush the old one, which may be closed
    try:
        yield
    finally:
        kept = {handler for handlers, *_ in before.values() for handler in handlers}
        for logger in (root, *_all_loggers()):
            for handler in set(logger.handlers) - kept:
                handler.close()
            handlers, level, propagate = before.get(logger, ([], logging.NOTSET, True))
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
        for handler, stream in streams:
            handler.stream = stream
        mmcv_logging.logger_initialized.clear()
        mmcv_logging.logger_initialized.update(initialized)


def _all_loggers():
    return [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]


@contextmanager
def _warnings():
    with as_python_starts():
        warnings.filters[:] = FILTERS
        yield


@contextmanager
def _random_numbers():
    """Generators as a new process has them: of a seed of the system's."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed()
    np.random.seed()
    torch.default_generator.seed()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@contextmanager
def _threads():
    before = cv2.getNumThreads(), torch.get_num_threads()
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


@contextmanager
def _torch_flags():
    before = torch.is_grad_enabled(), torch.get_default_dtype(), torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_grad_enabled(before[0])
        torch.set_default_dtype(before[1])
        torch.backends.cudnn.benchmark = before[2]


@contextmanager
def _signals():
    """Python's own handlers; torch's, for a loader's process that dies, it sets itself once for each process."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)

    def too_long(*_):
        faulthandler.dump_traceback()
        raise TimeoutError(f'the tool took longer than {TIMEOUT} seconds')

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(TIMEOUT)
    try:
        with mock.patch.object(signal_handling, '_SIGCHLD_handler_set', False):
            yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
