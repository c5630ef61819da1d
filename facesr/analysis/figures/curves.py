"""Curves of training, in the competition report's form: the first iterations and the rest side by side."""
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from facesr.analysis.figures.save import save_figure
from facesr.utils.ownership import require_replaceable

SPLIT = 10_000  # iterations in the left panel
PARTS, RECORDS = 25, 5  # the moving average spans about a 25th of a panel, and about 5 records at least
# Okabe and Ito's colours, which colour-blind people tell apart too ("Color Universal Design", 2008), without the yellow
# that is faint on white. Markers, and line styles beyond seven runs, tell the same without colour.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
STYLES = ('-', '-.', ':')
GREY = '0.45'
DPI = 150


def curve_figures(runs: Sequence, smooth: int | None = None) -> dict:
    """Loss and PSNR against iterations, each with the first 10,000 iterations beside the rest.

    If no run is twice as long there is one panel. A moving average lies over the raw loss, which is fainter; it
    does not reach over a restart of the learning rate. Restarts are dotted lines, resumptions ticks at the
    bottom, and the best PSNR of a run is a star; `PSNR_ema` is dashed. Several validation sets (`Set5/PSNR`) have
    markers of their own. Single losses far above all others
    lie outside the frame, which the title then says.

    Args:
        runs (list[Run]): From `facesr.analysis.logs.read_runs`, at least one.
        smooth (int | None): Iterations that the moving average of the loss spans; 0 for none. Default: None,
            a round number near a 25th of the panel.

    Returns:
        dict[str, Figure]: 'loss' and 'psnr'; without validations the latter says so.
    """
    return {'loss': _loss_figure(runs, smooth), 'psnr': _psnr_figure(runs)}


def plot_curves(runs: Sequence, out: str | Path, smooth: int | None = None) -> list:
    """Write `curve_figures` as PNG and SVG.

    Args:
        runs (list[Run]): From `facesr.analysis.logs.read_runs`.
        out (str | Path): The folder for `loss.png`, `loss.svg`, `psnr.png` and `psnr.svg`.
        smooth (int | None): As in `curve_figures`.

    Returns:
        list[Path]: The files.

    Raises:
        UserError: Something that was no such figure is there; nothing is written.
    """
    figures = curve_figures(runs, smooth)
    files = [(Path(out) / f'{name}{suffix}', figure) for name, figure in figures.items() for suffix in ('.png', '.svg')]
    for path, _ in files:
        require_replaceable(path)
    for path, figure in files:
        save_figure(figure, path, DPI)
    return [path for path, _ in files]


def moving_average(x: np.ndarray, y: np.ndarray, span: float, steep_start: bool = False) -> np.ndarray:
    """Mean of the finite values within `span` around each point, or of those that there are at the ends.

    Args:
        x (ndarray): Increasing.
        y (ndarray): Equally long.
        span (float): In units of `x`.
        steep_start (bool): Look no farther ahead than back, so that the line begins where the values do.
            Default: False.

    Returns:
        ndarray: float64, as long as `x`; nan where no value is finite.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    finite = np.isfinite(y)
    totals = np.concatenate([[0], np.cumsum(np.where(finite, y, 0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    half = np.minimum(span / 2, x - x[:1]) if steep_start else span / 2
    first, last = np.searchsorted(x, x - half, 'left'), np.searchsorted(x, x + half, 'right')
    with np.errstate(invalid='ignore'):
        return (totals[last] - totals[first]) / (counts[last] - counts[first])


def _loss_figure(runs, smooth) -> Figure:
    figure, panels = _panels(runs, 'training loss')
    curves = [_series(run, 'train', *run.keys('train', 'loss'), *run.keys('train', 'loss_pix')) for run in runs]
    for axes, (low, high) in panels:
        span = _span(curves, low, high) if smooth is None else smooth
        notes = [f'line: mean over {span:,} iterations'] * (span > 0) + _cut_off(axes, curves, low, high)
        axes.set_title('; '.join([axes.get_title(), *notes]).removeprefix('; '), fontsize=9)
        for run, (x, y), style in zip(runs, curves, styles(), strict=False):
            inside = (x > low) & (x <= high)
            axes.plot(x[inside], y[inside], color=style['color'], alpha=0.3 if span else 1, linewidth=0.8)
            for part in _between(x, run.restarts) if span else ():
                seen = inside[part]
                smoothed = moving_average(x[part], y[part], span, steep_start=part.start == 0)
                axes.plot(x[part][seen], smoothed[seen], linewidth=1.8, color=style['color'],
                          linestyle=style['linestyle'])
    _say_if_empty(panels, 'no loss was logged')
    handles = [(_line(style), _label(run)) for run, style in zip(runs, styles(), strict=False)]
    _finish(figure, panels, runs, handles)
    return figure


def _psnr_figure(runs) -> Figure:
    figure, panels = _panels(runs, 'validation PSNR (dB)')
    handles = []
    for run, look in zip(runs, styles(), strict=False):
        for key, style in _psnr_styles(run, look):
            x, y = _series(run, 'val', key)
            if not len(x):
                continue
            for axes, (low, high) in panels:
                inside = (x > low) & (x <= high)
                axes.plot(x[inside], y[inside], markersize=3.5, linewidth=1.4, **style)
            _mark_best(panels, run.best(key), style)
            handles.append((_line(style, marker=style['marker'], markersize=5), _psnr_label(run, key)))
    _say_if_empty(panels, 'no PSNR was logged')
    _finish(figure, panels, runs, handles)
    return figure


def _psnr_styles(run, look: dict) -> Iterator[tuple]:
    """Each key of a run's PSNR, and how it is drawn."""
    first = MARKERS.index(look['marker'])
    for name, style in (('PSNR', look), ('PSNR_ema', dict(look, linestyle='--', markerfacecolor='white'))):
        for i, key in enumerate(run.keys('val', name)):
            yield key, dict(style, marker=MARKERS[(first + i) % len(MARKERS)])


def _say_if_empty(panels, text: str) -> None:
    for axes, _ in panels:
        if not any(len(line.get_xdata()) for line in axes.lines):
            axes.set_yticks([])
            axes.text(0.5, 0.5, text, ha='center', va='center', transform=axes.transAxes)


def _series(run, mode: str, *keys: str) -> tuple:
    return tuple(np.asarray(values, float) for values in run.series(mode, *keys))


def _panels(runs, label: str) -> tuple:
    """A figure and its panels: axes, and the iterations (above, up to) in them."""
    end = _end(runs)
    ranges = {'': (-1, end)}
    if end >= 2 * SPLIT:
        ranges = {f'first {SPLIT:,} iterations': (-1, SPLIT), 'the rest': (SPLIT, end)}
    figure = Figure(figsize=((7, 4.2), (11, 4.2))[len(ranges) - 1], layout='constrained')
    grid = figure.subplots(1, len(ranges), squeeze=False)[0]
    for axes, (title, (low, high)) in zip(grid, ranges.items(), strict=True):
        margin = max(0.03 * (high - low), 0.5)
        axes.set(xlabel='iteration', xlim=(low - margin, high + margin))
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.get_major_formatter().set_useOffset(False)
    grid[0].set_ylabel(label)  # type: ignore[attr-defined]
    return figure, list(zip(grid, ranges.values(), strict=True))


def _end(runs) -> int:
    return max(record['iter'] for run in runs for record in (run.train + run.val))


def _span(curves, low, high) -> int:
    """A round number of iterations near a part of the panel, but a few records at least."""
    steps = [np.median(np.diff(x)) for x, _ in curves if len(x) > 1]
    span = max([(high - max(low, 0)) / PARTS, RECORDS * max(steps, default=1), 1])
    power = 10 ** int(np.log10(span))
    return power * min((1, 2, 5, 10), key=lambda digit: abs(np.log(span / power / digit)))


def _cut_off(axes, curves, low, high) -> list:
    """Keep a few extreme values from flattening everything else."""
    inside = np.concatenate([y[(x > low) & (x <= high) & np.isfinite(y)] for x, y in curves])
    if not len(inside):
        return []
    bottom, usual, top = inside.min(), np.quantile(inside, 0.95), inside.max()
    if top - bottom <= 4 * (usual - bottom) or usual == bottom:
        return []
    axes.set_ylim(bottom - 0.05 * (usual - bottom), usual + 0.5 * (usual - bottom))
    return [f'peak {top:.3g} not shown']


def _between(x: np.ndarray, cuts) -> list:
    """Slices of `x` between the cuts; a point at a cut belongs to what lies before it."""
    edges = np.concatenate([[0], np.searchsorted(x, np.asarray(cuts), 'right'), [len(x)]])
    return [slice(first, last) for first, last in zip(edges, edges[1:], strict=False)]


def styles() -> Iterator[dict]:
    """Colour, marker and line of each run, as matplotlib's arguments, without end."""
    return cycle([dict(color=colour, marker=marker, linestyle=line) for line in STYLES
                  for colour, marker in zip(COLOURS, MARKERS, strict=True)])


def _line(style: dict, **more) -> Line2D:
    return Line2D([], [], **{'linewidth': 1.8, **style, 'marker': '', **more})


def _label(run) -> str:
    return f'./{run.name}' if run.name.startswith('_') else run.name  # matplotlib leaves out labels that begin with _


def _psnr_label(run, key: str) -> str:
    best, (data, _, name) = run.best(key), key.rpartition('/')
    which = ', '.join([data] * bool(data) + ['EMA'] * (name != 'PSNR'))
    return (_label(run) + (f' ({which})' if which else '')
            + (f': best {best[1]:.3f} dB at {best[0]:,}' if best else ''))


def _mark_best(panels, best, style: dict) -> None:
    for axes, (low, high) in panels:
        if best and low < best[0] <= high:
            face = style.get('markerfacecolor', style['color'])
            axes.plot(*best, marker='*', markersize=12, markerfacecolor=face, markeredgecolor=style['color'], zorder=5)


def _finish(figure: Figure, panels, runs, handles: list) -> None:
    """Restarts, resumptions and the legend."""
    for axes, (low, high) in panels:
        for run, style in zip(runs, styles(), strict=False):
            shared = {i for i in run.restarts if all(i in other.restarts for other in runs)}
            for i in (i for i in run.restarts if low < i <= high):
                axes.axvline(i, color=GREY if i in shared else style['color'], linestyle=':', linewidth=1.2, zorder=1)
            inside = [i for i in run.resumes if low < i <= high]
            axes.plot(inside, [0.02] * len(inside), '|', color=style['color'], markersize=9,
                      transform=axes.get_xaxis_transform())
    if any(run.restarts for run in runs):
        handles.append((_line(dict(color=GREY, linestyle=':')), 'learning-rate restart'))
    if any(run.resumes for run in runs):
        handles.append((Line2D([], [], color=GREY, marker='|', linestyle='', markersize=9), 'resumed'))
    if handles:
        lines, labels = zip(*handles, strict=True)
        columns = 2 if len(panels) > 1 and max(map(len, labels)) < 70 else 1
        legend = figure.legend(lines, labels, loc='outside lower center', ncols=columns, fontsize=9, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may have dollar signs


def _short(iteration: float, _position) -> str:
    return f'{iteration:g}' if abs(iteration) < 1000 else f'{iteration / 1000:g}k'
