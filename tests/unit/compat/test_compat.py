import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from mmcv.parallel import _functions
from mmcv.utils import collect_env

from facesr import compat
from facesr.compat import mmcv_ops, torch_streams


@pytest.mark.filterwarnings('ignore:.*np.bool8.*:DeprecationWarning')  # NumPy 1 still has it
def test_a_second_time_changes_nothing():
    before = np.bool8, _functions._get_stream, sys.modules[mmcv_ops.NAME]
    assert compat.apply() == []
    assert (np.bool8, _functions._get_stream, sys.modules[mmcv_ops.NAME]) == before
    assert np.bool8 is np.bool_


def test_missing_op_fails_only_when_called():
    ext = mmcv_ops._PlaceholderExt(mmcv_ops.NAME)
    op = ext.nms_rotated
    with pytest.raises(mmcv_ops.MissingOpError, match='"nms_rotated" .* without compiled ops'):
        op()


def test_environment_report_works_with_the_placeholder():
    assert collect_env()['MMCV Compiler']


def test_a_loaded_ext_is_left_alone(monkeypatch):
    real = types.ModuleType(mmcv_ops.NAME)
    monkeypatch.setitem(sys.modules, mmcv_ops.NAME, real)
    assert mmcv_ops.apply() is False
    assert sys.modules[mmcv_ops.NAME] is real


def test_an_installed_ext_is_left_alone(monkeypatch, tmp_path):
    import mmcv
    (tmp_path / '_ext.py').write_text('')
    monkeypatch.setattr(mmcv, '__path__', [*mmcv.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, mmcv_ops.NAME)
    assert mmcv_ops.apply() is False
    assert mmcv_ops.NAME not in sys.modules


@pytest.mark.parametrize('given, wanted', [(1, torch.device('cuda', 1)), (-1, torch.device('cpu')),
                                           (torch.device('cuda', 2), torch.device('cuda', 2))])
def test_get_stream_takes_an_index(given, wanted):
    assert torch_streams.accept_index(lambda device: device)(given) == wanted


def test_get_stream_of_this_torch_takes_an_index(monkeypatch):
    # A machine with one GPU, for all that torch asks here; with a stream in place it makes none.
    if hasattr(torch, 'accelerator'):
        monkeypatch.setattr('torch.accelerator.is_available', lambda: True)
        monkeypatch.setattr('torch.accelerator.current_accelerator', lambda: torch.device('cuda'))
    monkeypatch.setattr('torch.nn.parallel._functions._streams', ['stream of device 0'])
    assert _functions._get_stream(0) == 'stream of device 0'
    assert _functions._get_stream.accepts_index
    assert _functions._get_stream(-1) is None  # torch's answer for the CPU


@pytest.mark.slow
def test_import_is_silent(tmp_path):
    code = 'import facesr.register, mmedit.apis, torch.utils.cpp_extension'
    # CUDA_HOME provokes cpp_extension's notice on a machine without a GPU.
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          env={'CUDA_HOME': str(tmp_path), 'PYTHONPATH': '.', 'PATH': '/usr/bin:/bin'})
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
