"""8-bit RGB PNGs from files that are not trusted: the header, then how many bytes there are, then the pixels."""
import io
import struct
import zipfile
import zlib
from typing import IO

import numpy as np
from PIL import Image

from facesr.utils.images import DAMAGED

LARGEST = 2**25  # pixels of an image whose size is not known
SLACK = 2**20  # bytes of a PNG besides its pixels: text, colour profile, chunks
SIGNATURE, HEADER = b'\x89PNG\r\n\x1a\n', 33  # a PNG's first bytes; bytes up to the end of IHDR
COLOURS = {0: 'greyscale', 2: 'RGB', 3: 'palette', 4: 'greyscale with alpha', 6: 'RGBA'}
NOT_PNG, NOT_RGB, SIZE = 'not a PNG', 'not 8-bit RGB', 'wrong size'
TOO_LARGE, DAMAGE = 'file too large', 'unreadable'
# What Pillow and zipfile raise on damaged data.
UNREADABLE = (*DAMAGED, zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OverflowError)


class BadImage(Exception):
    """An image that cannot be taken.

    Attributes:
        kind (str): What is wrong, in two or three words.
        details (str): What the image is instead; may be empty.
    """

    def __init__(self, kind: str, details: str = ''):
        super().__init__(f'{kind}, {details}' if details else kind)
        self.kind, self.details = kind, details


def read_png(file: IO[bytes], declared: int, size: tuple | None = None) -> np.ndarray:
    """Decode a PNG after everything else about it was looked at.

    Args:
        file: Open for reading bytes.
        declared (int): How many bytes it claims to have.
        size (tuple[int, int] | None): Height and width that it has to have. Default: any, up to 2**25 pixels.

    Returns:
        ndarray: uint8, RGB, (h, w, 3).

    Raises:
        BadImage: It is no 8-bit RGB PNG of that size, has more bytes than such a PNG can need, or is damaged.
    """
    try:
        header = file.read(HEADER)
        height, width = check_header(header, size)
        limit = height * (3 * width + 1) * 11 // 10 + SLACK
        if declared > limit or len(data := header + file.read(limit)) > limit:
            raise BadImage(TOO_LARGE, f'a {width}x{height} RGB PNG has at most {limit:,} bytes')
        return decode_png(data)
    except UNREADABLE as error:
        raise BadImage(DAMAGE, one_line(error)) from None


def check_header(data: bytes, size: tuple | None = None) -> tuple:
    """Height and width of a PNG, from its first 33 bytes.

    Raises:
        BadImage: It is no 8-bit RGB PNG, or not of `size`.
    """
    if len(data) < HEADER or data[:8] != SIGNATURE or data[12:16] != b'IHDR':
        raise BadImage(NOT_PNG)
    width, height, depth, colour = struct.unpack('>IIBB', data[16:26])
    if (depth, colour) != (8, 2):
        raise BadImage(NOT_RGB, f'{depth}-bit {COLOURS.get(colour, "of unknown colour")}')
    if size is not None and (height, width) != tuple(size):
        raise BadImage(SIZE, f'{width}x{height} instead of {size[1]}x{size[0]}')
    if size is None and not 0 < height * width <= LARGEST:
        raise BadImage(SIZE, f'{width}x{height}')
    return height, width


def decode_png(data: bytes) -> np.ndarray:
    """The pixels of an RGB PNG, (h, w, 3); its checksums are looked at too, which Pillow otherwise passes over.

    Raises:
        OSError, SyntaxError, ValueError: It is damaged.
    """
    with Image.open(io.BytesIO(data), formats=['PNG']) as image:
        image.verify()
    with Image.open(io.BytesIO(data), formats=['PNG']) as image:
        return np.asarray(image)


def one_line(error: Exception) -> str:
    """An error's message."""
    return ' '.join(str(error).split())
