"""What a user sees when something is wrong: one line that names the file or key and the remedy."""
import difflib
import functools
import inspect
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable
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


def from_worker(error: UserError) -> UserError:
    """One that came from a loading process, without that process's traceback: its own line is the last."""
    return type(error)(str(error).strip().splitlines()[-1].rpartition(f'{type(error).__name__}: ')[2])


def similar(name: object, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Those of the known names that somebody may have meant by another, the likeliest first.

    Args:
        name (object): What was given; a string, if all went well.
        known (Iterable[str]): What could have been.
        most (int): Names at most. Default: 1.
        cutoff (float): How similar they have to be, from 0 to 1 (difflib's ratio). Default: 0.6.
    """
    return difflib.get_close_matches(str(name), list(known), most, cutoff)


def did_you_mean(name: object, known: Iterable[str], otherwise: str = '') -> str:
    """`did you mean X?`, with the most similar of the known names; `otherwise` where none is similar."""
    found = similar(name, known)
    return f'did you mean {found[0]}?' if found else otherwise


@contextmanager
def mistakes_in(key: str):
    """What building an object from `cfg.<key>` raises becomes a `UserError`: a type or argument that there is not, a
    package that is missing.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError, NotImplementedError, ImportError
            ) as error:
        text = ' '.join(str(error).split())
        if isinstance(error, IndexError):
            text = f'a list in it has too few values ({text})'
        if isinstance(error, KeyError):  # in quotes at each level where mmcv raises it anew
            text = re.sub(r"(^|: )'(.*)'$", r'\1\2', text.strip('"'))
        raise UserError(f'config key "{key}": {text}{_hint(error)}') from error


def _hint(error: BaseException) -> str:
    """What was meant by an argument that the class has not that mmcv was building from a config, or how classes of
    one's own are brought in; '' where neither can be told.
    """
    while error.__context__:  # mmcv raises anew at each level
        error = error.__context__
    unknown, kind, trace = re.search(r"unexpected keyword argument '(\w+)'", str(error)), None, error.__traceback__
    while unknown and trace:
        kind, trace = trace.tb_frame.f_locals.get('obj_cls', kind), trace.tb_next
    close = similar(unknown[1], inspect.signature(kind).parameters) if unknown and kind else ()
    if close:
        return f'; did you mean "{close[0]}"?'
    if (unknown and kind) or 'is not in the' in str(error):
        return "; neither MMEditing 0.16 nor facesr has it: custom_imports brings in classes of one's own"
    return ''


def report_user_errors(main: Callable) -> Callable:
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
