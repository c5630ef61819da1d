"""What is looked at before a run starts, so that it does not fail hours later or with a traceback."""
from numbers import Real

import torch

from facesr.config import DEVICE, Config, batch_size, check_keys, train_dataset_cfg
from facesr.models.build import is_face_restorer
from facesr.utils.errors import UserError

DISCRIMINATOR_SIZES = dict(ModifiedVGG=128)  # sides of the images that they take
# Keys of mmcv's and MMEditing's schedules that are looked at by the first iteration only.
RATES = ('min_lr', 'min_lr_ratio', 'power', 'gamma', 'target_lr', 'start', 'interval')
# The keys about how a step is computed, with the values that leave it as MMEditing computes it.
PLAIN_STEP = dict(amp=None, accumulation_steps=1, grad_clip=None, channels_last=False, compile=False, ema=None)


def check_choices(cfg: Config) -> None:
    """What the config's keys say, alone and of how MMEditing's own restorers compute a step.

    Raises:
        UserError: A key that training needs is not there, one is not in order (`check_keys`), or the restorer cannot.
    """
    for key in ('model', 'data', 'optimizers', 'total_iters'):
        if not cfg.get(key):
            raise UserError(f'config key "{key}": is not there, but training needs it')
    check_keys(cfg)
    if not is_face_restorer(cfg.model.type):  # MMEditing's own: it trains in its own way only
        if cfg.get('degrade_on') == DEVICE:
            raise UserError(f'config key "degrade_on": {cfg.model.type} cannot; use model.type=FaceRestorer')
        for key, value in PLAIN_STEP.items():
            if cfg.get(key, value) not in (value, 'none'):
                raise UserError(f'config key "{key}": {cfg.model.type} cannot; use model.type=FaceRestorer')


def patch_size_of(cfg: Config) -> int | None:
    """The side of HQ images that the discriminator is made for, or None if there is none or any will do."""
    return DISCRIMINATOR_SIZES.get((cfg.model.get('discriminator') or {}).get('type'))


def check_discriminator(cfg: Config) -> None:
    """What training with a discriminator needs besides; nothing without one.

    Raises:
        UserError: Patches have another size than it is made for, or an optimizer is missing.
    """
    if not cfg.model.get('discriminator'):
        return
    side, name = patch_size_of(cfg), cfg.model.discriminator.get('type')
    sizes = [transform['gt_patch_size'] for transform in train_dataset_cfg(cfg).get('pipeline', ())
             if transform['type'] in ('Degrade', 'PairedRandomCrop') and transform.get('gt_patch_size')] or [None]
    if side and sizes[-1] != side:
        raise UserError(f'config key "gt_patch_size" is {cfg.get("gt_patch_size") or sizes[-1]}: the discriminator '
                        f'{name} takes patches of {side}x{side} alone; use --cfg-options gt_patch_size={side}')
    missing = [key for key in ('generator', 'discriminator') if not cfg.optimizers.get(key)]
    if missing:
        raise UserError(f'config key "optimizers": has none for the {missing[0]}; give one for generator and '
                        'discriminator each')


def check_schedule(cfg: Config) -> None:
    """What mmcv's schedules look at in the first iteration, or, as cosine restarts, in the middle of training.

    Raises:
        UserError: A schedule cannot be resumed, a value of `lr_config` is no number, or its periods end before
            `total_iters` or do not go with `restart_weights`.
    """
    lr_config = cfg.get('lr_config') or {}
    if lr_config.get('policy') == 'Reduce':
        raise UserError('config key "lr_config.policy" is \'Reduce\', whose rate no checkpoint has, so that no resume '
                        'would go on with it; give another, as "Step" or "CosineAnnealing"')
    for key in RATES:
        if not isinstance(lr_config.get(key), Real | None):
            raise UserError(f'config key "lr_config.{key}" is {lr_config[key]!r}, which is no number; give one')
    if lr_config.get('policy') != 'CosineRestart':
        return
    periods, weights = lr_config.get('periods'), lr_config.get('restart_weights')
    lists = all(isinstance(value, (list, tuple)) and all(isinstance(one, Real) for one in value)
                for value in (periods, weights))
    if not lists or len(periods) != len(weights):
        raise UserError(f'config keys "lr_config.periods" {periods!r} and "lr_config.restart_weights" {weights!r}: '
                        'give two lists of numbers, of the same length, as [150000,150000] and [1,1]')
    if sum(periods) < cfg.total_iters:
        raise UserError(f'total_iters is {cfg.total_iters}, but lr_config.periods {list(periods)} end at '
                        f'{sum(periods)}; set for example --cfg-options {longer(cfg, cfg.total_iters)}')


def longer(cfg: Config, total_iters: int) -> str:
    """What to give as `--cfg-options` to train to another iteration, with the rates up to the old one as they were.

    A single cosine becomes the first of two. Where another schedule is spread over the whole run (Poly, OneCycle),
    rates do change.
    """
    words, lr_config = [f'total_iters={total_iters}'], cfg.get('lr_config') or {}
    periods, weights = list(lr_config.get('periods') or []), list(lr_config.get('restart_weights') or [1])
    policy = lr_config.get('policy')
    if policy == 'CosineAnnealing' and cfg.total_iters < total_iters:
        policy, periods, weights = 'CosineRestart', [cfg.total_iters], [1]
        words.append(f'lr_config.policy={policy}')
    if policy == 'CosineRestart' and sum(periods) < total_iters:
        words += [f'"lr_config.periods={_listed([*periods, total_iters - sum(periods)])}"',
                  f'"lr_config.restart_weights={_listed([*weights, weights[-1]])}"']
    return ' '.join(words)


def _listed(values: list) -> str:
    return f'[{",".join(map(str, values))}]'


def advice(cfg: Config, device: torch.device) -> str:
    """Which keys of a config to change against running out of memory, and to what."""
    batch, steps = batch_size(cfg, 'train'), cfg.get('accumulation_steps', 1)
    patch, tips, ours = cfg.get('gt_patch_size'), [], is_face_restorer(cfg.model.type)
    if steps < batch and ours:
        more, almost = min(batch, 2 * steps), 'almost ' if cfg.model.get('discriminator') else ''  # see FaceESRGAN
        tips.append(f'accumulation_steps={more} ({almost}the same training, about {more / steps:.2g} times less)')
    if cfg.get('amp') in (None, 'none') and device.type == 'cuda' and ours:
        tips.append('amp=auto')
    if patch and patch > 64 and patch_size_of(cfg) is None:
        tips.append(f'gt_patch_size={patch // 2 // 4 * 4}')
    if batch > 1:
        tips.append(f'data.train_dataloader.samples_per_gpu={batch // 2}')
    return f'use --cfg-options with one of: {", ".join(tips)}' if tips else 'take a smaller model'
