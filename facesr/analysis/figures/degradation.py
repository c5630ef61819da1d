"""Pictures of a degradation."""
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from facesr.analysis.figures.save import save_figure
from facesr.degradation.plan import Plan


class Compared(NamedTuple):
    """Two LQ images (h, w, 3) of one GT image and plan, float32, RGB in [0, 1]."""
    plan: Plan
    ours: np.ndarray
    reference: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """Of each value, absolute, in units of 1/255."""
        return np.abs(self.ours - self.reference) * 255


def plot_degradation(gt: np.ndarray, groups: list, out: str | Path, amplify: int = 50) -> None:
    """A GT image, and for each recipe LQ samples of it: ours, MMEditing's, their difference, and what was drawn.

    Args:
        gt (ndarray): (h, w, 3), uint8, RGB.
        groups (list[tuple[str, list[Compared]]]): What each recipe is called, and samples of it.
        out (str | Path): The PNG.
        amplify (int): What differences are multiplied by. Default: 50.
    """
    rows = [-(-len(samples) // 2) for _, samples in groups]
    figure = Figure(figsize=(16, 2.6 + 2.1 * sum(rows) + 0.4 * len(rows)), layout='constrained')
    heights = [2.6, *(0.4 + 2.1 * count for count in rows)]
    top, *bands = figure.subfigures(len(heights), 1, height_ratios=heights)  # type: ignore[misc]
    axes = top.subplots()
    _show(axes, gt, f'GT {gt.shape[1]}×{gt.shape[0]}')
    for band, (name, samples) in zip(bands, groups, strict=True):
        band.suptitle(f'{name}: ours, MMEditing\'s, |difference| × {amplify}', fontsize=12, fontweight='bold')
        grid = band.subplots(-(-len(samples) // 2), 8, squeeze=False, width_ratios=[1, 1, 1, 1.5] * 2).reshape(-1, 4)
        for place, axes in enumerate(grid):
            if place < len(samples):
                _show_sample(axes, samples[place], amplify)
            else:
                for empty in axes:
                    empty.axis('off')
    save_figure(figure, out)


def _show_sample(axes, sample: Compared, amplify: int) -> None:
    difference = sample.difference
    _show(axes[0], sample.ours.clip(0, 1), f'LQ {sample.ours.shape[1]}×{sample.ours.shape[0]}')
    _show(axes[1], sample.reference.clip(0, 1), "MMEditing's")
    _show(axes[2], (difference * amplify / 255).clip(0, 1), f'max {difference.max():.2f}, mean {difference.mean():.3f}')
    axes[3].axis('off')
    axes[3].text(0, 1, '\n'.join(sample.plan.describe()), va='top', fontsize=9, transform=axes[3].transAxes)


def _show(axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation='nearest')
    axes.set_title(title, fontsize=9)
    axes.axis('off')
