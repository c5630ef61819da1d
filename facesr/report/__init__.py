"""A run as one HTML file that needs nothing else: what `tools/report.py` writes.

`measure` restores the validation images of what `facesr.sources` finds in a work dir, `page` puts all on a page;
`template/` has the page's markup, style and script.
"""

from facesr.report.measure import Comparison, ImageRow, Measured, measure_run
from facesr.report.page import render

__all__ = ['Comparison', 'ImageRow', 'Measured', 'measure_run', 'render']
