"""What a config in MMEditing's form means here."""
import copy

import numpy as np
import pytest
from mmcv import Config
from mmedit.datasets.pipelines import Compose
from mmedit.datasets.registry import PIPELINES
from PIL import Image
from torchvision import transforms

from facesr.config import config_text, filled_in, load_config, notices, train_dataset_cfgs
from facesr.datasets.degrade import training_recipe
from facesr.evaluation.metrics import check_metrics
from facesr.utils.errors import UserError
from facesr.utils.random import seeded

DEGRADATION = slice(3, 10)  # of the organiser's training pipeline


def types(pipeline) -> list:
    return [transform['type'] for transform in pipeline]


def test_what_a_flat_file_lacks_is_the_base_runtime_s(written):
    cfg, base = written(), Config.fromfile('configs/_base_/runtime/default.py')
    for key in ('seed', 'budget', 'amp', 'ema', 'grad_clip', 'accumulation_steps', 'custom_hooks', 'cudnn_benchmark'):
        assert cfg[key] == base[key] and key in filled_in(cfg)
    assert cfg.evaluation == dict(interval=1, save_image=False, save_best='PSNR')
    assert cfg.checkpoint_config == dict(interval=50000, save_optimizer=True, by_epoch=False)  # keeps all, as asked
    assert written(options={'budget': None}).budget is None
    assert 'budget' not in filled_in(written(options={'budget': None}))
    assert not filled_in(load_config('configs/srresnet_ffhq.py'))


def test_a_config_of_ours_comes_out_as_it_went_in():
    for path in ('configs/srresnet_ffhq.py', 'configs/esrgan_ffhq.py', 'configs/sample/rrdbnet_sample.py'):
        cfg, plain = load_config(path), Config.fromfile(path)
        assert not notices(cfg)
        for key in ('model', 'optimizers', 'lr_config', 'evaluation', 'checkpoint_config', 'test_cfg'):
            assert cfg[key] == plain[key], key
        assert cfg.data.val == plain.data.val and cfg.data.test == plain.data.test


def test_a_recorded_config_means_the_same(written, tmp_path):
    cfg = written()
    recorded = tmp_path / 'recorded.py'
    recorded.write_text(config_text(cfg))
    again = load_config(recorded)
    assert again._cfg_dict == cfg._cfg_dict


def test_their_degradation_becomes_ours_word_for_word(written):
    """The recipe is what is drawn from: equal recipes, equal distributions."""
    theirs = written(options={'degrade': 'stock'}).data.train.pipeline
    cfg = written()
    assert training_recipe(cfg).degradation == theirs[DEGRADATION]
    assert types(cfg.data.train.pipeline) == ['LoadImageFromFile', 'Degrade', 'RescaleToZeroOne', 'PairedRandomCrop',
                                              'Flip', 'ImageToTensor', 'Collect']
    assert cfg.data.train.pipeline[3:] == theirs[DEGRADATION.stop:]
    assert any('drawn from the same distribution' in line for line in notices(cfg))
    shipped = load_config('configs/srresnet_ffhq.py').degradation
    ours = copy.deepcopy(training_recipe(cfg).degradation)
    ours[0]['params']['rotate_angle'] = shipped[0]['params']['rotate_angle']  # pi with four decimals
    assert ours == shipped


def test_what_comes_of_the_pipeline_is_of_the_same_kind(written):
    options = {'data.train.dataset.pipeline.11.flip_ratio': 0, 'data.train.dataset.pipeline.10.gt_patch_size': 512}
    samples = []
    for degrade in ('fast', 'stock'):
        pipeline = copy.deepcopy(list(written(options={**options, 'degrade': degrade}).data.train.pipeline))
        gt = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
        with seeded(1, 2):
            samples.append(Compose(pipeline[1:])(dict(gt=gt.copy(), gt_path='a.png', scale=4)))
    ours, theirs = samples
    assert (ours['gt'] == theirs['gt']).all() and ours['gt'].dtype == theirs['gt'].dtype
    for key in ('lq', 'gt'):
        assert ours[key].dtype == theirs[key].dtype and ours[key].shape == theirs[key].shape
    assert ours['lq'].min() >= 0 and ours['lq'].max() <= 1


@pytest.mark.parametrize('line, why', [
    ('train_pipeline[0]["channel_order"] = "bgr"', 'loaded as BGR'),
    ('train_pipeline[0]["flag"] = "unchanged"', 'flag="color"'),
    ('train_pipeline.insert(1, dict(type="Resize", keys=["gt"], scale=(512, 512)))', 'Resize comes before it'),
    ('train_pipeline.insert(2, dict(type="Flip", keys=["gt"]))', 'is not right before CopyValues'),
    ('train_pipeline[4]["keys"] = ["lq", "gt"]', 'RandomResize does not work on "lq" alone'),
    ('train_pipeline.insert(5, dict(type="UnsharpMasking", kernel_size=51, sigma=0, weight=0.5, threshold=10, '
     'keys=["lq"]))', 'the degradation goes on after another transform'),
])
def test_another_degradation_stays_theirs(line, why, written):
    cfg = written(line)
    assert 'Degrade' not in types(cfg.data.train.pipeline) and 'RandomBlur' in types(cfg.data.train.pipeline)
    assert any(why in told for told in notices(cfg)), notices(cfg)


def test_a_degradation_of_a_base_does_not_take_the_place_of_one_that_is_written_out(written):
    """The key of the base would replace what the pipeline says."""
    cfg = written('degradation = [dict(type="RandomBlur", keys=["lq"], params=dict(kernel_size=[41]))]')
    assert 'Degrade' not in types(cfg.data.train.pipeline) and 'RandomBlur' in types(cfg.data.train.pipeline)
    assert any('the key "degradation" is another one' in told for told in notices(cfg)), notices(cfg)


def test_augmentations_of_8_bit_images_stay_before_it(written):
    cfg = written('train_pipeline.insert(1, dict(type="RandomRotation", keys=["gt"], degrees=25))')
    assert types(cfg.data.train.pipeline)[:3] == ['LoadImageFromFile', 'RandomRotation', 'Degrade']


def test_the_color_jitter_of_mmediting_0_14(written, monkeypatch):
    """Its `to_rgb` turned the channels around and back, which is what channel_order="bgr" does."""
    jitter = 'train_pipeline.insert(1, dict(type="ColorJitter", keys=["gt"], to_rgb={}, brightness=0, hue=(0.3, 0.3)))'
    ours = written(jitter.format(True)).data.train.pipeline[1]
    assert ours == dict(type='ColorJitter', keys=['gt'], channel_order='bgr', brightness=0, hue=(0.3, 0.3))
    gt = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    theirs = transforms.ColorJitter(hue=(0.3, 0.3))(Image.fromarray(gt[..., ::-1]))
    assert (Compose([ours])(dict(gt=gt))['gt'] == np.asarray(theirs)[..., ::-1]).all()
    with pytest.raises(UserError, match='ColorJitter.to_rgb=False. swapped red and blue of its result; give'):
        written(jitter.format(False))

    class ColorJitter:
        def __init__(self, keys, to_rgb=False, jitter_ratio=0.5, **kwargs):
            """A user's own, in the place of MMEditing's."""

    monkeypatch.setitem(PIPELINES.module_dict, 'ColorJitter', ColorJitter)
    assert written(jitter.format(False)).data.train.pipeline[1].to_rgb is False


def test_repeats_and_lists(written):
    cfg = written()
    assert cfg.data.train['type'] == 'SRFolderDataset'
    twice = written('one = data["train"]["dataset"]',
                    'data["train"] = dict(type="RepeatDataset", times=2, dataset=[one, dict(type="RepeatDataset", '
                    'times=3, dataset=one), dict(type="ConcatDataset", datasets=[one, one])])')
    leaves = train_dataset_cfgs(twice)
    assert len(leaves) == 4 and isinstance(twice.data.train, list)
    assert all('Degrade' in types(leaf.pipeline) for leaf in leaves)


def test_the_test_split_needs_no_gt(written):
    test = written().data.test
    assert test == dict(
        type='SRFolderLQDataset', lq_folder='data/FFHQ/test/LQ', scale=4, pipeline=[
            dict(type='LoadImageFromFile', io_backend='disk', key='lq', channel_order='rgb'),
            dict(type='RescaleToZeroOne', keys=['lq']), dict(type='ImageToTensor', keys=['lq']),
            dict(type='Collect', keys=['lq'], meta_keys=['lq_path', 'lq_path'])])


def test_another_folder_without_a_data_root(written):
    cfg = written(data_root='/elsewhere/')
    assert cfg.data.train.gt_folder == '/elsewhere/train/GT'
    assert cfg.data.val.lq_folder == '/elsewhere/val/LQ' and cfg.data.test.lq_folder == '/elsewhere/test/LQ'
    with pytest.raises(UserError, match='its folders have none in common'):
        written('data["val"]["lq_folder"] = "/other/LQ"', data_root='/elsewhere')


def test_mapped_keys(written):
    cfg = written('fp16 = dict(loss_scale=512.)', 'optimizer_config = dict(grad_clip=dict(max_norm=3, norm_type=2))')
    assert cfg.amp == 'fp16' and cfg.grad_clip == 3 and cfg.model.type == 'FaceRestorer'
    cfg = written('del total_iters', 'runner = dict(type="IterBasedRunner", max_iters=7)')
    assert cfg.total_iters == 7 and 'runner' not in cfg
    cfg = written('data.update(val_samples_per_gpu=1, val_workers_per_gpu=2)', 'del data["train_dataloader"]',
                  'data["train_dataloader"] = dict(batch_size=3, num_workers=0)')
    assert cfg.data.val_dataloader == dict(samples_per_gpu=1, persistent_workers=False, workers_per_gpu=2)
    assert cfg.data.train_dataloader == dict(samples_per_gpu=3, workers_per_gpu=0)
    assert written('test_cfg["metrics"] = "SSIM"').test_cfg.metrics == ['SSIM']
    assert written('test_cfg["convert_to"] = "y"').test_cfg.metrics == ['PSNR_Y', 'SSIM_Y']
    assert written('test_cfg["convert_to"] = "y"').evaluation.save_best == 'PSNR_Y'
    assert written('auto_resume = True').resume_from == 'auto'


def test_optimizers_and_schedules(written):
    one = dict(type='Adam', lr=1e-4)
    assert written('optimizers = dict(type="Adam", lr=1e-4)').optimizers == dict(generator=one)
    both = written('optimizers = dict(type="Adam", lr=1e-4)', 'model["discriminator"] = dict(type="ModifiedVGG")')
    assert both.optimizers == dict(generator=one, discriminator=one)
    assert written('lr_config = None').lr_config is None
    assert written('lr_config = dict(policy="Step", step=[1])').lr_config.by_epoch is False


def test_averages(written):
    hook = 'dict(type="ExponentialMovingAverageHook", module_keys=("generator_ema"), interval=1)'
    cfg = written(f'custom_hooks = [{hook}]')
    assert cfg.model.type == 'FaceRestorer'
    cfg = written('custom_hooks = [dict(type="EMAHook", momentum=0.01)]')
    assert cfg.custom_hooks == [dict(type='MomentumEMAHook', momentum=0.01)]
    check_metrics(written(f'custom_hooks = [{hook}]', 'evaluation["save_best"] = "PSNR_ema"'))
    with pytest.raises(UserError, match='"ema" and "custom_hooks" .* both keep a moving average'):
        written(f'custom_hooks = [{hook}]', 'ema = 0.9')


def test_what_mmcv_has_dumped(written, tmp_path):
    """MMEditing writes a run's config so: nothing in it reads the names that the values were made with."""
    path = tmp_path / 'flat.py'
    written()
    Config.fromfile(str(path)).dump(str(tmp_path / 'dumped.py'))
    text = (tmp_path / 'dumped.py').read_text()
    assert 'train_dataset_type = ' in text and 'depth = 1' in text
    (tmp_path / 'dumped.py').write_text(text.replace('depth = 1\n', '').replace('opts = ', 'img_norm_cfg = '))
    cfg = load_config(tmp_path / 'dumped.py')
    assert cfg.data == written().data and cfg.model == written().model


def test_adversarial_training(written):
    gan = ('model.update(type="ESRGAN", discriminator=dict(type="ModifiedVGG", in_channels=3, mid_channels=8), '
           'gan_loss=dict(type="GANLoss", gan_type="vanilla", loss_weight=5e-3))',
           'model["perceptual_loss"] = dict(type="PerceptualLoss", layer_weights={"34": 1.0}, vgg_type="vgg19", '
           'perceptual_weight=1.0, style_weight=0, norm_img=False)')
    cfg = written(*gan)
    assert cfg.model.type == 'FaceESRGAN'
    assert cfg.model.perceptual_loss == dict(type='VGGPerceptualLoss', layer_weights={'34': 1.0}, vgg_type='vgg19',
                                             perceptual_weight=1.0, norm_img=False)
    assert written(*gan, 'model["type"] = "SRGAN"').model.type == 'SRGAN'
    assert 'pretrained' not in written(
        *gan, 'model["perceptual_loss"]["pretrained"] = "torchvision://vgg19"').model.perceptual_loss
    for line, message in (('model["perceptual_loss"]["pretrained"] = "https://x.org/vgg.pth"', 'nothing is downloaded'),
                          ('model["perceptual_loss"].pop("style_weight")', 'there is no style loss; give 0'),
                          ('model["type"] = "LIIF"', 'is for any scale; here there are BasicRestorer'),
                          ('model["type"] = "EDVR"; train_cfg = dict(fix_iter=5000)', 'is for videos'),
                          ('model["type"] = "GLInpaintor"', 'is for inpainting'),
                          ('model["pretrained"] = "https://x.org/a.pth"', 'nothing is downloaded')):
        with pytest.raises(UserError, match=message):
            written(*gan, line)
