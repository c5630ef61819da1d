import copy
import math

import pytest
from conftest import CONFIGS

from facesr.config import load_config
from facesr.engine.train import train
from facesr.models.build import build_restorer, check_budget, count_parameters
from facesr.utils.errors import UserError

PARAMETERS = {
    'configs/srresnet_ffhq.py': 1_812_995,
    'configs/srresnet_ffhq_baseline.py': 1_517_571,
    'configs/srresnet_ffhq_one_cycle.py': 1_812_995,
    'configs/srresnet_ffhq_psnr.py': 1_812_995,
    'configs/srresnet_ffhq_restarts.py': 1_812_995,
    'configs/srresnet_ffhq_second_order.py': 1_812_995,
    'configs/srresnet_ca_ffhq.py': 1_819_435,
    'configs/rrdbnet_ffhq.py': 636_947,
    'configs/rrdbnet_ffhq_cosine.py': 636_947,
    'configs/rrdbnet_ffhq_original.py': 16_697_987,
    'configs/recommended_ffhq.py': 1_234_048,
    'configs/esrgan_ffhq.py': 636_947,  # and its discriminator's 1,061,417: tests/unit/models/test_esrgan.py
    'configs/naf_unet_ffhq.py': 1_234_048,
    'configs/naf_unet_ffhq_second_order.py': 1_234_048,
    'configs/plksr_ffhq.py': 1_804_288,
    'configs/safmn_ffhq.py': 1_795_728,
    'configs/sample/srresnet_sample.py': 1_812_995,
    'configs/sample/rrdbnet_sample.py': 636_947,
    'configs/sample/naf_unet_sample.py': 1_234_048,
}
BUDGET = 1_821_085
# What lets a config run without the checkpoint and the weights of others that it starts from.
ALONE = {'configs/esrgan_ffhq.py': {'gt_patch_size': 128, 'load_from': None, 'model.perceptual_loss': None},
         'configs/naf_unet_ffhq_second_order.py': {'load_from': None}}


def test_every_shipped_config_has_its_count():
    assert sorted(PARAMETERS) == CONFIGS


@pytest.mark.parametrize('config', CONFIGS)
def test_parameters_and_budget(config):
    cfg = load_config(config)
    generator = build_restorer(cfg).generator
    assert count_parameters(generator) == PARAMETERS[config]
    assert cfg.budget == (None if 'original' in config else BUDGET)
    assert check_budget(generator, cfg) == PARAMETERS[config]


def test_a_generator_over_the_budget_stops_training(tiny_config):
    cfg = tiny_config('configs/srresnet_ffhq.py', **{'model.generator.num_blocks': 21})
    with pytest.raises(UserError, match='1,886,851 parameters, 65,766 over the budget of 1,821,085'):
        train(cfg, 'too_big')


@pytest.mark.parametrize('config', CONFIGS)
def test_two_iterations(config, tiny_config, tmp_path):
    train(tiny_config(config, **ALONE.get(config, {})), 'two')
    names = {path.name for path in (tmp_path / 'work').iterdir()}
    assert {'iter_2.pth', 'latest.pth', 'two.py', 'environment.txt', 'tf_logs'} <= names
    assert any(name.startswith('best_PSNR_iter_') for name in names)


def test_patch_size_and_data_root_reach_the_pipeline():
    cfg = load_config('configs/srresnet_ffhq.py', {'gt_patch_size': 96}, 'elsewhere/')
    assert [t.gt_patch_size for t in cfg.data.train.pipeline if t.type == 'Degrade'] == [96]
    assert cfg.data.val.lq_folder == 'elsewhere/val/LQ'
    assert cfg.data.train.gt_folder == 'elsewhere/train/GT'
    assert cfg.data.train.ann_file == 'annotations/ffhq_train.txt'
    assert cfg.work_dir == 'work_dirs/srresnet_ffhq'


def test_the_degradation_has_the_designs_figures():
    blur, down, noise, jpeg, up, quantize, area = load_config('configs/srresnet_ffhq.py').degradation
    thirds, modes = [1 / 3] * 3, ['bilinear', 'area', 'bicubic']
    assert [t.type for t in (blur, down, noise, jpeg)] == [
        'RandomBlur', 'RandomResize', 'RandomNoise', 'RandomJPEGCompression']
    assert [t.type for t in (up, quantize, area)] == ['RandomResize', 'Quantize', 'RandomResize']
    assert blur.params == dict(kernel_size=[41], kernel_list=['iso', 'aniso'], kernel_prob=[.5, .5], sigma_x=[.2, 5],
                               sigma_y=[.2, 5], rotate_angle=[-math.pi, math.pi])
    assert down.params == dict(resize_mode_prob=[0, 1, 0], resize_scale=[1 / 16, 1], resize_opt=modes,
                               resize_prob=thirds)
    assert noise.params == dict(noise_type=['gaussian'], noise_prob=[1], gaussian_sigma=[0, 25],
                                gaussian_gray_noise_prob=0)
    assert jpeg.params == dict(quality=[50, 95])
    assert up.params == dict(target_size=(512, 512), resize_opt=modes, resize_prob=thirds)
    assert area.params == dict(target_size=(128, 128), resize_opt=['area'], resize_prob=[1])


def test_the_sample_uses_the_same_degradation():
    ffhq, sample = load_config('configs/srresnet_ffhq.py'), load_config('configs/sample/srresnet_sample.py')
    assert sample.degradation == ffhq.degradation
    pipelines = [copy.deepcopy(cfg.data.train.pipeline) for cfg in (ffhq, sample)]
    assert [t.pop('gt_patch_size', None) for t in pipelines[1]] != [t.pop('gt_patch_size', None) for t in pipelines[0]]
    assert pipelines[0] == pipelines[1]


def test_networks_for_faces_see_the_same_zooms_and_else_what_all_see():
    for kind in ('ffhq', 'ffhq_second_order'):
        ours, theirs = (list(load_config(f'configs/{net}_{kind}.py').data.train.pipeline)
                        for net in ('naf_unet', 'srresnet'))
        assert ours.pop(1) == dict(type='RandomResizedCrop', keys=['gt'], crop_size=512, scale=(0.8, 1.0),
                                   ratio=(0.95, 1.05), interpolation='bicubic')
        assert ours == theirs


@pytest.mark.parametrize('options, message', [
    ({'total_iter': 5}, 'no key "total_iter"; did you mean "total_iters"'),
    ({'data.trian.ann_file': 'x'}, 'no key "data.trian"; did you mean "data.train"'),
    ({'data.train.pipeline.99.keys': []}, 'no key "data.train.pipeline.99"'),
    ({'evaluation.intervl': 5}, 'no key "evaluation.intervl"; did you mean "evaluation.interval"'),
    ({'data_root': 'x'}, 'use --data-root'),
    ({'train_pipeline': []}, '"train_pipeline" only helps to write cfg.data'),
    ({'degrade_on': 'gpu'}, '"degrade_on" is \'gpu\': give "loader" or "device"'),
    ({'gt_patch_size': 30}, 'give a positive multiple of the scale 4'),
])
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        load_config('configs/srresnet_ffhq.py', options)


def test_a_new_argument_may_be_added():
    cfg = load_config('configs/srresnet_ffhq.py', {'optimizers.generator.weight_decay': 0.1})
    assert cfg.optimizers.generator.weight_decay == 0.1


def test_a_broken_config_is_one_line(tmp_path):
    broken = tmp_path / 'broken.py'
    broken.write_text('model = dict(')
    with pytest.raises(UserError, match='broken.py: cannot be read as a config'):
        load_config(broken)


def test_a_mistake_in_the_model_is_a_user_error():
    cfg = load_config('configs/srresnet_ffhq.py', {'model.generator.type': 'NoSuchNet'})
    with pytest.raises(UserError, match='NoSuchNet'):
        build_restorer(cfg)
