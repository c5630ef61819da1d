"""What the figures of a run depend on, kept in its checkpoints, and what of it another run has otherwise."""
import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from facesr.config import Config, batch_size
from facesr.utils import dist

SECTIONS = ('model', 'train_cfg', 'test_cfg', 'optimizers', 'lr_config', 'degradation', 'gt_patch_size', 'amp', 'ema',
            'grad_clip', 'channels_last')
EVALUATION = ('save_best', 'rule')
# Of transforms: where images come from and go to, not what they look like.
FILLED_IN = ('gt_patch_size', 'degradation')  # from the config's top level, where it has them
PASSING = ('cache', 'on', 'io_backend', 'keys', 'meta_keys', 'key')
BATCH, TRAIN_IMAGES, VAL_IMAGES = 'batch of all processes', 'training images', 'validation images'
SEED, TOTAL, ACCUMULATION = 'seed', 'total_iters', 'accumulation_steps'
LATELY = (TRAIN_IMAGES, VAL_IMAGES, TOTAL, ACCUMULATION)  # which not all checkpoints have
# Schedules that are spread over the whole run: with another length all rates are others.
UNSTRETCHED = ('step', 'fixed', 'cosinerestart', 'exp', 'inv')
# What a validation's score depends on, besides the weights.
MEASURE = ('test_cfg', 'evaluation.', 'data.val.', VAL_IMAGES)
TAIL = 4096  # bytes at the end of a file that are looked at: a PNG's has a checksum of all its pixels


def settings_of(cfg: Config, train_images: Iterable = (), val_images: Iterable = ()) -> dict:
    """The settings that a result depends on, in words by dotted key.

    Args:
        cfg (Config): From `load_config`.
        train_images (Iterable[str | Path]): Files that are trained on; none: left out.
        val_images (Iterable[str | Path]): Files that are validated on; none: left out.

    Returns:
        dict[str, str]
    """
    found = {}
    for section in SECTIONS:
        _flatten(cfg.get(section), section, found)
    _flatten(cfg.get('custom_hooks') or None, 'custom_hooks', found)
    for key in EVALUATION:
        _flatten((cfg.get('evaluation') or {}).get(key), f'evaluation.{key}', found)
    passing = {*PASSING, *(key for key in FILLED_IN if cfg.get(key) is not None)}
    for split in ('train', 'val'):
        dataset = cfg.get('data', {}).get(split) or {}
        pipeline = (dataset.get('dataset') or dataset).get('pipeline') if isinstance(dataset, dict) else None
        for number, transform in enumerate(pipeline or []):
            _flatten({key: value for key, value in transform.items() if key not in passing},
                     f'data.{split}.pipeline.{number}', found)
    policy = (cfg.get('lr_config') or {}).get('policy', 'Fixed')
    if policy.lower() not in UNSTRETCHED:
        found[TOTAL] = str(cfg.total_iters)
    if (cfg.get('model') or {}).get('discriminator'):  # its batch norm sees a part of the batch at a time
        found[ACCUMULATION] = str(cfg.get(ACCUMULATION, 1))
    if 'seed' in cfg:
        found[SEED] = str(cfg.seed)
    found[BATCH] = str(batch_size(cfg, 'train') * dist.world_size())
    for name, paths in ((TRAIN_IMAGES, train_images), (VAL_IMAGES, val_images)):
        if paths := list(paths):
            found[name] = f'{len(paths)} ({images_digest(paths)})'
    return found


def changes(before: dict, now: dict) -> list:
    """What differs, a line each; a key that is not in both does, but for those `LATELY` kept.

    Args:
        before (dict): From `settings_of`, as a checkpoint has it.
        now (dict): From `settings_of`.
    """
    lines = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old != new and not (None in (old, new) and key in LATELY):
            lines.append(_line(key, old, new))
    return lines


def measured_otherwise(before: dict, now: dict) -> bool:
    """Whether a validation's score then says nothing beside one of now."""
    return any(key.startswith(MEASURE) and before.get(key) != now.get(key) for key in before.keys() | now.keys()
               if key != VAL_IMAGES or (key in before and key in now))


def images_digest(paths) -> str:
    """Eight digits of a hash over names, sizes and last bytes of files.

    Reading them whole would take minutes for a large set on a slow disk.
    """
    digest = blake2b(digest_size=4)
    for path in paths:
        with open(path, 'rb') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            digest.update(f'{Path(path).name}\0{size}\0'.encode('utf-8', 'surrogateescape') + file.read())
    return digest.hexdigest()


def _line(key: str, old, new) -> str:
    if key in (TRAIN_IMAGES, VAL_IMAGES) and old.split()[0] == new.split()[0]:
        return f'{key}: as many ({old.split()[0]}), but others or with other contents'
    return f'{key}: was {old}, is {new}'


def _flatten(value, key: str, found: dict) -> None:
    """Put the leaves of nested values into `found`; lists of plain values are leaves."""
    if isinstance(value, dict):
        for name, item in value.items():
            _flatten(item, f'{key}.{name}', found)
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (dict, list, tuple)) for item in value):
        for number, item in enumerate(value):
            _flatten(item, f'{key}.{number}', found)
    elif value is not None:
        # A loader with a cache gives the same images.
        found[key] = str(list(value) if isinstance(value, tuple) else value).replace('LoadCachedImage',
                                                                                      'LoadImageFromFile')
