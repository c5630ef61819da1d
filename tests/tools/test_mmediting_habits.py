"""The tools as a user of MMEditing 0.x starts them, with a config in the organiser's form."""
import json
import zipfile

import pytest
from mmediting_forms import organiser

from facesr.checkpoint.io import read_checkpoint


@pytest.fixture
def flat(tiny_root, tmp_path):
    path = tmp_path / 'flat.py'
    path.write_text(organiser(tiny_root, 'data["workers_per_gpu"] = 0', f'work_dir = {str(tmp_path / "work")!r}'))
    return path


def test_the_whole_way(flat, run_tool, tmp_path, tiny_root):
    """Dry run, training, resuming, measuring, the zip for handing in, export, report, restoring."""

    def run(name, *arguments):
        done = run_tool(name, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    work = tmp_path / 'work'
    assert 'nothing was written' in run('train.py', flat, '--dry-run', '--gpus', 1, '--gpu-ids', 0)
    assert not work.exists()
    assert 'best checkpoint' in run('train.py', flat, '--seed', 3, '--deterministic')
    out = run('train.py', flat, '--resume-from', work / 'iter_2.pth', '--cfg-options', 'total_iters=3')
    assert '--resume-from: is --resume here' in out and 'at iteration 2' in out
    latest = work / 'latest.pth'
    assert read_checkpoint(latest)['meta']['iter'] == 3
    assert 'PSNR: ' in run('test.py', flat, latest, '--out', tmp_path / 'm.json', '--seed', 0)
    assert json.loads((tmp_path / 'm.json').read_text())['mean'].keys() == {'PSNR', 'SSIM'}
    out = run('test.py', flat, latest, '--split', 'test', '--zip', tmp_path / 's.zip')
    assert 'verified: 2 RGB PNGs' in out and 'PSNR' not in out
    with zipfile.ZipFile(tmp_path / 's.zip') as archive:
        assert sorted(archive.namelist()) == sorted(path.name for path in (tiny_root / 'test/LQ').iterdir())
    run('export.py', flat, latest, '--format', 'safetensors', '--out', tmp_path / 'g.safetensors')
    run('report.py', work, '--out', tmp_path / 'report.html')
    run('restore.py', flat, latest, tiny_root / 'test/LQ', '--out', tmp_path / 'restored')
    assert len(list((tmp_path / 'restored').iterdir())) == 2
    assert 'images' in run('check_data.py', flat)


def test_weights_to_start_from(flat, run_tool, tmp_path):
    assert run_tool('train.py', flat, '--no-validate').returncode == 0
    done = run_tool('train.py', flat, '--load-from', tmp_path / 'work/iter_2.pth', '--work-dir', tmp_path / 'second',
                    '--no-validate', '--diff_seed')
    assert done.returncode == 0, done.stderr
    assert '--load-from: is --cfg-options load_from=FILE here' in done.stderr


@pytest.mark.parametrize('arguments, message', [
    (['train.py', '--gpus', 4], 'for several GPUs: torchrun --nproc_per_node=N tools/train.py CONFIG'),
    (['train.py', '--gpu-ids', 0, 1], 'choose a GPU with CUDA_VISIBLE_DEVICES=N'),
    (['train.py', '--gpu-ids', 1], 'choose a GPU with CUDA_VISIBLE_DEVICES=N'),
    (['train.py', '--autoscale-lr'], '--cfg-options optimizers.generator.lr=RATE'),
    (['train.py', '--launcher', 'slurm'], "invalid choice: 'slurm'"),
    (['train.py', '--local_rank', 0, '--launcher', 'pytorch'], 'start with torchrun'),
    (['train.py', '--local-rank', 0, '--launcher', 'pytorch'], 'start with torchrun'),
    (['test.py', 'x.pth', '--out', 'x.pkl'], 'metrics are written as JSON, which every program reads; give x.json'),
    (['test.py', 'x.pth', '--launcher', 'pytorch'], 'one process tests; leave it out'),
])
def test_arguments_that_are_not_served(arguments, message, flat, refused):
    tool, *rest = arguments
    positional = [rest.pop(0)] if rest[0] == 'x.pth' else []
    assert message in refused(tool, flat, *positional, *rest)
