"""The recipes of CONTRIBUTING.md, followed in a copy of the repository."""
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from forked import run_forked

from facesr.datasets.annotation import scan_folder, write_annotation

LINES = 12  # of a recipe's longest file, without blank lines
TOO_LONG = ('benchmarks/models.py',)  # measures all that there is to measure; here it is enough that its line parses


def recipes() -> dict:
    """Files as (path, text) and command lines, by what is added."""
    parts = re.split(r'^## How to add an? (\w+)\n', (ROOT / 'CONTRIBUTING.md').read_text(), flags=re.MULTILINE)[1:]
    return {what: (re.findall(r'^```python\n# (\S+)\n(.*?)^```', text, re.MULTILINE | re.DOTALL),
                   re.findall(r'^    python (.+)$', text, re.MULTILINE))
            for what, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.fixture
def copy(tmp_path, sample_root):
    """The repository's code with the sample, as `make demo` leaves it."""
    for folder in ('facesr', 'configs', 'tools'):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/sample').symlink_to(sample_root)
    (tmp_path / 'annotations').mkdir()
    write_annotation(scan_folder(sample_root / 'train/GT'), tmp_path / 'annotations/sample_train.txt')
    return tmp_path


def test_there_are_four():
    assert list(recipes()) == ['model', 'loss', 'degradation', 'tool']
    for files, lines in recipes().values():
        assert lines
        assert all(len(re.findall(r'^.*\S', text, re.MULTILINE)) <= LINES for _, text in files)


@pytest.mark.slow
def test_recipes_work(copy):
    lines = []
    for files, commands in recipes().values():
        for name, text in files:
            path = copy / name
            there = path.read_text() if path.exists() else ''
            assert not there or name == 'facesr/register.py'
            path.write_text(there + text)
        lines += [line for line in commands if not line.startswith(TOO_LONG)]
    done = [run_forked([sys.executable, *line.split()], copy, PYTHONPATH=str(copy)) for line in lines]
    assert [process.returncode for process in done] == [0] * 4, [process.stderr for process in done]
    assert 'parameters: 7,408' in done[0].stdout  # TinyNet's: 3*16*9 + 16 and 16*48*9 + 48
    assert (copy / 'work_dirs/phone.png').is_file()
    assert done[-1].stdout == '8\n'


def test_recipes_are_in_the_house_style(copy):
    for files, _ in recipes().values():
        for name, text in files:
            if name != 'facesr/register.py':  # where an import's place is its alphabetical one
                (copy / name).write_text(text)
    done = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--no-cache', '.'], cwd=copy, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr
