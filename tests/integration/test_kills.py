"""Nothing is lost, in processes of their own: kills, signals, writes that fail, loading processes that die."""
import os
import resource
import signal
import time
from functools import partial
from pathlib import Path

import kill
import pytest
from conftest import HANGS
from forked import Forked

from facesr.checkpoint.io import read_checkpoint
from facesr.checkpoint.naming import find_latest
from facesr.utils.signals import EXIT_STOPPED

pytestmark = pytest.mark.slow
LITTLE_BLUR = 'degradation.0.params.kernel_size=[7]'  # half the time of a sample


def test_killed_at_random_moments_it_ends_with_the_same_weights(run_command, tiny_root, tmp_path):
    """As the one run that was left alone, however many processes load."""

    def run(command):
        done = run_command(command)
        assert done.returncode == 0, done.stderr

    for workers in (0, 2):
        outcome = kill.kill_and_compare(tiny_root, tmp_path, kills=4, workers=workers, iterations=60, seed=workers,
                                        longest=0.7, after=(0, 4, 0, 4), options=[LITTLE_BLUR], run=run, start=Forked)
        assert outcome.kills >= 1 and outcome.checkpoints_read and not outcome.broken and outcome.equal


@pytest.fixture
def start(tiny_root, tmp_path):
    """Starts a long training as a user would; returns the process once it has trained a few iterations."""
    started = []

    def run(*options, work='work'):
        process = Forked(kill.command(tiny_root, tmp_path / work, 5000, 0, 'checkpoint_config.interval=5000', *options),
                         stderr=tmp_path / 'stderr')
        started.append(process)
        deadline = time.monotonic() + HANGS
        log = tmp_path / 'stderr'
        while not log.exists() or 'Iter [6/' not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.exists() and log.read_text()
            time.sleep(0.05)
        return process

    yield run
    for process in started:  # of a test that failed
        process.kill()
        process.wait()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, start, tmp_path):
    process = start('evaluation.interval=5000')
    process.send_signal(number)
    assert process.wait(HANGS) == EXIT_STOPPED == 75
    latest = find_latest(tmp_path / 'work')
    done = read_checkpoint(latest)['meta']['iter']
    assert latest.name == f'iter_{done}.pth' and done >= 6
    last = (tmp_path / 'stderr').read_text().splitlines()[-1]
    assert last.startswith(f'stopped after iteration {done} of 5000; iteration {done} is saved in ')
    assert last.endswith('go on with --resume')


def test_writes_that_really_fail_leave_the_old_checkpoint(run_command, tiny_root, tmp_path):
    """The system refuses files beyond some size, as a full disk or a quota would."""
    done = run_command(kill.command(tiny_root, tmp_path / 'work', 3, 0))
    assert done.returncode == 0, done.stderr
    before = (tmp_path / 'work/iter_3.pth').read_bytes()

    stderr = tmp_path / 'stderr'
    done = Forked(kill.command(tiny_root, tmp_path / 'work', 6, 0), stderr=stderr,
                  first=partial(_limit_files, len(before) // 2))
    assert done.wait(HANGS) == 2 and 'Traceback' not in stderr.read_text(), stderr.read_text()
    assert stderr.read_text().splitlines()[-1].endswith('free disk space and go on with --resume')
    assert (tmp_path / 'work/iter_3.pth').read_bytes() == before
    assert find_latest(tmp_path / 'work').name == 'iter_3.pth' and not list((tmp_path / 'work').glob('.*.tmp'))


def _limit_files(size):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize('policy', ['stop', 'skip'])
def test_a_worker_that_dies(policy, start, tmp_path):
    process = start('data.workers_per_gpu=1', f'on_data_error={policy}', 'evaluation.interval=5000')
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text()
    worker = max(int(pid) for pid in children.split())
    os.kill(worker, signal.SIGKILL)
    if policy == 'skip':
        deadline = time.monotonic() + HANGS
        while 'started again (1 times so far)' not in (tmp_path / 'stderr').read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == EXIT_STOPPED
        latest = read_checkpoint(find_latest(tmp_path / 'work'))
        assert latest['samples'] == 2 * latest['meta']['iter']  # no sample left out or taken twice
        return
    assert process.wait(HANGS) == 2
    last = (tmp_path / 'stderr').read_text().splitlines()[-1]
    assert last.startswith('error: data.workers_per_gpu: a loading process died') and 'go on with --resume' in last
    assert find_latest(tmp_path / 'work') is not None
