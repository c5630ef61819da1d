"""Image files: which there are in a folder, reading, and writing PNGs. Images are RGB; OpenCV's BGR stays in here."""
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from facesr.utils.errors import UserError
from facesr.utils.files import write_atomic

# What MMEditing's datasets read (`mmedit.datasets.base_sr_dataset`), in just these spellings.
IMG_EXTENSIONS = ('.jpg', '.JPG', '.jpeg', '.JPEG', '.png', '.PNG', '.ppm', '.PPM', '.bmp', '.BMP', '.tif', '.TIF',
                  '.tiff', '.TIFF')
# Images that Pillow would open but MMEditing's datasets pass over without a word.
UNREAD = ('.webp', '.gif', '.avif', '.heic', '.jp2', '.jfif')
STRAY_BYTE = re.compile(r'[\udc80-\udcff]')  # in a name, as Python reads what is not UTF-8
DEEP = re.compile(r'(RGB[AXa]?|LA|CMYK);16')  # raw modes of Pillow; BGR;16 has 16 bits a pixel
# What Pillow raises on damaged (or absurdly large) files.
MOST_PIXELS = Image.MAX_IMAGE_PIXELS  # of an image, and of all that are read at a time: 89 million
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)  # such are refused here
DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class _Gate:
    """Lets threads hold so many pixels at a time: a context, in which others wait until there is room."""

    def __init__(self, most: int):
        self._most, self._held, self._changed = most, 0, threading.Condition()

    @contextmanager
    def room_for(self, pixels: int):
        """Hold pixels; more than all of them only where nobody else holds any."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._most)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


_gate = _Gate(MOST_PIXELS)


@contextmanager
def opened_image(path: str | Path) -> Iterator[Image.Image]:
    """Yields Pillow's image of a file; its pixels are read when they are asked for.

    Threads wait for each other where their images together are large.

    Raises:
        UserError: The file is no image, has more than `MOST_PIXELS`, or turns out within the context to be damaged.
    """
    try:
        with Image.open(path) as image:
            _require_bounded(image, path)
            with _gate.room_for(image.width * image.height):
                yield image
    except PermissionError:
        raise
    except UnidentifiedImageError:
        raise UserError(f'{path}: not an image, or an unreadable one; remove or replace it') from None
    except DAMAGED as error:
        raise UserError(f'{path}: unreadable image ({error}); remove or replace it') from None


def deep_colour(image: Image.Image) -> str:
    """What is in an open file of 16-bit colour ('RGB;16B'), of which Pillow makes 8 bits; '' for all others."""
    for tile in image.tile:
        raw, *more = [tile[3]] if isinstance(tile[3], str) else tile[3] or [None]
        if tile[0].startswith('ppm') and raw == 'RGB' and max(more, default=0) > 255:  # the value that is white
            return 'PPM;16'
        if isinstance(raw, str) and DEEP.match(raw):
            return raw
    return ''


def decode_image(data: bytes, path: str | Path, turned: bool = True) -> np.ndarray:
    """The image in a file's bytes: uint8, RGB, (h, w, 3), as training and validation read it.

    Args:
        data (bytes): Of the file.
        path (str | Path): Of it, for the message.
        turned (bool): As its EXIF orientation says, which is what flag='color' means in a config. Default: True.

    Raises:
        UserError: There is none; it names `path`.
    """
    kind = None
    try:
        with Image.open(io.BytesIO(data)) as header:
            _require_bounded(header, path)
            kind = header.format
    except DAMAGED:
        pass  # what OpenCV reads counts
    flag = cv2.IMREAD_COLOR if turned else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if image is None and kind:
        raise UserError(f'{path}: OpenCV, which images are read with, cannot read this {kind}: it is damaged, or of a '
                        'kind that other programs read; save it anew as an 8-bit RGB PNG, or remove it')
    if image is None:
        raise UserError(f'{path}: not an image, or an unreadable one; repair or remove it')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _require_bounded(image, path) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise UserError(f'{path}: is {image.width}x{image.height}, more than the {MOST_PIXELS / 10**6:.0f} million '
                        'pixels that are read; make it smaller')


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image that Pillow has opened, 1 where it has none; its pixels are not read."""
    if image.format == 'PNG' and 'exif' not in image.info:
        return 1  # Pillow would decode it to look behind the pixels
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def read_image(path) -> np.ndarray:
    """An image file: uint8, RGB, (h, w, 3).

    Raises:
        UserError: It is missing or unreadable.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such image')
    return decode_image(Path(path).read_bytes(), path)


def list_images(folder, recursive: bool = False) -> list:
    """Names of the image files directly in `folder` (MMEditing's extensions), sorted.

    Args:
        folder (str | Path): The folder.
        recursive (bool): Those in its sub-folders too, as `sub/name.png`; hidden folders are left out. Default: False.

    Raises:
        UserError: An image has an extension that MMEditing's datasets would pass over, a name that no text file can
            have, or is a link to what is not there.
    """
    entries, names = [entry for entry in os.scandir(folder) if not entry.name.startswith('.')], []
    for entry in sorted(entries, key=lambda entry: entry.name):
        path, suffix = Path(folder) / entry.name, Path(entry.name).suffix
        if suffix.lower() not in (*UNREAD, *IMG_EXTENSIONS):
            continue
        if entry.is_symlink() and not path.exists():
            raise UserError(f'{path}: is a link to what is not there; bring that back, or remove the link')
        if not entry.is_file():
            continue
        if suffix not in IMG_EXTENSIONS:
            raise UserError(f'{path}: MMEditing does not read {suffix} files; convert it to .png')
        if STRAY_BYTE.search(entry.name):
            raise UserError(f'{path}: its name is not UTF-8; rename it')
        names.append(entry.name)
    for entry in entries if recursive else ():
        if entry.is_dir():
            names += [f'{entry.name}/{name}' for name in list_images(entry.path, True)]
    return sorted(names)


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
