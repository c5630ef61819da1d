"""The HQ images as files, and the zip that CodaLab takes."""
import zipfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from facesr.errors import UserError
from facesr.files import atomic_path


def hq_names(lq_paths) -> list:
    """The PNG name of each LQ image: its own stem.

    Raises:
        UserError: Two LQ images have the same stem, so that their HQ images would be one file.
    """
    names = [f'{Path(path).stem}.png' for path in lq_paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f'{twice[0]} would be the HQ image of {Counter(names)[twice[0]]} LQ images; rename them')
    return names


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 BGR image (h, w, 3) as the bytes of an RGB PNG file."""
    return cv2.imencode('.png', image)[1].tobytes()


@contextmanager
def submission_zip(path):
    """Yields `add(name, data)`; on success the zip stands at `path`, whole.

    The files alone, at the top level. PNGs are stored as they are (deflating them again gains
    nothing) and with a fixed date, so the same images give the same zip byte for byte.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes) -> None:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)

        yield add
