"""Lets mmcv-full 1.7.2's `setup.py` run on Python 3.13 (used by `make install`).

That `setup.py` reads its version with `exec(...)` and `locals()` inside a function. Since
PEP 667 (Python 3.13) names bound by `exec` no longer show up in `locals()`, and the build dies
with `KeyError: '__version__'`. With this folder on PYTHONPATH, `exec` without explicit
namespaces writes through to the frame that called it, as it used to.
Can go when mmcv-full is no longer built from source.
"""
import builtins
import sys

_exec = builtins.exec


def _exec_into_caller(source, globals=None, locals=None, /, **kwargs):
    if globals is None:
        frame = sys._getframe(1)
        globals, locals = frame.f_globals, frame.f_locals
    return _exec(source, globals, locals, **kwargs)


builtins.exec = _exec_into_caller
