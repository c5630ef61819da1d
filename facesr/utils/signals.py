"""Signals while training: the first asks for an orderly end, a second SIGINT or SIGTERM ends at once."""
import signal
import time

from facesr.utils.errors import UserError

EXIT_STOPPED = 75  # sysexits' EX_TEMPFAIL: nothing is wrong, start it again
URGENT = (signal.SIGINT, signal.SIGTERM)
# A terminal that is gone (bash and the kernel may both say so), and what schedulers send before a job's end.
OTHERS = tuple(getattr(signal, name) for name in ('SIGHUP', 'SIGUSR1') if hasattr(signal, name))


class Stopped(UserError):
    """Training was asked to stop, and everything is saved."""
    exit_status = EXIT_STOPPED
    label = ''


class StopSignals:
    """A context in which SIGINT, SIGTERM, SIGHUP and SIGUSR1 set `requested`; a second SIGINT or SIGTERM raises.

    What is ignored on entering (SIGHUP under `nohup`) stays so, but for SIGINT and SIGTERM.

    Args:
        echo (float): Signals that follow the first within so many seconds are taken for the same one.
            torchrun hands on what the terminal has already sent to every process. Default: 0.
    """

    def __init__(self, echo: float = 0):
        self.echo, self._before = echo, {}
        self.requested: str | None = None
        self._first: float | None = None

    def __enter__(self):
        wanted = [*URGENT, *(number for number in OTHERS if signal.getsignal(number) != signal.SIG_IGN)]
        self._before = {number: signal.signal(number, self._handle) for number in wanted}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, _frame):
        self.requested = self.requested or signal.Signals(number).name
        if number in OTHERS:
            return
        if self._first is None:
            self._first = time.monotonic()
        elif time.monotonic() - self._first >= self.echo:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)


def ignore_interrupts() -> None:
    """For a loader's worker: Ctrl-C and the like reach the whole group, but only the trainer may decide.

    SIGTERM still ends a worker: that is how its loader does it.
    """
    for number in (signal.SIGINT, *OTHERS):
        signal.signal(number, signal.SIG_IGN)
