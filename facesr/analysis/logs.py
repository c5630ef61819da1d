"""Training logs: this project's `*.log.json`, MMEditing 0.x's, and the `scalars.json` of 1.x (MMEngine)."""
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from facesr.utils.errors import UserError
from facesr.utils.log_files import LOG_SUFFIX, LONGEST, log_files

MMENGINE_LOGS = '*/vis_data/scalars.json'  # below a work dir
OTHER_LOGS = ('*.json', '*.jsonl', '*.json.*', '*.log', '*.txt')  # as people rename them; taken where they are logs
TRIED = 100  # lines among which one of a log's has to be
MALFORMED = (ValueError, KeyError, TypeError, RecursionError)  # what a line that is no record raises
RESTART_RISE = 1.5  # from one record to the next; warm-ups and cyclic rates rise more slowly once they have fallen


@dataclass
class Run:
    """What the logs of one run say; the logs of its resumed parts are joined.

    Attributes:
        name (str): The work dir's, or the log's; no two runs of `read_runs` have the same.
        train (list[dict]): Training records as they were logged (`iter`, `loss`, `lr`, `time`, ...), by iteration.
        val (list[dict]): Validation records (`iter`, `PSNR` in dB, ...), by iteration; `iter` is always the
            training iteration, whatever the log had there.
        restarts (list[int]): Iterations after which the learning rate jumped up.
        resumes (list[int]): Iterations at which a later log takes over.
        broken (dict[str, int]): Lines that could not be read, by file, where there are any.
    """
    name: str
    train: list = field(default_factory=list)
    val: list = field(default_factory=list)
    restarts: list = field(default_factory=list)
    resumes: list = field(default_factory=list)
    broken: dict = field(default_factory=dict)

    def notes(self) -> list:
        """What a tool should tell about the files, a line each."""
        return [f'{_broken(count)} skipped in {path}' for path, count in self.broken.items()]

    def series(self, mode: str, *keys: str) -> tuple:
        """Iterations and values of the first of `keys` that a record has as a number.

        Args:
            mode (str): 'train' or 'val'.

        Returns:
            tuple[list[int], list[float]]: Equally long; values may be nan or infinite if they were logged so.
        """
        points = []
        for record in getattr(self, mode):
            values = [record[key] for key in keys if _is_number(record.get(key))]
            if values:
                points.append((record['iter'], float(values[0])))
        return [x for x, _ in points], [y for _, y in points]

    def keys(self, mode: str, name: str) -> list:
        """The keys of a value: its name, and with the data set before it as in MMagic's logs (`Set5/PSNR`)."""
        found = {key: None for record in getattr(self, mode) for key in record if key.rpartition('/')[2] == name}
        return sorted(found, key=lambda key: key != name)

    def best(self, key: str = 'PSNR') -> tuple | None:
        """Iteration and value of the highest finite value of a validation metric (the first of equals), or None."""
        points = [(y, -x) for x, y in zip(*self.series('val', key), strict=True) if abs(y) < float('inf')]
        return (-max(points)[1], max(points)[0]) if points else None


def read_runs(paths: Iterable) -> list:
    """Read runs from work dirs and logs.

    Lines that cannot be read (a kill or a full disk cuts them off) are skipped and counted. A validation
    record's `iter` is the training iteration in logs of MMEditing 0.x and of this project, but the number of
    batches validated in logs of mmcv's own `EvalHook`, and can be the epoch in MMEngine's. It is taken for
    such if it is the same throughout a file and does not lie between the training records before and after;
    then validations are placed at the training record before them, and left out if there is none.

    Args:
        paths (list[str | Path]): Work dirs, of which all logs are joined in the order they were written (see
            `log_files`), or JSON logs. Where logs overlap, the later one counts.

    Returns:
        list[Run]: One per path; a path given twice counts once.

    Raises:
        UserError: A path is missing or no JSON log, or there are no records in it.
    """
    paths = list({Path(path).resolve(): path for path in paths}.values())
    runs = [_read_run(Path(path)) for path in paths]
    names = [run.name for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if names.count(run.name) > 1:
            run.name = str(path)
    return runs


def _read_run(path: Path) -> Run:
    run = Run(_name(path))
    records = {'train': {}, 'val': {}}
    for log in _log_files(path):
        part, run.broken[str(log)] = _read_log(log)
        if not any(part.values()):
            continue
        if any(records.values()):
            run.resumes.append(min(r['iter'] for r in (part['train'] or part['val'])))
        for mode, found in part.items():
            _replace(records[mode], found)
    if not any(records.values()):
        broken = sum(run.broken.values())
        found = f'no training records, but {_broken(broken)}' if broken else 'no training records'
        raise UserError(f'{path}: {found}; give the work dir of a run or its *{LOG_SUFFIX} (MMEditing writes none '
                        'in a run shorter than its log interval)')
    run.train, run.val = ([by_iter[i] for i in sorted(by_iter)] for by_iter in records.values())
    run.broken = {log: count for log, count in run.broken.items() if count}
    run.restarts = _restarts(sorted(run.train + run.val, key=lambda record: record['iter']))
    return run


def _name(path: Path) -> str:
    path = path.resolve()
    if path.match(MMENGINE_LOGS):
        return path.parents[2].name
    if path.is_dir():
        return path.name
    stem = re.sub(r'(\.(log|jsonl?|txt))+$', '', path.name) or path.name
    return f'{path.parent.name}/{stem}' if stem.replace('_', '').isdigit() else stem  # a time alone says little


def find_logs(work_dir: Path) -> list:
    """The JSON logs of a work dir of this project, MMEditing's or MMEngine's, under whatever ending; none: []."""
    return (log_files(work_dir) or sorted(work_dir.glob(MMENGINE_LOGS))
            or sorted(work_dir.glob('vis_data/scalars.json')) or _renamed_logs(work_dir))


def without_logs(work_dir: Path) -> str:
    """What is missing where `find_logs` finds nothing, in words."""
    texts = sorted(work_dir.glob('*.log'))
    if texts:
        return (f'no JSON log in it, which curves are drawn of; {texts[0].name} is the log as text: MMEditing writes '
                f'{texts[0].stem}{LOG_SUFFIX} beside it, and MMEngine */vis_data/scalars.json')
    return f'no JSON log in it (*{LOG_SUFFIX}, or MMEngine\'s */vis_data/scalars.json); give the work dir of a run'


def _log_files(path: Path) -> list:
    if path.is_dir():
        logs = find_logs(path)
        if not logs:
            raise UserError(f'{path}: {without_logs(path)}')
        return logs
    if not path.exists():
        raise UserError(f'{path}: no such work dir or log')
    if path.suffix != '.json' and not _is_log(path):
        raise UserError(f'{path}: not a JSON log; give the *{LOG_SUFFIX} beside it, or the work dir')
    return [path]


def _renamed_logs(folder: Path) -> list:
    """Files of a folder that are logs without the ending of one, by name."""
    return sorted(path for path in {path for pattern in OTHER_LOGS for path in folder.glob(pattern)} if _is_log(path))


def _is_log(path: Path) -> bool:
    """Whether there is a record in the first lines of a file."""
    if not path.is_file():
        return False
    with open(path, encoding='utf-8', errors='replace') as file:
        return any(_record(file.readline(LONGEST)) for _ in range(TRIED))


def _record(line: str) -> dict | None:
    """A line's record, None where there is none or it is broken."""
    try:
        return _parse(line)
    except MALFORMED:
        return None


def _read_log(path: Path) -> tuple:
    """Records by mode in the file's order, and the number of broken lines."""
    records, broken = [], 0
    with open(path, encoding='utf-8', errors='replace') as file:
        for line in file:
            if not line.strip():
                continue
            try:
                record = _parse(line)
            except MALFORMED:
                broken += 1
                continue
            if record:
                records.append(record)
    return _place_validations(records), broken


def _parse(line: str) -> dict | None:
    """A record with `mode` and `iter`, or None for a line that is something else (the environment, say)."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise TypeError
    if 'mode' not in record and 'step' in record:  # MMEngine's
        record.update(mode='train' if _rates(record) else 'val', iter=record['step'])
    if record.get('mode') not in ('train', 'val'):
        return None
    if type(record['iter']) is not int or not 0 <= record['iter'] < 2**53:
        raise ValueError
    return record


def _place_validations(records: list) -> dict:
    """Records by mode; validations whose `iter` is no training iteration get that of the training record before."""
    train = [record for record in records if record['mode'] == 'train']
    validations = _with_neighbours(records)
    # mmcv's EvalHook logs the number of its batches, MMEngine may log the epoch: the same in a whole file, or no order.
    plain = len({record['iter'] for record, _, _ in validations}) > 1 or all(_in_order(*found) for found in validations)
    if plain:
        return {'train': train, 'val': [record for record, _, _ in validations]}
    return {'train': train, 'val': [dict(record, iter=before['iter'], lr=None) for record, before, _ in validations
                                    if before]}


def _with_neighbours(records: list) -> list[tuple]:
    """Each validation with the training record before and the one after it in the file, None where there is none."""
    found, before = [], None
    for record in records:
        if record['mode'] == 'train':
            before = record
        else:
            found.append((record, before))
    afters, after = [], None
    for record in reversed(records):
        if record['mode'] == 'train':
            after = record
        else:
            afters.append(after)
    return [(record, before, after) for (record, before), after in zip(found, reversed(afters), strict=True)]


def _in_order(record: dict, before: dict | None, after: dict | None) -> bool:
    """Whether a validation's `iter` lies between those of its neighbours."""
    if before and record['iter'] < before['iter']:
        return False
    joined = before and after and after['iter'] < before['iter']  # a file that a resumed run was added to
    return bool(not after or joined or record['iter'] <= after['iter'])


def _replace(by_iter: dict, found: list) -> None:
    """Let a later log's records take the place of all in their range."""
    if not found:
        return
    first, last = min(r['iter'] for r in found), max(r['iter'] for r in found)
    for i in [i for i in by_iter if first <= i <= last]:
        del by_iter[i]
    by_iter.update({record['iter']: record for record in found})


def _restarts(records: list) -> list:
    """Iterations of the records after which the learning rate rose at once, having fallen before."""
    restarts, peak, previous, at = [], 0., None, None
    for record in records:
        rate = _rate(record)
        if rate is None:
            continue
        if previous is not None and previous < peak and rate > RESTART_RISE * previous:
            restarts.append(at)
            peak = 0.
        peak, previous, at = max(peak, rate), rate, record['iter']
    return restarts


def _rate(record: dict) -> float | None:
    """A record's learning rate, the generator's where each optimizer has its own."""
    rates = _rates(record)
    rate = rates.get('generator', next(iter(rates.values()), None))
    return rate if _is_number(rate) else None


def _rates(record: dict) -> dict:
    """Learning rates by optimizer: a dict, one number, or a key for each (`generator.lr`, MMEngine's)."""
    if 'lr' in record:
        return record['lr'] if isinstance(record['lr'], dict) else {'': record['lr']}
    return {key[:-3]: value for key, value in record.items() if key.endswith(('.lr', '/lr'))}


def _is_number(value) -> bool:
    return isinstance(value, float) or type(value) is int and abs(value) < 2**1023


def _broken(count: int) -> str:
    return f'{count} broken line{"s" * (count > 1)}'
