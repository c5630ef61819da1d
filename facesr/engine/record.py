"""What a run writes about itself into its work dir: config, environment, log; and what it tells of a resume."""
import json
import logging
import logging.handlers
import sys
from datetime import datetime
from pathlib import Path

from facesr.config import Config, config_text, recorded_as
from facesr.engine.settings import changes, measured_otherwise
from facesr.utils.files import write_atomic
from facesr.utils.log_files import LOG_NUMBER, LOG_SUFFIX, log_files, log_number
from facesr.utils.terminal import plain, say

HISTORY = 'config_history'  # in the work dir: earlier configs, numbered, and what changed
CHANGES = 'changes.txt'
BEST_SINCE = 'best_since'  # among the hooks' messages: the iteration from which on scores are comparable


class LogFile(logging.handlers.WatchedFileHandler):
    """A log file that is opened anew where it was moved or removed, and whose failures end nothing."""

    def __init__(self, path):
        super().__init__(path)
        self._told = False
        self.setFormatter(logging.Formatter('%(asctime)s - %(name)s - %(levelname)s - %(message)s'))

    def emit(self, record):
        """Write a record, or say once that it cannot be."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record):  # noqa: N802  (logging's name)
        """Instead of logging's traceback, at each record."""
        error = sys.exc_info()[1]
        if not self._told:
            say(f'{self.baseFilename}: {getattr(error, "strerror", None) or error}; training goes on', file=sys.stderr)
        self._told = True


class HarmlessText(logging.Filter):
    """Lets a terminal find nothing to obey in a record, which may have names from outside."""

    def filter(self, record):
        """See `logging.Filter`."""
        record.msg, record.args = '\n'.join(map(plain, record.getMessage().split('\n'))), ()
        return True


def record_config(cfg: Config, name: str, work_dir) -> None:
    """Write a run's config as Python and, to be read without running anything, as JSON.

    The Python that is there already with other contents is kept, as by `write_and_keep`.
    """
    path = Path(work_dir) / f'{name}.py'
    write_and_keep(path, config_text(cfg))
    write_atomic(path.with_name(recorded_as(name)), f'{json.dumps(cfg._cfg_dict.to_dict(), indent=2, default=str)}\n')


def write_and_keep(path: Path, text: str) -> None:
    """Write a file; one that is there already with other contents is kept in `config_history`, numbered."""
    if path.is_file() and path.read_text(encoding='utf-8', errors='replace') != text:
        numbers = [int(part) for other in (path.parent / HISTORY).glob(f'*{path.suffix}')
                   if (part := other.stem.rpartition('.')[2]).isdigit()]
        write_atomic(path.parent / HISTORY / f'{path.stem}.{max(numbers, default=0) + 1}{path.suffix}',
                     path.read_bytes())
    write_atomic(path, text)


def tell_changes(runner, now: dict) -> None:
    """Say in the log and in `config_history` what a resumed run has otherwise, and start a best score anew that was
    measured otherwise; then the settings of now are the run's.

    Args:
        runner (SRIterBasedRunner): With the `settings` of its checkpoint.
        now (dict): From `settings_of`.
    """
    before, messages = runner.settings, runner.meta['hook_msgs']
    lines = changes(before, now) if before else []
    if before and 'best_score' in messages and measured_otherwise(before, now):
        lines.append(f'the best score so far ({messages["best_score"]:.4f}) was measured otherwise and no longer '
                     f'counts; {Path(messages.get("best_ckpt", "its checkpoint")).name} stays')
        for key in ('best_score', 'best_ckpt'):
            messages.pop(key, None)
        messages[BEST_SINCE] = runner.iter
    for line in lines:
        runner.logger.warning(f'other than before iteration {runner.iter}: {line}')
    if lines and runner.rank == 0:
        path = Path(runner.work_dir) / HISTORY / CHANGES
        told = path.read_text(encoding='utf-8', errors='replace') if path.is_file() else ''
        head = f'{datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")}, from iteration {runner.iter} on:'
        write_atomic(path, told + '\n'.join([head, *(f'  {plain(line)}' for line in lines)]) + '\n')
    runner.settings = runner.meta['settings'] = {**before, **now}


def number_log(runner) -> None:
    """Give a run's JSON log a name that is free and a number above those of the logs that are there."""
    work_dir = Path(runner.work_dir)
    logs, time, again = log_files(work_dir), runner.timestamp, 0
    while (work_dir / f'{runner.timestamp}{LOG_SUFFIX}').exists():
        again += 1
        runner.timestamp = f'{time}_{again}'
    runner.meta[LOG_NUMBER] = max([len(logs), *map(log_number, logs)]) + 1
