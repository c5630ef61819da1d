"""mmcv-full without compiled ops: `import mmedit.models` dies in `mmcv.ops` for want of `mmcv._ext`.

No prebuilt mmcv-full exists for today's torch, and pip builds it in an environment without torch,
hence without ops. No model of this project calls one. A placeholder module stands in, so that the
import works and only a *call* of a compiled op fails, with the reason.
A real `mmcv._ext` is left alone. Can go when a dependency on mmcv.ops is gone.
"""
import importlib.machinery
import importlib.util
import sys
import types

NAME = 'mmcv._ext'


class MissingOpError(RuntimeError):
    """A compiled mmcv op was called, but mmcv-full was installed without its ops."""


def _missing_op(name: str):

    def call(*args, **kwargs):
        raise MissingOpError(
            f'mmcv op "{name}" is not available: mmcv-full was installed without compiled ops. '
            'Build mmcv-full 1.7.2 with its ops against your torch (MMCV_WITH_OPS=1, a compiler, '
            'and a CUDA toolkit for GPU ops) to use models that need it.')

    return call


class _PlaceholderExt(types.ModuleType):
    """Answers any op name with a function that raises `MissingOpError` when called."""

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)
        return _missing_op(name)


def apply() -> bool:
    """Put the placeholder in place of a missing `mmcv._ext`."""
    if NAME in sys.modules or importlib.util.find_spec(NAME) is not None:
        return False
    module = _PlaceholderExt(NAME, __doc__)
    # A spec without a loader: mmcv.utils.check_ops_exist() then truthfully answers False.
    module.__spec__ = importlib.machinery.ModuleSpec(NAME, loader=None)
    # Asked for by mmcv's environment report, so they answer instead of raising.
    vars(module).update(get_compiler_version=lambda: 'not compiled',
                        get_compiling_cuda_version=lambda: 'not available')
    sys.modules[NAME] = module
    return True
