"""Pictures of what a model makes of images, in the competition report's form: each image whole and a part enlarged."""
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from facesr.analysis.figures.save import DPI, save_figure
from facesr.evaluation.evaluator import Restored, bicubic
from facesr.utils.errors import UserError

CELL = 512  # pixels that a picture fills about; larger ones up to LARGEST are shown as they are
LARGEST = 1024
PART = 4  # the enlarged part's side is such a part of the image's
MIDDLE = 0.25  # share of the image at each side where no part is chosen: with faces that is background and hair
GAP, HEADER, CAPTION = 16, 52, 46  # pixels
FONT = 18
FRAME = '#F0E442'  # Okabe and Ito's yellow, which stands out from skin


def plot_comparison(rows: list, title: str, out: str | Path, crop: tuple | None = None) -> None:
    """LQ | bicubic | HQ | GT for each image, with PSNR, and below it the same part of each, enlarged.

    Pictures are shown pixel by pixel, enlarged by whole numbers; only GT above 1024 pixels are made smaller.

    Args:
        rows (list[Example]): From `facesr.analysis.examples`.
        title (str): One line.
        out (str | Path): The PNG.
        crop (tuple[int, int, int] | None): Left, top and side of the part, in pixels of GT. Default: None, for the
            part with the most detail in each image's middle.

    Raises:
        UserError: `crop` is not inside an image.
    """
    parts = [crop or find_detail(row.image.gt) for row in rows]
    for row, part in zip(rows, parts, strict=True):
        _check_inside(part, row)
    strips = [_strip(row, part) for row, part in zip(rows, parts, strict=True)]
    heights = [HEADER + whole[0].shape[0] + CAPTION + zoomed[0].shape[0] + GAP for _, whole, zoomed in strips]
    cell = max(picture.shape[1] for _, *both in strips for pictures in both for picture in pictures)
    canvas = np.full((HEADER + GAP + sum(heights), GAP + 4 * (cell + GAP), 3), 255, np.uint8)
    figure = Figure(figsize=(canvas.shape[1] / DPI, canvas.shape[0] / DPI), dpi=DPI)
    page = _Page(figure, canvas)
    page.text(title, GAP, GAP, FONT)
    top = HEADER + GAP
    for row, part, (captions, whole, zoomed), height in zip(rows, parts, strips, heights, strict=True):
        page.text(row.label, GAP, top + 8, FONT, weight='bold')
        below = top + HEADER + whole[0].shape[0]
        for column, (caption, picture, enlarged) in enumerate(zip(captions, whole, zoomed, strict=True)):
            left = GAP + column * (cell + GAP)
            at = left + (cell - picture.shape[1]) // 2
            page.picture(picture, at, top + HEADER)
            zoom = picture.shape[1] / row.image.gt.shape[1]
            x, y, side = (value * zoom for value in part)
            page.frame(x, y, side, at, top + HEADER)
            page.text(caption, left + cell / 2, below + 6, FONT, ha='center')
            page.picture(enlarged, left + (cell - enlarged.shape[1]) // 2, below + CAPTION)
        top += height
    figure.figimage(canvas)
    save_figure(figure, out)


def find_detail(gt: np.ndarray) -> tuple:
    """The square with the most detail (mean gradient of its grey values) in the middle of an image.

    Args:
        gt (ndarray): (h, w, 3), uint8, RGB.

    Returns:
        tuple[int, int, int]: Left, top and side in pixels; the side is a quarter of the image's shorter one.
    """
    height, width = gt.shape[:2]
    side = max(1, min(height, width) // PART)
    grey = cv2.cvtColor(gt, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    sums = cv2.integral(detail, sdepth=cv2.CV_64F)
    sums = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]  # by left and top
    y, x = (min(int(MIDDLE * size), (size - side) // 2) for size in (height, width))
    inner = sums[y:height - side - y + 1, x:width - side - x + 1]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    return int(left) + x, int(top) + y, side


class _Page:
    """A canvas of pixels, and what is drawn over it; places are counted from the top left."""

    def __init__(self, figure: Figure, canvas: np.ndarray):
        self.figure, self.canvas = figure, canvas

    def picture(self, picture: np.ndarray, left: int, top: int) -> None:
        """Put RGB pixels."""
        self.canvas[top:top + picture.shape[0], left:left + picture.shape[1]] = picture

    def text(self, text: str, left: float, top: float, size: float, **style) -> None:
        """Write a line below `top`."""
        height, width = self.canvas.shape[:2]
        self.figure.text(left / width, 1 - top / height, text, fontsize=size, va='top', parse_math=False, **style)

    def frame(self, x: float, y: float, side: float, left: float, top: float) -> None:
        """Draw a square around a part of the picture at `left` and `top`."""
        corner = (left + x, self.canvas.shape[0] - top - y - side)
        for colour, width in (('black', 5), (FRAME, 3)):
            self.figure.add_artist(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=width * 0.72,
                                             transform=None))


def _strip(row, part: tuple) -> tuple:
    """Captions, whole pictures and enlarged parts of an image, in the columns' order."""
    image = row.image
    left, top, side = part
    pictures = _pictures(image)
    captions = [f'LQ {image.lq.shape[1]}×{image.lq.shape[0]}', f'bicubic {row.bicubic_psnr:.2f} dB',
                f'HQ {row.psnr:.2f} dB', f'GT {image.gt.shape[1]}×{image.gt.shape[0]}']
    whole = [_fit(picture) for picture in pictures]
    return captions, whole, [_fit(picture[top:top + side, left:left + side], max(whole[0].shape[:2]))
                             for picture in pictures]


def _pictures(image: Restored) -> list:
    """LQ (its pixels enlarged), bicubic, HQ and GT, all of GT's size."""
    scale = image.gt.shape[0] // image.lq.shape[0]
    return [image.lq.repeat(scale, 0).repeat(scale, 1), bicubic(image.lq, scale), image.hq, image.gt]


def _fit(picture: np.ndarray, room: int | None = None) -> np.ndarray:
    """Enlarge by a whole number to fill the room, without mixing pixels, or make smaller what is too large."""
    size = max(picture.shape[:2])
    if size > (room or LARGEST):
        return cv2.resize(picture, None, fx=(room or LARGEST) / size, fy=(room or LARGEST) / size,
                          interpolation=cv2.INTER_AREA)
    zoom = max(1, (room or CELL) // size)
    return picture.repeat(zoom, 0).repeat(zoom, 1)


def _check_inside(part: tuple, row) -> None:
    left, top, side = part
    height, width = row.image.gt.shape[:2]
    if side < 1 or left < 0 or top < 0 or left + side > width or top + side > height:
        raise UserError(f'--crop {left} {top} {side}: not inside {row.label}, which is {width}x{height}')
