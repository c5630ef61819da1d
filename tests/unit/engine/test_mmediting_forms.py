"""Configs in MMEditing's forms are trained, resumed and validated."""
import re

import pytest
import torch
from mmediting_forms import organiser

from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config
from facesr.datasets.loader import build_eval_loader
from facesr.engine.dry_run import dry_run
from facesr.engine.train import build_stream, train
from facesr.models.build import build_restorer, load_model
from facesr.utils.errors import UserError

EMA = 'dict(type="ExponentialMovingAverageHook", module_keys=("generator_ema"), interval=1, ' \
    'interp_cfg=dict(momentum=0.75))'
SMALL = 'data["workers_per_gpu"] = 0'


@pytest.fixture
def flat(tiny_root, tmp_path):
    """Writes a config in the organiser's form with more lines, and loads it."""

    def load(*more, options=None, work='work'):
        path = tmp_path / 'flat.py'
        path.write_text(organiser(tiny_root, SMALL, f'work_dir = {str(tmp_path / work)!r}', *more))
        return load_config(path, options)

    return load


@pytest.fixture
def log(tmp_path):
    return lambda: ''.join(path.read_text() for path in sorted((tmp_path / 'work').glob('*.log')))


def test_the_organiser_s_form_trains_and_resumes(flat, tmp_path, log):
    train(flat(), 'flat')
    names = {path.name for path in (tmp_path / 'work').iterdir()}
    assert {'iter_2.pth', 'latest.pth', 'flat.py', 'tf_logs'} <= names
    assert any(name.startswith('best_PSNR_iter_') for name in names)
    assert 'drawn from the same distribution' in log() and 'cap: 1,821,085' in log() and 'seed 0' in log()
    train(flat('total_iters = 3'), 'flat', resume='latest')
    assert 'resumed from' in log() and (tmp_path / 'work/iter_3.pth').is_file()
    train(load_config(tmp_path / 'work/flat.py', {'total_iters': 4}), 'flat', resume='latest')  # the recorded one
    assert (tmp_path / 'work/iter_4.pth').is_file()


def test_the_transforms_of_mmediting_can_be_kept(flat, log):
    train(flat(options={'degrade': 'stock'}), 'flat', validate=False)
    assert 'same distribution' not in log()


def test_resume_from(flat, tmp_path, log):
    train(flat(), 'flat', validate=False)
    train(flat('total_iters = 3', f'resume_from = {str(tmp_path / "work" / "iter_2.pth")!r}'), 'flat', validate=False)
    assert 'at iteration 2' in log()
    train(flat('total_iters = 4', 'auto_resume = True'), 'flat', validate=False)
    assert read_checkpoint(tmp_path / 'work/latest.pth')['meta']['iter'] == 4


def test_a_default_cap_is_told_and_a_set_one_holds(flat, log):
    big = 'model["generator"].update(mid_channels=64, num_blocks=26)'
    train(flat(big, 'total_iters = 1'), 'flat', validate=False)
    assert "over the competition's cap of 1,821,085 parameters" in log()
    with pytest.raises(UserError, match='over the budget of 1,821,085'):
        train(flat(big, 'budget = 1821085', work='other'), 'flat')


@pytest.mark.parametrize('line, rates', [
    ('lr_config = None', [1, 1, 1, 1]),
    ('lr_config = dict(policy="Step", step=[2], gamma=0.5)', [1, 1, .5, .5]),
    ('lr_config = dict(policy="Poly", power=1, min_lr=0)', [1, .75, .5, .25]),
    ('lr_config = dict(policy="CosineAnnealing", min_lr=0, by_epoch=False)', [1, .8536, .5, .1464]),
    ('lr_config = dict(policy="CosineRestart", periods=[2, 2], restart_weights=[1, 0.5], min_lr=0)', [1, .5, .5, .25]),
    ('lr_config = dict(policy="Step", step=[3], warmup="linear", warmup_iters=2, warmup_ratio=0.5)',
     [.5, .75, 1, .1]),
    ('lr_config = dict(policy="Step", step=[9], warmup="constant", warmup_iters=1, warmup_ratio=0.1)',
     [.1, 1, 1, 1]),
])
def test_schedules_by_iterations(line, rates, flat, log):
    train(flat('total_iters = 4', 'optimizers = dict(type="Adam", lr=1e-3)', line), 'flat', validate=False)
    found = [float(rate) for rate in re.findall(r'lr_generator: (\S+),', log())]
    assert found == pytest.approx([1e-3 * rate for rate in rates], rel=1e-3)


@pytest.mark.parametrize('hook', [EMA, 'dict(type="EMAHook", momentum=0.25, warm_up=1)'])
def test_averages_are_resumed_bit_for_bit(hook, flat, tmp_path):
    options = [f'custom_hooks = [{hook}]', 'checkpoint_config["interval"] = 2']
    train(flat(*options, 'total_iters = 4', work='whole'), 'flat', validate=False)
    train(flat(*options, 'total_iters = 4'), 'flat', validate=False)
    for name in ('iter_4.pth', 'latest.pth'):
        (tmp_path / 'work' / name).unlink()
    train(flat(*options, 'total_iters = 4'), 'flat', resume='latest', validate=False)
    whole, parts = (read_checkpoint(tmp_path / name / 'iter_4.pth')['state_dict'] for name in ('whole', 'work'))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)
    name = 'conv_last.weight'
    assert not torch.equal(whole[f'generator.{name}'], whole[f'generator_ema.{name}'])
    model = load_model(flat(*options), tmp_path / 'work/iter_4.pth', ema=True)
    assert torch.equal(model.generator.state_dict()[name], whole[f'generator_ema.{name}'])


def test_the_average_of_mmcv_s_hook(flat, tmp_path):
    """The figures of its formula: a momentum of 0.25 for new weights, from the second move on."""
    hook = 'custom_hooks = [dict(type="EMAHook", momentum=0.25, warm_up=1)]'
    cfg = flat(hook, 'total_iters = 2', 'checkpoint_config["interval"] = 1')
    torch.manual_seed(cfg.seed)
    train(cfg, 'flat', validate=False)
    one, two = (read_checkpoint(tmp_path / f'work/iter_{number}.pth')['state_dict'] for number in (1, 2))
    mean = one['generator_ema.conv_last.weight']
    expected = 0.75 * mean + 0.25 * two['generator.conv_last.weight']
    assert torch.allclose(two['generator_ema.conv_last.weight'], expected, atol=1e-7)


def test_pictures(flat, tmp_path):
    visual = 'visual_config = dict(type="MMEditVisualizationHook", output_dir="visuals", interval=1, ' \
        'res_name_list=["gt", "output"], rerange=False, bgr2rgb=False)'
    train(flat(visual, 'evaluation["save_image"] = True'), 'flat')
    assert {path.name for path in (tmp_path / 'work/visuals').iterdir()} == {'iter_1.png', 'iter_2.png'}
    shown = sorted(path.relative_to(tmp_path / 'work').as_posix() for path in (tmp_path / 'work').rglob('*/*-*.png'))
    assert len(shown) == 4 and re.fullmatch(r'val_visuals/(\w+)/\1-000001.png', shown[0])
    stock = flat(visual, work='stock')
    stock.model.type = 'BasicRestorer'
    train(stock, 'flat', validate=False)
    assert (tmp_path / 'stock/visuals/iter_2.png').read_bytes() == (tmp_path / 'work/visuals/iter_2.png').read_bytes()


def test_options_of_workers_are_left_out_without_them(flat):
    cfg = flat('data["val_dataloader"].update(timeout=60, prefetch_factor=2)')
    assert len(list(build_eval_loader(cfg.data, 'val')))


@pytest.mark.parametrize('line, message', [
    ('log_config["hooks"].append(dict(type="WandbLoggerHook"))', '"log_config": .*wandb'),
    ('log_config["hooks"].append(dict(type="PaviLoggerHook"))', '"log_config": PaviLoggerHook needs the package pavi'),
    ('custom_imports = dict(imports=["not_there"])', '"custom_imports": not_there cannot be imported'),
    ('custom_hooks = [dict(type="NoSuchHook")]', '"custom_hooks": .*NoSuchHook'),
    ('model["generator"]["num_block"] = 3', '"model": .*num_block.*did you mean "num_blocks"'),
    ('model["pixel_los"] = model.pop("pixel_loss")', '"model": .*pixel_los.*did you mean "pixel_loss"'),
    ('optimizers["generator"]["weight_decy"] = 3', '"optimizers": .*weight_decy.*did you mean "weight_decay"'),
    ('lr_config["min_lrs"] = 3', '"lr_config": .*min_lrs.*did you mean "min_lr"'),
    ('log_config["hooks"][0]["intervall"] = 3', '"log_config": .*intervall.*did you mean "interval"'),
    ('data["val"]["scal"] = 4', '"data.val": .*scal.*did you mean "scale"'),
    ('data["train"]["dataset"]["gt_foldr"] = "x"', '"data.train": .*gt_foldr.*did you mean "gt_folder"'),
    ('train_pipeline[11]["flip_ration"] = 1', '"data.train": .*flip_ration.*did you mean "flip_ratio"'),
    ('train_pipeline.insert(1, dict(type="ColorJitter", keys=["gt"], jitter_ratio=0.1))',
     '"data.train": .*jitter_ratio.*; neither MMEditing 0.16 nor facesr has it: custom_imports brings in classes'),
    ('train_pipeline.insert(1, dict(type="CutBlur", keys=["gt"]))',
     '"data.train": SRFolderDataset: CutBlur is not in the pipeline registry; neither MMEditing 0.16 nor'),
    ('model["generator"]["dropout_prob"] = 0.1', '"model": .*dropout_prob.*; neither MMEditing 0.16 nor facesr'),
    ('del total_iters', '"total_iters": is not there'),
    ('del optimizers', '"optimizers": is not there'),
])
def test_what_is_wrong_inside_is_one_line(line, message, flat):
    with pytest.raises(UserError, match=f'^config key {message}') as caught:
        dry_run(flat(line))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('line, message', [
    ('train_pipeline.insert(11, dict(type="RandomDownSampling", scale_min=4, scale_max=4))',
     '"data.train.pipeline": RandomDownSampling cannot do its work on .*train/GT/0000.*uint8'),
    ('train_pipeline.insert(11, dict(type="Flip", keys=["ref"], flip_ratio=1))',
     """"data.train.pipeline": Flip cannot do its work on .*KeyError: 'ref'"""),
    ('test_pipeline.insert(2, dict(type="Flip", keys=["ref"], flip_ratio=1))',
     """"data.val.pipeline": Flip cannot do its work on .*val/.*KeyError: 'ref'"""),
])
def test_a_transform_that_cannot_is_named(line, message, workers, flat):
    """Also where a process of a loader found out."""
    with pytest.raises(UserError, match=f'^config key {message}') as caught:
        train(flat(line, f'data["workers_per_gpu"] = {workers}'), 'flat')
    assert '\n' not in str(caught.value)


def test_images_may_be_cropped_before_they_are_degraded(flat):
    cfg = flat('train_pipeline.insert(1, dict(type="Crop", keys=["gt"], crop_size=(256, 256), random_crop=True))',
               'train_pipeline[8]["params"]["target_size"] = (256, 256)',
               'train_pipeline[10]["params"]["target_size"] = (64, 64)')
    assert [transform['type'] for transform in cfg.data.train.pipeline[:3]] == ['LoadImageFromFile', 'Crop', 'Degrade']
    assert dry_run(cfg).shapes['lq'] == (2, 3, 8, 8)


def test_lists_of_data_sets(flat, tiny_root):
    one = 'one = dict(data["train"]["dataset"])'
    noted = f'noted = dict(one, type="SRAnnotationDataset", ann_file="{tiny_root}/train.txt")'
    nested = 'data["train"] = [one, dict(type="RepeatDataset", times=2, dataset=[noted, one])]'
    cfg = flat(one, noted, nested)
    samples = build_stream(cfg).loader.dataset
    assert len(samples) == 2 + 2 * (2 + 2) and len(samples.paths) == 6
    assert {samples._path(index) for index in range(len(samples))} == set(samples.paths)
    assert dry_run(cfg).training_images == len(samples)
    twice = flat(one, f'twice = dict(one, type="SRAnnotationDataset", ann_file=["{tiny_root}/train.txt"] * 2)',
                 'data["train"] = twice')
    assert dry_run(twice).training_images == 4


def test_the_model_of_a_flat_file_is_ours(flat):
    """Which computes what MMEditing's does."""
    assert type(build_restorer(flat())).__name__ == 'FaceRestorer'
