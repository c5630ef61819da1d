"""Two processes on the CPU (gloo), started by torchrun or as it starts them, beside one with the doubled batch."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from unittest import mock

import kill
import pytest
import torch
from conftest import HANGS, ROOT, SMALL_NAF, SMALL_OPTIONS
from forked import run_ranks

from facesr.checkpoint.io import read_checkpoint
from facesr.checkpoint.naming import find_latest
from facesr.engine import train as training
from facesr.evaluation import evaluator as evaluation
from facesr.models.restorers.face_restorer import FaceRestorer
from facesr.utils import dist

NETS = {'srresnet_ffhq': SMALL_OPTIONS,
        'naf_unet_ffhq': [f'{key}={value}'.replace(' ', '') for key, value in SMALL_NAF.items()]}
COMMON = ('gt_patch_size=32', 'log_config.interval=1')

# What each rank has at the end: weights, the gradients of its last step, and how often it read each validation image.
PROBE = '''
import sys
sys.path[:0] = [{root!r}, {root!r} + '/tools']
import torch
from facesr.engine import train as training
from facesr.evaluation import evaluator
from facesr.utils import dist
seen, runners = [], []
measure = evaluator.measure
evaluator.measure = lambda metrics, batch, hq: (seen.extend(batch.lq_paths), measure(metrics, batch, hq))[1]
build = training.build_runner
training.build_runner = lambda *args, **kwargs: runners.append(build(*args, **kwargs)) or runners[-1]
goodbye = training._say_goodbye
def at_the_end(runner, cfg):
    net = runner.model.generator
    torch.save(dict(weights=[p.detach() for p in net.parameters()], gradients=[p.grad for p in net.parameters()],
                    seen=seen), f'{out}/rank{{dist.rank()}}.pth')
    goodbye(runner, cfg)
training._say_goodbye = at_the_end
from facesr.models.restorers.face_restorer import FaceRestorer
step, steps = FaceRestorer.train_step, []
def poisoned(self, batch, optimizer):
    steps.append(1)
    if dist.rank() == {nan_on_rank} and len(steps) == 2:
        batch['gt'][0, 0, 0, 0] = float('nan')
    return step(self, batch, optimizer)
FaceRestorer.train_step = poisoned
import train
train.main()
'''

PROBED = [(evaluation, 'measure'), (training, 'build_runner'), (training, '_say_goodbye'),
          (FaceRestorer, 'train_step')]


def run_training(folder, tiny_root, in_process, processes, batch, *options, iterations=3, work='work',
                 nan_on_rank=None, torchrun=False, net='srresnet_ffhq'):
    """Trains in some processes, a single one by `in_process`; returns what each had at the end, and the log."""
    out = folder / f'{work}_{processes}'
    out.mkdir(exist_ok=True)
    script = folder / 'probe.py'
    script.write_text(PROBE.format(root=str(ROOT), out=str(out), nan_on_rank=nan_on_rank))
    command = [
        sys.executable, str(script), str(ROOT / f'configs/{net}.py'),
        '--data-root', str(tiny_root), '--work-dir', str(folder / work), '--resume', 'auto',
        *(['--launcher', 'pytorch'] if processes > 1 else []), '--cfg-options', *NETS[net],
        *COMMON, f'data.train.ann_file={tiny_root}/train.txt', f'total_iters={iterations}', 'data.workers_per_gpu=1',
        f'data.train_dataloader.samples_per_gpu={batch}', *options
    ]
    if processes == 1:
        with contextlib.ExitStack() as stack:
            for place, name in PROBED:
                stack.enter_context(mock.patch.object(place, name, getattr(place, name)))
            done = in_process(command)
        assert done.returncode == 0, done.stderr[-4000:]
        log = done.stderr
    elif torchrun:
        command[1:1] = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS,
                              env=dict(os.environ, OMP_NUM_THREADS='1'))
        assert done.returncode == 0, done.stderr[-4000:]
        log = done.stderr
    else:
        log = run_ranks(command, processes, out / 'stderr')
    return [torch.load(out / f'rank{rank}.pth', weights_only=True) for rank in range(processes)], log


@pytest.fixture
def trained(tiny_root, tmp_path, run_command):
    return partial(run_training, tmp_path, tiny_root, run_command)


@pytest.fixture(scope='module')
def double(tiny_root, tmp_path_factory):
    """Two processes with two images each, and the folder of their work dir."""
    folder = tmp_path_factory.mktemp('double')
    return *run_training(folder, tiny_root, None, 2, 2, torchrun=True), folder / 'work'


def close(a, b):
    return all(torch.allclose(x, y, rtol=1e-3, atol=1e-6) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(trained, double, tmp_path):
    (single, ), _ = trained(1, 4, work='single')
    ranks, log, work_dir = double
    for kind in ('weights', 'gradients'):
        assert all(torch.equal(x, y) for x, y in zip(ranks[0][kind], ranks[1][kind], strict=True)), kind
    assert close(ranks[0]['gradients'], single['gradients'])
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in single['gradients'])
    # Each of the two validation images is read once, by one of them.
    assert [len(rank['seen']) for rank in ranks] == [1, 1]
    assert sorted(ranks[0]['seen'] + ranks[1]['seen']) == sorted(single['seen'])
    assert '2 processes, each on the CPU' in log and log.count('done: 3 iterations') == 1

    logs = [list(folder.glob('*.log.json')) for folder in (tmp_path / 'single', work_dir)]
    assert [len(found) for found in logs] == [1, 1]  # one process writes
    one, two = ([json.loads(line) for line in found[0].read_text().splitlines()[1:]] for found in logs)
    assert [(r['mode'], r['iter']) for r in one] == [(r['mode'], r['iter']) for r in two]
    for a, b in zip(one, two, strict=True):
        for key in {'loss', 'PSNR', 'SSIM'} & a.keys():
            assert b[key] == pytest.approx(a[key], abs=2e-4)  # the mean over both ranks


@pytest.mark.slow
def test_two_processes_train_the_network_for_faces_alike(trained):
    (single, ), _ = trained(1, 4, net='naf_unet_ffhq', work='single')
    ranks, _ = trained(2, 2, net='naf_unet_ffhq', work='double')
    assert all(torch.equal(x, y) for x, y in zip(ranks[0]['weights'], ranks[1]['weights'], strict=True))
    assert close(ranks[0]['gradients'], single['gradients'])


@pytest.mark.slow
def test_two_processes_share_a_cache_and_degrade_on_the_device(trained, tmp_path):
    how = (f'cache_images={tmp_path}/cache', 'degrade_on=device')
    ranks, log = trained(2, 2, *how, work='double')
    assert all(torch.equal(x, y) for x, y in zip(ranks[0]['weights'], ranks[1]['weights'], strict=True))
    assert log.count('0 of 2 images are there; the others take 2 MiB') == 1
    (single, ), log = trained(1, 4, *how, work='single')
    assert close(ranks[0]['gradients'], single['gradients'])
    assert '2 of 2 images are there' in log


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_ends_all_processes(tiny_root, tmp_path):
    (tmp_path / 'file').write_text('')
    log = run_ranks(
        [sys.executable, 'tools/train.py', 'configs/srresnet_ffhq.py', '--data-root', tiny_root, '--work-dir',
         tmp_path / 'work', '--launcher', 'pytorch', '--cfg-options', *SMALL_OPTIONS,
         *COMMON, f'data.train.ann_file={tiny_root}/train.txt', 'data.workers_per_gpu=0',
         f'cache_images={tmp_path}/file'],
        2, tmp_path / 'stderr', status=2)
    assert log.count('the cache cannot be written') >= 1


@pytest.mark.slow
def test_a_resume_with_another_number_of_processes_keeps_the_order(trained, tmp_path):
    """Four samples an iteration whoever takes them: 2 x 2, then 1 x 4, as 1 x 4 all the way."""
    trained(2, 2, iterations=2, work='parts')
    (resumed, ), log = trained(1, 4, iterations=4, work='parts')
    (straight, ), _ = trained(1, 4, iterations=4, work='straight')
    assert 'at iteration 2' in log
    assert close(resumed['gradients'], straight['gradients'])
    assert read_checkpoint(find_latest(tmp_path / 'parts'))['samples'] == 16


@pytest.mark.slow
def test_a_loss_that_is_nan_on_one_rank_is_skipped_on_both(trained, double):
    """And a batch in parts, whose gradients are exchanged once."""
    ranks, log = trained(2, 2, 'accumulation_steps=2', work='nan', nan_on_rank=1)
    assert all(torch.equal(x, y) for x, y in zip(ranks[0]['weights'], ranks[1]['weights'], strict=True))
    assert all(bool(weight.isfinite().all()) for weight in ranks[0]['weights'])
    assert 'skipped_updates: 1' in log
    whole, *_ = double
    parts, _ = trained(2, 2, 'accumulation_steps=2', work='parts')
    assert close(parts[0]['gradients'], whole[0]['gradients'])


@pytest.mark.slow
def test_sigterm_to_torchrun_saves(tiny_root, tmp_path):
    command = kill.command(tiny_root, tmp_path / 'work', 5000, 1, 'checkpoint_config.interval=5000',
                           'evaluation.interval=5000')
    command[1:1] = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command[command.index('--resume'):command.index('--resume')] = ['--launcher', 'pytorch']
    log = tmp_path / 'stderr'
    with log.open('w') as file:
        process = subprocess.Popen(command, stderr=file, env=dict(os.environ, OMP_NUM_THREADS='1'))
    try:
        deadline = time.monotonic() + HANGS
        while 'Iter [6/' not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
    finally:  # also of a test that failed
        process.send_signal(signal.SIGTERM)
        process.wait(HANGS)
    checkpoint = read_checkpoint(find_latest(tmp_path / 'work'))
    assert checkpoint['samples'] == 4 * checkpoint['meta']['iter'] and len(checkpoint['ranks']) == 2
    assert f'stopped after iteration {checkpoint["meta"]["iter"]} of 5000' in log.read_text()


def test_launcher_and_torchrun_belong_together(refused, run_tool):
    assert 'start with torchrun' in refused('train.py', 'configs/srresnet_ffhq.py', '--launcher', 'pytorch')
    done = run_tool('train.py', 'configs/srresnet_ffhq.py', WORLD_SIZE='2')
    assert done.returncode == 2 and 'add --launcher pytorch' in done.stderr


def test_alone_it_all_costs_nothing():
    assert (dist.rank(), dist.world_size()) == (0, 1)
    assert dist.highest(2) == 2 and dist.mean([1.0]) == [1.0] and dist.gather('x') == ['x']
