"""The HQ images as files, and the zip that CodaLab takes."""
import json
import os
import platform
import zipfile
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import cv2
import mmcv
import mmedit
import numpy as np
import torch

from facesr.errors import UserError
from facesr.files import atomic_path, file_sha256, write_atomic
from facesr.scoring import verify_zip

RECORD = 'submission.json'
THREADS = 4  # more would only wait for the network's cores


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


class HQWriter:
    """PNGs of HQ images, encoded and written by threads while the next batch is computed; a context.

    Args:
        save_path (str | Path | None): Folder for them.
        add_to_zip (Callable | None): From `submission_zip`; called in the order of `write`.
    """

    def __init__(self, save_path=None, add_to_zip=None):
        self._folder, self._add_to_zip = save_path and Path(save_path), add_to_zip
        self._threads = min(THREADS, os.cpu_count() or 1)
        self._pending = deque()

    def __enter__(self):
        self._pool = ThreadPoolExecutor(self._threads)
        return self

    def __exit__(self, kind, *_):
        try:
            while self._pending and kind is None:
                self._finish_one()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def write(self, name: str, image: np.ndarray) -> None:
        """Take over a uint8 BGR image (h, w, 3); waits if too many are taken over already.

        Raises:
            OSError: An image taken over earlier could not be written.
        """
        if self._folder is None and self._add_to_zip is None:
            return
        while len(self._pending) >= 2 * self._threads:
            self._finish_one()
        self._pending.append((name, self._pool.submit(self._encode, name, image)))

    def _encode(self, name: str, image: np.ndarray) -> bytes:
        png = encode_png(image)
        if self._folder is not None:
            write_atomic(self._folder / name, png)
        return png

    def _finish_one(self) -> None:
        name, png = self._pending.popleft()
        png = png.result()
        if self._add_to_zip is not None:
            self._add_to_zip(name, png)


@contextmanager
def submission_zip(path, sizes: dict):
    """Yields `add(name, data)`; on success the zip stands at `path`, whole and verified.

    The files alone, at the top level. PNGs are stored as they are (deflating them again gains
    nothing) and with a fixed date, so the same images give the same zip byte for byte.

    Args:
        path (str | Path): The zip.
        sizes (dict[str, tuple]): Height and width of each image that has to be in it, by name; read at the end.

    Raises:
        UserError: The zip is not what the organiser takes (see `facesr.scoring.verify_zip`); nothing is written.
    """
    with atomic_path(path) as temporary:
        with zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED) as archive:

            def add(name: str, data: bytes) -> None:
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.external_attr = 0o644 << 16
                archive.writestr(info, data)

            yield add
        try:
            verify_zip(temporary, sizes, sizes)
        except UserError as error:
            raise UserError(str(error).replace(temporary, str(path))) from error


def write_record(zip_file, checkpoint, **about) -> Path:
    """Write `submission.json` beside the zip: what it was made of.

    Args:
        zip_file (str | Path): The zip.
        checkpoint (str | Path): Whose images are in it.
        about: More to be recorded; plain values.

    Returns:
        Path: The file.
    """
    record = Path(zip_file).with_name(RECORD)
    versions = dict(python=platform.python_version(), torch=torch.__version__, mmedit=mmedit.__version__,
                    mmcv=mmcv.__version__, numpy=np.__version__, opencv=cv2.__version__)
    content = dict(
        zip=Path(zip_file).name, zip_sha256=file_sha256(zip_file), checkpoint=str(checkpoint),
        checkpoint_sha256=file_sha256(checkpoint), **about,
        date=datetime.now().astimezone().isoformat(timespec='seconds'), versions=versions)
    write_atomic(record, f'{json.dumps(content, indent=2)}\n')
    return record
