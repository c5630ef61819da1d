"""Scoring HQ images as the organiser of the competition does, and verifying zips before they are handed in."""
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from facesr.submission.png import HEADER, SIGNATURE, BadImage, check_header, decode_png
from facesr.submission.predictions import PredictionError, Predictions, Problems, open_predictions
from facesr.utils.errors import UserError
from facesr.utils.files import as_json, write_atomic
from facesr.utils.images import decode_image, list_images, opened_image
from facesr.utils.psnr import mean_squared_error, psnr_of
from facesr.utils.terminal import plain

MISSING, EXTRA, MISNAMED = 'missing', 'extra', 'wrongly named'
SHOWN = 3  # best and worst images in the summary


class ImageScore(NamedTuple):
    """One image: its name, mean squared error, and PSNR in dB (inf where it equals its GT)."""
    name: str
    mse: float
    psnr: float


class Score(NamedTuple):
    """What the organiser would say: mean PSNR in dB, `ImageScore` of each image in the GT's order, the folder that
    they were inside, if not at the top level, and how many files of macOS's were passed over.
    """
    psnr: float
    images: list
    inside: str = ''
    passed_over: int = 0


def score(path: str | Path, gt: dict) -> Score:
    """PSNR of a folder or zip of HQ images: RGB, 8 bits, whole images, the mean of all.

    As the organiser's script does, it takes images inside one folder, where there is nothing beside it, and passes over
    what macOS puts beside images (other extra files, which are mistakes, are refused).

    Args:
        path (str | Path): The folder or zip.
        gt (dict[str, Path]): GT image by the name that its HQ image has to have.

    Raises:
        PredictionError: A `UserError` that names every image that is missing, too much, wrongly named, nested, of a
            wrong size, not an 8-bit RGB PNG, or unreadable.
        UserError: A GT image is unreadable or not 8-bit RGB.
    """
    with open_predictions(path, len(gt), as_organiser=True) as predictions:

        def measure(name: str) -> ImageScore:
            return _measure(name, read_gt(gt[name]), predictions)

        images = _read_all(predictions, list(gt), measure)
    return Score(math.fsum(image.psnr for image in images) / len(images), images, predictions.inside,
                 len(predictions.passed_over))


def verify_zip(path: str | Path, names: Iterable, size: tuple | dict | None = None) -> None:
    """See that a zip is what an organiser takes: just these images, 8-bit RGB PNGs, at the top level, undamaged.

    Args:
        path (str | Path): The zip.
        names (Iterable[str]): Of the images that have to be in it.
        size (tuple[int, int] | dict | None): Height and width of all, or by name. Default: any.

    Raises:
        PredictionError: A `UserError` that names everything that is wrong.
    """
    names = list(names)
    if Path(path).is_dir():
        raise UserError(f'{path}: is a folder, not a zip')
    with open_predictions(path, len(names)) as predictions:

        def read(name: str) -> None:
            predictions.read(name, size.get(name) if isinstance(size, dict) else size)

        _read_all(predictions, names, read)


def check_names(found: Iterable, wanted: Iterable) -> Problems:
    """Compare the names of predictions with those that are asked for.

    A name is wrong, rather than one extra and one missing, where it differs in its extension or in capital letters.
    """
    problems, missing = Problems(), set(wanted) - set(found)
    by_stem = {Path(name).stem.casefold(): name for name in missing}
    for name in sorted(set(found) - set(wanted)):
        meant = by_stem.pop(Path(name).stem.casefold(), None)
        if meant is None:
            problems.add(EXTRA, name)
        else:
            problems.add(MISNAMED, f'{name} instead of {meant}')
            missing.remove(meant)
    for name in missing:
        problems.add(MISSING, name)
    return problems


def gt_paths(folder: str | Path) -> list:
    """The GT images directly in a folder, sorted by name.

    Raises:
        UserError: There is no such folder, or nothing in it.
    """
    if not Path(folder).is_dir():
        raise UserError(f'{folder}: no such folder; give the one with the GT images')
    names = list_images(folder)
    if not names:
        raise UserError(f'{folder}: has no images; give the folder with the GT images')
    return [Path(folder, name) for name in names]


def read_gt(path: str | Path) -> np.ndarray:
    """A GT image: uint8, RGB, (h, w, 3).

    Raises:
        UserError: It is unreadable or not 8-bit RGB.
    """
    data = Path(path).read_bytes()
    with opened_image(path) as image:
        if data.startswith(SIGNATURE):
            try:
                check_header(data[:HEADER])
            except BadImage as error:
                raise UserError(f'{path}: GT image, {error.kind} ({error.details}); convert it') from None
            return decode_png(data)
        if image.mode != 'RGB':
            raise UserError(f'{path}: GT image, not 8-bit RGB ({image.mode}); convert it')
        image.load()
    return decode_image(data, path)


def format_score(result: Score) -> str:
    """The mean to ten decimals, and the worst and best images."""
    ranked = sorted(result.images, key=lambda image: image.psnr)
    lines = [f'PSNR: {result.psnr:.10f} dB (RGB, 8 bits, whole images; mean of {len(ranked)})']
    others = [image.psnr for image in ranked if image.psnr < math.inf]
    if len(others) < len(ranked):
        exact = (', '.join(plain(image.name) for image in ranked[len(others):]) if others
                 else f'all {len(ranked)} images')
        lines.append(f'equal to GT, so that the mean is infinite: {exact}')
    if 0 < len(others) < len(ranked):
        lines.append(f'PSNR of the others: {math.fsum(others) / len(others):.10f} dB')
    for title, images in (('worst', ranked[:SHOWN]), ('best', ranked[::-1][:SHOWN])):
        lines.append(f'{title}: ' + ', '.join(f'{plain(image.name)} {image.psnr:.4f}' for image in images))
    if result.inside:
        lines.append(f'taken from inside {plain(result.inside)}/, as by the organiser; a zip to hand in has no folder')
    if result.passed_over:
        lines.append(f"passed over, as by the organiser: {result.passed_over} of macOS's own files "
                     '(__MACOSX/, .DS_Store)')
    return '\n'.join(lines)


def write_score(path: str | Path, result: Score, **about) -> None:
    """Write a score as JSON: what `about` says, the mean, and each image's MSE and PSNR; null is infinite."""
    images = [dict(name=image.name, MSE=image.mse, PSNR=image.psnr) for image in result.images]
    content = dict(about, mean=dict(PSNR=result.psnr), images=images)
    write_atomic(path, as_json(content))


def _read_all(predictions: Predictions, names: list, read) -> list:
    """`read(name)` of each image, in threads (decoding leaves Python's lock), after the names were looked at."""
    problems, results = Problems(), []
    problems.update(predictions.problems)
    problems.update(check_names(predictions.names, names))
    found_names = set(predictions.names)
    there = [name for name in names if name in found_names]

    def attempt(name: str):
        try:
            return read(name)
        except BadImage as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = tqdm(pool.map(attempt, there), 'read', len(there), unit='image', leave=False, disable=None)
        for name, result in zip(there, found, strict=True):
            if isinstance(result, BadImage):
                problems.add(result.kind, name, result.details)
            results.append(result)
    if problems:
        raise PredictionError(predictions.path, problems)
    return results


def _measure(name: str, gt: np.ndarray, predictions: Predictions) -> ImageScore:
    hq = predictions.read(name, gt.shape[:2])
    mse = mean_squared_error(hq, gt)
    return ImageScore(name, mse, psnr_of(mse))
