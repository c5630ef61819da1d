"""Ctrl-C while a tool is still importing."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HANGS, ROOT


@pytest.mark.slow
def test_ctrl_c_during_start_up_is_one_line(tmp_path):
    process = subprocess.Popen([sys.executable, 'tools/train.py', 'configs/srresnet_ffhq.py', '--data-root', tmp_path],
                               cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    while 'libtorch' not in Path(f'/proc/{process.pid}/maps').read_text():  # seconds of imports follow
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=HANGS)[1]
    assert (process.returncode, stderr) == (130, 'interrupted\n')


def test_ctrl_c_that_a_library_swallows_is_no_mistake_of_the_user():
    swallowing = """
import os, signal
import _bootstrap
from facesr.utils.errors import UserError, report_user_errors
@report_user_errors
def main():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except:
        pass
    raise UserError('x: no such file')
main()
"""
    done = subprocess.run([sys.executable, '-c', swallowing], capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=f'{ROOT}:{ROOT}/tools'))
    assert (done.returncode, done.stderr) == (130, 'interrupted\n')
