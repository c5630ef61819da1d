"""Image files: which there are in a folder, reading, and writing PNGs. Images are RGB; OpenCV's BGR stays in here."""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from facesr.utils.errors import UserError
from facesr.utils.files import write_atomic

# What MMEditing's datasets read (`mmedit.datasets.base_sr_dataset`), in just these spellings.
IMG_EXTENSIONS = ('.jpg', '.JPG', '.jpeg', '.JPEG', '.png', '.PNG', '.ppm', '.PPM', '.bmp', '.BMP', '.tif', '.TIF',
                  '.tiff', '.TIFF')
# Images that Pillow would open but MMEditing's datasets pass over without a word.
UNREAD = ('.webp', '.gif', '.avif', '.heic', '.jp2', '.jfif')
# What Pillow raises on damaged (or absurdly large) files.
DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@contextmanager
def opened_image(path: str | Path) -> Iterator[Image.Image]:
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


def decode_image(data: bytes, path: str | Path) -> np.ndarray:
    """The image in a file's bytes: uint8, RGB, (h, w, 3).

    Raises:
        UserError: There is none; it names `path`.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise UserError(f'{path}: not an image, or an unreadable one; repair or remove it')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_image(path: str | Path) -> np.ndarray:
    """An image file: uint8, RGB, (h, w, 3).

    Raises:
        UserError: It is missing or unreadable.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such image')
    return decode_image(Path(path).read_bytes(), path)


def list_images(folder: str | Path) -> list:
    """Names of the image files directly in `folder` (MMEditing's extensions), sorted.

    Raises:
        UserError: An image has an extension that MMEditing's datasets would pass over.
    """
    names = sorted(entry.name for entry in os.scandir(folder)
                   if not entry.name.startswith('.') and entry.is_file())
    for name in names:
        suffix = Path(name).suffix
        if suffix.lower() in (*UNREAD, *IMG_EXTENSIONS) and suffix not in IMG_EXTENSIONS:
            raise UserError(f'{Path(folder) / name}: MMEditing does not read {suffix} files; convert it to .png')
    return [name for name in names if name.endswith(IMG_EXTENSIONS)]


def encode_image(image: np.ndarray, suffix: str) -> bytes:
    """A uint8 RGB image (h, w, 3) as the bytes of a file, of the format that a suffix ('.png', '.tif') stands for."""
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 RGB image (h, w, 3) as the bytes of an RGB PNG file."""
    return encode_image(image, '.png')


def save_png(image: np.ndarray, path: str | Path | None = None) -> bytes:
    """As `encode_png`, and written to `path` if there is one.

    Raises:
        OSError: It cannot be written.
    """
    png = encode_png(image)
    if path is not None:
        write_atomic(path, png)
    return png
