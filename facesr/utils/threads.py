"""Work beside the main thread's, and how many threads small operations take."""
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's operations on the host take one thread; a context, or a decorator.

    Operations of a millisecond gain little from a second core, but wait for it wherever loading processes or
    threads that write PNGs keep it busy: there SSIM took ten times as long.
    """
    with _controller().limit(limits=1, user_api='openmp'):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


class Background:
    """Work that threads do while the next batch is computed; a context, whose end waits for all of it.

    Few pieces wait at a time, so that memory stays flat. `then` is called in the order of `submit`, by the
    thread that submits.

    Args:
        threads (int): Their number, but no more than there are cores. Default: 4.
        finish (bool): Do what was submitted even if the context ends by an error; else what waits is given up.
            Default: False.
    """

    def __init__(self, threads: int = 4, finish: bool = False):
        self._threads, self._finish = min(threads, os.cpu_count() or 1), finish
        self._pending = deque()

    def __enter__(self):
        # torch would reset `one_thread` at a thread's first operation.
        self._pool = ThreadPoolExecutor(self._threads, initializer=torch.get_num_threads)
        return self

    def __exit__(self, kind, *_):
        try:
            while self._pending and kind is None:
                self._finish_one()
        finally:
            self._pool.shutdown(cancel_futures=not self._finish)

    def submit(self, work: Callable, *args, then: Callable | None = None) -> None:
        """Have `work(*args)` done, and then `then(result)` if there is one.

        Raises:
            Exception: What work submitted earlier raised.
        """
        while len(self._pending) >= 2 * self._threads:
            self._finish_one()
        self._pending.append((self._pool.submit(work, *args), then))

    def _finish_one(self) -> None:
        future, then = self._pending.popleft()
        try:
            result = future.result()
        finally:
            del future  # a failed one's traceback leads back here
        if then:
            then(result)
