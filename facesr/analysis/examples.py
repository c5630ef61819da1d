"""Which images a comparison shows."""
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from torch.utils.data import DataLoader

from facesr.evaluation.evaluator import Restored, bicubic_psnr, restore
from facesr.utils.errors import UserError, did_you_mean
from facesr.utils.psnr import psnr_of_arrays


class Example(NamedTuple):
    """An image to show.

    Attributes:
        label (str): What it is ('best', 'median', 'worst' and the file's name, or the name alone).
        image (Restored): With GT.
        psnr (float): Of HQ, in dB.
        bicubic_psnr (float): Of bicubic upscaling, in dB.
    """
    label: str
    image: Restored
    psnr: float
    bicubic_psnr: float


class Examples(NamedTuple):
    """Examples of a comparison, and what they were chosen from.

    Attributes:
        rows (list[Example]): To be shown.
        images (int): How many were measured.
        mean (float): Their mean PSNR in dB.
        bicubic_mean (float): That of bicubic upscaling.
    """
    rows: list
    images: int
    mean: float
    bicubic_mean: float


def best_median_worst(net: Callable, loader: DataLoader, crop_border: int = 0) -> Examples:
    """Measure all pairs, and restore three of them once more to show: memory does not depend on their number.

    Args:
        net (Callable): From `facesr.inference.network.network`.
        loader (DataLoader): Pairs, from `facesr.evaluation.test.load_split`.
        crop_border (int): Pixels at each side that PSNR leaves out. Default: 0.

    Returns:
        Examples: Best, median (of an even number the better of the two in the middle) and worst by PSNR; fewer where
            there are fewer images.
    """
    measured = [_measure(image, crop_border) for image in restore(net, loader)]
    order = sorted(range(len(measured)), key=lambda i: measured[i][0], reverse=True)
    # A dict, because of one or two images some are the same; the first label stays.
    chosen = {order[-1]: 'worst', order[(len(order) - 1) // 2]: 'median', order[0]: 'best'}
    chosen = dict(reversed(chosen.items()))
    rows = _rows(net, loader, list(chosen), crop_border)
    rows = [row._replace(label=f'{label}: {row.label}') for row, label in zip(rows, chosen.values(), strict=True)]
    return Examples(rows, len(measured), *map(fmean, zip(*measured, strict=True)))


def named(net: Callable, loader: DataLoader, names: Sequence[str], crop_border: int = 0) -> Examples:
    """Restore the images of these names alone, in their order.

    Args:
        net (Callable): From `facesr.inference.network.network`.
        loader (DataLoader): Pairs, from `facesr.evaluation.test.load_split`.
        names (list[str]): Of LQ files, with or without suffix.
        crop_border (int): Pixels at each side that PSNR leaves out. Default: 0.

    Raises:
        UserError: There is no such image.
    """
    places = find_places([info['lq_path'] for info in loader.dataset.data_infos], names)
    rows = _rows(net, loader, places, crop_border)
    return Examples(rows, len(rows), fmean(row.psnr for row in rows), fmean(row.bicubic_psnr for row in rows))


def find_places(paths: Sequence, names: Iterable[str]) -> list[int]:
    """Where the images of some names are among paths, each once, in the order of the names.

    Args:
        paths (Sequence[str | Path]): Of image files in one folder.
        names (Iterable[str]): With or without suffix.

    Raises:
        UserError: There is no such image.
    """
    paths = [Path(path) for path in paths]
    known = {path.stem: i for i, path in enumerate(paths)} | {path.name: i for i, path in enumerate(paths)}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, (path.name for path in paths))
            raise UserError(f'--images {name}: no such image in {paths[0].parent}, which has {paths[0].name} to '
                            f'{paths[-1].name}{hint and "; " + hint}')
    return list(dict.fromkeys(known[name] for name in names))


def _rows(net: Callable, loader, indices: list, crop_border: int) -> list:
    subset = DataLoader(loader.dataset, sampler=indices, collate_fn=loader.collate_fn)
    return [Example(Path(image.lq_path).name, image, *_measure(image, crop_border)) for image in restore(net, subset)]


def _measure(image: Restored, crop_border: int) -> tuple:
    """PSNR of HQ and of bicubic upscaling."""
    return psnr_of_arrays(image.hq, image.gt, crop_border), bicubic_psnr(image.lq, image.gt, crop_border)
