"""Decoded training images in a memory-mapped file (LMDB), for where decoding them again and again is what costs."""
import errno
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import facesr.compat.bridged  # noqa: F401

import cv2
import lmdb
import numpy as np
from mmedit.datasets.pipelines import LoadImageFromFile
from mmedit.datasets.registry import PIPELINES
from tqdm import tqdm

from facesr.datasets.annotation import read_info
from facesr.utils.errors import UserError
from facesr.utils.files import require_space

DATA = 'data.mdb'  # LMDB's name for its file
HEADER = struct.Struct('<qqiiiI')  # size and time of change (ns) of the file; height, width, channels; CRC-32
LAYOUT = 2  # of an entry; those of another are passed over
OVERHEAD = 2 * 4096  # bytes an image takes besides its pixels, at most
CHUNK = 32  # images per transaction: what a kill costs
READERS = 1024
ROOM = 2**28  # bytes by which the file may grow at a time; it takes no more of the disk than is used
_environments = {}  # by path: LMDB opens a file once in a process


class ImageCache:
    """8-bit images by the file that they were decoded from, shared by all of a user's processes on a machine.

    An image counts only while its file has the size and the time of change that it had when it was read, which is
    looked at each time, and its pixels have the checksum that they were put in with. A kill at any moment leaves the
    cache whole. It must not lie on a network drive.

    Args:
        folder (str | Path): Where the cache is, or is to be.
        variant (str): How images are decoded; another has other entries.
    """

    def __init__(self, folder: str | Path, variant: str = ''):
        self.folder, self.variant = Path(folder), variant
        self._place = str(self.folder.resolve())

    def get(self, path: str | Path) -> np.ndarray | None:
        """The image (h, w, c), uint8, a copy, or None if there is none that is sure to be the file's."""
        return self._look_up([path], _image)[0]

    def missing(self, paths: Sequence) -> list:
        """Those of some files that `get` would not give."""
        there = self._look_up(paths, lambda _value: True)
        return [path for path, found in zip(paths, there, strict=True) if not found]

    def lacking(self, paths: Sequence) -> tuple:
        """What `fill` would have to do: the files that are missing, the bytes they take, and both in words."""
        missing = self.missing(paths)
        size = sum(_bytes(path) for path in missing)
        return missing, size, (f'cache of decoded images, {self.folder}: {len(paths) - len(missing)} of {len(paths)} '
                               'images are there' + (f'; the others take {size / 2**20:,.0f} MiB' if missing else ''))

    def fill(self, paths: Sequence, decode: Callable, report: Callable = print) -> None:
        """Put in what is missing of some files; shows its progress, and goes on where an earlier call stopped.

        Args:
            paths (Sequence): The files.
            decode (Callable): Makes a uint8 array (h, w, c) of a path, or None to leave it out; called in threads.
            report (Callable[[str], None]): Told how large it gets before anything is written.

        Raises:
            UserError: The folder cannot be written.
            OSError: The disk has too little room.
        """
        missing, size, words = self.lacking(paths)
        _close_all()  # to open it for writing
        report(words)
        if not missing:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            require_space(self.folder / DATA, size)
            with closing(lmdb.open(self._place, map_size=size + ROOM, max_readers=READERS)) as environment, \
                    ThreadPoolExecutor(os.cpu_count()) as pool, \
                    tqdm(total=len(missing), desc='cache', unit='image', disable=None) as progress:
                for start in range(0, len(missing), CHUNK):
                    chunk = missing[start:start + CHUNK]
                    # Stamped before it is decoded: what is changed in between will not count.
                    images = list(pool.map(lambda path: (self._key(path), _stamp(path), decode(path)), chunk))
                    _put(environment, [(key, _entry(stamp, image))
                                       for key, stamp, image in images if image is not None])
                    progress.update(len(chunk))
        except (lmdb.Error, OSError) as error:
            if getattr(error, 'errno', None) == errno.ENOSPC:
                raise
            raise UserError(f'{self.folder}: the cache cannot be written ({error}); choose another folder with '
                            '--cfg-options cache_images=DIR') from error

    def _key(self, path) -> bytes:
        return blake2b(f'{LAYOUT}\0{self.variant}\0{os.path.abspath(path)}'.encode(), digest_size=16).digest()

    def _look_up(self, paths, use) -> list:
        """What `use` makes of the value of each file, or None."""
        try:
            environment = self._open()
            return [environment and _get(environment, self._key(path), _stamp(path), use) for path in paths]
        except lmdb.Error as error:
            raise UserError(f'{self.folder}: the cache cannot be read ({error}); remove it, or choose another folder '
                            'with --cfg-options cache_images=DIR') from error

    def _open(self):
        """This process's environment, or None where there is no cache."""
        if self._place not in _environments and (self.folder / DATA).is_file():
            environment = lmdb.open(self._place, readonly=True, max_readers=READERS)
            used = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
            if (self.folder / DATA).stat().st_size < used:  # reading beyond its end would kill the process
                environment.close()
                raise lmdb.CorruptedError(f'{DATA} is truncated')
            _environments[self._place] = environment
        return _environments.get(self._place)


def _close_all() -> None:
    while _environments:
        _environments.popitem()[1].close()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=_close_all)  # a child may not use what its parent has opened, nor open it again


def _get(environment, key: bytes, stamp: tuple, use):
    """What `use` makes of a value with this stamp, or None."""
    try:
        transaction = environment.begin(buffers=True)
    except lmdb.MapResizedError:  # another process has made it larger
        environment.set_mapsize(0)
        transaction = environment.begin(buffers=True)
    with transaction:
        value = transaction.get(key)
        return use(value) if value is not None and HEADER.unpack_from(value)[:2] == stamp else None


def _put(environment, items) -> None:
    """All or, if this is killed, none of some keys and values."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in items:
                    transaction.put(key, value)
            return
        except lmdb.MapResizedError:  # by another process
            environment.set_mapsize(0)
        except lmdb.MapFullError:  # images had changed, or another process put in its own
            environment.set_mapsize(environment.info()['map_size'] + ROOM)


def _stamp(path) -> tuple:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _bytes(path) -> int:
    """What an image takes in the cache, at most."""
    try:
        info = read_info(path)
    except UserError:  # it will be left out
        return 0
    return info.height * info.width * 3 + OVERHEAD


def _entry(stamp: tuple, image: np.ndarray) -> bytes:
    pixels = image.tobytes()
    return HEADER.pack(*stamp, *image.shape, zlib.crc32(pixels)) + pixels


def _image(value) -> np.ndarray | None:
    """An entry's image, or None if it is not the one that was put in (0.3 ms of 0.8 MB)."""
    *shape, checksum = HEADER.unpack_from(value)[2:]
    pixels = np.frombuffer(value, np.uint8, offset=HEADER.size)
    if zlib.crc32(pixels) != checksum:
        return None
    return pixels.reshape(shape).copy()


@PIPELINES.register_module()
class LoadCachedImage(LoadImageFromFile):
    """MMEditing's `LoadImageFromFile`, which looks into a cache first; what is not there is read from the file.

    Args:
        cache (str | Path): The cache's folder.
        kwargs: `LoadImageFromFile`'s; `flag` must be 'color'.
    """

    def __init__(self, cache: str | Path, **kwargs):
        super().__init__(**kwargs)
        if self.flag != 'color' or self.convert_to or self.save_original_img or self.io_backend != 'disk':
            raise ValueError('LoadCachedImage reads colour images from disk, without convert_to or save_original_img')
        self.cached = ImageCache(cache, f'{self.channel_order} {self.backend}')

    def __call__(self, results):
        """Add the image and its shape."""
        path = str(results[f'{self.key}_path'])
        image = self.cached.get(path)
        if image is None:
            return super().__call__(results)
        results.update({self.key: image, f'{self.key}_path': path, f'{self.key}_ori_shape': image.shape})
        return results

    def decode(self, path: str | Path) -> np.ndarray | None:
        """The file's image, not looking into the cache; None if it is unreadable, which training is to report."""
        try:
            return super().__call__({f'{self.key}_path': path})[self.key]
        except (cv2.error, AttributeError, OSError, ValueError):
            return None
