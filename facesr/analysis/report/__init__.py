"""A run as one HTML file that needs nothing else: what `tools/report.py` writes.

`measure` restores the validation images of what `facesr.analysis.work_dir` finds, `page` puts all on a page;
`template/` has the page's markup, style and script.
"""
