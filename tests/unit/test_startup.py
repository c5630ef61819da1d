"""What each tool imports before it has read its arguments, and what some never import (see benchmarks/startup.py)."""
import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

TOOLS = sorted(path.name for path in (ROOT / 'tools').glob('[a-z]*.py'))
NETWORKS = {'mmcv', 'mmedit', 'torch', 'torchvision'}
HEAVY = NETWORKS | {'PIL', 'cv2', 'lmdb', 'matplotlib', 'numpy', 'scipy', 'skimage', 'tqdm'}
# Runs a tool as `python tools/X.py` does, and tells what it has imported when it ends.
RUN = '''
import json, runpy, sys
tool = sys.argv[1]
sys.argv[:2] = [tool]
sys.path[0] = tool.rpartition('/')[0]
status = None
try:
    runpy.run_path(tool, run_name='__main__')
except SystemExit as end:
    status = end.code
print('\\n' + json.dumps([status, sorted({name.partition('.')[0] for name in sys.modules})]))
'''


def modules(tool, *arguments):
    command = [sys.executable, '-c', RUN, str(ROOT / 'tools' / tool), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    status, names = json.loads(done.stdout.splitlines()[-1])
    assert not status, done.stderr
    return set(names)


@pytest.mark.parametrize('tool', TOOLS)
def test_help_imports_next_to_nothing(tool):
    assert not HEAVY & modules(tool, '--help')


def test_scoring_needs_no_network_library(tiny_root, tmp_path):
    found = modules('score.py', tiny_root / 'val/GT', tiny_root / 'val/GT', '--out', tmp_path / 'score.json')
    assert 'numpy' in found and not NETWORKS & found
    shutil.make_archive(str(tmp_path / 'hq'), 'zip', tiny_root / 'val/GT')
    assert not NETWORKS & modules('score.py', tmp_path / 'hq.zip', tiny_root / 'val/GT')


def test_annotating_needs_no_network_library(tiny_root, tmp_path):
    assert not NETWORKS & modules('make_annotation.py', tiny_root / 'train/GT', tmp_path / 'ann.txt')
    assert not NETWORKS & modules('make_annotation.py', tiny_root / 'train/GT', '--check', tmp_path / 'ann.txt')


def test_curves_need_no_network_library(tmp_path):
    records = [dict(mode='train', iter=i, loss=1 / i, lr=1e-4) for i in range(1, 4)]
    log = tmp_path / 'a.log.json'
    log.write_text('\n'.join(map(json.dumps, [*records, dict(mode='val', iter=3, PSNR=20.)])))
    found = modules('plot_curves.py', log, '--out-dir', tmp_path)
    assert 'matplotlib' in found and not NETWORKS & found
