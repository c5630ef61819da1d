"""A comparison as text for a terminal, as Markdown, and as JSON."""
import math
from pathlib import Path

from facesr.analysis.comparison.compare import (
    BOOTSTRAP_FROM,
    CONFIDENCE,
    FEWEST,
    RESAMPLES,
    Comparison,
    ContestantRow,
)
from facesr.utils import files
from facesr.utils.errors import UserError
from facesr.utils.files import output_file, write_atomic
from facesr.utils.ownership import MARKDOWN
from facesr.utils.tables import NONE, WIDTH, markdown_table, shortened, text_table
from facesr.utils.terminal import plain

HEADER = ['', 'mean', 'median', 'worst', 'std err', 'SSIM', 'diff', 'interval', 'parameters', 'GMACs', 's/image']


def as_text(comparison: Comparison, images: int) -> str:
    """Tables of at most 120 characters' width (for up to ten contestants), with what the numbers are.

    Args:
        comparison (Comparison): What to show.
        images (int): How many of the images that differ most.
    """
    parts = [text_table(HEADER, _rows(comparison)), *_remarks(comparison, '')]
    if comparison.most_different(images):
        column = max(7, (WIDTH - max(11, *map(len, comparison.names))) // len(comparison.rows) - 2)
        header, *rows = _image_rows(comparison, images)
        parts.append(text_table([shortened(label, column) for label in header], rows))
    return '\n\n'.join(parts)


def as_markdown(comparison: Comparison, images: int) -> str:
    """As `as_text`, as Markdown, with labels in full."""
    parts = [markdown_table(HEADER, _rows(comparison)), *_remarks(comparison, '* ')]
    if comparison.most_different(images):
        header, *rows = _image_rows(comparison, images)
        parts.append(markdown_table(header, rows))
    return '\n\n'.join(parts) + '\n'


def as_json(comparison: Comparison, **about) -> str:
    """Everything, with each image's PSNR and SSIM; null is what is not there, or infinite."""
    interval = dict(method='BCa bootstrap' if _is_bootstrap(comparison) else "Student's t", confidence=CONFIDENCE)
    bootstrap = dict(method='BCa', confidence=CONFIDENCE, resamples=RESAMPLES, seed=comparison.seed)
    content = dict(about, gt=comparison.gt, lq_size=comparison.lq_size, device=comparison.device or None,
                   reference=comparison.rows[0].label, interval=interval,
                   bootstrap=bootstrap if _is_bootstrap(comparison) else None,
                   entries=[_entry(comparison, row) for row in comparison.rows])
    return files.as_json(content)


def check_output(path: str | Path) -> Path:
    """The path of a .json or .md file to write.

    Raises:
        UserError: It has another suffix, or is a file that somebody wrote.
    """
    path = Path(path)
    if path.suffix.lower() not in ('.md', '.json'):
        raise UserError(f'{path}: give the name of a .json file, or of a .md, to write')
    return output_file(path, path.suffix.lower())


def write_comparison(path: str | Path, comparison: Comparison, images: int) -> None:
    """Write a comparison as JSON or Markdown, by the path's suffix; `images` as for `as_text`."""
    is_json = Path(path).suffix.lower() == '.json'
    write_atomic(path, as_json(comparison) if is_json else MARKDOWN + as_markdown(comparison, images))


def notes(comparison: Comparison) -> list:
    """What the numbers are, a line each."""
    reference, (height, width) = comparison.rows[0].label, comparison.lq_size
    lines = [f'PSNR in dB and SSIM: RGB, 8 bits, whole images; {len(comparison.names)} images of {comparison.gt}']
    if len(comparison.names) < FEWEST:
        lines.append(f'diff: mean paired difference to {reference}; no interval for fewer than {FEWEST} images')
    else:
        how = f'BCa bootstrap over images, {RESAMPLES:,} resamples' if _is_bootstrap(comparison) else (
            f"Student's t over images (bootstrap: {BOOTSTRAP_FROM} and more)")
        lines.append(f'diff: mean paired difference to {reference}; interval: {CONFIDENCE:.0%}, {how}')
    if comparison.device:
        lines.append(f'GMACs: for an LQ image of {width}x{height}; s/image: median of the network alone on '
                     f'{comparison.device}')
    return lines


def _is_bootstrap(comparison: Comparison) -> bool:
    return len(comparison.names) >= BOOTSTRAP_FROM


def _remarks(comparison: Comparison, bullet: str) -> list:
    """Two blocks of lines: what the numbers are, and where the images come from."""
    sources = [f'{row.label}: {row.source}' for row in comparison.rows if row.source]
    return ['\n'.join(bullet + plain(line) for line in lines) for lines in (notes(comparison), sources)]


def _rows(comparison: Comparison) -> list:
    return [[row.label, *_cells(row)] for row in comparison.rows]


def _cells(row: ContestantRow) -> list:
    found, difference, interval = row.statistics(), row.difference, NONE
    if difference is not None and difference.low is not None:
        interval = f'[{difference.low:+.3f}, {difference.high:+.3f}]'
    return [*(_number(found[key]) for key in ('mean', 'median', 'worst', 'standard_error', 'ssim')),
            NONE if difference is None else _number(difference.mean, '{:+.4f}'), interval,
            _number(row.parameters, '{:,}'), _number(row.macs and row.macs / 1e9, '{:.2f}'), _number(row.seconds)]


def _number(value, pattern: str = '{:.4f}') -> str:
    return NONE if value is None or math.isnan(value) else pattern.format(value)


def _image_rows(comparison: Comparison, images: int) -> list:
    """PSNR of the images that differ most, below a line with the labels."""
    return [['differ most', *(row.label for row in comparison.rows)],
            *([comparison.names[i], *(_number(row.psnr[i]) for row in comparison.rows)]
              for i in comparison.most_different(images))]


def _entry(comparison: Comparison, row: ContestantRow) -> dict:
    images = [dict(name=name, PSNR=float(psnr), SSIM=float(ssim))
              for name, psnr, ssim in zip(comparison.names, row.psnr, row.ssim, strict=True)]
    difference = row.difference and dict(mean=row.difference.mean, interval=[row.difference.low, row.difference.high])
    return dict(label=row.label, source=row.source, **row.statistics(), difference=difference,
                parameters=row.parameters, macs=row.macs, seconds=row.seconds, images=images)
