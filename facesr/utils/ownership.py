"""Knowing again what these tools wrote: what else has the name of an output is a user's, and stays."""
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from facesr.utils.errors import UserError

FIGURE = 'facesr, a figure'  # in each PNG and SVG of a figure
MARKDOWN = '<!-- written by tools/compare.py -->\n'  # begins it
HTML = """content="default-src 'none'; img-src data:; style-src 'unsafe-inline';"""  # of a report
ZIPPED = (1980, 1, 1, 0, 0, 0)  # the date of all that is in a zip to hand in
# Keys of a JSON file with metrics, a score, a comparison or a table of models.
JSON = ({'mean', 'images', 'conventions'}, {'mean', 'images', 'predictions'}, {'bootstrap', 'entries'},
        {'caption', 'rows'})
BEGINNING = 2000  # bytes that have a mark


def require_replaceable(path: str | Path) -> None:
    """That a tool may write a file: there is none, or an empty one, or what such a tool wrote.

    Files of kinds that tools never replace are not looked at.

    Raises:
        UserError: Something else is there.
    """
    path = Path(path)
    is_ours = KINDS.get(path.suffix.lower())
    if is_ours and path.is_file() and path.stat().st_size and not is_ours(path):
        raise UserError(f'{path}: is there and was not made by this tool, or by an earlier version of it; '
                        'give another name, or remove it')


def _figure(path: Path) -> bool:
    from PIL import PngImagePlugin  # here, as most tools need no Pillow to start
    try:
        with PngImagePlugin.PngImageFile(path) as image:
            return image.info.get('Software') == FIGURE
    except (OSError, SyntaxError, ValueError):
        return False


def _marked(mark: str) -> Callable:
    def is_ours(path: Path) -> bool:
        with path.open('rb') as file:
            return mark.encode() in file.read(BEGINNING)

    return is_ours


def _markdown(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(len(MARKDOWN)) == MARKDOWN.encode()  # a user may have put something before it


def json_with(path: Path, *kinds: set) -> dict:
    """The object in a JSON file that has all keys of one of the kinds; {} of any other file."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and any(keys <= content.keys() for keys in kinds) else {}


def _results(path: Path) -> bool:
    return bool(json_with(path, *JSON))


def _zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(part.date_time == ZIPPED and part.filename.endswith('.png') for part in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError):
        return False


KINDS = {'.png': _figure, '.svg': _marked(FIGURE), '.md': _markdown, '.html': _marked(HTML),
         '.json': _results, '.zip': _zip}
