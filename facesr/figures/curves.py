"""Curves of training, in the competition report's form: the first iterations and the rest side by side."""
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from facesr.figures.save import save_figure

SPLIT = 10_000  # iterations in the left panel
SMOOTH = 25  # the moving average spans this part of a panel
# Okabe and Ito's colours, which colour-blind people tell apart too ("Color Universal Design", 2008), without the yellow
# that is faint on white. Markers, and line styles beyond seven runs, tell the same without colour.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
STYLES = ('-', '-.', ':')
GREY = '0.45'
EMA = '--'
PSNR = {'PSNR': 'PSNR', 'PSNR_ema': 'PSNR_ema'}


def curve_figures(runs, smooth: int | None = None) -> dict:
    """Loss and PSNR against iterations, each with the first 10,000 iterations beside the rest.

    Runs that end before have one panel. A moving average lies over the raw loss. Restarts of the learning
    rate are dotted lines, resumptions ticks at the bottom, and the best PSNR of a run a star.

    Args:
        runs (list[Run]): From `facesr.logs.read_runs`, at least one.
        smooth (int | None): Iterations that the moving average of the loss spans; 0 for none. Default: None,
            a 25th of the panel.

    Returns:
        dict[str, Figure]: 'loss' and 'psnr'; without validations the latter says so.
    """
    return {'loss': _loss_figure(runs, smooth), 'psnr': _psnr_figure(runs)}


def plot_curves(runs, out, smooth: int | None = None) -> list:
    """Write `curve_figures` as PNG and SVG.

    Args:
        runs (list[Run]): From `facesr.logs.read_runs`.
        out (str | Path): The folder for `loss.png`, `loss.svg`, `psnr.png` and `psnr.svg`.
        smooth (int | None): As in `curve_figures`.

    Returns:
        list[Path]: The files.
    """
    files = []
    for name, figure in curve_figures(runs, smooth).items():
        for suffix in ('.png', '.svg'):
            files.append(Path(out) / f'{name}{suffix}')
            save_figure(figure, files[-1])
    return files


def moving_average(x, y, span: float) -> np.ndarray:
    """Mean of the finite values within `span` around each point; narrower at the start, where a curve is steep.

    Args:
        x (list[int]): Increasing.
        y (list[float]): Equally many.
        span (float): In units of `x`.

    Returns:
        ndarray: float64, as long as `x`; nan where no value is finite.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    finite = np.isfinite(y)
    totals = np.concatenate([[0], np.cumsum(np.where(finite, y, 0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    half = np.minimum(span / 2, x - x[0]) if len(x) else x
    first, last = np.searchsorted(x, x - half, 'left'), np.searchsorted(x, x + half, 'right')
    with np.errstate(invalid='ignore'):
        return (totals[last] - totals[first]) / (counts[last] - counts[first])


def _loss_figure(runs, smooth) -> Figure:
    figure, panels = _panels(runs, 'training loss')
    handles = []
    for run, style in zip(runs, _styles(), strict=False):
        x, y = (np.asarray(values, float) for values in run.series('train', 'loss', 'loss_pix'))
        for axes, (low, high) in panels:
            span = (min(high, _end(runs)) - low) / SMOOTH if smooth is None else smooth
            inside = (x > low) & (x <= high)
            axes.plot(x[inside], y[inside], color=style['color'], alpha=0.3, linewidth=0.8)
            axes.plot(x[inside], moving_average(x, y, span)[inside], linewidth=1.8, color=style['color'],
                      linestyle=style['linestyle'])
            axes.set_title(f'{axes.get_title()}; mean over {span:,.0f}' if span else axes.get_title(), fontsize=10)
        handles.append((_line(style), _label(run)))
    _finish(figure, panels, runs, handles)
    return figure


def _psnr_figure(runs) -> Figure:
    figure, panels = _panels(runs, 'validation PSNR (dB)')
    handles = []
    for run, style in zip(runs, _styles(), strict=False):
        for key in PSNR:
            x, y = (np.asarray(values, float) for values in run.series('val', key))
            if not len(x):
                continue
            look = dict(style, linestyle=EMA) if key != 'PSNR' else style
            for axes, (low, high) in panels:
                inside = (x > low) & (x <= high)
                axes.plot(x[inside], y[inside], markersize=3.5, linewidth=1.4, **look)
            handles.append((_line(look, marker=look['marker'], markersize=5), _psnr_label(run, key)))
            _mark_best(panels, run.best(key), look)
    _finish(figure, panels, runs, handles)
    return figure


def _panels(runs, label: str) -> tuple:
    """A figure and its panels: axes, and the iterations (above, up to) in them."""
    end = _end(runs)
    ranges = [(-1, SPLIT), (SPLIT, end)] if end > SPLIT else [(-1, SPLIT)]
    figure = Figure(figsize=(6.4 * len(ranges) ** 0.75, 4.2), layout='constrained')
    grid = figure.subplots(1, len(ranges), squeeze=False)[0]
    for axes in grid:
        axes.set(xlabel='iteration')
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
        axes.xaxis.set_major_locator(MaxNLocator(6))
    grid[0].set_ylabel(label)
    return figure, list(zip(grid, ranges, strict=True))


def _end(runs) -> int:
    return max(record['iter'] for run in runs for record in (run.train + run.val))


def _styles():
    looks = [dict(color=colour, marker=marker, linestyle=line) for line in STYLES
             for colour, marker in zip(COLOURS, MARKERS, strict=True)]
    return cycle(looks)


def _line(style: dict, **more) -> Line2D:
    return Line2D([], [], **{'linewidth': 1.8, **style, 'marker': '', **more})


def _label(run) -> str:
    return f'./{run.name}' if run.name.startswith('_') else run.name  # matplotlib leaves out labels that begin with _


def _psnr_label(run, key: str) -> str:
    best = run.best(key)
    which = '' if key == 'PSNR' else ', moving average of the weights'
    return f'{_label(run)}{which}' + (f': best {best[1]:.3f} dB at {best[0]:,}' if best else '')


def _mark_best(panels, best, look: dict) -> None:
    if best is None:
        return
    for axes, (low, high) in panels:
        if low < best[0] <= high:
            axes.plot(*best, marker='*', markersize=14, color=look['color'], markeredgecolor='white', zorder=5)


def _finish(figure: Figure, panels, runs, handles: list) -> None:
    """Restarts, resumptions and the legend."""
    restarts, resumes = (any(getattr(run, name) for run in runs) for name in ('restarts', 'resumes'))
    for run, style in zip(runs, _styles(), strict=False):
        for axes, (low, high) in panels:
            for i in (i for i in run.restarts if low < i <= high):
                axes.axvline(i, color=GREY if len(runs) == 1 else style['color'], linestyle=':', linewidth=1.2)
            inside = [i for i in run.resumes if low < i <= high]
            axes.plot(inside, [0.015] * len(inside), '|', color=style['color'], markersize=9,
                      transform=axes.get_xaxis_transform())
    if restarts:
        handles.append((_line(dict(color=GREY, linestyle=':')), 'learning-rate restart'))
    if resumes:
        handles.append((Line2D([], [], color=GREY, marker='|', linestyle='', markersize=9), 'resumed'))
    legend = figure.legend(*zip(*handles, strict=True), loc='outside lower center', ncols=2, fontsize=9, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may have dollar signs


def _short(iteration: float, _position) -> str:
    return f'{iteration / 1000:g}k' if iteration else '0'
