"""Where the figures of a report come from."""
import subprocess
from pathlib import Path

import facesr
from facesr.analysis.logs import Run
from facesr.analysis.work_dir import Sources
from facesr.utils.files import file_sha256
from facesr.utils.versions import versions

REPOSITORY = Path(facesr.__file__).parent.parent


def provenance_rows(sources: Sources, device: str, date: str) -> list:
    """What it takes to come to the same figures again.

    Args:
        sources (Sources): What was measured.
        device (str): What it was measured on; '' if nothing was.
        date (str): When.

    Returns:
        list[tuple[str, str]]: Name and value, in the order of a report.
    """
    rows = [('config', str(sources.config))]
    if sources.checkpoint:
        iteration = sources.meta.get('iter')
        rows += [('checkpoint', f'{sources.checkpoint} ({sources.chosen})'),
                 ('its iteration', f'{iteration:,}' if isinstance(iteration, int) else ''),
                 ('its SHA-256', file_sha256(sources.checkpoint)),
                 ('weights', 'moving average (EMA)' if sources.ema else 'as trained, not averaged'),
                 ('measured on', device)]
    rows += [('versions', versions_in_words()), ('date', date)]
    return [(name, value) for name, value in rows if value]


def versions_in_words() -> str:
    """Of what computes the figures."""
    found = versions()
    parts = dict(facesr=f'{found["facesr"]}{_commit()}', MMEditing=found['mmedit'], mmcv=found['mmcv'],
                 torch=found['torch'], NumPy=found['numpy'], Python=found['python'])
    return ', '.join(f'{name} {version}' for name, version in parts.items())


def training_time(run: Run) -> tuple:
    """How long the iterations of a run took, validations and pauses left out: in all, and a remark."""
    iterations, times = run.series('train', 'time')
    spans = [b - a for a, b in zip([0, *iterations], iterations, strict=False)]
    seconds = sum(span * time for span, time in zip(spans, times, strict=True))
    if not spans:
        return 'unknown', 'the logs do not tell'
    minutes = round(seconds / 60)
    if seconds < 600:
        told = f'{seconds:.0f} s'
    else:
        told = f'{minutes} min' if minutes < 120 else f'{minutes // 60} h {minutes % 60} min'
    return told, f'{seconds / iterations[-1]:.3g} s an iteration, {iterations[-1]:,} iterations in the logs'


def _commit() -> str:
    """The repository's commit in brackets, with a + where files were changed since; '' without git."""
    if not (REPOSITORY / '.git').exists():  # git would look for one further up
        return ''
    try:
        commit, changed = (subprocess.run(['git', '-C', str(REPOSITORY), *command], capture_output=True, text=True,
                                          check=True, timeout=20).stdout.strip()
                           for command in (['rev-parse', '--short=12', 'HEAD'],
                                           ['status', '--porcelain', '--untracked-files=no']))
    except (OSError, subprocess.SubprocessError):
        return ''
    return f' ({commit}{"+" if changed else ""})'
