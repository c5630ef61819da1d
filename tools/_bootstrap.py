"""Puts the repository on `sys.path`, so that the tools run without installing `facesr`."""
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# Found, not imported: mmcv and mmedit can be imported only after facesr's bridges are in place.
_missing = [name for name in ('torch', 'cv2', 'mmcv', 'mmedit') if importlib.util.find_spec(name) is None]
if _missing:
    sys.exit(f'error: not installed for {sys.executable}: {", ".join(_missing)}; run `make install` and use '
             '.venv/bin/python, or see "Start" in README.md')
