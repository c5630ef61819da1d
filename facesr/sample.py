"""The embedded sample: a tiny data set in FFHQ's layout, made from portraits that packages ship.

Eileen Collins (NASA, in scikit-image) is the training face, Grace Hopper (US Navy, in matplotlib)
the one for validation and test, so that nothing is measured on a face that was trained on. Both
photographs are in the public domain. The sample shows the machinery; it is no benchmark.
"""
import random
from contextlib import contextmanager
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data
from mmcv import Config
from mmedit.datasets.pipelines import Compose

from facesr.errors import UserError
from facesr.files import write_atomic
from facesr.submission import encode_png

CONFIG = Path(__file__).resolve().parent.parent / 'configs' / '_base_' / 'datasets' / 'sample.py'
GT_SIZE = 512
# Square windows (left, top, side) around the face, in pixels of the photograph.
TRAIN_WINDOWS = [(0, 0, 512), (0, 0, 430), (30, 0, 380), (60, 0, 330), (75, 0, 290), (95, 0, 250), (110, 5, 220),
                 (130, 10, 185)]
VAL_WINDOWS = [(0, 20, 512), (55, 10, 420), (105, 60, 320), (140, 110, 245)]
TEST_WINDOWS = [(0, 88, 512), (25, 0, 460), (80, 45, 370), (125, 85, 280)]


def make_sample(out=None, seed: int = 0) -> dict:
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
    degrade = Compose(cfg.degradation)
    collins = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR)
    hopper = cv2.imread(matplotlib.cbook.get_sample_data('grace_hopper.jpg', asfileobj=False))

    images = {'train/GT': _crops(collins, TRAIN_WINDOWS), 'val/GT': _crops(hopper, VAL_WINDOWS)}
    images['val/LQ'] = _degraded(images['val/GT'], degrade, seed)
    images['test/LQ'] = _degraded(_crops(hopper, TEST_WINDOWS), degrade, seed + len(VAL_WINDOWS))
    files = {
        out / folder / f'{number:05d}.png': encode_png(image)
        for folder, group in images.items() for number, image in enumerate(group)
    }
    for path, data in files.items():
        if path.exists() and path.read_bytes() != data:
            raise UserError(f'{path}: already there, and not the sample\'s; remove {out} to make the sample anew')
    for path, data in files.items():
        write_atomic(path, data)
    return {str(out / folder): len(group) for folder, group in images.items()}


def degrade_image(gt: np.ndarray, degrade, seed: int) -> np.ndarray:
    """LQ of one GT image, drawn from `seed`; the global random state is left as it was.

    Args:
        gt (ndarray): uint8, BGR, (h, w, 3).
        degrade (Compose): A config's `degradation`.
        seed (int): Decides every draw.

    Returns:
        ndarray: uint8, BGR.
    """
    image = cv2.cvtColor(gt, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
    with _seeded(seed):
        lq = degrade(dict(lq=image))['lq']
    return cv2.cvtColor((lq * 255).round().clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2BGR)


def _degraded(images, degrade, first_seed: int) -> list:
    return [degrade_image(image, degrade, seed) for seed, image in enumerate(images, start=first_seed)]


def _crops(photo: np.ndarray, windows) -> list:
    return [
        cv2.resize(photo[top:top + side, left:left + side], (GT_SIZE, GT_SIZE), interpolation=cv2.INTER_CUBIC)
        for left, top, side in windows
    ]


@contextmanager
def _seeded(seed: int):
    """MMEditing's transforms draw from the global generators of NumPy and Python."""
    states = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
