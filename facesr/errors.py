"""What a user sees when something is wrong: one line that names the file or key and the remedy."""
import functools
import os
import sys
from contextlib import contextmanager

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """A mistake or a missing thing on the user's side; the message is one line and says what to do."""


@contextmanager
def mistakes_in(key: str):
    """What building an object from `cfg.<key>` raises (unknown type, wrong arguments) becomes a `UserError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise UserError(f'config key "{key}": {" ".join(str(error).split())}') from error


def report_user_errors(main):
    """Decorate a tool's `main` so that a `UserError` (or a file-system error) ends it with one line.

    The line goes to stderr, the exit status is 2 (130 after Ctrl-C). Anything else is a bug and
    keeps its traceback; so does everything when FACESR_TRACEBACK is set.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        if os.environ.get('FACESR_TRACEBACK'):
            return main(*args, **kwargs)
        try:
            return main(*args, **kwargs)
        except UserError as error:
            # From a data-loader worker it comes with the worker's traceback, its own line last.
            message = str(error).strip().splitlines()[-1].removeprefix(f'{__name__}.UserError: ')
        except OSError as error:
            if error.filename is None:
                raise
            message = f'{error.filename}: {error.strerror}'
        except KeyboardInterrupt:
            print('interrupted', file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        print(f'error: {message}', file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)

    return wrapper
