"""What `in_process` promises: a script sees a process of its own, and leaves this one as it was."""
import logging
import os
import random
import signal
import sys
import warnings

import cv2
import numpy as np
import pytest
import torch
from in_process import run_in_process
from mmcv.utils import logging as mmcv_logging
from mmedit.utils import get_root_logger

LEAVES_MUCH = '''
import logging, os, random, signal, subprocess, sys, warnings
import cv2, numpy, torch
from mmedit.utils import get_root_logger
assert __name__ == '__main__' and sys.argv == [__file__, 'a', 'b c'] and sys.path[0] == os.path.dirname(__file__)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert sorted(os.environ) == ['HOME', 'PATH'] and os.getcwd() == os.environ['HOME']
signal.signal(signal.SIGTERM, signal.SIG_IGN)
random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
cv2.setNumThreads(0), torch.set_num_threads(3), torch.set_grad_enabled(False)
os.environ['NEW'] = 'x'
os.chdir('/')
warnings.simplefilter('error', BytesWarning)
print('out')
print('err', file=sys.stderr)
os.write(2, b'from C\\n')
subprocess.run(['sh', '-c', 'echo child; echo child >&2'])
get_root_logger().info('logged')
logging.getLogger('nobody').warning('without a handler')
warnings.warn('a warning')
'''


@pytest.fixture
def run(tmp_path):
    def script(text):
        (tmp_path / 'script.py').write_text(text)
        env = dict(HOME=str(tmp_path), PATH=os.environ['PATH'])
        return run_in_process(tmp_path / 'script.py', ['a', 'b c'], tmp_path, env)

    return script


def state():
    return [signal.getsignal(signal.SIGTERM), random.getstate(), np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(), cv2.getNumThreads(), torch.get_num_threads(), torch.is_grad_enabled(),
            dict(os.environ), os.getcwd(), warnings.filters[:], sys.argv[:], sys.path[:], sys.stdout, sys.stderr,
            get_root_logger().handlers[:], logging.getLogger().handlers[:], dict(mmcv_logging.logger_initialized)]


def test_everything_is_put_back_and_all_output_is_caught(run, capfd):
    before = state()
    done = run(LEAVES_MUCH)
    assert state() == before
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'out\nchild\n'
    *lines, warning, source = done.stderr.splitlines()
    assert lines[:3] == ['err', 'from C', 'child'] and lines[3].endswith('mmedit - INFO - logged')
    assert lines[4:] == ['without a handler']
    assert warning.endswith('UserWarning: a warning') and source == "  warnings.warn('a warning')"
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('text, status, stderr', [
    ('import sys; sys.exit()', 0, ''), ('import sys; sys.exit(75)', 75, ''),
    ('import sys; sys.exit("error: no")', 1, 'error: no\n'),
])
def test_exit_statuses(text, status, stderr, run):
    done = run(text)
    assert (done.returncode, done.stderr) == (status, stderr)


def test_a_bug_keeps_its_traceback(run):
    done = run('1 / 0')
    assert done.returncode == 1 and done.stderr.endswith('ZeroDivisionError: division by zero\n')
    assert 'Traceback' in done.stderr
