"""The JSON logs in a work dir, and the order in which they were written."""
import json
from pathlib import Path

LOG_SUFFIX = '.log.json'
LONGEST = 2**22  # letters of a line that are read
LOG_NUMBER = 'log_number'  # in the first record


def log_files(work_dir) -> list:
    """A work dir's logs by their numbers; those without one, as MMEditing's, come first, by name (that is by time).

    Clocks are set back and have summer time; the number counts up.
    """
    return sorted(Path(work_dir).glob(f'*{LOG_SUFFIX}'), key=lambda path: (log_number(path), path.name))


def log_number(path) -> int:
    """A log's number, 0 if it has none."""
    number = first_record(path).get(LOG_NUMBER)
    return number if type(number) is int else 0


def first_record(path) -> dict:
    """What a log begins with: what the run is, in this project's and MMEditing's; nothing where it cannot be read."""
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            record = json.loads(file.readline(LONGEST))
        return record if isinstance(record, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}
