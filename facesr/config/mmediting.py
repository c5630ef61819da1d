"""What a config in MMEditing's form means here: defaults under its keys, and its keys as ours.

`facesr.config.keys` has the table of them; a config of ours comes out as it went in.
"""
from collections.abc import Iterator
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from mmcv import Config, ConfigDict

from facesr.config.keys import SPLITS
from facesr.utils.errors import UserError

DEFAULTS = Path(__file__).resolve().parents[2] / 'configs/_base_/runtime/default.py'
TORCHVISION = 'torchvision://'
STOCK_EMA = 'ExponentialMovingAverageHook'
AVERAGING = (STOCK_EMA, 'MomentumEMAHook')  # hooks that move `generator_ema`
NO_DOWNLOADS = ('http://', 'https://', 'ftp://', 's3://', 'torchvision://', 'openmmlab://', 'modelzoo://',
                'open-mmlab://', 'mmcls://', 'petrel://')


@cache
def _defaults() -> ConfigDict:
    return Config.fromfile(str(DEFAULTS))._cfg_dict


def fill_defaults(cfg: Config) -> set:
    """Give a config the base runtime's value of every key that it has not.

    Returns:
        set: The keys.
    """
    filled = {key for key in _defaults() if key not in cfg}
    if isinstance(cfg.get('data'), dict) and 'val' not in cfg.data:
        filled.discard('evaluation')
    for key in filled:
        cfg[key] = _copy(_defaults()[key])
    if isinstance(cfg.log_config, dict):
        for key, value in _defaults().log_config.items():
            cfg.log_config.setdefault(key, _copy(value))
    if isinstance(cfg.checkpoint_config, dict):
        cfg.checkpoint_config.setdefault('interval', _defaults().checkpoint_config.interval)
    if isinstance(cfg.get('evaluation'), dict):
        cfg.evaluation.setdefault('interval', _defaults().evaluation.interval)
    return filled


def translate(cfg: Config) -> list:
    """Turn what MMEditing calls otherwise into this project's keys, in place.

    Args:
        cfg (Config): Held to the table before (`check_keys`).

    Returns:
        list[str]: What was done that a reader of the log should know.

    Raises:
        UserError: Two keys contradict each other, or something is asked for that there is not.
    """
    told = []
    for key in ('load_from', 'resume_from'):
        _refuse_url(key, cfg.get(key))
    if isinstance(cfg.get('model'), dict):
        _translate_model(cfg.model, told)
    _translate_runner(cfg)
    _translate_precision(cfg, told)
    _translate_schedule(cfg)
    _translate_optimizers(cfg, told)
    _translate_metrics(cfg, told)
    _translate_hooks(cfg, told)
    if isinstance(cfg.get('data'), dict):
        _translate_loaders(cfg.data, told)
        _translate_flags(cfg, told)
        _translate_jitter(cfg.data)
        _refuse_other_ranges(cfg.data)
        _translate_training_set(cfg.data, told)
        _translate_test_set(cfg.data, told)
    return told


def averages(cfg: Config) -> bool:
    """Whether training keeps a moving average of the generator, `generator_ema`."""
    return (cfg.get('ema') is not None or any(hook['type'] in AVERAGING for hook in cfg.get('custom_hooks') or ())
            or _averages_itself(cfg))


def _averages_itself(cfg: Config) -> bool:
    model = cfg.get('model') or {}
    return model.get('type') == 'RealESRGAN' and model.get('is_use_ema', True)


def _copy(value):
    """A deep copy; `ConfigDict`'s own would share lists."""
    if isinstance(value, dict):
        return ConfigDict({key: _copy(part) for key, part in value.items()})
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _refuse_url(key: str, value) -> None:
    if isinstance(value, str) and value.startswith(NO_DOWNLOADS):
        raise UserError(f'config key "{key}" is {value!r}: nothing is downloaded; download it and give the file')


def _take(cfg, key: str, name: str, value) -> None:
    """Set our `name` to what MMEditing's `key` says, unless it says something else already."""
    there = cfg.get(name)
    if there is not None and there != value:
        raise UserError(f'config keys "{key}" and "{name}" say different things ({value!r} and {there!r}); leave out '
                        'one of them')
    cfg[name] = value


def _translate_model(model: ConfigDict, told: list) -> None:
    """Ours for MMEditing's: the same images, losses and weights, more ways to train, and nothing downloaded.

    Raises:
        UserError: It asks for a loss that there is not.
    """
    if model.type == 'BasicRestorer':
        model.type = 'FaceRestorer'
    if model.type == 'ESRGAN' and model.get('discriminator') and model.get('gan_loss'):
        model.type = 'FaceESRGAN'
    _refuse_url('model.pretrained', model.get('pretrained'))
    loss = model.get('perceptual_loss')
    if not loss or loss['type'] != 'PerceptualLoss':
        return
    if loss.get('style_weight', 1.0):
        raise UserError('config key "model.perceptual_loss.style_weight" is '
                        f'{loss.get("style_weight", 1.0)!r}: there is no style loss; give 0')
    if loss.get('pretrained', TORCHVISION) != TORCHVISION + loss.get('vgg_type', 'vgg19'):
        _refuse_url('model.perceptual_loss.pretrained', loss.get('pretrained'))
    else:
        loss.pop('pretrained', None)
    loss.setdefault('norm_img', True)  # its default there
    for key in ('style_weight', 'layer_weights_style'):
        loss.pop(key, None)
    loss['type'] = 'VGGPerceptualLoss'
    told.append('model.perceptual_loss: VGGPerceptualLoss, the same with weights that are read from a file')


def _translate_runner(cfg: Config) -> None:
    runner = cfg.pop('runner', None)
    if not runner:
        return
    others = runner.keys() - {'type', 'max_iters'}
    if others or runner.get('type', 'IterBasedRunner') not in ('IterBasedRunner', 'SRIterBasedRunner'):
        raise UserError(f'config key "runner" is {dict(runner)}: training is counted in iterations; give total_iters')
    if 'max_iters' in runner:
        _take(cfg, 'runner.max_iters', 'total_iters', runner.max_iters)


def _translate_precision(cfg: Config, told: list) -> None:
    clip = cfg.pop('optimizer_config', None) or {}
    norm = clip.get('grad_clip') or {}
    if clip.keys() - {'grad_clip', 'type'} or clip.get('type', 'OptimizerHook') != 'OptimizerHook' or not (
            isinstance(norm, dict) and norm.keys() <= {'max_norm', 'norm_type'} and norm.get('norm_type', 2) == 2):
        raise UserError(f'config key "optimizer_config" is {dict(clip)}: what there is, is optimizer_config = '
                        'dict(grad_clip=dict(max_norm=N)), or grad_clip = N')
    if norm.get('max_norm') is not None:
        _take(cfg, 'optimizer_config.grad_clip.max_norm', 'grad_clip', norm['max_norm'])
        told.append(f'optimizer_config: grad_clip={norm["max_norm"]}')
    if cfg.pop('fp16', None) is not None:
        _take(cfg, 'fp16', 'amp', 'fp16')
        told.append("fp16: amp='fp16', whose loss scale finds itself")


def _translate_schedule(cfg: Config) -> None:
    schedule = cfg.get('lr_config')
    if schedule is None:
        return
    for key in ('by_epoch', 'warmup_by_epoch'):
        if schedule.get(key):
            raise UserError(f'config key "lr_config.{key}" is {schedule[key]!r}: training is counted in iterations; '
                            'give False and the numbers in iterations')
    schedule.by_epoch = False  # as mmcv's iteration-based runner sets it


def _translate_optimizers(cfg: Config, told: list) -> None:
    optimizers = cfg.get('optimizers')
    if optimizers and 'type' in optimizers:
        networks = [name for name in ('generator', 'discriminator') if (cfg.get('model') or {}).get(name)]
        cfg.optimizers = ConfigDict({name: _copy(optimizers) for name in networks or ['generator']})
        if len(networks) > 1:
            told.append(f'optimizers: one {optimizers["type"]} for each of {" and ".join(networks)}')


def _translate_metrics(cfg: Config, told: list) -> None:
    test_cfg = cfg.get('test_cfg')
    if test_cfg and isinstance(test_cfg.get('metrics'), str):
        test_cfg.metrics = [test_cfg.metrics]
    if test_cfg and test_cfg.pop('convert_to', None):
        test_cfg.metrics = [f'{name}_Y' if name in ('PSNR', 'SSIM') else name for name in test_cfg.get('metrics') or ()]
        told.append(f'test_cfg.convert_to: metrics={test_cfg.metrics}')
    evaluation = cfg.get('evaluation')
    if not evaluation:
        return
    evaluation.pop('gpu_collect', None)
    if 'save_best' not in evaluation and test_cfg:
        names = (name for name in test_cfg.get('metrics') or () if isinstance(name, str))
        evaluation.save_best = next(names, None)
        if evaluation.save_best and _averages_itself(cfg):
            evaluation.save_best += '_ema'  # of what MMEditing validates
            told.append(f'evaluation: save_best={evaluation.save_best!r}; tools/test.py --ema measures the average')


def _translate_hooks(cfg: Config, told: list) -> None:
    for hook in cfg.log_config['hooks']:
        if hook.get('by_epoch'):
            raise UserError('config key "log_config.hooks": by_epoch=True, but training is counted in iterations; '
                            'give False')
        hook['by_epoch'] = False  # as mmcv's iteration-based runner sets it
    for hook in cfg.get('custom_hooks') or ():
        if hook['type'] == 'EMAHook' and hook.get('resume_from'):
            raise UserError('config key "custom_hooks": EMAHook.resume_from: the average is in the checkpoints that '
                            '--resume goes on from; leave it out')
        if hook['type'] == 'EMAHook':
            hook.pop('resume_from', None)
            hook['type'] = 'MomentumEMAHook'
            told.append('custom_hooks: EMAHook averages the generator alone, into generator_ema')
        if hook['type'] in AVERAGING and cfg.get('ema') is not None:
            raise UserError(f'config keys "ema" and "custom_hooks" ({hook["type"]}) both keep a moving average; '
                            'leave out one of them')
    if cfg.pop('auto_resume', False) and not cfg.get('resume_from'):
        cfg.resume_from = 'auto'


def _translate_loaders(data: ConfigDict, told: list) -> None:
    for key in ('drop_last', 'shuffle'):
        data.pop(key, None)
    for split in SPLITS:
        name = f'{split}_dataloader'
        for old in ('samples_per_gpu', 'workers_per_gpu') if split != 'train' else ():
            value = data.pop(f'{split}_{old}', None)
            if value is not None:
                _take(data.setdefault(name, ConfigDict()), f'data.{split}_{old}', old, value)
        loader = data.get(name)
        if not loader:
            continue
        for newer, old in (('batch_size', 'samples_per_gpu'), ('num_workers', 'workers_per_gpu')):
            value = loader.pop(newer, None)
            if value is not None:
                _take(loader, f'data.{name}.{newer}', old, value)
        for key in ('drop_last', 'shuffle'):
            loader.pop(key, None)
    for key in ('samples_per_gpu', 'workers_per_gpu', 'pin_memory'):
        own = (data.get('train_dataloader') or {}).get(key)
        if key in data and own is not None and own != data[key]:
            told.append(f'data.{key}={data[key]}: data.train_dataloader.{key}={own} goes before it')


def _translate_flags(cfg: Config, told: list) -> None:
    """`unchanged` gives images of other kinds than 8-bit colour as they are, which networks for colour cannot take.

    Of 8-bit colour it is `color_ignore_orientation`: both give BGR, whatever `channel_order` says.
    """
    generator = (cfg.get('model') or {}).get('generator') or {}
    if generator.get('in_channels', 3) != 3:
        return
    found = [load for load in _of_type('LoadImageFromFile', cfg.data) if load.get('flag') == 'unchanged']
    for load in found:
        load['flag'] = 'color_ignore_orientation'
    if found:
        told.append('data: flag="unchanged" is "color_ignore_orientation", the same for images of 8-bit colour (BGR), '
                    'which it makes of others')


def _refuse_other_ranges(data: ConfigDict) -> None:
    """MMEditing measures images in [0, 1]: of others its figures mean nothing, and here they would be clipped."""
    for split in ('val', 'test'):
        pipeline = (data.get(split) or {}).get('pipeline', ())
        rescaled = any(_of_type('RescaleToZeroOne', pipeline))
        for normalize in _of_type('Normalize', pipeline):
            if set(normalize.get('mean', ())) != {0} or set(normalize.get('std', ())) != {1 if rescaled else 255}:
                raise UserError(f'config key "data.{split}.pipeline": Normalize takes images out of [0, 1], in which '
                                'they are measured; leave it out, or give mean=[0, 0, 0], std=[1, 1, 1]')


def _translate_jitter(data: ConfigDict) -> None:
    """MMEditing up to 0.14 says `to_rgb` where later ones say `channel_order`."""
    from mmedit.datasets.registry import PIPELINES  # not by whoever only reads a table of keys
    if 'to_rgb' in signature(PIPELINES.get('ColorJitter')).parameters:
        return  # a class of the user's, in the place of MMEditing's
    for jitter in _of_type('ColorJitter', data):
        if 'to_rgb' not in jitter:
            continue
        if not jitter.pop('to_rgb'):  # then its result was not turned back, but its input had not been turned either
            raise UserError('config key "data": ColorJitter(to_rgb=False) swapped red and blue of its result; give '
                            'channel_order="rgb", or "bgr" after channel_order="bgr" of LoadImageFromFile')
        _take(jitter, 'to_rgb=True', 'channel_order', 'bgr')  # turned around, jittered, and turned back


def _of_type(name: str, node) -> Iterator:
    """The dicts with this "type" in nested dicts and lists."""
    if isinstance(node, dict) and node.get('type') == name:
        yield node
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, (dict, list, tuple)):
            yield from _of_type(name, value)


def _translate_training_set(data: ConfigDict, told: list) -> None:
    if 'train' in data:
        dataset = _as_lists(data.train)
        while isinstance(dataset, dict) and dataset['type'] == 'RepeatDataset':
            told.append(f'data.train: RepeatDataset (times={dataset["times"]}) left out, for the order of training '
                        'images has no end')
            dataset = dataset['dataset']
        data.train = dataset


def _as_lists(dataset) -> Any:
    """What `ConcatDataset` joins, as the list that MMEditing's builder takes; also within others."""
    if isinstance(dataset, (list, tuple)):
        return [_as_lists(part) for part in dataset]
    if dataset['type'] == 'ConcatDataset':
        return _as_lists(dataset['datasets'])
    if dataset['type'] == 'RepeatDataset':
        dataset.dataset = _as_lists(dataset.dataset)
    return dataset


def _translate_test_set(data: ConfigDict, told: list) -> None:
    """The test split is restored, not measured: its GT, which may be that of other images, is not read."""
    test = data.get('test')
    if not test or 'gt_folder' not in test or 'lq_folder' not in test:
        return
    pipeline = []
    for transform in _copy(list(test.get('pipeline', ()))):
        if transform.get('key') == 'gt':
            continue
        if 'keys' in transform:
            transform['keys'] = [key for key in transform['keys'] if key != 'gt']
            if not transform['keys']:
                continue
        if 'meta_keys' in transform:
            transform['meta_keys'] = [key for key in transform['meta_keys'] if key != 'gt_path'] or ['lq_path']
        pipeline.append(transform)
    data.test = ConfigDict(type='SRFolderLQDataset', lq_folder=test.lq_folder, pipeline=pipeline, scale=test.scale)
    told.append('data.test: gt_folder is not read (--split val measures)')
