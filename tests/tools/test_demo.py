"""`make demo` from end to end, in a copy of the repository with a schedule of four iterations."""
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT
from forked import run_forked

# A short schedule on small patches.
EDITS = {'sample/naf_unet_sample.py': {r'\b400\b': '4', r'\b128\b': '32'},
         '_base_/runtime/sample.py': {r'\b100\b': '2', r'\b20\b': '1'}}
STARTED = {'make_sample.py', 'restore.py', 'make_annotation.py', 'check_data.py', 'train.py', 'test.py',
           'show_degradation.py', 'plot_curves.py', 'show_results.py', 'report.py'}


@pytest.mark.slow
def test_demo_runs_to_the_end_and_again(run_command, tmp_path, monkeypatch):
    """First with each tool in a process of its own, then all in this one."""
    for folder in ('configs', 'facesr', 'tools', 'weights'):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for name, edits in EDITS.items():
        path = tmp_path / 'configs' / name
        text = path.read_text()
        for pattern, value in edits.items():
            text, count = re.subn(pattern, value, text)
            assert count
        path.write_text(text)

    real = subprocess.run

    def demo(run_tool):
        def run(command, *args, **how):
            if command[0] != sys.executable:  # mmcv's report on the environment
                return real(command, *args, **how)
            done = run_tool(command, tmp_path, MPLCONFIGDIR=str(tmp_path / 'mpl'), PYTHONPATH=str(tmp_path))
            print(done.stdout)
            print(done.stderr, file=sys.stderr)
            return done

        monkeypatch.setattr(subprocess, 'run', run)
        done = run_command([sys.executable, 'tools/demo.py'], tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    done = demo(run_forked)
    work_dir = tmp_path / 'work_dirs/naf_unet_sample'
    listed = dict(re.findall(r'^  (\S.*?)\s{2,}(\S+)$', done.stdout, re.MULTILINE))
    assert len(listed) == 10 and all((tmp_path / path).exists() for path in listed.values())
    with zipfile.ZipFile(work_dir / 'submission.zip') as archive:
        assert archive.namelist() == [path.name for path in sorted((tmp_path / 'data/sample/test/LQ').iterdir())]
    assert set(re.findall(r'^\$ python tools/(\S+)', done.stdout, re.MULTILINE)) == STARTED
    assert 'bicubic PSNR' in done.stdout and (work_dir / 'iter_4.pth').is_file()

    before = (work_dir / 'iter_4.pth').stat().st_mtime_ns
    assert 'nothing left to do' in demo(run_command).stderr
    assert (work_dir / 'iter_4.pth').stat().st_mtime_ns == before
