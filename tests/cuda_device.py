"""A CUDA device for tests: a real one, or the stand-in that FACESR_CUDA_STANDIN names (docs/cuda.md).

Scripts run on it as forks of one process that has imported facesr and not touched the device: a start costs five
CPU-seconds of imports, and the tests have forty.
"""
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
# MiB that tensors and cuDNN take of an RTX 2060 in a training step of each config that costs something else.
CARD_MEMORY = {
    'configs/srresnet_ffhq.py': 3534, 'configs/srresnet_ffhq.py:fp16': 2593, 'configs/srresnet_ffhq_baseline.py': 3275,
    'configs/srresnet_ca_ffhq.py': 4174, 'configs/plksr_ffhq.py': 2766, 'configs/safmn_ffhq.py': 4546,
    'configs/rrdbnet_ffhq.py': 2625, 'configs/esrgan_ffhq.py': 1166, 'configs/naf_unet_ffhq.py': 469,
    'configs/naf_unet_ffhq.py:fp16': 310}
PATIENCE = 1200  # seconds, on a busy machine


class NoCuda(Exception):
    """There is no device, and no stand-in for one; says why."""


class Cuda:
    """Runs Python scripts on a CUDA device.

    Args:
        env (dict[str, str]): The environment in which torch finds it.
        real (bool): Whether it is one.
    """
    PROBE = 'tests/integration/cuda_probe.py'

    def __init__(self, env: dict, real: bool):
        self.real, self._env = real, env
        self._server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=env, cwd=ROOT)

    def close(self) -> None:
        """No more scripts."""
        self._server.communicate()

    def run(self, script, *arguments, **env) -> subprocess.CompletedProcess:
        """What `python SCRIPT ARGUMENTS` does, with more in its environment."""
        command = [str(script), *map(str, arguments)]
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            print(json.dumps([command, env, out.name, err.name]), file=self._server.stdin, flush=True)
            status = int(self._server.stdout.readline())
            return _done(command, status, *(Path(file.name).read_text(errors='replace') for file in (out, err)))

    def run_anew(self, script, *arguments, **env) -> subprocess.CompletedProcess:
        """The same in a process of its own, for what the stand-in reads when torch is imported."""
        command = [sys.executable, str(script), *map(str, arguments)]
        done = subprocess.run(command, env={**self._env, **env}, capture_output=True, text=True, cwd=ROOT,
                              timeout=PATIENCE)
        return _done(command, done.returncode, done.stdout, done.stderr)

    def probe(self, *arguments, run=None, **env):
        """What cuda_probe.py found."""
        done = (run or self.run)(self.PROBE, *arguments, **env)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])


def _done(command: list, status: int, out: str, err: str) -> subprocess.CompletedProcess:
    assert 'nothing stands in for' not in err, err  # a kernel that was launched, and did nothing
    return subprocess.CompletedProcess(command, status, out, err)


def find_cuda(visible: str | None) -> Cuda:
    """A real device, else the stand-in.

    Args:
        visible (str | None): CUDA_VISIBLE_DEVICES as the user has it.

    Raises:
        NoCuda: There is neither.
    """
    env = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1')
    del env['CUDA_VISIBLE_DEVICES']  # conftest's
    mine = env if visible is None else dict(env, CUDA_VISIBLE_DEVICES=visible)
    ask = [sys.executable, '-c', 'import torch; print(torch.cuda.is_available())']
    if subprocess.run(ask, env=mine, capture_output=True, text=True).stdout.strip() == 'True':
        return Cuda(mine, real=True)
    folder = os.environ.get('FACESR_CUDA_STANDIN')
    if not folder:
        raise NoCuda('no CUDA device, and FACESR_CUDA_STANDIN names no stand-in for one')
    ask = [Path(folder, 'run'), sys.executable, '-c', 'import json, os; print(json.dumps(dict(os.environ)))']
    done = subprocess.run(ask, env=env, capture_output=True, text=True, cwd=ROOT)
    if done.returncode == 3:  # it cannot be built here
        raise NoCuda(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return Cuda(json.loads(done.stdout), real=False)


def serve() -> None:
    """Run what comes in, a line of JSON each: a script and its arguments, what its environment has besides, and the
    files for what it prints. Its status goes out.
    """
    import torch
    with mock.patch.object(torch.cuda, 'is_available', lambda: True):  # MMCV asks, and forks could not use it any more
        import facesr.register  # noqa: F401
    gc.freeze()  # forks that end would look at all of it, and copy it for that
    for line in sys.stdin:
        command, env, *files = json.loads(line)
        if os.fork() == 0:
            return _become(command, env, files)
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
    return None


def _become(command: list, env: dict, files: list) -> None:
    """Run the script as Python would, until this process ends."""
    for number, path in enumerate([os.devnull, *files]):
        os.dup2(os.open(path, os.O_RDWR), number)
    os.environ.update(env)
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    signal.alarm(PATIENCE)  # ends one that hangs
    runpy.run_path(command[0], run_name='__main__')


if __name__ == '__main__':
    serve()
