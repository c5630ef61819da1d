"""Writing a figure."""
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from facesr.utils.files import atomic_path
from facesr.utils.ownership import FIGURE

DPI = 100


def save_figure(figure: Figure, out: str | Path, dpi: float = DPI) -> None:
    """Write a figure as PNG or SVG, whole or not at all; the same figure gives the same bytes.

    Args:
        out (str | Path): Ends with .png or .svg.
        dpi (float): Pixels of a PNG per inch of the figure. Default: 100.
    """
    kind = Path(out).suffix.lower().removeprefix('.')
    metadata = {'Date': None, 'Creator': FIGURE} if kind == 'svg' else {'Software': FIGURE}
    with atomic_path(out) as temporary, rc_context({'svg.hashsalt': 'facesr'}):
        figure.savefig(temporary, dpi=dpi, format=kind, metadata=metadata)
