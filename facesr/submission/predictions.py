"""HQ images as they are handed in, a folder or a zip, read without trusting them.

Nothing of a zip is written to the disk: its files are read into memory, one at a time, and never more bytes than a PNG
of the size in question can need.
"""
import io
import os
import re
import stat
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from facesr.submission.png import DAMAGE, UNREADABLE, BadImage, one_line, read_png
from facesr.utils.errors import UserError

ALL, SOME = 20, 10  # names of a kind that are all listed; of more, how many
EXPECTED = 10_000  # images, where it is not known how many there have to be
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python decompresses the others without a limit
NESTED, MACOS = 'not at the top level', "macOS's own, not images"
# The organiser's script enters a folder only where it is all that was in the zip, hidden files included.
HIDES = ("macOS's own beside the folder, so that the organiser's script finds no images; zip the images without their "
         "folder, or take these out: zip -d FILE '__MACOSX/*' '*.DS_Store'")
UNSAFE, TWICE, ENCRYPTED = 'unsafe path', 'more than once', 'encrypted'


class Problems:
    """What is wrong with predictions: names by kind."""

    def __init__(self):
        self._found = {}

    def add(self, kind: str, name: str, details: str = '') -> None:
        """Take down one more; names with the same kind and details are listed together."""
        kind = f'{kind}, {printable(details)}' if details else kind
        self._found.setdefault(kind, []).append(printable(name))

    def update(self, others: 'Problems') -> None:
        """Take over all of others'."""
        for kind, found in others._found.items():
            self._found.setdefault(kind, []).extend(found)

    def __len__(self):
        return sum(map(len, self._found.values()))

    def lines(self) -> list:
        """A line per kind with the names; of more than 20 the first ten."""
        return [f'{kind} ({len(found)}): {_listed(sorted(found))}' for kind, found in self._found.items()]


def _listed(names: list[str]) -> str:
    if len(names) <= ALL:
        return ', '.join(names)
    return f'{", ".join(names[:SOME])} and {len(names) - SOME} more'


class PredictionError(UserError):
    """Predictions that an organiser would not take.

    Attributes:
        problems (Problems): All of them.
    """

    def __init__(self, path: str | Path, problems: Problems):
        super().__init__(f'{path}: {"; ".join(problems.lines())}')
        self.problems = problems


class Predictions:
    """Images in a folder or a zip; a context, whose `read` may be called by several threads.

    Attributes:
        path (Path): The folder or zip.
        names (list[str]): Of the files that may be read, sorted; whether they are images is seen when they are.
        problems (Problems): With everything else that is there.
        inside (str): The one folder that all of it is in, where that was allowed; else ''.
        passed_over (list[str]): What macOS has put beside the images, where that was allowed.
    """

    def __init__(self, path: str | Path):
        self.path, self.names, self.problems, self.inside, self.passed_over = Path(path), [], Problems(), '', []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Let go of the file."""

    def read(self, name: str, size: tuple | None = None) -> np.ndarray:
        """Decode one image.

        Args:
            name (str): One of `names`.
            size (tuple[int, int] | None): Height and width that it has to have. Default: any, up to 2**25 pixels.

        Returns:
            ndarray: uint8, RGB, (h, w, 3).

        Raises:
            BadImage: As `facesr.submission.png.read_png`.
        """
        raise NotImplementedError


class FolderPredictions(Predictions):
    """Predictions in a folder.

    Args:
        path (str | Path): The folder.
        as_organiser (bool): Take what the organiser's script takes, too: images in a folder in it, if nothing else is,
            and what macOS puts beside them. Default: False.
    """

    def __init__(self, path: str | Path, as_organiser: bool = False):
        super().__init__(path)
        entries = list(os.scandir(path))
        seen = [entry for entry in entries if not entry.name.startswith('.') and not is_macos(entry.name)]
        if as_organiser and len(seen) == 1 and seen[0].is_dir():
            self.inside = seen[0].name
            entries = [entry for entry in entries if entry is not seen[0]] + list(os.scandir(seen[0]))
        for entry in entries:
            if is_macos(entry.name) and as_organiser:
                self.passed_over.append(entry.name)
            elif entry.is_dir():
                self.problems.add(NESTED, f'{entry.name}/')
            elif is_macos(entry.name):
                self.problems.add(MACOS, entry.name)
            elif entry.name.startswith('.'):
                continue  # as a listing passes over them: what a kill left, say
            elif not entry.is_file():
                self.problems.add(DAMAGE, entry.name, 'no file, or a link to none')
            else:
                self.names.append(entry.name)
        self.names.sort()

    def read(self, name: str, size: tuple | None = None) -> np.ndarray:
        """See `Predictions`."""
        path = self.path / self.inside / name
        try:
            with path.open('rb') as file:
                return read_png(file, path.stat().st_size, size)
        except OSError as error:
            raise BadImage(DAMAGE, one_line(error)) from None


class ZipPredictions(Predictions):
    """Predictions in a zip.

    Args:
        path (str | Path): The zip.
        expected (int): How many images there should be; bounds what is read of its directory.
        as_organiser (bool): As of `FolderPredictions`. Default: False.

    Raises:
        UserError: It is no zip, a damaged one, or one with far more files than expected.
    """

    def __init__(self, path: str | Path, expected: int = EXPECTED, as_organiser: bool = False):
        super().__init__(path)
        self._as_organiser = as_organiser
        most = 2 * expected + 1000  # macOS doubles them
        self._file = _LimitedFile(path, 512 * most)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except UNREADABLE as error:
            self._file.close()
            raise UserError(f'{path}: not a zip, or a damaged one ({one_line(error)}); make it again') from None
        self._file.limit = None
        count, self._entries = len(self._zip.infolist()), {}
        if count > most:
            self.close()
            raise UserError(f'{path}: has {count:,} files, where {expected:,} images are expected')
        self.inside = self._one_folder() if as_organiser else ''
        for info in self._zip.infolist():
            self._look_at(info)
        self.names = sorted(self._entries)

    def close(self) -> None:
        """Let go of the zip."""
        self._zip.close()
        self._file.close()

    def read(self, name: str, size: tuple | None = None) -> np.ndarray:
        """See `Predictions`."""
        info = self._entries[name]
        if info.compress_type not in METHODS:
            raise BadImage(DAMAGE, 'compressed by another method than deflate')
        try:
            with self._zip.open(info) as file:
                return read_png(file, info.file_size, size)
        except UNREADABLE as error:
            raise BadImage(DAMAGE, one_line(error)) from None

    def _one_folder(self) -> str:
        """The folder that all but macOS's own files are in, if there is one."""
        tops, files = set(), 0
        for info in self._zip.infolist():
            parts = PurePosixPath(info.orig_filename).parts
            if not is_macos(info.orig_filename):
                if not parts or _is_unsafe(info) or (len(parts) < 2 and not info.is_dir()):
                    return ''
                tops.add(parts[0])
                files += not info.is_dir()
        return tops.pop() if len(tops) == 1 and files else ''

    def _look_at(self, info: zipfile.ZipInfo) -> None:
        """Sort an entry under `_entries` or `problems`."""
        name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        if self.inside and info.is_dir() and PurePosixPath(name).parts == (self.inside, ):
            return
        if self.inside and not is_macos(name):
            name = name.removeprefix(f'{self.inside}/')
        parts = PurePosixPath(name).parts
        if _is_unsafe(info):
            self.problems.add(UNSAFE, name)
        elif is_macos(name):
            self._look_at_macos(name)
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

    def _look_at_macos(self, name: str) -> None:
        if not self._as_organiser:
            self.problems.add(MACOS, name)
        elif self.inside and PurePosixPath(name).parts[0] != self.inside:
            self.problems.add(HIDES, name)
        else:
            self.passed_over.append(name)


def _is_unsafe(info: zipfile.ZipInfo) -> bool:
    """Whether an entry's name may lead out of where a zip is unpacked, or is read otherwise by others."""
    name = info.orig_filename
    return bool(name != info.filename or re.match(r'/|[A-Za-z]:', name)
                or '..' in PurePosixPath(name).parts or '\\' in name)


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
            raise zipfile.BadZipFile(f'a directory of more than {self.limit:,} bytes')
        return data


def open_predictions(path: str | Path, expected: int = EXPECTED, as_organiser: bool = False) -> Predictions:
    """Images in a folder or a zip.

    Args:
        path (str | Path): The folder or zip.
        expected (int): How many images there should be. Default: 10,000.
        as_organiser (bool): As of `FolderPredictions`. Default: False.

    Raises:
        UserError: There is neither.
    """
    path = Path(path)
    if path.is_dir():
        return FolderPredictions(path, as_organiser)
    if not path.is_file():
        raise UserError(f'{path}: no such folder or zip')
    return ZipPredictions(path, expected, as_organiser)


def printable(name: str) -> str:
    """A name from a zip or a disk, without what a terminal would obey."""
    return name if name.isprintable() else ascii(name)


def is_macos(name: str) -> bool:
    """Whether a path is what macOS puts beside one's own files."""
    parts = PurePosixPath(name).parts
    return '__MACOSX' in parts or bool(parts) and (parts[-1] == '.DS_Store' or parts[-1].startswith('._'))
