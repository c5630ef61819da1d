"""What a user sees when something is wrong: one line that names the file or key and the remedy."""
import functools
import os
import signal
import sys
from contextlib import contextmanager

from facesr.utils.terminal import lasting_streams, say

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """A mistake or a missing thing on the user's side; the message is one line and says what to do."""
    exit_status = EXIT_USER_ERROR
    label = 'error: '


class OneRankError(UserError):
    """Of several processes one alone may have it, so each says it."""


class CheckpointError(UserError):
    """A checkpoint is missing, broken, unsafe or does not fit the model."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint is not what was once written, or was never written to its end."""


@contextmanager
def mistakes_in(key: str):
    """What building an object from `cfg.<key>` raises (unknown type, wrong arguments) becomes a `UserError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, NotImplementedError) as error:
        raise UserError(f'config key "{key}": {" ".join(str(error).split())}') from error


def report_user_errors(main):
    """Decorate a tool's `main` so that a `UserError` (or a file-system error) ends it with one line.

    The line goes to stderr, the exit status is the error's (2; 130 after Ctrl-C). Anything else is a bug
    and keeps its traceback; so does everything when FACESR_TRACEBACK is set. Of several processes on a
    machine only the first speaks, except where an error may be one's alone. A terminal, pipe or disk that takes no
    more output costs no work (see `lasting_streams`).
    """

    @functools.wraps(main)
    @lasting_streams()
    def wrapper(*args, **kwargs):
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # by `tools/_bootstrap.py`
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if os.environ.get('FACESR_TRACEBACK'):
            return main(*args, **kwargs)
        speaks = os.environ.get('LOCAL_RANK', '0') == '0'
        try:
            return main(*args, **kwargs)
        except UserError as error:
            message, status = f'{error.label}{error}', error.exit_status
            speaks = speaks or isinstance(error, OneRankError)
        except OSError as error:
            if error.filename is None:
                raise
            message, status = f'error: {error.filename}: {error.strerror}', EXIT_USER_ERROR
        except KeyboardInterrupt:
            message, status = 'interrupted', EXIT_INTERRUPTED
        if speaks:
            say(message, file=sys.stderr)
        sys.exit(status)

    return wrapper
