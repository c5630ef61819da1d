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
