"""Bridges that let mmedit 0.16.1 and mmcv-full 1.7.2 run on today's Python stack.

Both libraries are unmaintained. Each module here mends one thing, says what and when it can go,
and offers `apply() -> bool`: True if it changed something, False if nothing needed mending (a
second call, or a stack that is fine as it is).
"""
from facesr.compat import mmcv_ops, notices, numpy2, safe_yaml, torch_streams

# Order matters: `notices` must come before the first import of mmcv and OpenCV, `numpy2` before
# mmedit, and `torch_streams` imports mmcv.parallel, which is safe only after the others.
BRIDGES = (notices, numpy2, mmcv_ops, safe_yaml, torch_streams)


def apply() -> list:
    """Apply every bridge that this stack needs; returns the names of those that changed something."""
    return [bridge.__name__.rpartition('.')[2] for bridge in BRIDGES if bridge.apply()]
