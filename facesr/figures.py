"""Curves and pictures."""
import json
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from mmedit.core import psnr

from facesr.degradation.compare import Compared
from facesr.errors import UserError
from facesr.evaluation import Restored, bicubic
from facesr.files import atomic_path

DPI = 100


def read_logs(work_dir) -> dict:
    """The records of a work dir's JSON logs, by mode ('train', 'val'), then by iteration.

    Logs of resumed runs are joined in the order of time; where they overlap the later one counts.
    A line that was cut off by a kill is skipped.

    Raises:
        UserError: There is no log with training records.
    """
    logs = sorted(Path(work_dir).glob('*.log.json'))
    records = {'train': {}, 'val': {}}
    for line in (line for log in logs for line in log.read_text().splitlines()):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record.get('mode') in records:
            records[record['mode']][record['iter']] = record
    if not records['train']:
        raise UserError(f'{work_dir}: no *.log.json with training records; give the work dir of a run')
    return {mode: [by_iter[i] for i in sorted(by_iter)] for mode, by_iter in records.items()}


def plot_curves(work_dir, out) -> None:
    """Training loss and validation PSNR against iterations, as one PNG with two panels."""
    records = read_logs(work_dir)
    figure = Figure(figsize=(10, 4), layout='constrained')
    figure.suptitle(Path(work_dir).resolve().name)
    loss_axes, psnr_axes = figure.subplots(1, 2)
    loss_axes.plot(*_series(records['train'], 'loss'), color='tab:blue')
    loss_axes.set(xlabel='iteration', ylabel='training loss')
    iterations, values = _series(records['val'], 'PSNR')
    psnr_axes.plot(iterations, values, color='tab:orange', marker='o', markersize=4)
    if values:
        best = int(np.argmax(values))
        psnr_axes.plot(iterations[best], values[best], marker='*', markersize=14, color='tab:red')
        psnr_axes.set_title(f'best {values[best]:.3f} dB at iteration {iterations[best]}', fontsize=10)
    psnr_axes.set(xlabel='iteration', ylabel='validation PSNR (dB)')
    for axes in (loss_axes, psnr_axes):
        axes.grid(alpha=0.3)
    _save(figure, out)


def plot_comparison(images, out) -> None:
    """LQ | bicubic | HQ | GT, one row per image, with the PSNR of bicubic and HQ against GT.

    Args:
        images (list[Restored]): Pairs with GT.
        out (str | Path): The PNG.
    """
    figure = Figure(figsize=(12, 3.2 * len(images)), layout='constrained')
    grid = figure.subplots(len(images), 4, squeeze=False)
    for row, image in zip(grid, images, strict=True):
        for axes, (title, picture) in zip(row, _columns(image), strict=True):
            axes.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), interpolation='nearest')
            axes.set_title(title, fontsize=11)
            axes.axis('off')
    _save(figure, out)


def plot_degradation(gt: np.ndarray, groups: list, out, amplify: int = 50) -> None:
    """A GT image, and for each recipe LQ samples of it: ours, MMEditing's, their difference, and what was drawn.

    Args:
        gt (ndarray): (h, w, 3), uint8, RGB.
        groups (list[tuple[str, list[Compared]]]): What each recipe is called, and samples of it.
        out (str | Path): The PNG.
        amplify (int): What differences are multiplied by. Default: 50.
    """
    rows = [-(-len(samples) // 2) for _, samples in groups]
    figure = Figure(figsize=(16, 2.6 + 2.1 * sum(rows) + 0.4 * len(rows)), layout='constrained')
    top, *bands = figure.subfigures(1 + len(rows), 1, height_ratios=[2.6, *(0.4 + 2.1 * count for count in rows)])
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
    _save(figure, out)


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


def _columns(image: Restored) -> list:
    upscaled = bicubic(image.lq, image.gt.shape[0] // image.lq.shape[0])
    return [(f'LQ {image.lq.shape[1]}×{image.lq.shape[0]}', image.lq),
            (f'bicubic {psnr(upscaled, image.gt):.2f} dB', upscaled),
            (f'HQ {psnr(image.hq, image.gt):.2f} dB', image.hq), ('GT', image.gt)]


def _series(records, key) -> tuple:
    points = [(record['iter'], record[key]) for record in records if key in record]
    return [x for x, _ in points], [y for _, y in points]


def _save(figure: Figure, out) -> None:
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=DPI, format='png')
