"""Start-up notices of the old libraries that tell the user nothing they can act on.

* mmcv 1.7.2 announces mmcv 2.0 with a UserWarning at import.
* `torch.utils.cpp_extension` (imported by mmcv) says "No CUDA runtime is found" wherever a CUDA
  toolkit lies on a machine without a GPU; older releases print it, newer ones log it.
* torch 2.1 warns of its own TypedStorage when it reads a checkpoint with `weights_only`.
* mmcv asks for CUDA at import, and torch then warns of a driver that does not serve it; `facesr.utils.device` refuses
  such a one in a line.
* OpenCV tells each data-loader worker that `imencode` converts a float image to 8 bits, which is
  just what MMEditing's `RandomJPEGCompression` relies on.

Can go with mmcv 1.x. Only these messages are silenced; OPENCV_LOG_LEVEL, if set, is respected.
"""
import contextlib
import importlib
import io
import logging
import os
import sys
import warnings

CUDA_NOTICE = 'No CUDA runtime is found'


def _drop_cuda_notice(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(CUDA_NOTICE)


def _import_cpp_extension_quietly() -> None:
    """Import the module once with its `print` caught; any other output is passed on."""
    captured = io.StringIO()
    with contextlib.redirect_stderr(captured):
        importlib.import_module('torch.utils.cpp_extension')
    for line in captured.getvalue().splitlines():
        if not line.startswith(CUDA_NOTICE):
            print(line, file=sys.stderr)


def apply() -> bool:
    """Silence these notices."""
    logger = logging.getLogger('torch.utils.cpp_extension')
    if _drop_cuda_notice in logger.filters:
        return False
    logger.addFilter(_drop_cuda_notice)
    for message in ('On January 1, 2023, MMCV will release', 'TypedStorage is deprecated', 'CUDA initialization'):
        warnings.filterwarnings('ignore', message=message, category=UserWarning)
    if 'torch.utils.cpp_extension' not in sys.modules:
        _import_cpp_extension_quietly()

    if 'OPENCV_LOG_LEVEL' not in os.environ:
        os.environ['OPENCV_LOG_LEVEL'] = 'ERROR'  # inherited by spawned workers
        import cv2
        with contextlib.suppress(AttributeError):  # cv2 may be loaded already: set it directly too
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return True
