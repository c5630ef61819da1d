"""Image files as people have them, whatever Pillow opens: read as RGB for a network, and written as PNG."""
import glob
import struct
import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from facesr.utils.errors import UserError
from facesr.utils.files import atomic_path, remove_leftovers
from facesr.utils.images import DAMAGED, deep_colour, opened_image

SOFTWARE = 'facesr tools/restore.py'  # in each PNG that is written, to know it again
ALPHA, GREY = ('LA', 'La', 'PA', 'RGBA', 'RGBa'), ('1', 'L', 'LA', 'La')  # Pillow's modes
AS_OPENCV = ('RGB;', 'RGBA;', 'LA;')  # how 16-bit colours may be stored
PROFILES = {b'RGB ': False, b'GRAY': True}  # colour spaces of ICC profiles, and whether they are for grey images
# What damaged files, and such that memory does not suffice for, raise besides `DAMAGED`, as seen with changed bytes.
MORE_DAMAGE = (TypeError, EOFError, IndexError, KeyError, struct.error, MemoryError)
COMPRESSION = 4  # of PNG; 9 takes five times as long to save some 5 % more


class Photo(NamedTuple):
    """An image that was read: `rgb` uint8 (h, w, 3), `alpha` (mode L) or None, and what was grey or not as it should
    be; `notes` say what the output will lack.
    """
    rgb: np.ndarray
    alpha: Image.Image | None
    grey: bool
    icc_profile: bytes | None
    notes: tuple


def read_photo(path: str | Path) -> Photo:
    """An image upright, with 8 bits; the first, if the file has several.

    Raises:
        UserError: It is missing, unreadable, too large for Pillow, or in colours that cannot be converted.
        OSError: It may not be read.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such image')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # damaged EXIF data, for example
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with opened_image(path) as image:
                return _as_photo(path, image)
    except Image.DecompressionBombWarning:
        limit = f'{Image.MAX_IMAGE_PIXELS / 10**6:.0f} million pixels'
        raise UserError(f'{path}: has more than the {limit} that Pillow reads; make it smaller') from None
    except MORE_DAMAGE as error:
        raise UserError(f'{path}: unreadable image ({type(error).__name__}: {error}); remove or replace it') from error


def _as_photo(path, image) -> Photo:
    notes, frames, profile = [], getattr(image, 'n_frames', 1), image.info.get('icc_profile')
    if frames > 1:
        notes.append('has several frames or pages, of which the first was restored')
    if image.mode.startswith('I') or deep_colour(image):
        notes.append('16-bit, restored with 8 bits')
    upright = ImageOps.exif_transpose(_with_8_bits(path, image))
    grey, transparent = upright.mode in GREY, upright.mode in ALPHA or 'transparency' in upright.info
    try:
        full = upright.convert('RGBA' if transparent else 'RGB')
    except ValueError:
        raise UserError(f'{path}: colours as {upright.mode} cannot be converted; save it as RGB') from None
    if profile and PROFILES.get(profile[16:20]) is not grey:
        notes.append('its ICC profile does not go with the output, which has none')
        profile = None
    alpha = full.getchannel('A') if transparent else None
    return Photo(np.asarray(full.convert('RGB')), alpha, grey, profile or None, tuple(notes))


def _with_8_bits(path, image):
    """The image itself, or a 16-bit one scaled by 255 / 65535 (Pillow alone would drop the lower bits of colours, and
    does of those that OpenCV reads otherwise: CMYK, alpha that colours are multiplied by); its EXIF data say what is
    left to turn.
    """
    if image.mode == 'F' or (image.mode == 'I' and image.format not in ('PNG', 'PPM')):  # whose I has 16 bits
        raise UserError(f'{path}: has values of 32 bits, of which none is known to be white; save it with 8 or 16')
    if image.mode.startswith('I'):
        return _to_turn(Image.fromarray(_scaled(np.asarray(image))), image)
    if deep_colour(image).startswith(AS_OPENCV):
        array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if array is not None and array.dtype == np.uint16:
            order = cv2.COLOR_BGRA2RGBA if array.shape[2] == 4 else cv2.COLOR_BGR2RGB
            deep = Image.fromarray(_scaled(cv2.cvtColor(array, order)))
            deep = deep.convert('LA') if image.mode == 'LA' else deep
            return deep if image.format == 'TIFF' else _to_turn(deep, image)  # OpenCV turns TIFFs itself
    image.load()
    return image


def _to_turn(image, original):
    """With the orientation of the original's EXIF data."""
    orientation = original.getexif().get(ExifTags.Base.Orientation)
    if orientation:
        image.getexif()[ExifTags.Base.Orientation] = orientation
    return image


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float32) / 257).round().clip(0, 255).astype(np.uint8)


def as_output(photo: Photo, hq: np.ndarray) -> Image.Image:
    """The restored image in the photo's own kind: grey again if it was, alpha upscaled bicubically.

    Args:
        photo (Photo): What was restored.
        hq (ndarray): (scale h, scale w, 3), uint8, RGB.

    Returns:
        Image: Of mode L, LA, RGB or RGBA.
    """
    image = Image.fromarray(hq)
    image = image.convert('L') if photo.grey else image
    if photo.alpha is not None:
        image.putalpha(photo.alpha.resize(image.size, Image.Resampling.BICUBIC))
    return image


def write_photo(path: str | Path, image: Image.Image, icc_profile: bytes | None = None) -> None:
    """Write a PNG, whole or not at all; its text says that it is ours.

    Raises:
        OSError: It cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    text.add_text('Software', SOFTWARE)
    remove_leftovers(Path(path).parent, glob.escape(Path(path).name))
    with atomic_path(path) as temporary:
        image.save(temporary, 'PNG', pnginfo=text, icc_profile=icc_profile, compress_level=COMPRESSION)


def was_written_by_restore(path: str | Path) -> bool:
    """Whether a file is an image that `write_photo` wrote, of any size."""
    try:
        with PngImagePlugin.PngImageFile(path) as image:  # Image.open would refuse large ones
            return image.info.get('Software') == SOFTWARE
    except DAMAGED:
        return False
