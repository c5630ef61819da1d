"""What tools print: text from outside is harmless, and a terminal or pipe that fails costs no work."""
import errno
import io
import os
import sys
from contextlib import contextmanager

EXIT_PIPE = 128 + 13  # what a shell shows of a program whose reader has gone (SIGPIPE)


def plain(text) -> str:
    """Text in which a terminal finds nothing to obey, and no new line: what is not printable becomes `\\x1b`, say."""
    text = str(text)
    return text if text.isprintable() else ''.join(
        letter if letter.isprintable() else letter.encode('unicode_escape', 'backslashreplace').decode()
        for letter in text)


def say(*lines, file=None) -> None:
    """Print text, a line for each argument, to stdout or `file`; see `plain`."""
    for line in lines:
        print(plain(line), file=file)


class Stream:
    """A text stream that never fails: after its first error it takes everything and writes nothing.

    Letters that its encoding lacks are written as escapes.

    Args:
        stream (TextIO): Where text goes.

    Attributes:
        error (OSError | None): Why nothing is written any more.
    """

    def __init__(self, stream):
        self._stream, self.error = stream, None
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As a text stream's."""
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """As a text stream's."""
        self._attempt(self._stream.flush)

    def _attempt(self, action, *args) -> None:
        if self.error is None:
            try:
                action(*args)
            except (OSError, ValueError) as error:  # a ValueError says that it is closed
                self.error = error if isinstance(error, OSError) else OSError(errno.EBADF, 'closed')


@contextmanager
def lasting_streams():
    """Within, stdout and stderr are `Stream`s, so that a reader who goes (`| head`, a terminal that is closed) or a
    full disk does not end the work.

    Raises:
        SystemExit: At the end, if the work itself succeeded: with `EXIT_PIPE` where stdout's reader has gone, with 2
            and a line where stdout could not be written for another reason.
    """
    before = sys.stdout, sys.stderr
    _occupy_closed()
    sys.stdout, sys.stderr = (Stream(stream or io.StringIO()) for stream in before)
    try:
        yield
        _flush()
        error = sys.stdout.error
        if error:
            if error.errno == errno.EPIPE:
                sys.exit(EXIT_PIPE)
            say(f'error: stdout: {error.strerror}', file=sys.stderr)
            sys.exit(2)
    finally:
        _flush()
        failed = [stream for stream in (sys.stdout, sys.stderr) if stream.error]
        sys.stdout, sys.stderr = before
        for stream in failed:
            _discard(stream._stream)


def _occupy_closed() -> None:
    """Let no file that is opened later take the place of a standard stream that the caller has closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _discard(stream) -> None:
    """Let what a stream still holds go nowhere, so that Python does not complain of it at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
    except (OSError, ValueError):
        pass
