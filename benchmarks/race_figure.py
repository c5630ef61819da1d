"""The picture of a race."""
import numpy as np
from matplotlib.figure import Figure
from race_entries import UNITS, Length
from race_results import CONFIDENCE, Row, difference, half_width

from facesr.analysis.figures.curves import COLOURS, styles


def figure_of(results: dict) -> Figure:
    """Of one length PSNR on the way, of several the gain against the cost; at the right differences to the reference.

    Bars at the left are the range over seeds; at the right intervals: on the way over seeds, at the ends over seeds and
    images.
    """
    results = {length: rows for length, rows in results.items() if rows}
    figure = Figure(figsize=(11, 4.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    reference = next(iter(results.values()))[0].label
    labels = _draw_lengths(left, right, results) if len(results) > 1 else _draw_curves(left, right, results)
    right.axhline(0, color=COLOURS[0], linewidth=1)
    right.set(ylabel=f'difference to {reference} (dB)')
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.legend(loc='outside lower center', ncols=min(len(labels), 6), fontsize=9, frameon=False)
    return figure


def _draw_curves(left, right, results: dict) -> list:
    (length, rows), = results.items()
    for number, (row, draw) in enumerate(zip(rows, _bars(), strict=False)):
        x, by_seed = _curves(row, row.outcomes, length)
        beside = x + (number - len(rows) / 2) * 0.012 * x[-1]  # so that bars do not hide each other
        draw(left, beside, by_seed.mean(0), *_range(by_seed), label=row.label)
        shared = [seed for seed in row.outcomes if seed in rows[0].outcomes]
        if row is not rows[0] and len(shared) > 1:
            ours, theirs = (_curves(one, shared, length)[1] for one in (row, rows[0]))
            if ours.shape == theirs.shape:  # else their validations are not at the same shares of their runs
                draw(right, beside, (ours - theirs).mean(0), *[half_width(ours - theirs)] * 2)
    unit = 'iteration' if length.cost == 'iterations' else UNITS[length.cost]
    left.set(xlabel=unit, ylabel='validation PSNR (dB)')
    left.set_title('mean and range over seeds', fontsize=9)
    right.set(xlabel=unit)
    right.set_title(f'paired by seed, with {CONFIDENCE:.0%} interval', fontsize=9)
    return rows


def _draw_lengths(left, right, results: dict) -> list:
    labels = list(dict.fromkeys(row.label for rows in results.values() for row in rows))
    for number, (label, draw) in enumerate(zip(labels, _bars(), strict=False)):
        found = [(length.amount * 1.02**(number - len(labels) / 2), row, rows[0]) for length, rows in results.items()
                 for row in rows if row.label == label]
        x, gains = [x for x, _, _ in found], [np.array(row.gains())[:, None] for _, row, _ in found]
        draw(left, x, [one.mean() for one in gains], *np.array([_range(one) for one in gains])[..., 0].T, label=label)
        against = [(x, difference(row, first)) for x, row, first in found if row is not first]
        against = [(x, one.mean, one.interval or 0) for x, one in against if one]
        if against:
            x, middle, half = zip(*against, strict=True)
            draw(right, x, middle, half, half)
    amounts = [length.amount for length in results]
    for axes in (left, right):
        axes.set_xscale('log')
        axes.set_xticks(amounts, [length.text for length in results])
        axes.minorticks_off()
        axes.set(xlabel=f'{UNITS[next(iter(results)).cost]} of a run')
    left.set(ylabel='gain over bicubic (dB)')
    left.set_title('mean and range over seeds', fontsize=9)
    right.set_title(f'{CONFIDENCE:.0%} interval over seeds and images (one seed: images)', fontsize=9)
    return labels


def _bars():
    """How each row is drawn: functions of axes, x, y and what the bars have below and above."""
    for look in styles():
        style = dict(look, markersize=4, linewidth=1.2, elinewidth=0.9, capsize=2)

        def draw(axes, x, y, below, above, style=style, **more) -> None:
            axes.errorbar(x, y, [below, above], **style, **more)

        yield draw


def _range(by_seed: np.ndarray) -> np.ndarray:
    """What the range over seeds (along the first axis) has below the mean and above; rounding can make it negative."""
    return np.maximum([by_seed.mean(0) - by_seed.min(0), by_seed.max(0) - by_seed.mean(0)], 0)


def _curves(row: Row, seeds, length: Length) -> tuple:
    """The cost so far, and PSNR as (seeds, validations)."""
    curves = [row.outcomes[seed].curve for seed in seeds]
    x = np.array([iteration for iteration, _ in curves[0]])
    return x / row.iterations * length.amount, np.array([[psnr for _, psnr in curve] for curve in curves])
