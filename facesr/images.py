"""Reading images."""
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from facesr.errors import UserError

# What Pillow raises on damaged (or absurdly large) files.
DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@contextmanager
def opened_image(path):
    """Yields Pillow's image of a file; its pixels are read when they are asked for.

    Raises:
        UserError: The file is no image, or turns out within the context to be damaged.
    """
    try:
        with Image.open(path) as image:
            yield image
    except PermissionError:
        raise
    except UnidentifiedImageError:
        raise UserError(f'{path}: not an image, or an unreadable one; remove or replace it') from None
    except DAMAGED as error:
        raise UserError(f'{path}: unreadable image ({error}); remove or replace it') from None


def decode_image(data: bytes, path) -> np.ndarray:
    """The image in a file's bytes: uint8, BGR, (h, w, 3).

    Raises:
        UserError: There is none; it names `path`.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise UserError(f'{path}: not an image, or an unreadable one; repair or remove it')
    return image


def read_image(path) -> np.ndarray:
    """An image file: uint8, BGR, (h, w, 3).

    Raises:
        UserError: It is missing or unreadable.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such image')
    return decode_image(Path(path).read_bytes(), path)
