"""Pictures of what a model makes of images."""
import cv2
from matplotlib.figure import Figure
from mmedit.core import psnr

from facesr.evaluation import Restored, bicubic
from facesr.figures.save import save_figure


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
    save_figure(figure, out)


def _columns(image: Restored) -> list:
    upscaled = bicubic(image.lq, image.gt.shape[0] // image.lq.shape[0])
    return [(f'LQ {image.lq.shape[1]}×{image.lq.shape[0]}', image.lq),
            (f'bicubic {psnr(upscaled, image.gt):.2f} dB', upscaled),
            (f'HQ {psnr(image.hq, image.gt):.2f} dB', image.hq), ('GT', image.gt)]
