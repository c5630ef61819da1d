import json
import random
import re
import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from mmedit.utils import get_root_logger

from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config
from facesr.datasets.sampler import EndlessSampler
from facesr.engine.train import build_runner, build_stream, prepare, train
from facesr.utils.choices import RESUME_AUTO, RESUME_LATEST
from facesr.utils.errors import CheckpointError, UserError


def log_records(work_dir):
    return [json.loads(line) for log in sorted(work_dir.glob('*.log.json')) for line in log.read_text().splitlines()]


@pytest.fixture
def work(tmp_path):
    return tmp_path / 'work'


def test_what_a_run_leaves(tiny_config, work):
    train(tiny_config('configs/srresnet_ffhq.py'), 'run')
    start, *records = log_records(work)
    assert start['exp_name'] == 'run' and start['parameters'] == 1_812_995 and 'PyTorch' in start['env_info']
    assert [(r['mode'], r['iter']) for r in records] == [('train', 1), ('val', 1), ('train', 2), ('val', 2)]
    assert {'loss_pix', 'loss', 'lr', 'time', 'data_time'} <= records[0].keys()
    assert {'PSNR', 'SSIM'} <= records[1].keys()
    log = next(work.glob('*.log')).read_text()
    assert 'eta: ' in log and '1,812,995 generator parameters' in log and 'Best PSNR is' in log
    assert ' on the CPU (' in log or ' on CUDA (' in log
    assert 'PyTorch' in (work / 'environment.txt').read_text()


def test_resume_continues_as_it_was(tiny_config, work):
    options = {'lr_config.periods': [4], 'lr_config.restart_weights': [1]}
    train(tiny_config(**options), 'run')
    first = read_checkpoint(work / 'latest.pth')
    assert first['meta']['iter'] == 2
    train(tiny_config(total_iters=4, **options), 'run', resume=RESUME_LATEST)
    last = read_checkpoint(work / 'latest.pth')

    assert last['meta']['iter'] == 4
    assert last['meta']['hook_msgs']['best_score'] >= first['meta']['hook_msgs']['best_score']
    steps = {int(state['step']) for state in last['optimizer']['generator']['state'].values()}
    assert steps == {4}  # four updates in all: none repeated, none left out
    rates = {r['iter']: r['lr']['generator'] for r in log_records(work) if r.get('mode') == 'train'}
    assert sorted(rates) == [1, 2, 3, 4]
    expected = [1e-7 + (2e-4 - 1e-7) * (1 + torch.cos(torch.tensor(torch.pi * i / 4)).item()) / 2 for i in range(4)]
    assert [rates[i] for i in (1, 2, 3, 4)] == pytest.approx(expected, abs=1e-5)


def test_a_resumed_runner_holds_what_the_checkpoint_holds(tiny_config, work):
    train(tiny_config(), 'run')
    checkpoint = read_checkpoint(work / 'latest.pth')
    runner = build_runner(prepare(tiny_config())[0], tiny_config(), get_root_logger(), validate=False)
    runner.resume(work / 'latest.pth')
    assert runner.iter == 2 and runner.meta['hook_msgs'] == checkpoint['meta']['hook_msgs']
    weights = runner.model.state_dict()
    assert all(torch.equal(weights[name].cpu(), value) for name, value in checkpoint['state_dict'].items())
    states, saved = runner.optimizer['generator'].state_dict()['state'], checkpoint['optimizer']['generator']['state']
    assert states.keys() == saved.keys() and saved
    for i, state in saved.items():
        assert all(torch.equal(states[i][key].cpu(), state[key]) for key in ('step', 'exp_avg', 'exp_avg_sq'))


def test_samples_depend_on_their_position_alone(tiny_config):
    """Worker processes, batch size and where a run was resumed change nothing; positions of one image differ."""

    def samples(workers, batch_size, start, count=6):
        cfg = tiny_config(**{'data.workers_per_gpu': workers, 'data.train_dataloader.samples_per_gpu': batch_size})
        stream = build_stream(cfg, start)
        return torch.cat([stream.next()['lq'] for _ in range(count // batch_size)])

    whole = samples(0, 1, 0)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert torch.equal(samples(0, 2, 0), whole)
    assert torch.equal(samples(2, 1, 0), whole) and torch.equal(samples(1, 3, 0), whole)
    assert torch.equal(samples(2, 1, 4, 2), whole[4:])
    assert len({tuple(sample.flatten().tolist()) for sample in whole}) == 6  # of two images


def test_sampling_leaves_the_other_random_numbers_alone(tiny_config):
    stream = build_stream(tiny_config())
    draws = []
    for _ in range(2):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        stream.next()
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert len(set(draws)) == 1


def test_a_run_cut_off_after_its_best_goes_on_from_there(tiny_config, work):
    train(tiny_config(), 'run')
    for name in ('latest.pth', 'iter_2.pth'):
        (work / name).unlink()
    with pytest.raises(UserError, match='already has best_PSNR_iter_2.pth'):
        train(tiny_config(total_iters=3), 'run')
    train(tiny_config(total_iters=3), 'run', resume=RESUME_LATEST)
    assert read_checkpoint(work / 'iter_3.pth')['meta']['iter'] == 3


def test_a_best_checkpoint_that_is_gone_no_longer_counts(tiny_config, work):
    train(tiny_config(), 'run')
    next(work.glob('best_*')).unlink()
    train(tiny_config(total_iters=3), 'run', resume=RESUME_LATEST)
    assert [path.name for path in work.glob('best_*')] == ['best_PSNR_iter_3.pth']


@pytest.mark.parametrize('options, message', [
    ({'total_iters': 'abc'}, '"total_iters" is \'abc\': give a whole number, at least 1'),
    ({'seed': -1}, '"seed" is -1'),
    ({'data.train_dataloader.samples_per_gpu': 0}, 'samples_per_gpu" is 0'),
    ({'data.train_dataloader.nonsense': 1}, '"data.train_dataloader".*nonsense'),
    ({'evaluation.nonsense': 1}, '"evaluation".*nonsense'),
    ({'checkpoint_config.nonsense': 1}, '"checkpoint_config".*nonsense'),
    ({'optimizers.generator.type': 'Adamm'}, '"optimizers".*Adamm'),
    ({'optimizers.generator.betas': [0.9]}, '"optimizers": .*too few values'),
    ({'test_cfg.metrics': ['FID']}, '"test_cfg.metrics" is .*FID.*give some of PSNR, SSIM'),
    ({'test_cfg.metrics': ['SSIM']}, '"evaluation.save_best" is \'PSNR\''),
    ({'lr_config.periods': '[4'}, '"lr_config.periods"'),
    ({'lr_config.periods': ['4']}, '"lr_config.periods" .*two lists of numbers'),
    ({'lr_config.policy': 'Reduce'}, '"lr_config.policy" is \'Reduce\''),
    ({'lr_config.min_lr': '1e'}, '"lr_config.min_lr" is \'1e\', which is no number'),
    ({'gt_patch_size': 1024}, '"gt_patch_size" is 1024, but .* is only 512x512'),
    ({'model.pretrained': 'x.pth'}, 'use load_from'),
    ({'load_from': 'none.pth'}, 'none.pth: no such checkpoint'),
])
def test_wrong_values_are_refused_before_a_file_is_written(options, message, tiny_config, work):
    with pytest.raises(UserError, match=message):
        train(tiny_config(**options), 'run')
    assert not work.exists() or not list(work.iterdir())


def test_a_resume_that_does_not_fit_writes_nothing(tiny_config, tmp_path, work):
    train(tiny_config(), 'run', validate=False)
    other = tmp_path / 'other'
    with pytest.raises(CheckpointError, match='does not fit this config'):
        train(tiny_config('configs/rrdbnet_ffhq.py', work_dir=str(other)), 'run', resume=str(work / 'iter_2.pth'))
    assert not other.exists()


def test_a_resume_from_another_run_replaces_none_of_this_one_s(tiny_config, tmp_path, work):
    train(tiny_config(), 'run', validate=False)
    other = tiny_config(work_dir=str(tmp_path / 'other'))
    train(other, 'run', validate=False)
    before = {path.name: path.read_bytes() for path in work.glob('*.pth')}
    with pytest.raises(UserError, match=r'other/iter_2.pth: .*work has checkpoints of its own \(iter_2.pth\)'):
        train(tiny_config(total_iters=4), 'run', resume=str(tmp_path / 'other/iter_2.pth'), validate=False)
    assert {path.name: path.read_bytes() for path in work.glob('*.pth')} == before


def test_a_validation_that_nobody_makes_up_for_is_not_waited_for(tiny_config, work):
    train(tiny_config(), 'run', validate=False)
    checkpoint = torch.load(work / 'iter_2.pth', weights_only=True)
    checkpoint['meta']['hook_msgs']['validation_due'] = True  # it was cut short
    torch.save(checkpoint, work / 'iter_2.pth')
    train(tiny_config(total_iters=3), 'run', resume=RESUME_LATEST, validate=False)
    assert 'validation_due' not in read_checkpoint(work / 'iter_3.pth')['meta']['hook_msgs']


def test_the_best_score_survives_a_resume(tiny_config, work):
    train(tiny_config(), 'run')
    checkpoint = torch.load(work / 'latest.pth', weights_only=True)
    best_before = next(work.glob('best_PSNR_iter_*.pth'))
    checkpoint['meta']['hook_msgs']['best_score'] = 99.0  # never reached again
    torch.save(checkpoint, work / 'latest.pth')
    train(tiny_config(total_iters=3), 'run', resume=RESUME_LATEST)
    messages = read_checkpoint(work / 'latest.pth')['meta']['hook_msgs']
    assert messages['best_score'] == 99.0
    assert list(work.glob('best_PSNR_iter_*.pth')) == [best_before]


def test_a_better_checkpoint_replaces_the_best(tiny_config, work):
    train(tiny_config(), 'run')
    checkpoint = torch.load(work / 'latest.pth', weights_only=True)
    checkpoint['meta']['hook_msgs']['best_score'] = 0.0
    torch.save(checkpoint, work / 'latest.pth')
    train(tiny_config(total_iters=3), 'run', resume=RESUME_LATEST)
    assert [path.name for path in work.glob('best_PSNR_iter_*.pth')] == ['best_PSNR_iter_3.pth']


def test_nothing_is_overwritten_without_resume(tiny_config, work):
    train(tiny_config(), 'run', validate=False)
    before = (work / 'iter_2.pth').read_bytes()
    with pytest.raises(UserError, match='already has iter_2.pth; go on with --resume, or .* another --work-dir'):
        train(tiny_config(), 'run')
    assert (work / 'iter_2.pth').read_bytes() == before
    assert not list(work.glob('best_*'))  # validate=False


def test_a_file_with_the_name_of_one_of_ours_is_kept(tiny_config, work):
    work.mkdir()
    (work / 'environment.txt').write_text('mine')
    (work / 'run.py').write_text('mine')
    train(tiny_config(), 'run', validate=False)
    assert (work / 'config_history/environment.1.txt').read_text() == 'mine'
    assert (work / 'config_history/run.1.py').read_text() == 'mine'


def test_resume_without_a_checkpoint(tiny_config):
    with pytest.raises(CheckpointError, match='--resume: no checkpoint in'):
        train(tiny_config(), 'run', resume=RESUME_LATEST)


def test_resume_from_bare_weights_is_refused(tiny_config, work, tmp_path):
    train(tiny_config(), 'run', validate=False)
    weights = tmp_path / 'weights.pth'
    torch.save(read_checkpoint(work / 'latest.pth')['state_dict'], weights)
    with pytest.raises(CheckpointError, match='load_from'):
        train(tiny_config(total_iters=3), 'run', resume=str(weights))
    train(tiny_config(load_from=str(weights), work_dir=str(tmp_path / 'other')), 'run', validate=False)


def test_a_notice_goes_with_what_is_trained_from_the_weights(tiny_config, work, tmp_path):
    train(tiny_config(), 'run', validate=False)
    weights, other = tmp_path / 'weights.pth', tmp_path / 'other'
    torch.save(dict(read_checkpoint(work / 'latest.pth'), meta=dict(notice='Be good')), weights)
    for iterations in (1, 2):
        train(tiny_config(total_iters=iterations, load_from=str(weights), work_dir=str(other)), 'run',
              resume=RESUME_AUTO, validate=False)
        assert read_checkpoint(other / f'iter_{iterations}.pth')['meta']['notice'] == 'Be good'
    assert 'notice' not in read_checkpoint(work / 'latest.pth')['meta']


def test_a_finished_run_has_nothing_to_do(tiny_config, work):
    train(tiny_config(), 'run', validate=False)
    before = (work / 'iter_2.pth').stat().st_mtime_ns
    train(tiny_config(), 'run', resume=RESUME_LATEST, validate=False)
    assert (work / 'iter_2.pth').stat().st_mtime_ns == before


def test_same_seed_same_weights(tiny_config, tmp_path):
    weights = []
    for seed, name in ((1, 'a'), (1, 'b'), (2, 'c')):
        work = tmp_path / name
        train(tiny_config(seed=seed, work_dir=str(work)), 'run', validate=False)
        weights.append(read_checkpoint(work / 'latest.pth')['state_dict']['generator.conv_last.weight'])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_periods_that_end_too_early_are_refused(tiny_config, work):
    with pytest.raises(UserError, match='total_iters is 500000'):
        train(tiny_config(total_iters=500000), 'run')
    assert not work.exists()


def test_a_larger_gt_than_the_degradation_works_on(tiny_config, tiny_root, tmp_path):
    ann_file = tmp_path / 'ann.txt'
    ann_file.write_text((tiny_root / 'train.txt').read_text().replace('(512,512,3)', '(1024,1024,3)'))
    with pytest.raises(UserError, match='1024x1024, which the degradation does not make 4 times smaller'):
        train(tiny_config(**{'data.train.ann_file': str(ann_file)}), 'run')


def test_missing_data_name_path_and_remedy(refused, tiny_root, tmp_path):

    def line(config, *arguments):
        return refused('train.py', config, '--work-dir', tmp_path / 'work', *arguments)

    config = 'configs/srresnet_ffhq.py'
    assert 'nowhere/train/GT: no such folder' in line(config, '--data-root', 'nowhere')
    assert 'python tools/make_sample.py' in line('configs/sample/srresnet_sample.py', '--data-root', 'nowhere')
    ann_file = tmp_path / 'ann.txt'
    arguments = config, '--data-root', tiny_root, '--cfg-options', f'data.train.ann_file={ann_file}'
    assert f'python tools/make_annotation.py {tiny_root}/train/GT {ann_file}' in line(*arguments)
    ann_file.write_text('x.png (512,512,3)\n')
    assert 'lists x.png, which is not in' in line(*arguments)
    assert 'did you mean configs/srresnet_ffhq.py' in line('configs/srresnet_fhq.py')
    assert 'is a file; give a folder' in refused('train.py', config, '--work-dir', ann_file)


def test_wrong_arguments_are_one_line(refused):
    assert '--seed: \'abc\' is not a whole number' in refused('train.py', 'configs/srresnet_ffhq.py', '--seed', 'abc')
    line = refused('train.py', 'configs/srresnet_ffhq.py', '--cfg-options', 'total_iters', '4')
    assert "cannot read 'total_iters 4'; write KEY=VALUE" in line
    assert 'the config comes first' in refused('test.py', 'a.pth', 'configs/srresnet_ffhq.py')
    assert "'0' is not a whole number" in refused('make_annotation.py', '--scale', 0)


@pytest.mark.parametrize('workers', [0, 1])
def test_an_image_that_breaks_after_annotation_is_named(run_tool, tiny_root, tmp_path, workers):
    shutil.copytree(tiny_root, tmp_path / 'data')
    for path in (tmp_path / 'data/train/GT').iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    arguments = ['--data-root', tmp_path / 'data', '--work-dir', tmp_path / 'w', '--no-validate', '--cfg-options']
    done = run_tool('train.py', 'configs/srresnet_ffhq.py', *arguments, f'data.workers_per_gpu={workers}',
                    f'data.train.ann_file={tiny_root}/train.txt', 'log_level=ERROR')
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith('libpng error')]  # OpenCV 4 prints it
    assert len(lines) == 1, done.stderr
    assert re.match(r'error: .*/train/GT/0000[01].png: this training image cannot be used \(', lines[0])


def test_train_tool(run_tool, tiny_root, tmp_path):
    done = run_tool('train.py', 'configs/srresnet_ffhq.py', '--data-root', tiny_root, '--work-dir', tmp_path / 'w',
                    '--seed', 5, '--no-validate', '--cfg-options', f'data.train.ann_file={tiny_root}/train.txt',
                    'gt_patch_size=32', 'total_iters=1', 'data.train_dataloader.samples_per_gpu=2',
                    'log_config.interval=1', CUDA_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert 'seed 5' in done.stderr and 'done: 1 iterations' in done.stderr
    for notice in ('imencode', 'MMCV will release', 'No CUDA runtime', 'Warning'):  # the old libraries' noise
        assert notice not in done.stderr + done.stdout
    assert (tmp_path / 'w' / 'iter_1.pth').is_file() and (tmp_path / 'w' / 'srresnet_ffhq.py').is_file()


def test_sampler_passes_are_shuffled_and_resumable():
    pairs = list(islice(EndlessSampler(5, seed=3), 20))
    assert [position for position, _ in pairs] == list(range(20))
    whole = [index for _, index in pairs]
    assert [sorted(whole[i:i + 5]) for i in (0, 5, 10, 15)] == [list(range(5))] * 4
    assert len({tuple(whole[i:i + 5]) for i in (0, 5, 10, 15)}) > 1
    assert list(islice(EndlessSampler(5, seed=3, start=7), 13)) == pairs[7:]
    assert list(islice(EndlessSampler(5, seed=4), 20)) != pairs
    ranks = [list(islice(EndlessSampler(5, 3, 4, batch_size=2, rank=rank, world_size=2), 8)) for rank in (0, 1)]
    batches = [part[i:i + 2] for i in (0, 2, 4, 6) for part in ranks]
    assert sum(batches, []) == pairs[4:20]
    with pytest.raises(ValueError):
        EndlessSampler(0, seed=0)


def test_a_run_s_config_is_written_whatever_is_in_it(tiny_config, tmp_path):
    """mmcv's `dump` fails on an apostrophe."""
    work = tmp_path / "bob's work"
    cfg = tiny_config(work_dir=str(work), data_hint='"quotes" and bob\'s')
    train(cfg, 'run', validate=False)
    again = load_config(work / 'run.py')
    assert again.work_dir == str(work) and again.data == cfg.data and again.model == cfg.model
    assert again.data_hint == cfg.data_hint
