"""The annotation file of MMEditing's `SRAnnotationDataset`.

One line per GT image, sorted by name: `00000.png (512,512,3)`, that is name, one space and
(height,width,channels). The dataset splits each line at its first space, so a name with white
space or a blank line would silently become a wrong path: both are refused here.
"""
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from facesr.utils.errors import UserError
from facesr.utils.files import is_there, write_atomic
from facesr.utils.images import decode_image, list_images, opened_image, orientation

LINE = re.compile(r'([^\s\ufeff]+) \((\d+),(\d+),(\d+)\)')
# What a whole file of these formats ends with; cheaper to look at than decoding it.
ENDINGS = {'PNG': b'IEND\xaeB`\x82', 'JPEG': b'\xff\xd9'}

ON_THE_SIDE = (5, 6, 7, 8)  # EXIF orientations of which height and width are exchanged


class ImageInfo(NamedTuple):
    """One annotated image."""
    name: str
    height: int
    width: int
    channels: int

    @property
    def line(self) -> str:
        """The image's line in an annotation file."""
        return f'{self.name} ({self.height},{self.width},{self.channels})'


def read_info(path: str | Path, decode: bool = False, turned: bool = True) -> ImageInfo:
    """Size and channels of an image from its header; only the file's end is read besides.

    Args:
        path (str | Path): The image.
        decode (bool): Decode it too, as training and validation do, which finds damage in its middle. Default: False.
        turned (bool): As its EXIF orientation says (see `decode_image`). Default: True.

    Raises:
        UserError: The file is no image, is truncated, or is one that OpenCV does not read.
    """
    path = Path(path)
    with opened_image(path) as image:
        if decode:
            image.load()  # finds damage that OpenCV makes up for
            return info_of(path, image, decode_image(path.read_bytes(), path, turned))
        _refuse_truncated(path, image)
        return info_of(path, image, turned=turned)


def info_of(path: str | Path, image: Image.Image, pixels: np.ndarray | None = None, turned: bool = True) -> ImageInfo:
    """What an annotation says of an image that Pillow has opened: of its pixels (h, w, 3), if they were decoded."""
    channels = 3 if image.mode == 'P' else len(image.getbands())  # a palette: decoded it has three
    height, width = (image.height, image.width) if pixels is None else pixels.shape[:2]
    if pixels is None and turned and orientation(image) in ON_THE_SIDE:
        height, width = width, height
    return ImageInfo(Path(path).name, height, width, channels)


def scan_folder(folder, scale: int = 4, recursive: bool = False) -> list:
    """Annotate every image of a folder, in the order of names.

    Args:
        folder (str | Path): GT images.
        scale (int): Upsampling factor, which must divide every height and width.
        recursive (bool): Those in sub-folders too, as `sub/name.png`. Default: False.

    Returns:
        list[ImageInfo]

    Raises:
        UserError: The folder is missing or empty, a name has white space, an image is unreadable
            or truncated, or sizes are not divisible by the scale.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder; give the folder with the GT images')
    names = list_images(folder, recursive)
    if not names:
        raise UserError(f'{folder}: no images in it{_hint_subfolder(folder)}')
    spaced = [name for name in names if re.search(r'\s', name)]
    if spaced:
        raise UserError(f'{folder / spaced[0]}: white space in the name of {_images(len(spaced))}, which '
                        'SRAnnotationDataset would read as the end of the name; rename')
    infos = [read_info(folder / name)._replace(name=name)
             for name in tqdm(names, desc='read headers', unit='image', disable=None)]
    odd = [info for info in infos if info.height % scale or info.width % scale]
    if odd:
        raise UserError(f'{folder / odd[0].name}: {odd[0].width}x{odd[0].height} is not divisible by the scale '
                        f'{scale}, and so in {_images(len(odd))} of {len(infos)}; crop or remove them')
    return infos


def read_annotation(ann_file: str | Path) -> list:
    """Read an annotation file back as list[ImageInfo].

    Raises:
        UserError: It is missing or empty, or a line is not `name (height,width,channels)`.
    """
    ann_file = Path(ann_file)
    if not ann_file.is_file():
        raise UserError(f'{ann_file}: no such annotation file; make it with tools/make_annotation.py')
    try:
        lines = ann_file.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError:
        raise UserError(f'{ann_file}: not a UTF-8 text file; make it anew with tools/make_annotation.py') from None
    if not lines:
        raise UserError(f'{ann_file}: is empty; make it anew with tools/make_annotation.py --replace')
    infos = []
    for number, line in enumerate(lines, start=1):
        match = LINE.fullmatch(line)
        if not match:
            raise UserError(f'{ann_file}: line {number} is "{line}", not "name (height,width,channels)"; '
                            'make the file anew with tools/make_annotation.py --replace')
        infos.append(ImageInfo(match[1], *map(int, match.groups()[1:])))
    return infos


def write_annotation(infos: list, ann_file: str | Path, force: bool = False) -> bool:
    """Write the annotation file atomically; returns False if the same file was there already.

    Raises:
        UserError: A different file is there and `force` is off.
    """
    text = ''.join(f'{info.line}\n' for info in infos)
    if is_there(ann_file, text.encode(), '--replace does it', replace=force):
        return False
    write_atomic(ann_file, text)
    return True


def differences(annotated: list, found: list) -> list:
    """What sets an annotation apart from a folder's images: one line per difference, in words."""
    annotated_names = Counter(info.name for info in annotated)
    ours = {info.name: info for info in annotated}
    theirs = {info.name: info for info in found}
    return ([f'{name}: listed {count} times' for name, count in annotated_names.items() if count > 1]
            + [f'{name}: listed, but not in the folder' for name in sorted(ours.keys() - theirs.keys())]
            + [f'{name}: in the folder, but not listed' for name in sorted(theirs.keys() - ours.keys())]
            + [f'listed as {ours[name].line}, but the file is {theirs[name].line}'
               for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]])


def not_rgb(infos: list) -> list:
    """The images that are not three-channel; MMEditing converts them to RGB when it loads them."""
    return [info for info in infos if info.channels != 3]


def _refuse_truncated(path: Path, image) -> None:
    ending = ENDINGS.get(image.format)
    if ending:
        with open(path, 'rb') as file:
            file.seek(max(0, path.stat().st_size - len(ending)))
            if file.read() == ending:
                return
    image.load()  # another format, or bytes after the end: decoding decides


def _hint_subfolder(folder: Path) -> str:
    for child in sorted(folder.iterdir()):
        if child.is_dir() and list_images(child):
            return f', but {child} has some: give that folder'
    return '; give the folder with the GT images'


def _images(count: int) -> str:
    return f'{count} image' if count == 1 else f'{count} images'
