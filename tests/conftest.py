"""Shared fixtures. Real faces are used only where FACESR_FFHQ names a folder in FFHQ's layout."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

# The tests compare bit for bit, which only the CPU promises; cuda_device.py gives CUDA back to what it runs.
CUDA_DEVICES = os.environ.get('CUDA_VISIBLE_DEVICES')
os.environ['CUDA_VISIBLE_DEVICES'] = ''
for _threads in ('OMP_NUM_THREADS', 'OPENCV_FOR_THREADS_NUM'):  # read when torch and OpenCV are imported
    os.environ.setdefault(_threads, '1')  # pytest-xdist has a worker for each core

ROOT = Path(__file__).resolve().parent.parent

CONFIGS = sorted(
    str(path.relative_to(ROOT)) for pattern in ('configs/*.py', 'configs/sample/*.py') for path in ROOT.glob(pattern))
HANGS = 600  # seconds after which a process is taken for one that hangs, on a busy machine too
# A network that trains and restores in milliseconds, over SRResNet's or RRDBNet's configs.
SMALL = {'model.generator.mid_channels': 8, 'model.generator.num_blocks': 1}
SMALL_OPTIONS = [f'{key}={value}' for key, value in SMALL.items()]
SMALL_NAF = {'model.generator.mid_channels': [8, 12], 'model.generator.num_blocks': [1, 1],
             'model.generator.num_up_blocks': [1]}


def pytest_configure(config):
    """Before any test imports facesr; pytest-xdist's controller, which runs no test, never does."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background; its tests stop tools by Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not getattr(config.option, 'numprocesses', None):
        import in_process  # noqa: F401


def pytest_collection_modifyitems(items):
    """The slow ones first, so that no worker waits for one at the end."""
    items.sort(key=lambda item: item.get_closest_marker('slow') is None)


@pytest.fixture(autouse=True)
def _in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """Gives a folder that `make(folder)` fills once for all of pytest-xdist's workers; nobody may change it."""
    base = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        base = base.parent

    def folder(name, make):
        path, made = base / name, base / f'{name}.made'
        with FileLock(base / f'{name}.lock'):
            if not made.exists():
                path.mkdir()
                make(path)
                made.touch()
        return path

    return folder


@pytest.fixture(scope='session')
def sample_root(once):
    """The embedded sample: 512x512 GT, 128x128 LQ."""
    from facesr.datasets.sample import make_sample
    return once('sample', make_sample)


@pytest.fixture(scope='session')
def tiny_root(sample_root, once):
    """FFHQ's layout with two training images (512x512) and 64x64 / 16x16 crops elsewhere, and its annotation."""
    return once('tiny', lambda root: _make_tiny(root, sample_root))


def _make_tiny(root, sample_root):
    import cv2

    from facesr.datasets.annotation import scan_folder, write_annotation
    for folder, side in {'train/GT': 512, 'val/GT': 64, 'val/LQ': 16, 'test/LQ': 16}.items():
        (root / folder).mkdir(parents=True)
        for path in sorted((sample_root / folder).iterdir())[:2]:
            image = cv2.imread(str(path))
            start = (image.shape[0] - side) // 2
            cv2.imwrite(str(root / folder / path.name), image[start:start + side, start:start + side])
    write_annotation(scan_folder(root / 'train/GT'), root / 'train.txt')


@pytest.fixture(scope='session')
def checkpoint(once):
    """A small random SRResNet, as `tiny_config()` builds it."""
    return once('checkpoint', _make_checkpoint) / 'small.pth'


def _make_checkpoint(folder):
    import torch

    from facesr.checkpoint.io import save_checkpoint
    from facesr.config import load_config
    from facesr.models.build import build_restorer

    torch.manual_seed(0)
    save_checkpoint(folder / 'small.pth', build_restorer(load_config('configs/srresnet_ffhq.py', SMALL)))


@pytest.fixture
def tiny_options(tiny_root, tmp_path):
    """Overrides that let any shipped config run in seconds; they go with `data_root=tiny_root`."""
    return {
        'data.train.ann_file': str(tiny_root / 'train.txt'), 'data.workers_per_gpu': 0,
        'data.train_dataloader.samples_per_gpu': 1, 'gt_patch_size': 32, 'total_iters': 2, 'evaluation.interval': 1,
        'log_config.interval': 1, 'work_dir': str(tmp_path / 'work')
    }


@pytest.fixture
def tiny_config(tiny_root, tiny_options):
    """Loads a small SRResNet, or the shipped config that is named as it is, with `tiny_options` and more overrides."""
    from facesr.config import load_config

    def load(config=None, **more):
        small = {} if config else SMALL
        return load_config(config or 'configs/srresnet_ffhq.py', {**tiny_options, **small, **more}, str(tiny_root))

    return load


@pytest.fixture
def lock_holder():
    """Starts a process that has a folder's lock; returns the process."""
    from faults import HOLD
    started = []

    def start(folder):
        started.append(subprocess.Popen([sys.executable, '-c', HOLD, str(folder)], stdout=subprocess.PIPE))
        assert started[-1].stdout.readline() == b'\n'
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def written(tmp_path):
    """Writes a config in the organiser's form (see mmediting_forms.py) with more lines, and loads it."""
    from mmediting_forms import organiser

    from facesr.config import load_config

    def load(*more, options=None, data_root=None):
        path = tmp_path / 'flat.py'
        path.write_text(organiser('data/FFHQ', *more))
        return load_config(path, options, data_root)

    return load


@pytest.fixture
def run_command():
    """Runs `[python, script, arguments...]` as a user would, but in this process; returns the completed process."""
    from in_process import run_in_process

    def run(command, cwd=ROOT, **env):
        clean = {key: value for key, value in os.environ.items() if key != 'OPENCV_LOG_LEVEL'}  # set by our import
        return run_in_process(Path(cwd, command[1]), [*map(str, command[2:])], cwd, {**clean, **env})

    return run


@pytest.fixture
def run_tool(run_command):
    """Runs `tools/<name>` as `run_command` does; returns the completed process with text output."""

    def run(name, *arguments, **env):
        return run_command([sys.executable, f'tools/{name}', *arguments], **env)

    return run


@pytest.fixture
def refused(run_tool):
    """Runs a tool that must end with one clear line: status 2, no traceback; returns that line."""

    def run(name, *arguments):
        done = run_tool(name, *arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith('error: ')
        assert done.stderr.count('\n') == 1, done.stderr
        return done.stderr

    return run


@pytest.fixture(scope='session')
def scripts():
    """All tools and benchmarks by path (`tools/train.py`), to look at their arguments (see scripts.py)."""
    from scripts import load_scripts
    return load_scripts()


@pytest.fixture(scope='session')
def cuda():
    """Runs scripts on a CUDA device (see cuda_device.py), or a skip that says why there is none."""
    from cuda_device import NoCuda, find_cuda
    try:
        device = find_cuda(CUDA_DEVICES)
    except NoCuda as why:
        pytest.skip(str(why))
    yield device
    device.close()


@pytest.fixture
def ffhq_root():
    """A folder with real faces in FFHQ's layout, or a skip."""
    root = os.environ.get('FACESR_FFHQ')
    if not root:
        pytest.skip('FACESR_FFHQ does not name a folder with real faces')
    return Path(root)
