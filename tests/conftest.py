"""Shared fixtures. Real faces are used only where FACESR_FFHQ names a folder in FFHQ's layout."""
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

# The tests compare bit for bit, which only the CPU promises; tests/test_cuda.py gives CUDA back to its runs.
CUDA_DEVICES = os.environ.get('CUDA_VISIBLE_DEVICES')
os.environ['CUDA_VISIBLE_DEVICES'] = ''

ROOT = Path(__file__).resolve().parent.parent

import facesr.register  # noqa: E402, F401

from facesr.config import load_config  # noqa: E402
from facesr.datasets.annotation import scan_folder, write_annotation  # noqa: E402
from facesr.datasets.sample import make_sample  # noqa: E402

CONFIGS = sorted(
    str(path.relative_to(ROOT)) for pattern in ('configs/*.py', 'configs/sample/*.py') for path in ROOT.glob(pattern))


@pytest.fixture(autouse=True)
def _in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope='session')
def sample_root(tmp_path_factory):
    """The embedded sample: 512x512 GT, 128x128 LQ."""
    root = tmp_path_factory.mktemp('sample')
    make_sample(root)
    return root


@pytest.fixture(scope='session')
def tiny_root(sample_root, tmp_path_factory):
    """FFHQ's layout with two training images (512x512) and 64x64 / 16x16 crops elsewhere, and its annotation."""
    root = tmp_path_factory.mktemp('tiny')
    for folder, side in {'train/GT': 512, 'val/GT': 64, 'val/LQ': 16, 'test/LQ': 16}.items():
        (root / folder).mkdir(parents=True)
        for path in sorted((sample_root / folder).iterdir())[:2]:
            image = cv2.imread(str(path))
            start = (image.shape[0] - side) // 2
            cv2.imwrite(str(root / folder / path.name), image[start:start + side, start:start + side])
    write_annotation(scan_folder(root / 'train/GT'), root / 'train.txt')
    return root


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
    """Loads a shipped config with `tiny_options` and more overrides."""

    def load(config='configs/srresnet_ffhq.py', **more):
        return load_config(config, {**tiny_options, **more}, str(tiny_root))

    return load


@pytest.fixture
def run_tool():
    """Runs `tools/<name>` as a user would; returns the completed process with text output."""

    def run(name, *arguments, **env):
        command = [sys.executable, f'tools/{name}', *map(str, arguments)]
        clean = {key: value for key, value in os.environ.items() if key != 'OPENCV_LOG_LEVEL'}  # set by our import
        return subprocess.run(command, capture_output=True, text=True, env={**clean, **env}, timeout=300)

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


@pytest.fixture
def ffhq_root():
    """A folder with real faces in FFHQ's layout, or a skip."""
    root = os.environ.get('FACESR_FFHQ')
    if not root:
        pytest.skip('FACESR_FFHQ does not name a folder with real faces')
    return Path(root)
