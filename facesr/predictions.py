"""HQ images as they are handed in, a folder or a zip, read without trusting them.

Nothing of a zip is written to the disk: its files are read into memory, one at a time, and never more bytes than a PNG
of the size in question can need.
"""
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from facesr.errors import UserError
from facesr.images import DAMAGED

EXPECTED = 10_000  # images, where it is not known how many there have to be
LARGEST = 2**25  # pixels of an image whose size is not known
SLACK = 2**20  # bytes of a PNG besides its pixels: text, colour profile, chunks
SIGNATURE, HEADER = b'\x89PNG\r\n\x1a\n', 33  # a PNG's first bytes; bytes up to the end of IHDR
COLOURS = {0: 'greyscale', 2: 'RGB', 3: 'palette', 4: 'greyscale with alpha', 6: 'RGBA'}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python decompresses the others without a limit
UNREADABLE = (*DAMAGED, zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OverflowError)
# Kinds of problems.
MISSING, EXTRA, MISNAMED = 'missing', 'extra', 'wrongly named'
NESTED, MACOS = 'not at the top level', "macOS's own, not images"
UNSAFE, TWICE, ENCRYPTED = 'unsafe path', 'more than once', 'encrypted'
NOT_PNG, NOT_RGB, SIZE = 'not a PNG', 'not 8-bit RGB', 'wrong size'
TOO_LARGE, DAMAGE = 'file too large', 'unreadable'


class BadImage(Exception):
    """An image that cannot be taken.

    Attributes:
        kind (str): The kind of problem.
        details (str): What the image is instead; may be empty.
    """

    def __init__(self, kind: str, details: str = ''):
        super().__init__(kind, details)
        self.kind, self.details = kind, details


class Problems:
    """What is wrong with predictions: names, with details, by kind."""

    def __init__(self):
        self._found = {}

    def add(self, kind: str, name: str, details: str = '') -> None:
        """Take down one more."""
        found = self._found.setdefault(kind, [])
        found.append(f'{printable(name)} ({details})' if details else printable(name))

    def update(self, others: 'Problems') -> None:
        """Take over all of others'."""
        for kind, found in others._found.items():
            self._found.setdefault(kind, []).extend(found)

    def __len__(self):
        return sum(map(len, self._found.values()))

    def lines(self) -> list:
        """A line per kind with every name."""
        return [f'{kind} ({len(found)}): {", ".join(sorted(found))}' for kind, found in self._found.items()]


class PredictionError(UserError):
    """Predictions that an organiser would not take.

    Attributes:
        problems (Problems): All of them.
    """

    def __init__(self, path, problems: Problems):
        super().__init__(f'{path}: {"; ".join(problems.lines())}')
        self.problems = problems


class Predictions:
    """Images in a folder or a zip; a context, whose `read` may be called by several threads.

    Attributes:
        path (Path): The folder or zip.
        names (list[str]): Of the files that may be read, sorted; whether they are images is seen when they are.
        problems (Problems): With everything else that is there.
    """

    def __init__(self, path):
        self.path, self.names, self.problems = Path(path), [], Problems()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Let go of the file."""

    def read(self, name: str, size=None) -> np.ndarray:
        """Decode one image, after everything else about it was looked at.

        Args:
            name (str): One of `names`.
            size (tuple[int, int] | None): Height and width that it has to have. Default: any, up to 2**25 pixels.

        Returns:
            ndarray: uint8, RGB, (h, w, 3).

        Raises:
            BadImage: It is no 8-bit RGB PNG of that size, has more bytes than such a PNG can need, or is damaged.
        """
        try:
            with self._opened(name) as (file, declared):
                header = file.read(HEADER)
                height, width = check_header(header, size)
                limit = height * (3 * width + 1) * 11 // 10 + SLACK
                if declared > limit or len(data := header + file.read(limit)) > limit:
                    raise BadImage(TOO_LARGE, f'a {width}x{height} RGB PNG has at most {limit} bytes')
            return decode_png(data)
        except UNREADABLE as error:
            raise BadImage(DAMAGE, ' '.join(str(error).split())) from None

    @contextmanager
    def _opened(self, name: str):
        """Yields a file to read from and the number of bytes that it claims to have."""
        raise NotImplementedError


class FolderPredictions(Predictions):
    """Predictions in a folder."""

    def __init__(self, path):
        super().__init__(path)
        for entry in os.scandir(path):
            if entry.is_dir():
                self.problems.add(NESTED, f'{entry.name}/')
            elif _is_macos(entry.name):
                self.problems.add(MACOS, entry.name)
            elif not entry.is_file():
                self.problems.add(DAMAGE, entry.name, 'no file, or a link to none')
            else:
                self.names.append(entry.name)
        self.names.sort()

    @contextmanager
    def _opened(self, name: str):
        path = self.path / name
        with path.open('rb') as file:
            yield file, path.stat().st_size


class ZipPredictions(Predictions):
    """Predictions in a zip.

    Args:
        path (str | Path): The zip.
        expected (int): How many images there should be; bounds what is read of its directory.

    Raises:
        UserError: It is no zip, a damaged one, or one with far more files than expected.
    """

    def __init__(self, path, expected: int = EXPECTED):
        super().__init__(path)
        most = 2 * expected + 1000  # macOS doubles them
        self._file = _LimitedFile(path, 512 * most)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except UNREADABLE as error:
            self._file.close()
            raise UserError(f'{path}: not a zip, or a damaged one ({" ".join(str(error).split())}); '
                            'make it again') from None
        self._file.limit = None
        if len(self._zip.infolist()) > most:
            self.close()
            raise UserError(f'{path}: has {len(self._zip.infolist())} files, where {expected} images are expected')
        self._entries = {}
        for info in self._zip.infolist():
            self._look_at(info)
        self.names = sorted(self._entries)

    def close(self) -> None:
        """Let go of the zip."""
        self._zip.close()
        self._file.close()

    def _look_at(self, info: zipfile.ZipInfo) -> None:
        """Sort an entry under `_entries` or `problems`."""
        name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        parts = PurePosixPath(name).parts
        if name != info.filename or re.match(r'/|\\|[A-Za-z]:', name) or '..' in parts or '\\' in name:
            self.problems.add(UNSAFE, name)
        elif _is_macos(name):
            self.problems.add(MACOS, name)
        elif info.is_dir() or len(parts) != 1:
            self.problems.add(NESTED, name)
        elif kind not in (0, stat.S_IFREG):
            self.problems.add(UNSAFE, name, 'a link' if kind == stat.S_IFLNK else 'a special file')
        elif name in self._entries:
            self.problems.add(TWICE, name)
        elif info.flag_bits & 0x1:
            self.problems.add(ENCRYPTED, name)
        else:
            self._entries[name] = info

    @contextmanager
    def _opened(self, name: str):
        info = self._entries[name]
        if info.compress_type not in METHODS:
            raise BadImage(DAMAGE, 'compressed by another method than deflate')
        with self._zip.open(info) as file:
            yield file, info.file_size


class _LimitedFile(io.BufferedReader):
    """A file of which no more than `limit` bytes are read at a time: `ZipFile` reads a zip's directory at once."""

    def __init__(self, path, limit: int):
        super().__init__(io.FileIO(path))
        self.limit = limit

    def read(self, size: int = -1) -> bytes:
        if self.limit is None:
            return super().read(size)
        data = super().read(self.limit + 1 if size is None or size < 0 else min(size, self.limit + 1))
        if len(data) > self.limit:
            raise zipfile.BadZipFile(f'a directory of more than {self.limit} bytes')
        return data


def open_predictions(path, expected: int = EXPECTED) -> Predictions:
    """Images in a folder or a zip.

    Args:
        path (str | Path): The folder or zip.
        expected (int): How many images there should be. Default: 10,000.

    Raises:
        UserError: There is neither.
    """
    path = Path(path)
    if path.is_dir():
        return FolderPredictions(path)
    if not path.is_file():
        raise UserError(f'{path}: no such folder or zip')
    return ZipPredictions(path, expected)


def check_names(found, wanted) -> Problems:
    """Compare the names of predictions with those that are asked for.

    A name is wrong, rather than one extra and one missing, where it differs in its extension or in capital letters.
    """
    problems, missing = Problems(), set(wanted) - set(found)
    by_stem = {Path(name).stem.casefold(): name for name in missing}
    for name in sorted(set(found) - set(wanted)):
        meant = by_stem.get(Path(name).stem.casefold())
        if meant in missing:
            missing.remove(meant)
            problems.add(MISNAMED, name, f'it should be {meant}')
        else:
            problems.add(EXTRA, name)
    for name in missing:
        problems.add(MISSING, name)
    return problems


def verify_zip(path, names, size=None) -> None:
    """See that a zip is what an organiser takes: just these images, 8-bit RGB PNGs, at the top level, undamaged.

    Args:
        path (str | Path): The zip.
        names (Iterable[str]): Of the images that have to be in it.
        size (tuple[int, int] | dict | None): Height and width of all, or by name. Default: any.

    Raises:
        PredictionError: A `UserError` that names everything that is wrong.
    """
    names = list(names)
    if Path(path).is_dir():
        raise UserError(f'{path}: is a folder, not a zip')
    with open_predictions(path, len(names)) as predictions:
        problems = Problems()
        problems.update(predictions.problems)
        problems.update(check_names(predictions.names, names))
        for name in sorted(set(names) & set(predictions.names)):
            try:
                predictions.read(name, size.get(name) if isinstance(size, dict) else size)
            except BadImage as error:
                problems.add(error.kind, name, error.details)
    if problems:
        raise PredictionError(path, problems)


def check_header(data: bytes, size=None) -> tuple:
    """Height and width of a PNG, from its first 33 bytes.

    Args:
        data (bytes): They.
        size (tuple[int, int] | None): Height and width that it has to have. Default: any, up to 2**25 pixels.

    Raises:
        BadImage: It is no 8-bit RGB PNG, or of another size.
    """
    if data[:8] != SIGNATURE or data[12:16] != b'IHDR' or len(data) < HEADER:
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
    """The pixels of an RGB PNG, (h, w, 3), whose checksums are looked at too.

    Raises:
        OSError, SyntaxError, ValueError: It is damaged.
    """
    with Image.open(io.BytesIO(data), formats=['PNG']) as image:
        image.verify()
    with Image.open(io.BytesIO(data), formats=['PNG']) as image:
        return np.asarray(image)


def printable(name: str) -> str:
    """A name from a zip or a disk, without what a terminal would obey."""
    return name if name.isprintable() else ascii(name)


def _is_macos(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return '__MACOSX' in parts or bool(parts) and (parts[-1] == '.DS_Store' or parts[-1].startswith('._'))
