"""What a user sees when something is wrong: one line that names the file or key and the remedy."""
import difflib
import functools
import inspect
import os
import re
import sys
from contextlib import contextmanager

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


@contextmanager
def mistakes_in(key: str):
    """What building an object from `cfg.<key>` raises becomes a `UserError`: a type or argument that there is not, a
    package that is missing.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, NotImplementedError, ImportError) as error:
        raise UserError(f'config key "{key}": {" ".join(str(error).split())}{_likely_argument(error)}') from error


def _likely_argument(error: Exception) -> str:
    """What argument of the class that mmcv was building from a config was meant by one that it has not, as a hint."""
    while error.__context__:  # mmcv raises anew at each level
        error = error.__context__
    unknown, kind, trace = re.search(r"unexpected keyword argument '(\w+)'", str(error)), None, error.__traceback__
    while unknown and trace:
        kind, trace = trace.tb_frame.f_locals.get('obj_cls', kind), trace.tb_next
    close = difflib.get_close_matches(unknown[1], inspect.signature(kind).parameters, 1) if unknown and kind else ()
    return f'; did you mean "{close[0]}"?' if close else ''


def report_user_errors(main):
    """Decorate a tool's `main` so that a `UserError` (or a file-system error) ends it with one line.

    The line goes to stderr, the exit status is the error's (2; 130 after Ctrl-C). Anything else is a bug
    and keeps its traceback; so does everything when FACESR_TRACEBACK is set. Of several processes on a
    machine only the first speaks, except where an error may be one's alone.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
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
            print(message, file=sys.stderr)
        sys.exit(status)

    return wrapper
