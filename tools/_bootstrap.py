"""Says in one line what is not installed, before an import fails with a traceback."""
import importlib.util
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends without a traceback; `report_user_errors` goes on

# Found, not imported: mmcv and mmedit can be imported only after facesr's bridges are in place.
_missing = [name for name in ('torch', 'cv2', 'mmcv', 'mmedit', 'facesr') if importlib.util.find_spec(name) is None]
if _missing:
    sys.exit(f'error: not installed for {sys.executable}: {", ".join(_missing)}; run `make install` and use '
             '.venv/bin/python, or see docs/install.md')
