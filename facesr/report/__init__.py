"""A run as one HTML file that needs nothing else: what `tools/report.py` writes.

`find` looks for what a work dir has, `measure` restores its validation images, `page` puts both on a page;
`template/` has the page's markup, style and script.
"""
from facesr.report.find import Sources, find_sources
from facesr.report.measure import Comparison, ImageRow, Measured, measure_run
from facesr.report.page import render

__all__ = ['Comparison', 'ImageRow', 'Measured', 'Sources', 'find_sources', 'measure_run', 'render']
