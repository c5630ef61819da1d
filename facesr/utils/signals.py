"""SIGINT and SIGTERM while training: the first asks for an orderly end, the second ends at once."""
import signal
import time

from facesr.utils.errors import UserError

EXIT_STOPPED = 75  # sysexits' EX_TEMPFAIL: nothing is wrong, start it again
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(UserError):
    """Training was asked to stop, and everything is saved."""
    exit_status = EXIT_STOPPED
    label = ''


class StopSignals:
    """A context in which SIGINT and SIGTERM set `requested`; a second one raises.

    Args:
        echo (float): Signals that follow the first within so many seconds are taken for the same one.
            torchrun hands on what the terminal has already sent to every process. Default: 0.
    """

    def __init__(self, echo: float = 0):
        self.requested: str | None = None
        self.echo, self._first, self._before = echo, 0.0, {}

    def __enter__(self):
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, _frame):
        if self.requested is None:
            self.requested, self._first = signal.Signals(number).name, time.monotonic()
        elif time.monotonic() - self._first >= self.echo:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)


def ignore_interrupts() -> None:
    """For a loader's worker: Ctrl-C reaches the whole group, but only the trainer may decide.

    SIGTERM still ends a worker: that is how its loader does it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
