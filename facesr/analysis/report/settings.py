"""The settings of a run that a reader would ask about, in words."""
from pathlib import Path

from facesr.config import Config, batch_size, train_dataset_cfg
from facesr.evaluation.metrics import METRICS

STEP = ('amp', 'channels_last', 'compile', 'grad_clip', 'ema', 'degrade_on', 'load_from', 'seed')


def settings_rows(cfg: Config) -> list:
    """What was trained, and how.

    Args:
        cfg (Config): From `load_config`.

    Returns:
        list[tuple[str, str]]: Name and value, in the order of a report.
    """
    rows = [(name.replace('_', ' '), as_call(part)) for name, part in cfg.model.items() if isinstance(part, dict)]
    rows += [(f'optimizer of {name}' if len(_optimizers(cfg)) > 1 else 'optimizer', as_call(optimizer))
             for name, optimizer in _optimizers(cfg).items()]
    if cfg.get('lr_config'):
        rows.append(('schedule', as_call(cfg.lr_config, 'policy')))
    rows.append(('iterations', f'{cfg.total_iters:,}' if cfg.get('total_iters') else ''))
    if 'train' in cfg.get('data', {}):
        rows += _training_data(cfg)
    rows += [(name.replace('_', ' '), str(cfg[name])) for name in STEP
             if cfg.get(name) is not None and cfg[name] is not False]
    if 'val' in cfg.get('data', {}):
        rows.append(('validation images', f'{cfg.data.val.lq_folder}, {cfg.data.val.get("gt_folder", "")}'))
    test_cfg = cfg.get('test_cfg') or {}
    metrics = [f'{name} ({METRICS[name].convention})' for name in test_cfg.get('metrics') or [] if name in METRICS]
    rows.append(('metrics', '; '.join([*metrics, f'crop_border {test_cfg.get("crop_border", 0)}'])))
    return [(name, value) for name, value in rows if value]


def as_call(part: dict, type_key: str = 'type') -> str:
    """`dict(type='L1Loss', loss_weight=1.0)` as `L1Loss(loss_weight=1.0)`."""
    arguments = ', '.join(f'{key}={_plain(value)}' for key, value in part.items() if key != type_key)
    return f'{part.get(type_key, "")}({arguments})'


def _plain(value) -> str:
    return as_call(value) if isinstance(value, dict) and 'type' in value else repr(value)


def _optimizers(cfg: Config) -> dict:
    """MMEditing's: one by name, or a single one."""
    optimizers = cfg.get('optimizers') or {}
    return dict(generator=optimizers) if 'type' in optimizers else dict(optimizers)


def _training_data(cfg: Config) -> list:
    train, size = train_dataset_cfg(cfg), cfg.get('gt_patch_size')
    batch = f'{batch_size(cfg, "train")} per process'
    if cfg.get('accumulation_steps', 1) > 1:
        batch += f', in {cfg.accumulation_steps} parts'
    images = ', '.join(str(Path(train[key])) for key in ('gt_folder', 'ann_file') if train.get(key))
    steps = [str(step.get('type', '')) for step in cfg.get('degradation') or []]
    return [('batch', batch), ('GT patch', f'{size}×{size}' if size else ''), ('training images', images),
            ('degradation', ' → '.join(steps))]
