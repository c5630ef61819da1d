"""The table of keys: what is not in it is refused, and what is in it takes one kind of value."""
import re
from pathlib import Path

import pytest
from conftest import ROOT
from mmediting_forms import organiser

from facesr.config import load_config
from facesr.config.keys import CLOSED, GONE, HONOURED, KEYS, MAPPED, REFUSED, check_keys, children, mmediting_table
from facesr.config.mmediting import DEFAULTS
from facesr.utils.errors import UserError

CONFIG = 'configs/srresnet_ffhq.py'


@pytest.mark.parametrize('level', CLOSED)
def test_a_key_that_nobody_reads_is_refused_at_every_level(level, written):
    """In a file, and as an option of one."""
    path, key = ''.join(f'["{part}"]' for part in level.split('.')[1:]), f'{level}.nonsense' if level else 'nonsense'
    line = f'{level.split(".")[0]}{path}["nonsense"] = 1' if level else 'nonsense = 1'
    message = f'config key "{level}": has "nonsense"' if level else 'config key "nonsense": is there'
    with pytest.raises(UserError, match=f'^{message}, which nobody reads; '):
        written('train_cfg = dict()', line)
    with pytest.raises(UserError, match=f'^{message}' if level else 'has no key "nonsense"'):
        written('train_cfg = dict()', options={key: 1})


@pytest.mark.parametrize('line, message', [
    ('total_iter = 5', 'config key "total_iter": is there, which nobody reads; did you mean "total_iters"?'),
    ('evaluation["intervl"] = 5', 'config key "evaluation": has "intervl", which .* did you mean "interval"'),
    ('data["trian"] = data["train"]', 'config key "data": has "trian", which nobody reads; did you mean "train"'),
    ('data["val_dataloader"]["samples_per_gp"] = 1', 'did you mean "samples_per_gpu"'),
    ('train_pipeline[0]["chanel_order"] = "rgb"', 'pipeline.0": has "chanel_order".*did you mean "channel_order"'),
    ('train_pipeline[4]["params"]["resize_scal"] = 1', 'pipeline.4.params": has "resize_scal".*"resize_scale"'),
    ('data["train"]["tims"] = 3', 'config key "data.train": has "tims", which nobody reads; did you mean "times"'),
    ('test_cfg["metric"] = []', 'did you mean "metrics"'),
])
def test_mistyped_keys_are_named(line, message, written):
    with pytest.raises(UserError, match=message):
        written(line)


@pytest.mark.parametrize('line, message', [
    ('evaluation = 5000', 'config key "evaluation" is 5000: give a dict, or None'),
    ('lr_config = "Step"', 'config key "lr_config" is \'Step\': give a dict with a "policy", or None'),
    ('lr_config = dict(policy=5)', 'config key "lr_config" is .*give a dict with a "policy"'),
    ('model = None', 'config key "model" is None: give a dict with a "type"'),
    ('model = 5', 'config key "model" is 5: give'),
    ('model["generator"] = 5', 'config key "model.generator" is 5: give a dict with a "type"'),
    ('model["pixel_loss"] = "L1"', 'config key "model.pixel_loss" is \'L1\''),
    ('data = None', 'config key "data" is None: give a dict'),
    ('data = 5', 'config key "data" is 5: give a dict'),
    ('data["train"] = None', 'config key "data.train" is None: give a dict with a "type", or a list'),
    ('data["train"]["dataset"]["pipeline"] = None', 'config key "data.train.dataset.pipeline" is None: give a list'),
    ('data["train"]["dataset"]["pipeline"] = [5]', 'config key "data.train.dataset.pipeline" is .*: give a list'),
    ('data["train"]["times"] = "many"', 'config key "data.train.times" is \'many\': give a whole number'),
    ('data["train"]["dataset"]["scale"] = 0', 'config key "data.train.dataset.scale" is 0: give a whole number'),
    ('data["val"]["lq_folder"] = 3', 'config key "data.val.lq_folder" is 3: give a folder'),
    ('data["val"] = [data["val"]]', 'config key "data.val" is .*: give a dict with a "type"'),
    ('data["workers_per_gpu"] = -1', 'config key "data.workers_per_gpu" is -1: give a whole number, at least 0'),
    ('data["train_dataloader"] = 4', 'config key "data.train_dataloader" is 4: give a dict'),
    ('optimizers = "Adam"', 'config key "optimizers" is \'Adam\': give a dict with a "type", or one of such dicts'),
    ('optimizers = dict(generator=5)', 'config key "optimizers" is'),
    ('total_iters = True', 'config key "total_iters" is True: give a whole number, at least 1'),
    ('total_iters = 2.5', 'config key "total_iters" is 2.5: give a whole number'),
    ('checkpoint_config = None', 'config key "checkpoint_config" is None: give a dict'),
    ('checkpoint_config["max_keep_ckpts"] = 0', 'max_keep_ckpts" is 0: give a whole number, at least 1, or -1 for all'),
    ('log_config = None', 'config key "log_config" is None: give a dict'),
    ('log_config["hooks"] = 5', 'config key "log_config.hooks" is 5: give a list'),
    ('log_level = "LOUD"', 'config key "log_level" is \'LOUD\': give "DEBUG", '),
    ('custom_hooks = 5', 'config key "custom_hooks" is 5: give a list'),
    ('custom_hooks = [5]', 'config key "custom_hooks" is \\[5\\]: give a list of dicts'),
    ('seed = -1', 'config key "seed" is -1: give a whole number, at least 0'),
    ('ema = 1.5', 'config key "ema" is 1.5: give a decay'),
    ('budget = "none"', 'config key "budget" is \'none\': give a whole number, at least 1, or None'),
    ('amp = "fp8"', 'config key "amp" is \'fp8\': give "auto"'),
    ('work_dir = 5', 'config key "work_dir" is 5: give a text'),
    ('test_cfg = "PSNR"', 'config key "test_cfg" is \'PSNR\': give a dict'),
    ('train_pipeline[3]["params"] = None', 'pipeline.3.params" is None: give a dict'),
])
def test_another_kind_of_value_ends_in_one_line(line, message, written):
    with pytest.raises(UserError, match=message) as caught:
        written(line)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('line, message', [
    ('total_epochs = 12', 'config key "total_epochs" is 12: .* give total_iters'),
    ('runner = dict(type="EpochBasedRunner", max_epochs=3)', 'config key "runner" is .*give total_iters'),
    ('runner = dict(type="IterBasedRunner", max_iters=7)', '"runner.max_iters" and "total_iters" say different things'),
    ('optimizer = dict(type="Adam")', 'config key "optimizer" is .*give optimizers = '),
    ('momentum_config = dict(policy="cyclic")', 'config key "momentum_config"'),
    ('workflow = [("train", 1), ("val", 1)]', 'config key "workflow" is .*evaluation.interval'),
    ('workflow = 5', 'config key "workflow" is 5'),
    ('gpus = 4', 'config key "gpus" is 4: for several GPUs: torchrun'),
    ('gpu_ids = range(4)', 'config key "gpu_ids" is range.*CUDA_VISIBLE_DEVICES'),
    ('autoscale_lr = True', 'config key "autoscale_lr" is True: .*optimizers.generator.lr'),
    ('dist_params = dict(backend="mpi")', 'config key "dist_params"'),
    ('evaluation["by_epoch"] = True', 'config key "evaluation.by_epoch" is True: training is counted in iterations'),
    ('checkpoint_config["by_epoch"] = True', 'config key "checkpoint_config.by_epoch" is True: .*iterations'),
    ('lr_config["by_epoch"] = True', 'config key "lr_config.by_epoch" is True: .*iterations'),
    ('log_config["hooks"][0]["by_epoch"] = True', '"log_config.hooks": by_epoch=True.*give False'),
    ('data["val_dataloader"]["drop_last"] = True', 'val_dataloader.drop_last" is True: every image is measured'),
    ('data["test_dataloader"]["drop_last"] = True', 'test_dataloader.drop_last" is True: every image is measured'),
    ('data["val_dataloader"]["shuffle"] = True', 'in the order of their names'),
    ('data["train_dataloader"]["shuffle"] = False', 'a shuffled order'),
    ('data["train_dataloader"]["batch_size"] = 9', 'batch_size" and "samples_per_gpu" say different things'),
    ('fp16 = dict(loss_scale=512.)\namp = "bf16"', '"fp16" and "amp" say different things'),
    ('optimizer_config = dict(grad_clip=dict(max_norm=1, norm_type=1))', 'config key "optimizer_config" is'),
    ('load_from = "https://example.org/a.pth"', 'config key "load_from" is .*: nothing is downloaded'),
    ('resume_from = "http://example.org/a.pth"', 'config key "resume_from" is .*: nothing is downloaded'),
    ('data["train"]["dataset"].pop("scale")', '"data.train.dataset.scale" is None: give how many times larger'),
    ('evaluation["key_indicator"] = "PSNR"', 'its name today is save_best'),
])
def test_what_there_is_not_is_refused_with_the_counterpart(line, message, written):
    with pytest.raises(UserError, match=message):
        written(line)


BLUR = 'dict(type="RandomBlur", params=dict(kernel_size=[7], kernel_list=["iso"], kernel_prob=[1], sigma_x=[1, 2]{}){})'


@pytest.mark.parametrize('steps, message', [
    (f'[{BLUR.format("", ", prob=0.0")}]', '"degradation.0": has "prob", which nobody reads'),
    (f'[{BLUR.format(", probability=0", "")}]', '"degradation.0.params": has "probability", which nobody reads'),
    (f'[dict(type="DegradationsWithShuffle", degradations=[[{BLUR.format(", nonsense=1", "")}]])]',
     '"degradation.0.degradations.0.0.params": has "nonsense"'),
    ('[dict(type="Quantize", params=dict())]', '"degradation.0": has "params"'),
])
def test_a_recipe_has_nothing_that_nobody_reads(steps, message, tmp_path):
    (tmp_path / 'mine.py').write_text(f'_base_ = {str(ROOT / CONFIG)!r}\ndegradation = {steps}\n')
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / 'mine.py')


@pytest.mark.parametrize('own, message', [
    ('degradation=[dict(type="Quantize")]', 'config key "degradation": is another one than the degradation of Degrade, '
                                            'transform 1 of the training pipeline'),
    ('gt_patch_size=96', 'config key "gt_patch_size": is another one than the gt_patch_size of Degrade'),
    ('gt_patch_size=512', None)])
def test_what_a_pipeline_says_itself_is_not_replaced(own, message, tmp_path):
    (tmp_path / 'mine.py').write_text(
        f'_base_ = {str(ROOT / CONFIG)!r}\ndata = dict(train=dict(pipeline=[dict(type="LoadImageFromFile", key="gt", '
        f'channel_order="rgb"), dict(type="Degrade", {own}), dict(type="Collect", keys=["lq", "gt"])]))\n')
    if message:
        with pytest.raises(UserError, match=message):
            load_config(tmp_path / 'mine.py')
    else:
        cfg = load_config(tmp_path / 'mine.py', {'gt_patch_size': 256})
        assert cfg.data.train.pipeline[1].gt_patch_size == 256


@pytest.mark.parametrize('text', [
    "experiment_name = 'a'\n_base_ = '../_base_/default_runtime.py'\noptim_wrapper = dict()",
    "train_dataloader = dict(batch_size=1)\nmodel = dict(type='BaseEditModel')",
])
def test_a_newer_form_is_recognised(text, tmp_path):
    """Also where the file that it builds on is not there."""
    (tmp_path / 'a.py').write_text(text)
    with pytest.raises(UserError, match='as configs of MMEditing 1.x and MMagic; give one in the form of 0.x'):
        load_config(tmp_path / 'a.py')


def test_a_name_that_the_file_reads_is_no_key(written, tmp_path):
    cfg = written('wide = 16', 'model["generator"]["mid_channels"] = wide')
    assert cfg.model.generator.mid_channels == 16 and 'wide' not in cfg and 'opts' not in cfg
    with pytest.raises(UserError, match='"depth" only helps to write'):
        written(options={'depth': 3})
    with pytest.raises(UserError, match='config key "wide": is there, which nobody reads'):
        written('wide = 16')
    child = tmp_path / 'child.py'
    child.write_text("_base_ = './flat.py'\nmodel = dict(generator=dict(num_blocks={{_base_.scale}}))\n")
    (tmp_path / 'flat.py').write_text(organiser('data/FFHQ'))
    assert load_config(child).model.generator.num_blocks == 4


def test_a_declared_key_that_a_file_lacks_can_be_an_option(written):
    cfg = written(options={'amp': 'bf16', 'resume_from': 'a.pth', 'data.samples_per_gpu': 3, 'degrade': 'stock'})
    assert cfg.amp == 'bf16' and cfg.resume_from == 'a.pth' and cfg.data.samples_per_gpu == 3
    with pytest.raises(UserError, match='no key "resume_form"; did you mean "resume_from"'):
        load_config(CONFIG, {'resume_form': 'a.pth'})
    with pytest.raises(UserError, match='exp_name: has done its work .* --work-dir'):
        load_config(CONFIG, {'exp_name': 'a'})


def test_every_default_is_declared():
    defaults = load_config(CONFIG)
    check_keys(defaults)
    names = set(re.findall(r'^(\w+) = ', DEFAULTS.read_text(), re.MULTILINE))
    assert names <= children('').keys()


def test_every_refusal_says_what_there_is_instead():
    assert {found.status for found in KEYS.values()} == {None, GONE, HONOURED, MAPPED, REFUSED}
    assert all(found.note for found in KEYS.values() if found.status in (MAPPED, REFUSED))


def test_what_images_cannot_be(written):
    for line, message in (
            ('data["train"]["dataset"]["type"] = "SRLmdbDataset"', 'train.dataset.type" is .*read from files here'),
            ('train_pipeline[0]["io_backend"] = "lmdb"', 'pipeline.0.io_backend" is \'lmdb\': images are read'),
            ('test_pipeline[0].update(io_backend="petrel")', 'data.val.pipeline.0.io_backend" is \'petrel\''),
            ('test_pipeline.insert(3, dict(type="Normalize", keys=["lq", "gt"], mean=[.5] * 3, std=[.5] * 3))',
             '"data.val.pipeline": Normalize takes images out of .0, 1., in which they are measured'),
            ('test_pipeline[2] = dict(type="Normalize", keys=["lq"], mean=[0] * 3, std=[1] * 3)', 'Normalize takes')):
        with pytest.raises(UserError, match=message):
            written(line)
    for std, rest in ((1, 'dict(type="RescaleToZeroOne", keys=["lq", "gt"])'), (255, '')):
        written(f'test_pipeline[2:3] = [{rest}]', f'test_pipeline.insert(3, dict(type="Normalize", keys=["lq", "gt"], '
                f'mean=[0] * 3, std=[{std}] * 3, to_rgb=False))')


def test_the_docs_have_the_table():
    assert mmediting_table() in Path('docs/mmediting.md').read_text(), (
        'put facesr.config.keys.mmediting_table() into docs/mmediting.md')
