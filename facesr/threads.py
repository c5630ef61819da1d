"""How many threads small operations take."""
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread():
    """torch's operations on the host take one thread; a context, or a decorator.

    Operations of a millisecond gain little from a second core, but wait for it wherever loading processes or
    threads that write PNGs keep it busy: there SSIM took ten times as long.
    """
    with _controller().limit(limits=1, user_api='openmp'):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
