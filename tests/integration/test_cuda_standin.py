"""What users run on a GPU, run on one: a real one, or the stand-in that FACESR_CUDA_STANDIN names (docs/cuda.md)."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import CUDA_DEVICES, ROOT

pytestmark = pytest.mark.gpu_standin
PROBE = 'tests/integration/cuda_probe.py'
SMALL = ['model.generator.num_blocks=1', 'model.generator.mid_channels=8', 'gt_patch_size=32', 'log_config.interval=1',
         'data.workers_per_gpu=0', 'data.train_dataloader.samples_per_gpu=2']
AMPERE = dict(FAKE_CUDA_MAJOR='8', FAKE_CUDA_MINOR='0')  # which has bf16
PATIENCE = 1200  # seconds, on a busy machine


class Cuda:
    """Starts Python on a CUDA device."""

    def __init__(self, before: list, env: dict):
        self.before, self.env, self.real = before, env, not before

    def command(self, *arguments) -> list:
        return [*self.before, sys.executable, *map(str, arguments)]

    def start(self, *arguments, **env) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*arguments), env={**self.env, **env}, capture_output=True, text=True,
                              cwd=ROOT, timeout=PATIENCE)

    def probe(self, *arguments, **env):
        """What cuda_probe.py found."""
        done = self.start(PROBE, *arguments, **env)
        assert done.returncode == 0, done.stderr[-4000:]
        assert 'nothing stands in for' not in done.stderr, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='session')
def cuda():
    """A real device, else the stand-in, else a skip that says why."""
    env = {key: value for key, value in os.environ.items() if key != 'CUDA_VISIBLE_DEVICES'}
    if CUDA_DEVICES is not None:
        env['CUDA_VISIBLE_DEVICES'] = CUDA_DEVICES
    env = dict(env, PYTHON=sys.executable, OMP_NUM_THREADS='1')
    ask = ['-c', 'import torch; print(torch.cuda.is_available())']
    if subprocess.run([sys.executable, *ask], env=env, capture_output=True, text=True).stdout.strip() == 'True':
        return Cuda([], env)
    folder = os.environ.get('FACESR_CUDA_STANDIN')
    if not folder:
        pytest.skip('no CUDA device, and FACESR_CUDA_STANDIN names no stand-in for one')
    env.pop('CUDA_VISIBLE_DEVICES', None)
    run = str(Path(folder) / 'run')
    done = subprocess.run([run, sys.executable, *ask], env=env, capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.stdout.strip() == 'True', done.stderr
    return Cuda([run], env)


@pytest.fixture
def standin(cuda):
    """The stand-in, for what a real device cannot be asked to do."""
    if cuda.real:
        pytest.skip('only the stand-in can be made to')
    return cuda


@pytest.fixture
def data(tiny_root):
    """What leads a tool to the tiny data."""
    return ['--data-root', str(tiny_root)], f'data.train.ann_file={tiny_root}/train.txt'


@pytest.mark.parametrize('late', ['', '1'], ids=['prompt', 'late'])
def test_three_iterations_of_each_kind_are_the_cpus(late, cuda):
    found = cuda.probe('kinds', **AMPERE, FAKE_CUDA_LAZY=late)
    for dtype, tolerance in ((None, 0.01), (torch.float16, 0.05)):
        taken = found.pop(f'memory {dtype}')
        assert taken['computed'] == pytest.approx(taken['allocated'], rel=0.3 if cuda.real else tolerance)
    assert len(found) >= 11
    for kind, this in found.items():
        half = '16' in kind  # autocast has other lists of operations for CUDA than for the CPU
        weights, losses, metrics = (2e-3, 1e-2, 0.1) if half or cuda.real else (1e-6, 1e-6, 1e-5)
        assert this['steps'] == 3 and this['names'], kind
        assert this['weights'] <= weights and this['losses'] <= losses and this['metrics'] <= metrics, (kind, this)


def test_at_most_one_wait_an_iteration(cuda):
    found = cuda.probe('waits')
    jpegs = 5  # batches that are degraded ahead, each with one wait of its own thread
    assert len(found) >= 10 and all(count <= 3 for kind, count in found.items() if kind != 'device'), found
    assert found['device'] <= 3 + jpegs


def test_batches_degraded_ahead_are_the_same_bits(cuda):
    for name, this in cuda.probe('degrade', FAKE_CUDA_LAZY='1').items():
        assert this['same'], name
        assert this['waits'] <= this['jpegs'], this  # of the preparing thread; the training one has none
    assert this['batches'] == 2 and this['jpegs'] <= 8


def test_the_rehearsal_catches_mistakes(standin):
    found = standin.probe('faults', FAKE_CUDA_LAZY='1')
    caught = {'kernel on the host': 'same device', 'generator of the host': "'cuda'",
              'images on the host': 'should be the same', 'flag without waiting': 'a good step was skipped',
              'hidden item': 'synchronizing CUDA operation'}
    assert found.keys() == caught.keys()
    assert all(words in (found[name] or '') for name, words in caught.items()), found


@pytest.mark.parametrize('names', [('srresnet', 'srresnet_ca', 'plksr', 'esrgan'), ('safmn', 'rrdbnet')], ids=str)
def test_shipped_configs_fit_a_card_of_6_gb(names, standin):
    configs = [f'configs/{name}_ffhq.py' for name in names]
    found = standin.probe('memory', *configs, FAKE_CUDA_COMPUTE='0', FAKE_CUDA_CARD='RTX 2060', FAKE_CUDA_MEMORY='5400')
    for name, this in found.items():
        assert this['computed'] == pytest.approx(this['allocated'], rel=0.05), name


def test_tools_one_after_the_other(cuda, data, tmp_path):
    """Training with all there is, and what one does with it afterwards; checkpoints are for any machine."""
    (root, annotation), work, srresnet = data, tmp_path / 'work', 'configs/srresnet_ffhq.py'
    options = ['--cfg-options', annotation, *SMALL]
    net, last = ['--cfg-options', *SMALL[:2]], str(work / 'latest.pth')
    how = ['total_iters=3', 'evaluation.interval=3', 'channels_last=True', 'accumulation_steps=2', 'grad_clip=1.0',
           'ema=0.9', 'degrade_on=device', 'memory_limit_gb=2']
    # What goes through the tools is 512 pixels a side, as the recipe makes it.
    jobs = [
        ['train', srresnet, *root, '--work-dir', str(work), '--amp', 'fp16', *options, *how],
        ['train', srresnet, *root, '--dry-run', *options],
        ['test', srresnet, last, *root, '--ema', *net],
        ['compare', f'a={last}', f'b={last}', '--config', srresnet, *root, *net],
        ['report', str(work), '--out', str(tmp_path / 'report.html')],
        ['restore', srresnet, last, f'{root[1]}/test/LQ', '--out', str(tmp_path / 'hq'), '--tile', '12', *net],
        ['export', srresnet, last, '--format', 'safetensors', '--out', str(tmp_path / 'net.safetensors'), *net],
    ]
    for job, (status, output) in zip(jobs, cuda.probe('tools', json.dumps(jobs)), strict=True):
        assert status == 0, (job, output[-3000:])
        if job[0] == 'train':
            assert 'allocated' in output and 'reserved' in output
    assert list((tmp_path / 'hq').glob('*.png'))
    log = next(work.glob('*.log')).read_text()
    assert 'on CUDA (' in log and re.search(r'memory: \d+ MiB \(\d+ reserved\)', log)
    # This process sees no device, so torch would refuse to read anything of one.
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint['optimizer']['generator']['state'][0]['exp_avg'].device.type == 'cpu'


def test_a_full_card_ends_in_one_line_with_everything_saved(cuda, data, tmp_path):
    root, annotation = data
    done = cuda.start(PROBE, 'shortage', 3, 'configs/srresnet_ffhq.py', *root, '--work-dir', tmp_path / 'work',
                      '--no-validate', '--cfg-options', annotation, *SMALL, 'memory_limit_gb=0.5')
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith('error: out of memory on cuda:0 in iteration 3; use --cfg-options')
    assert 'iteration 2 is saved' in last and 'Traceback' not in done.stderr
    assert (tmp_path / 'work/iter_2.pth').is_file()


def test_killed_and_resumed(cuda, data, tmp_path):
    (root, annotation), work = data, tmp_path / 'work'
    command = ['tools/train.py', 'configs/srresnet_ffhq.py', *root, '--work-dir', work, '--resume', 'auto', '--amp',
               'fp16', '--no-validate', '--cfg-options', annotation, *SMALL, 'checkpoint_config.interval=2']
    log = tmp_path / 'stderr'
    with log.open('w') as file:
        process = subprocess.Popen(cuda.command(*command, 'total_iters=100000'), stderr=file, env=cuda.env, cwd=ROOT)
    deadline = time.monotonic() + PATIENCE
    while not list(work.glob('iter_*.pth')):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = max(int(path.stem.removeprefix('iter_')) for path in work.glob('iter_*.pth'))
    done = cuda.start(*command, f'total_iters={saved + 1}')
    assert done.returncode == 0 and f'at iteration {saved}' in done.stderr, done.stderr[-3000:]


def test_nan_stops_training(cuda, data, tmp_path):
    root, annotation = data
    done = cuda.start('tools/train.py', 'configs/srresnet_ffhq.py', *root, '--work-dir', tmp_path / 'work',
                      '--no-validate', '--cfg-options', annotation, *SMALL, 'optimizers.generator.lr=1e30')
    assert done.returncode == 2 and 'the loss was NaN or infinite 10 times in a row' in done.stderr.splitlines()[-1]


def test_two_devices_under_torchrun(standin, data, tmp_path):
    """Over gloo; NCCL is for real devices."""
    root, annotation = data
    done = standin.start('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', PROBE, 'gloo',
                         'tools/train.py', 'configs/srresnet_ffhq.py', *root, '--work-dir', tmp_path / 'work',
                         '--launcher', 'pytorch',
                         '--cfg-options', annotation, *SMALL, 'total_iters=2', 'evaluation.interval=2',
                         FAKE_CUDA_DEVICES='2')
    assert done.returncode == 0, done.stderr[-4000:]
    assert '2 processes, each on CUDA (' in done.stderr and 'done: 2 iterations' in done.stderr


@pytest.mark.parametrize('card, words', [
    (dict(FAKE_CUDA_OLD_DRIVER='1'), ('driver is too old', 'it serves CUDA 12.2', f'needs {torch.version.cuda}')),
    (dict(FAKE_CUDA_MAJOR='6', FAKE_CUDA_MINOR='1'), ('compute capability 6.1', 'begin at 7.5', 'CUDA 12.6', 'cu126')),
], ids=['driver', 'card'])
def test_what_does_not_serve_is_refused(card, words, standin, data, tmp_path):
    root, annotation = data
    command = ['tools/train.py', 'configs/srresnet_ffhq.py', *root, '--work-dir', tmp_path / 'work', '--no-validate',
               '--cfg-options', annotation, *SMALL, 'total_iters=1']
    done = standin.start(*command, **card)
    assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
    assert done.stderr.startswith('error: ') and '--device cpu' in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    if 'FAKE_CUDA_OLD_DRIVER' in card:
        done = standin.start(command[0], command[1], '--device', 'cpu', *command[2:], **card)
        assert done.returncode == 0 and 'on the CPU (1 threads; --device cpu)' in done.stderr, done.stderr


def test_memory_that_runs_out_afterwards_is_a_line(standin, data, tmp_path):
    """When a network is put on the card, and while tools/restore.py measures how far tiles have to overlap."""
    from facesr.checkpoint.io import save_checkpoint
    from facesr.config import load_config
    from facesr.models.build import build_restorer
    (root, _), config, jobs = data, 'configs/srresnet_ffhq.py', []
    for channels, job in ((256, ['test']), (64, ['restore'])):
        weights, net = tmp_path / f'{channels}.pth', [f'model.generator.mid_channels={channels}', SMALL[0]]
        save_checkpoint(weights, build_restorer(load_config(config, {'model.generator.mid_channels': channels,
                                                                     'model.generator.num_blocks': 1})))
        more = root if job == ['test'] else [f'{root[1]}/test/LQ', '--out', str(tmp_path / 'hq'), '--tile', '12']
        jobs.append([*job, config, str(weights), *more, '--cfg-options', *net])
    (status, output), (other_status, other) = standin.probe('tools', json.dumps(jobs), FAKE_CUDA_MEMORY='40')
    assert status == other_status == 2 and 'Traceback' not in output + other
    assert 'memory does not suffice for the network; free the device, or use --device cpu' in output.splitlines()[-1]
    assert 'memory does not suffice to measure' in other.splitlines()[-1] and '--overlap 16' in other
