"""The embedded sample: a tiny data set in FFHQ's layout, made from portraits that packages ship.

Eileen Collins (NASA, in scikit-image) is the training face, Grace Hopper (US Navy, in matplotlib)
the one for validation and test, so that nothing is measured on a face that was trained on. Both
photographs are in the public domain. The sample shows the machinery; it is no benchmark.
"""
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data

import facesr
from facesr.config import Config
from facesr.datasets.lq_set import make_lq_image
from facesr.degradation.recipe import Recipe
from facesr.utils.files import is_there, write_atomic
from facesr.utils.images import encode_png, read_image

CONFIG = Path(facesr.__file__).resolve().parent.parent / 'configs/_base_/datasets/sample.py'
GT_SIZE = 512
# Square windows (left, top, side) around the face, in pixels of the photograph.
TRAIN_WINDOWS = [(0, 0, 512), (0, 0, 430), (30, 0, 380), (60, 0, 330), (75, 0, 290), (95, 0, 250), (110, 5, 220),
                 (130, 10, 185)]
VAL_WINDOWS = [(0, 20, 512), (55, 10, 420), (105, 60, 320), (140, 110, 245)]
TEST_WINDOWS = [(0, 88, 512), (25, 0, 460), (80, 45, 370), (125, 85, 280)]


def make_sample(out: str | Path | None = None, seed: int = 0) -> dict:
    """Write the sample; the same files byte for byte on each call on one machine.

    Args:
        out (str | Path | None): Its folder; None for the sample config's `data_root`.
        seed (int): Of the degradation.

    Returns:
        dict[str, int]: Images written, by folder.

    Raises:
        UserError: Another image is in the place of one of the sample's; nothing is written then.
    """
    cfg = Config.fromfile(str(CONFIG))
    out = Path(out or cfg.data_root)
    recipe = Recipe(cfg.degradation)
    collins = skimage.data.astronaut()
    hopper = read_image(matplotlib.cbook.get_sample_data('grace_hopper.jpg', asfileobj=False))

    images = {'train/GT': _crops(collins, TRAIN_WINDOWS), 'val/GT': _crops(hopper, VAL_WINDOWS)}
    images['val/LQ'] = _degraded(images['val/GT'], recipe, seed)
    images['test/LQ'] = _degraded(_crops(hopper, TEST_WINDOWS), recipe, seed + 1)
    files = {
        out / folder / _name(number): encode_png(image)
        for folder, group in images.items() for number, image in enumerate(group)
    }
    for path, data in files.items():
        is_there(path, data, f'remove {out} to make the sample anew')
    for path, data in files.items():
        write_atomic(path, data)
    return {str(out / folder): len(group) for folder, group in images.items()}


def _degraded(images, recipe: Recipe, seed: int) -> list:
    return [make_lq_image(image, recipe, _name(number), seed)[0] for number, image in enumerate(images)]


def _name(number: int) -> str:
    return f'{number:05d}.png'


def _crops(photo: np.ndarray, windows) -> list:
    return [
        cv2.resize(photo[top:top + side, left:left + side], (GT_SIZE, GT_SIZE), interpolation=cv2.INTER_CUBIC)
        for left, top, side in windows
    ]
