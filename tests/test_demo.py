"""`make demo` from end to end, in a copy of the repository with a schedule of four iterations."""
import os
import re
import shutil
import subprocess
import sys
import zipfile

from conftest import ROOT


def test_demo_runs_to_the_end_and_again(tmp_path):
    for folder in ('configs', 'facesr', 'tools'):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for name, edits in {'schedules': {r'\b400\b': '4'}, 'runtime': {r'\b100\b': '2', r'\b20\b': '1'}}.items():
        path = tmp_path / 'configs/_base_' / name / 'sample.py'
        text = path.read_text()
        for pattern, value in edits.items():
            text, count = re.subn(pattern, value, text)
            assert count
        path.write_text(text)

    def demo():
        return subprocess.run([sys.executable, 'tools/demo.py'], cwd=tmp_path, capture_output=True, text=True,
                              env={**os.environ, 'MPLCONFIGDIR': str(tmp_path / 'mpl')})

    done = demo()
    assert done.returncode == 0, done.stderr
    work_dir = tmp_path / 'work_dirs/srresnet_sample'
    listed = dict(re.findall(r'^  (\S.*?)\s{2,}(\S+)$', done.stdout, re.MULTILINE))
    assert len(listed) == 8 and all((tmp_path / path).exists() for path in listed.values())
    with zipfile.ZipFile(work_dir / 'submission.zip') as archive:
        assert archive.namelist() == [path.name for path in sorted((tmp_path / 'data/sample/test/LQ').iterdir())]
    assert 'bicubic PSNR' in done.stdout and (work_dir / 'iter_4.pth').is_file()

    before = (work_dir / 'iter_4.pth').stat().st_mtime_ns
    done = demo()
    assert done.returncode == 0, done.stderr
    assert 'nothing left to do' in done.stderr
    assert (work_dir / 'iter_4.pth').stat().st_mtime_ns == before
