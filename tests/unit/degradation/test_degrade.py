"""The degradation within training: by the loader or on the device, the same samples, and what a user gets wrong."""
import numpy as np
import pytest
import torch
from conftest import SMALL

from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config
from facesr.datasets.batch_stream import to_device
from facesr.datasets.degrade import Degrade
from facesr.degradation.device import BatchDegradation
from facesr.engine.preflight import check_choices
from facesr.engine.train import build_stream, train
from facesr.utils.errors import UserError

SECOND_ORDER = 'configs/srresnet_ffhq_second_order.py'


def batches(cfg, count=3):
    stream = build_stream(cfg)
    return [to_device(stream.next(), torch.device('cpu')) for _ in range(count)]


@pytest.mark.parametrize('config', ['configs/srresnet_ffhq.py', SECOND_ORDER])
@pytest.mark.parametrize('workers', [0, 1])
def test_both_places_make_the_same_samples(config, workers, tiny_config):
    options = {'data.train_dataloader.samples_per_gpu': 3, 'gt_patch_size': 128, 'data.workers_per_gpu': workers}
    here, there = (batches(tiny_config(config, degrade_on=place, **options)) for place in ('loader', 'device'))
    degradation, alike, redrawn = BatchDegradation(), [], []
    for a, b in zip(here, there, strict=True):
        plans = [meta['plan'] for meta in b['meta']]
        assert 'lq' not in b and b['gt'].shape == (3, 3, 512, 512)
        lq, gt = degradation(b['gt'], plans)
        assert a['lq'].shape == lq.shape == (3, 3, 32, 32) and torch.equal(a['gt'], gt)
        for plan, mean in zip(plans, ((a['lq'] - lq).abs().mean((1, 2, 3)) * 255).tolist(), strict=True):
            (alike if mean < 0.3 else redrawn).append((plan, mean))
    assert np.mean([mean for _, mean in alike]) < 0.1
    # Where rounding puts one pixel at another level, Poisson's generator draws other noise for those after it: which of
    # nine samples that is, if any, depends on the CPU.
    assert len(redrawn) <= 1
    for plan, mean in redrawn:
        assert mean < 3 and any(getattr(step, 'kind', None) == 'poisson' for step in plan.steps)


def test_lq_and_gt_patches_belong_together(tiny_config):
    """Also where they are flipped: the LQ is the GT's blurred, noisy and small version."""
    cfg = tiny_config(gt_patch_size=256, **{'data.train_dataloader.samples_per_gpu': 8})
    batch, alike = batches(cfg, 1)[0], []
    small = torch.nn.functional.interpolate(batch['gt'], size=64, mode='area')
    for a, b in zip(batch['lq'], small, strict=True):
        alike.append([float(torch.corrcoef(torch.stack([x.flatten(), b.flatten()]))[0, 1]) for x in (a, a.flip(-1))])
    assert min(right for right, _ in alike) > 0.9
    assert all(right > mirrored for right, mirrored in alike)


def test_gt_are_flipped_half_the_time(tiny_config, tiny_root):
    import cv2
    originals = {path.name: cv2.imread(str(path))[..., ::-1] for path in (tiny_root / 'train/GT').iterdir()}
    flipped = []
    for batch in batches(tiny_config(gt_patch_size=512, degrade_on='device'), 60):
        original = originals[batch['meta'][0]['gt_path'].rpartition('/')[2]]
        gt = np.rint(batch['gt'][0].permute(1, 2, 0).numpy() * 255)
        flipped.append(bool((gt == original[:, ::-1]).all()))
        assert flipped[-1] or (gt == original).all()
    assert 18 <= sum(flipped) <= 42


def test_training_on_the_device_resumes_exactly(tiny_config, tmp_path):
    how = {'degrade_on': 'device', 'data.train_dataloader.samples_per_gpu': 2, 'accumulation_steps': 2}
    straight, parts = tmp_path / 'straight', tmp_path / 'parts'
    train(tiny_config(work_dir=str(straight), total_iters=4, **how), 'run')
    train(tiny_config(work_dir=str(parts), total_iters=2, **how), 'run')
    train(tiny_config(work_dir=str(parts), total_iters=4, **how), 'run', resume='auto')
    a, b = (read_checkpoint(folder / 'iter_4.pth')['state_dict'] for folder in (straight, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with_loader = tmp_path / 'loader'
    train(tiny_config(work_dir=str(with_loader), total_iters=4, **dict(how, degrade_on='loader')), 'run')
    c = read_checkpoint(with_loader / 'iter_4.pth')['state_dict']
    moved = torch.cat([(a[name] - c[name]).flatten() for name in a]).abs().max()
    assert 0 < moved < 1e-3  # the same draws, another arithmetic


def test_the_second_order_recipe_trains_in_both_places(tiny_config, tmp_path):
    for place in ('loader', 'device'):
        train(tiny_config(SECOND_ORDER, work_dir=str(tmp_path / place), degrade_on=place, **SMALL), 'run')
        assert (tmp_path / place / 'iter_2.pth').is_file()


def test_the_recipe_can_be_overridden(tiny_config):
    cfg = tiny_config(**{'degradation.2.params.gaussian_sigma': [3, 3], 'degrade_on': 'device'})
    plan = batches(cfg, 1)[0]['meta'][0]['plan']
    assert plan.steps[2].amount == pytest.approx(3 / 255)


def test_the_config_of_a_run_can_be_loaded_again(tiny_config, tmp_path):
    """As `train` dumps it, and switched to another way."""
    for options in ({'degrade_on': 'device', 'cache_images': True}, {'degrade_on': 'loader', 'cache_images': False}):
        cfg = tiny_config(**options)
        cfg.dump(str(tmp_path / 'dumped.py'))
        assert load_config(tmp_path / 'dumped.py').data == cfg.data
        for other in ('loader', 'device'):
            again = load_config(tmp_path / 'dumped.py', {'degrade_on': other, 'cache_images': False})
            assert again.data == tiny_config(**dict(options, degrade_on=other, cache_images=False)).data


def test_a_config_for_testing_alone(tiny_config, tmp_path):
    cfg = tiny_config()
    del cfg.data['train']
    cfg.dump(str(tmp_path / 'test_only.py'))
    assert 'train' not in load_config(tmp_path / 'test_only.py', {'gt_patch_size': None}).data
    assert 'train' not in load_config(tmp_path / 'test_only.py').data


def test_what_only_works_on_lq_is_refused_on_the_device(tiny_config, tmp_path):
    cfg = tiny_config()
    cfg.data.train.pipeline.insert(3, dict(type='Normalize', keys=['lq'], mean=[0], std=[1]))
    cfg.dump(str(tmp_path / 'normalized.py'))
    assert load_config(tmp_path / 'normalized.py').data.train.pipeline[3]['keys'] == ['lq']
    with pytest.raises(UserError, match='Normalize works on "lq", which is made on the device'):
        load_config(tmp_path / 'normalized.py', {'degrade_on': 'device'})


def test_a_recipe_whose_last_resize_may_be_left_out(tiny_config, tmp_path):
    """Patches of LQ and GT would not belong together."""
    with pytest.raises(UserError, match='which the degradation does not make 4 times smaller'):
        train(tiny_config(**{'degradation.6.params.prob': 0.8}), 'run')
    degradation = tiny_config(**{'degradation.6.params.prob': 0.0}).degradation
    with pytest.raises(UserError, match='makes 512x512 of a GT image of 512x512, which is not 4 times smaller'):
        Degrade(degradation)(dict(gt=np.zeros((512, 512, 3), np.uint8), scale=4))


@pytest.mark.parametrize('options, message', [
    ({'degrade_on': 'device', 'model.type': 'ESRGAN'}, '"degrade_on": ESRGAN cannot'),
    ({'degradation': []}, '"degradation": is empty'),
    ({'degradation.3.params.quality': [0, 0]}, 'give a range within 1 to 100'),
    ({'degradation.6.params.target_size': (64, 64)}, 'which the degradation does not make 4 times smaller'),
    ({'data.train.pipeline.2.degradation.3.params.quality': [10, 20]}, 'filled in from the key "degradation"'),
    ({'data.train.pipeline.2.on': 'device'}, 'filled in from the key "degrade_on"'),
    ({'degradation.0.params.kernel_size': 41}, '"degradation": TypeError'),
    ({'cache_images': 3}, '"cache_images" is 3: give True, False or a folder'),
    ({'cache_images': 'yes'}, '"cache_images" is \'yes\': give True'),
])
def test_mistakes_are_one_line(options, message, tiny_config, tmp_path):
    with pytest.raises(UserError, match=message):
        train(tiny_config(**options), 'run')
    assert not (tmp_path / 'work').exists()


def test_a_codec_of_earlier_configs_is_one_line(tiny_config, tmp_path):
    cfg = tiny_config()
    cfg.degrade_jpeg = 'torchvision'
    with pytest.raises(UserError, match='"degrade_jpeg" is \'torchvision\': .*; leave it out'):
        train(cfg, 'run')
    assert not (tmp_path / 'work').exists()
    cfg.degrade_jpeg = 'opencv'  # as configs of earlier runs have it
    check_choices(cfg)


def test_it_takes_8_bit_images(tiny_config):
    degrade = Degrade(tiny_config().degradation)
    with pytest.raises(UserError, match='leave out RescaleToZeroOne'):
        degrade(dict(gt=np.zeros((512, 512, 3), np.float32), scale=4))
    with pytest.raises(ValueError, match="on='gpu'"):
        Degrade(tiny_config().degradation, on='gpu')


def test_the_draw_depends_on_numpys_state_alone(tiny_config):
    degrade, image = Degrade(tiny_config().degradation, on='device'), np.zeros((512, 512, 3), np.uint8)

    def plan(seed):
        np.random.seed(seed)
        return degrade(dict(gt=image, scale=4))['plan']

    assert plan(1) == plan(1) != plan(2)
