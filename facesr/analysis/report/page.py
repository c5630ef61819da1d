"""The page itself."""
import base64
import hashlib
import math
from pathlib import Path
from statistics import fmean, stdev

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from facesr.analysis.figures.curves import curve_figures
from facesr.analysis.logs import Run
from facesr.analysis.report.charts import histogram, inline_svg
from facesr.analysis.report.measure import Measured
from facesr.analysis.report.provenance import provenance_rows, training_time
from facesr.analysis.report.settings import settings_rows
from facesr.analysis.work_dir import Sources
from facesr.config import config_text
from facesr.evaluation.metrics import METRICS

TEMPLATE = Path(__file__).parent / 'template'
DIGITS = 4  # of metrics, as tools/test.py prints them


def render(sources: Sources, measured: Measured | None, run: Run | None, date: str) -> str:
    """The report as one HTML document that needs no other file and no network.

    Everything that comes from files is escaped, and the page's own policy (CSP) lets no other script run and
    nothing be loaded.

    Args:
        sources (Sources): From `find_sources`.
        measured (Measured | None): From `measure_run`; None for settings and curves alone.
        run (Run | None): Its logs, from `facesr.analysis.logs.read_runs`.
        date (str): When it was made: the only thing that differs between two reports of the same run.
    """
    style, script = ((TEMPLATE / name).read_text(encoding='utf-8') for name in ('report.css', 'report.js'))
    environment = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(png=_data_uri, metric=_metric, signed=_signed, number=_number)
    rows, pictures = (measured.rows, measured.pictures) if measured else ([], [])
    return environment.get_template('report.html').render(
        title=sources.config.stem,
        work_dir=str(sources.work_dir),
        date=date,
        without=_without(measured, run),
        style=Markup(style),
        script=Markup(script),
        script_hash=_csp_hash(script),
        facts=_facts(sources, measured, run) if measured else [],
        metrics=list(rows[0].metrics) if rows else [],
        rows=rows,
        pictures=pictures,
        anchors={image.row.name: number for number, image in enumerate(pictures, 1)},
        place=lambda row: _place(row.rank, len(rows)),
        curves={name: inline_svg(figure, f'curve-{name}', f'Curves of {name} against iterations')
                for name, figure in (curve_figures([run]) if run else {}).items()},
        histogram=inline_svg(histogram(rows), 'histogram', _histogram_label(rows)) if rows else '',
        settings=settings_rows(sources.cfg),
        config=config_text(sources.cfg),
        provenance=provenance_rows(sources, measured.device if measured else '', date))


def _facts(sources: Sources, measured: Measured, run: Run | None) -> list:
    """The figures that stand on top: name, value, remark."""
    rows, count = measured.rows, len(measured.rows)
    psnr, baseline, gains = ([pick(row) for row in rows]
                             for pick in (lambda r: r.metrics['PSNR'], lambda r: r.bicubic, lambda r: r.gain))
    facts = [('PSNR', _metric(fmean(psnr), 'PSNR'), f'mean over {count} validation images{_error(psnr)}')]
    facts += [(name, _metric(fmean(row.metrics[name] for row in rows), name), f'mean; {METRICS[name].convention}')
              for name in rows[0].metrics if name != 'PSNR']
    facts += [('bicubic PSNR', _metric(fmean(baseline), 'PSNR'), 'the same images, upscaled without a network'),
              ('gain', f'{_signed(fmean(gains))} dB', f'PSNR above bicubic{_error(gains)}')]
    budget = sources.cfg.get('budget')
    share = f'{measured.parameters / budget:.1%} of the cap of {budget:,}' if budget else 'no cap'
    facts.append(('parameters', f'{measured.parameters:,}', share))
    if isinstance(sources.meta.get('iter'), int):
        total = sources.cfg.get('total_iters')
        of_all = f'of {total:,}; ' if total else ''
        facts.append(('iteration', f'{sources.meta["iter"]:,}', f'{of_all}{sources.chosen}'))
    facts += [('training time', *training_time(run))] if run else []
    worst = max(rows, key=lambda row: row.rank)
    return [*facts, ('worst image', _metric(worst.metrics['PSNR'], 'PSNR'), worst.name)]


def _without(measured, run) -> list:
    """What is not in the report, and why."""
    return [text for there, text in (
        (measured, 'Without images: it was made with --no-images, so no checkpoint was measured.'),
        (run, 'Without curves: there was no JSON log with training records in the work dir.')) if not there]


def _error(values: list) -> str:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return ''
    return f', standard error {stdev(values) / len(values)**0.5:.3f}'


def _place(rank: int, count: int) -> str:
    """What an image is among all: best, median, worst, or its rank."""
    named = {count: 'worst', (count + 1) // 2: 'median', 1: 'best'}
    return f'{named[rank]} of {count}' if rank in named else f'rank {rank} of {count}'


def _histogram_label(rows: list) -> str:
    values = sorted(row.metrics['PSNR'] for row in rows)
    return f'Histogram of the PSNR of {len(rows)} images: HQ from {values[0]:.2f} to {values[-1]:.2f} dB, and bicubic'


def _metric(value: float, name: str = '', digits: int = DIGITS) -> str:
    return f'{value:.{digits}f}{METRICS[name].unit if name else ""}'


def _signed(value: float, digits: int = DIGITS) -> str:
    return f'{value:+.{digits}f}'.replace('-', '\N{MINUS SIGN}')


def _number(value: float) -> str:
    """As JavaScript reads it; equal images have infinite PSNR."""
    return repr(value).replace('inf', 'Infinity')


def _data_uri(png: bytes) -> str:
    return f'data:image/png;base64,{base64.b64encode(png).decode()}'


def _csp_hash(script: str) -> str:
    """What names this script in a Content-Security-Policy."""
    return f'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'
