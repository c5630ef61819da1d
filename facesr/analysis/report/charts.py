"""Charts as SVG that can stand in a page."""
import io
import re
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

HQ_COLOUR, BICUBIC_COLOUR = '#0072B2', '#D55E00'  # as the curves' first two
LOOKS: tuple[dict[str, Any], ...] = dict(alpha=0.45), dict(histtype='step', linewidth=1.8)


def histogram(rows: list) -> Figure:
    """How the PSNR of HQ and of bicubic are spread over the images, with their means.

    Args:
        rows (list[ImageRow]): Infinite PSNR are left out.
    """
    groups = [('HQ', HQ_COLOUR, [row.metrics['PSNR'] for row in rows]),
              ('bicubic', BICUBIC_COLOUR, [row.bicubic for row in rows])]
    groups = [(name, colour, [value for value in values if np.isfinite(value)]) for name, colour, values in groups]
    every = [value for _, _, values in groups for value in values]
    edges = np.histogram_bin_edges(every, bins=min(30, max(5, round(2 * len(rows)**0.5))))
    figure = Figure(figsize=(8, 3), layout='constrained')
    axes = figure.subplots()
    for (name, colour, values), look in zip(groups, LOOKS, strict=True):
        axes.hist(values, edges, color=colour, label=name, **look)
        if values:
            axes.axvline(float(np.mean(values)), color=colour, linestyle='--', linewidth=1.2,
                         label=f'mean {np.mean(values):.2f} dB')
    axes.set(xlabel='PSNR of an image (dB)', ylabel='images')
    axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=2, fontsize=9)
    return figure


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """A figure as an `<svg>` element, the same each time.

    Args:
        figure (Figure): matplotlib's.
        name (str): Put before every id, so that two figures on a page do not share one.
        label (str): What a screen reader says instead.
    """
    file = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': name}):
        figure.savefig(file, format='svg', transparent=True,
                       metadata=dict.fromkeys(('Creator', 'Date', 'Format', 'Type')))
    svg = file.getvalue()[file.getvalue().index('<svg'):]
    svg = re.sub(r'(?<= id=")', f'{name}-', svg)
    svg = re.sub(r'(?<=href="#)|(?<=url\(#)', f'{name}-', svg)
    return Markup(svg.replace('<svg ', f'<svg role="img" aria-label="{Markup.escape(label)}" ', 1))
