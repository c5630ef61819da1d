"""What is looked at before a run starts, so that it does not fail hours later or with a traceback."""
import torch

from facesr.config import DEVICE, Config, batch_size, train_dataset_cfg
from facesr.models.build import is_face_restorer
from facesr.utils.errors import UserError

LARGEST = 2**32  # NumPy's seeds end there
DISCRIMINATOR_SIZES = dict(ModifiedVGG=128)  # sides of the images that they take
# The keys about how a step is computed, with the values that leave it as MMEditing computes it.
PLAIN_STEP = dict(amp=None, accumulation_steps=1, grad_clip=None, channels_last=False, compile=False, ema=None)


def check_numbers(cfg: Config) -> None:
    """The keys that count something.

    Raises:
        UserError: One is no whole number or is too small.
    """
    least = {
        'total_iters': 1, 'accumulation_steps': 1, 'seed': 0, 'evaluation.interval': 1, 'checkpoint_config.interval': 1,
        'log_config.interval': 1, 'budget': 1, 'data.workers_per_gpu': 0, 'data.train_dataloader.samples_per_gpu': 1,
        'data.val_dataloader.samples_per_gpu': 1, 'data.test_dataloader.samples_per_gpu': 1,
        'train_cfg.disc_steps': 1, 'train_cfg.disc_init_steps': 0
    }
    for key, smallest in least.items():
        node = cfg
        for part in key.split('.'):
            node = node.get(part) if hasattr(node, 'get') else None
        if node is not None and not (isinstance(node, int) and smallest <= node < LARGEST):
            raise UserError(f'config key "{key}" is {node!r}: give a whole number, at least {smallest}')


def check_choices(cfg: Config) -> None:
    """The keys about how a step is computed and what happens when it fails.

    Raises:
        UserError: One has a value that means nothing.
    """
    for key in ('channels_last', 'cudnn_benchmark'):
        if not isinstance(cfg.get(key, False), bool):
            raise UserError(f'config key "{key}" is {cfg[key]!r}: give True or False')
    if not isinstance(cfg.get('compile', False), (bool, dict)):
        raise UserError(f'config key "compile" is {cfg.compile!r}: give True, False or a dict of torch.compile\'s '
                        'arguments')
    clip = cfg.get('grad_clip')
    if clip is not None and not (isinstance(clip, (int, float)) and clip > 0):
        raise UserError(f'config key "grad_clip" is {clip!r}: give the largest L2 norm of the gradient, or None')
    if cfg.get('degrade_jpeg', 'opencv') != 'opencv':  # a key of earlier configs
        raise UserError(f'config key "degrade_jpeg" is {cfg.degrade_jpeg!r}: is no longer there to choose, for only '
                        "OpenCV's codec does what the reference does; leave it out")
    if cfg.get('on_data_error', 'stop') not in ('stop', 'skip'):
        raise UserError(f'config key "on_data_error" is {cfg.on_data_error!r}: give "stop" or "skip"')
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
    sizes = [transform.get('gt_patch_size') for transform in train_dataset_cfg(cfg).get('pipeline', ())
             if transform['type'] in ('Degrade', 'PairedRandomCrop')]
    if side and set(sizes) - {side}:
        raise UserError(f'config key "gt_patch_size" is {cfg.get("gt_patch_size", sizes[0])}: the discriminator {name} '
                        f'takes patches of {side}x{side} alone; use --cfg-options gt_patch_size={side}')
    missing = [key for key in ('generator', 'discriminator') if not cfg.optimizers.get(key)]
    if missing:
        raise UserError(f'config key "optimizers": has none for the {missing[0]}; give one for generator and '
                        'discriminator each')


def check_schedule(cfg: Config) -> None:
    """mmcv's cosine restarts fail in the middle of training when the periods end too early.

    Raises:
        UserError: `lr_config.periods` end before `total_iters`, or do not go with `restart_weights`.
    """
    lr_config = cfg.get('lr_config') or {}
    if lr_config.get('policy') != 'CosineRestart':
        return
    periods, weights = lr_config.get('periods'), lr_config.get('restart_weights')
    if not all(isinstance(value, (list, tuple)) for value in (periods, weights)) or len(periods) != len(weights):
        raise UserError(f'config keys "lr_config.periods" {periods!r} and "lr_config.restart_weights" {weights!r}: '
                        'give two lists of the same length, as [150000,150000] and [1,1]')
    if sum(periods) < cfg.total_iters:
        raise UserError(f'total_iters is {cfg.total_iters}, but lr_config.periods {list(periods)} end at '
                        f'{sum(periods)}; set for example --cfg-options "lr_config.periods=[{cfg.total_iters}]" '
                        '"lr_config.restart_weights=[1]"')


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
