"""Restoring any images that a user has: what `tools/restore.py` does."""
import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from facesr.inference.faces import crop_face
from facesr.inference.photos import Photo, as_output, read_photo, was_written_by_restore, write_photo
from facesr.inference.tiling import PROBES, measure_overlap, restore_tiled
from facesr.utils.choices import TILE
from facesr.utils.errors import UserError
from facesr.utils.files import remedy
from facesr.utils.images import IMG_EXTENSIONS, UNREAD
from facesr.utils.memory import enough_memory
from facesr.utils.pixels import to_float, to_uint8
from facesr.utils.threads import Background

LQ_FACE = 128  # side of the LQ faces that models are trained on
# What is taken from a folder; a file that is named itself may be anything that Pillow opens.
SUFFIXES = {suffix.lower() for suffix in (*IMG_EXTENSIONS, *UNREAD)} | {'.pgm', '.pbm', '.pnm', '.tga', '.jpe', '.mpo'}

NETWORKS = ('.pth', '.safetensors', '.onnx')


class Job(NamedTuple):
    """An image and the PNG to write; of its faces, if those are asked for, `<stem>_face<k>.png` instead."""
    source: Path
    output: Path

    def face_output(self, index: int) -> Path:
        """The PNG of a face; they count from 0."""
        return self.output.with_name(f'{self.output.stem}_face{index}.png')


class Outcome(NamedTuple):
    """What became of the jobs: PNGs written, a line for each image that failed, how many images a note holds of."""
    written: int
    failures: list
    notes: Counter


def find_images(inputs: Iterable, recursive: bool = False, out: str | Path | None = None) -> tuple:
    """The images that were named, and those directly in folders that were (sorted, without hidden files).

    Args:
        inputs (Iterable): Paths of images and folders.
        recursive (bool): Walk sub-folders too, but hidden ones and links to folders. Default: False.
        out (str | Path | None): The folder for the PNGs, which is not walked. Default: None.

    Returns:
        tuple[list[Path], int]: Them, and the number of other files in the folders.

    Raises:
        UserError: An input does not exist or is a network, or a folder has no images.
    """
    images, others = [], 0
    for path in map(Path, inputs):
        if not path.is_dir():
            if not path.is_file():
                raise UserError(f'{path}: no such file or folder')
            if path.suffix.lower() in NETWORKS:
                raise UserError(f'{path}: is a network, not an image; give --weights FILE.safetensors, or CONFIG '
                                'before a checkpoint')
            images.append(path)
            continue
        files = list(_files(path, recursive, Path(out).resolve() if out else None))
        found = sorted(file for file in files if file.suffix.lower() in SUFFIXES)
        if not found:
            hint = '' if recursive else ' (sub-folders are not looked into without --recursive)'
            raise UserError(f'{path}: no images in it{hint}')
        images += found
        others += len(files) - len(found)
    return images, others


def _files(folder: Path, recursive: bool, out: Path | None) -> Iterator[Path]:
    """The files in a folder, in no order."""
    for entry in os.scandir(folder):
        if entry.name.startswith('.'):
            continue
        if entry.is_file():
            yield Path(entry)
        elif recursive and entry.is_dir(follow_symlinks=False) and Path(entry).resolve() != out:
            yield from _files(Path(entry), recursive, out)


def plan(images: list[Path], out: str | Path, faces: bool = False, skip_existing: bool = False,
         walked: Iterable = ()) -> list:
    """Where each image goes, checked before anything is computed.

    Args:
        images (list[Path]): From `find_images`.
        out (str | Path): The folder for the PNGs.
        faces (bool): Whether faces are written instead of whole images. Default: False.
        skip_existing (bool): Leave out images whose PNG is there. Default: False.
        walked (Iterable): Folders whose sub-folders are to be found again in `out`. Default: none.

    Returns:
        list[Job]

    Raises:
        OSError: A folder may not be written to.
        UserError: Two images would be one PNG, or one would replace an input or a file that is not ours.
    """
    out = Path(out)
    walked = [os.path.abspath(folder) for folder in walked if Path(folder).is_dir()]
    jobs = [Job(path, out / _below(path, walked) / f'{path.stem}.png') for path in images]
    _refuse_one_output_of_two(jobs)
    inputs = {path.resolve() for path in images}
    names = {folder: _listed(folder, faces) for folder in {job.output.parent for job in jobs}}
    left = []
    for job in jobs:
        if faces:
            present = _faces_present(job, names[job.output.parent])
        else:
            present = [job.output] if os.path.lexists(job.output) else []
        if any(file.resolve() in inputs for file in present):
            raise UserError(f'{present[0]}: is an input, which would be overwritten; give --out-dir another folder')
        if skip_existing and present:
            continue
        for file in present:
            if not was_written_by_restore(file):
                raise UserError(f'{file}: is there and was not made by this tool; give --out-dir another folder')
        left.append(job)
    return left


def _below(path: Path, walked: list[str]) -> Path:
    """An image's folder, from the first of those walked that it lies in; the empty path without one."""
    folder = Path(os.path.abspath(path.parent))
    return next((folder.relative_to(root) for root in walked if folder.is_relative_to(root)), Path())


def _listed(folder: Path, faces: bool) -> list[str]:
    """For faces what is in a folder for PNGs, after it was seen that they can be written there."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f'{there}: is a file; give --out-dir a folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
    return os.listdir(folder) if faces and folder.is_dir() else []


def _refuse_one_output_of_two(jobs: list[Job]) -> None:
    taken: dict[str, Path] = {}
    for job in jobs:
        first = taken.setdefault(str(job.output).casefold(), job.source)  # many disks do not tell X.png from x.png
        if first is job.source:
            continue
        if first.resolve() == job.source.resolve():
            raise UserError(f'{job.source}: is named twice; leave one out')
        raise UserError(f'{job.source} and {first} would both become {job.output}; rename one, or restore them apart')


def _faces_present(job: Job, names: list[str]) -> list[Path]:
    """A job's faces among the files in the folder of its output."""
    pattern = re.compile(rf'{re.escape(job.output.stem)}_face\d+\.png')
    return [job.output.with_name(name) for name in names if pattern.fullmatch(name)]


class Restorer:
    """Restores 8-bit images of any size, those that are larger than a tile in tiles.

    Args:
        net (Callable): From `facesr.inference.network.network`.
        tile (int): See `restore_tiled`. Default: `TILE`.
        overlap (int | None): See `restore_tiled`; tiles fade into each other over so much. None: measured when the
            first tile is needed; it is cut off, where it reaches as far as the network looks. Default: None.
        measured (Callable | None): The network to measure, in full precision; None: `net`. Default: None.
    """

    def __init__(self, net: Callable, tile: int = TILE, overlap: int | None = None, measured: Callable | None = None):
        self._net, self._tile, self._overlap, self._measured = net, tile, overlap, measured or net
        self._suffices = False  # whether the overlap reaches as far as the network looks

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8, RGB, (h, w, 3) -> (scale h, scale w, 3), rounded and clipped as MMEditing's `tensor2img`.

        Raises:
            UserError: Memory does not suffice, a tile is too small, or what comes out is not finite.
        """
        lq = to_float(torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None])
        overlap = self.overlap if 0 < self._tile < max(lq.shape[-2:]) else 0
        smaller = self._tile // 2 if 0 < self._tile < max(lq.shape[-2:]) else max(lq.shape[-2:]) // 2
        with enough_memory(f'memory does not suffice; give --tile {max(1, min(smaller, TILE))}'):
            hq = restore_tiled(self._net, lq, self._tile, overlap, _finished, blend=not self._suffices)
        return hq[0].permute(1, 2, 0).numpy()

    @property
    def overlap(self) -> int:
        """Of tiles, in LQ pixels.

        Raises:
            UserError: Memory does not suffice to measure it.
        """
        if self._overlap is None:
            with enough_memory('memory does not suffice to measure by how much tiles have to overlap; give --overlap '
                               f'{PROBES[0] // 4} (with less, seams may show)'):
                self._overlap = measure_overlap(self._measured)
            self._suffices = self._overlap is not None
            if not self._suffices:
                self._overlap = min(PROBES[-1] // 2, self._tile // 4)
                tqdm.write('the network looks further than tiles overlap: they fade into each other, but one may turn '
                           'out otherwise than the next; --tile 0 restores an image at once, if memory suffices')
            tqdm.write(f'tiles of at most {self._tile} pixels, of which {self._overlap} on each side overlap')
        return self._overlap


def _finished(hq: torch.Tensor) -> torch.Tensor:
    if not hq.isfinite().all():
        raise UserError('the network gives NaN or infinite values; without mixed precision (--amp) it may not')
    return to_uint8(hq)


def restore_photos(jobs: Sequence, restorer: Callable, find_faces: Callable | None = None) -> Outcome:
    """Restore images one by one; PNGs are written while the next is computed.

    An image that cannot be read or written, or has no face where faces are asked for, is passed over.

    Args:
        jobs (list[Job]): From `plan`.
        restorer (Callable): uint8, RGB, (h, w, 3) -> the same, scale times as large; a `Restorer`.
        find_faces (Callable | None): From `build_face_finder`: each face is cut out and restored, instead of the
            whole image. Default: None.

    Raises:
        UserError: As `Restorer`.
        OSError: The folder of a PNG has become a file.
    """
    failures, notes = [], Counter()
    tally = _Tally(failures)
    with Background(threads=1, finish=True) as background:
        for job in tqdm(jobs, desc='restore', unit='image', disable=None):
            try:
                photo = read_photo(job.source)
                targets = _whole(job, photo) if find_faces is None else _faces(job, photo, find_faces)
            except UserError as error:
                failures.append(str(error))
                continue
            except OSError as error:
                failures.append(f'{job.source}: {error.strerror or error}')
                continue
            notes.update(photo.notes)
            for output, part in targets:
                background.submit(_written, job, output, _restored(job, part, restorer), part.icc_profile,
                                  then=tally.add)
    return Outcome(tally.written, failures, notes)


def _written(job: Job, output: Path, image, icc_profile: bytes | None) -> tuple:
    """Write a PNG: its image, and the line about it where it cannot be written. In a thread."""
    try:
        write_photo(output, image, icc_profile)
    except (FileExistsError, NotADirectoryError):
        raise
    except OSError as error:
        advice = 'give the image a shorter name' if error.errno == errno.ENAMETOOLONG else remedy(error)
        return job.source, f'{job.source}: {output} cannot be written ({error.strerror or error}); {advice}'
    return job.source, None


class _Tally:
    """How many PNGs were written; those that were not come to `failures`, a line for each image."""

    def __init__(self, failures: list):
        self.written, self._failures, self._failed = 0, failures, set()

    def add(self, result: tuple) -> None:
        """Count what `_written` gave."""
        source, failure = result
        if failure is None:
            self.written += 1
        elif source not in self._failed:
            self._failed.add(source)
            self._failures.append(failure)


def _restored(job: Job, photo: Photo, restorer: Callable):
    try:
        return as_output(photo, restorer(photo.rgb))
    except UserError as error:
        raise UserError(f'{job.source}: {error}') from error


def _whole(job: Job, photo: Photo) -> list:
    return [(job.output, photo)]


def _faces(job: Job, photo: Photo, find_faces: Callable) -> list:
    """What to write, and the LQ face for it."""
    faces = find_faces(photo.rgb)
    if not faces:
        raise UserError(f'{job.source}: no face was found in it')
    return [(job.face_output(i), photo._replace(rgb=crop_face(photo.rgb, landmarks, LQ_FACE), alpha=None))
            for i, landmarks in enumerate(faces)]
