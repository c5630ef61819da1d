"""The HQ images as files, and the zip that CodaLab takes."""
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from facesr.submission.scoring import verify_zip
from facesr.utils.errors import UserError
from facesr.utils.files import as_json, atomic_path, file_sha256, write_atomic
from facesr.utils.ownership import ZIPPED, json_with
from facesr.utils.versions import versions

RECORD = 'submission.json'


def hq_names(lq_paths: Iterable) -> list:
    """The PNG name of each LQ image: its own stem.

    Raises:
        UserError: Two LQ images have the same stem, so that their HQ images would be one file.
    """
    names = [f'{Path(path).stem}.png' for path in lq_paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f'{twice[0]} would be the HQ image of {Counter(names)[twice[0]]} LQ images; rename them')
    return names


@contextmanager
def submission_zip(path: str | Path, names: Iterable, sizes: dict) -> Iterator[Callable]:
    """Yields `add(name, data)`; on success the zip stands at `path`, whole and verified.

    The files alone, at the top level. PNGs are stored as they are (deflating them again gains
    nothing) and with a fixed date, so the same images give the same zip byte for byte.

    Args:
        path (str | Path): The zip.
        names (Iterable[str]): Of the images that have to be in it.
        sizes (dict[str, tuple]): Height and width that each has to have, by name; read at the end.

    Raises:
        UserError: The zip is not what the organiser takes (see `verify_zip`); nothing is written.
    """
    with atomic_path(path) as temporary:
        with zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED) as archive:

            def add(name: str, data: bytes) -> None:
                info = zipfile.ZipInfo(name, date_time=ZIPPED)
                info.external_attr = 0o644 << 16
                archive.writestr(info, data)

            yield add
        try:
            verify_zip(temporary, names, sizes)
        except UserError as error:
            raise UserError(str(error).replace(temporary, str(path))) from error


def require_no_other_record(zip_file: str | Path) -> None:
    """See that `submission.json` may be written beside a zip.

    Raises:
        UserError: There is one, of another zip that is still there, or a file that no tool wrote.
    """
    record = Path(zip_file).with_name(RECORD)
    if not record.is_file() or not record.stat().st_size:
        return
    found = json_with(record, {'zip', 'zip_sha256'})
    if not found:
        raise UserError(f'{record}: is there and was not made by this tool; write the zip into another folder')
    if found['zip'] != Path(zip_file).name and record.with_name(str(found['zip'])).exists():
        raise UserError(f'{record}: is about {found["zip"]}, which is still there; write the zip into another folder')


def write_record(zip_file: str | Path, checkpoint: str | Path, **about) -> Path:
    """Write `submission.json` beside the zip: what it was made of.

    Args:
        zip_file (str | Path): The zip.
        checkpoint (str | Path): Whose images are in it.
        about: More to be recorded; plain values.

    Returns:
        Path: The file.
    """
    record = Path(zip_file).with_name(RECORD)
    content = dict(
        zip=Path(zip_file).name, zip_sha256=file_sha256(zip_file), checkpoint=str(checkpoint),
        checkpoint_sha256=file_sha256(checkpoint), **about,
        date=datetime.now().astimezone().isoformat(timespec='seconds'), versions=versions())
    write_atomic(record, as_json(content))
    return record
