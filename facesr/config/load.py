"""Loading a config and the few keys that this project adds to MMEditing's."""
import importlib
import json
import os
import re
import sys
import traceback
import warnings
from copy import deepcopy
from pathlib import Path
from pprint import pformat

from mmcv import Config, ConfigDict

from facesr.config.degradation import recognise
from facesr.config.keys import CLOSE, HELPERS, KEYS, check_keys, children, refuse_unknown
from facesr.config.mmediting import fill_defaults, translate
from facesr.config.names import names_read, newer_names
from facesr.utils.errors import UserError, similar
from facesr.utils.literals import read_literals

REGISTER = 'facesr.register'  # by name, as `custom_imports` has it: it imports what imports this module
CACHE_FOLDER = '.cache'  # beside the folder of the images
LOADER, DEVICE = 'loader', 'device'  # where images are degraded
HAND_ON = ('ImageToTensor', 'Collect')  # transforms that take images as they are
PLAN = 'plan'  # where a sample's meta has what the device is to do
# What is put into the training pipeline from top-level keys.
FILLED_IN = re.compile(r'data\.train\.(?:dataset\.)?pipeline\.\d+\.(degradation|on|gt_patch_size|cache)\b')
FOR_DEGRADE = ('degradation', 'gt_patch_size')
MOST_NAMES = 12  # in a message
RECORDED = '.config.json'
FAST = 'fast'


def load_config(path, options=None, data_root=None, recorded: bool = False) -> Config:
    """Read a config file, with overrides, and register what configs name (`facesr.register`, `custom_imports`).

    Args:
        path (str | Path): The config.
        options (dict | None): Overrides by dotted key, as `--cfg-options` gives them.
        data_root (str | None): Another folder of the same layout, instead of the config's `data_root`.
        recorded (bool): It is what a run wrote into its work dir, to be read without running anything: from the JSON
            beside it where there is one, else as Python that has plain values alone. Default: False.

    Returns:
        Config: In this project's form, whatever MMEditing 0.x calls its keys (`facesr.config.keys`): with the base
        runtime's defaults under the file's keys, `degradation`, `degrade_on`, `cache_images` and `gt_patch_size`
        put into the training pipeline, `data_root` into every path, `work_dir` set and `facesr.register` among
        `custom_imports`. `notices` tells what was done.

    Raises:
        UserError: The file is missing or wrong, an option names a key that is not there, nobody reads a key, or a
            value is of another kind than its key takes.
    """
    path = Path(path)
    if path.suffix == '.onnx':
        raise UserError(f'{path}: is an exported network; the config comes first, then the checkpoint it was made of')
    if path.suffix in ('.pth', '.safetensors'):
        raise UserError(f'{path}: is a checkpoint; the config comes first, then the checkpoint')
    if path.is_dir():
        raise UserError(f'{path}: is a folder; give a config{_names([*path.glob("*.py")], path)}')
    if recorded:
        cfg = _read_recorded(path)
    elif not path.is_file():
        raise UserError(f'{path}: no such config{_similar_configs(path)}')
    else:
        newer = newer_names(path)
        if newer:
            raise UserError(f'{path}: has "{newer[0]}", as configs of MMEditing 1.x and MMagic; give one in the form '
                            'of 0.x: model, data, optimizers, lr_config, total_iters (docs/mmediting.md)')
        cfg = _run(path)
    helpers = _drop_helpers(cfg, path, recorded)
    filled = fill_defaults(cfg)
    written = {key: deepcopy(cfg.get(key)) for key in FOR_DEGRADE}
    _merge_options(cfg, options or {}, path, helpers)
    check_keys(cfg)
    _import_custom_modules(cfg, recorded)
    told = translate(cfg)
    if data_root:
        _rebase_data(cfg, data_root)
    _refuse_two_values(cfg, written)
    _apply_patch_size(cfg)
    _replace_degradation(cfg, told)
    _apply_degradation(cfg)
    _apply_cache(cfg)
    if not cfg.get('work_dir'):
        cfg.work_dir = str(Path('work_dirs') / path.stem)
    object.__setattr__(cfg, '_told', told)  # a Config's own attributes are its keys
    object.__setattr__(cfg, '_filled', frozenset(filled - (options or {}).keys()))
    return cfg


def _run(path: Path) -> Config:
    try:
        return Config.fromfile(str(path), import_custom_modules=False)
    except Exception as error:  # a config is Python code: anything can go wrong in it
        message = f'{path}: cannot be read as a config ({type(error).__name__}: {" ".join(str(error).split())})'
        _close_files_of(error)
        raise UserError(message) from None


def _read_recorded(path: Path) -> Config:
    record = path.with_name(recorded_as(path.stem))
    try:
        if record.is_file():
            values = json.loads(record.read_text(encoding='utf-8'))
            if not isinstance(values, dict):
                raise ValueError('no object')
        else:
            values = read_literals(path.read_text(encoding='utf-8'))
            if '_base_' in values:
                raise ValueError('it inherits from another file')
        return Config(values, filename=str(path))
    except (ValueError, TypeError, RecursionError, KeyError) as error:
        source = record if record.is_file() else path
        raise UserError(f'{source}: is not what a run records ({" ".join(str(error).split())}), and is not run; if you '
                        'trust it, give the config by its name') from None


def recorded_as(name: str) -> str:
    """The file in a work dir that has the config of a run called `name`, as JSON: read without running anything."""
    return f'{name}{RECORDED}'


def notices(cfg: Config) -> list:
    """What `load_config` did to a config that a reader of the log should know, in words."""
    return cfg.__dict__.get('_told', [])


def filled_in(cfg: Config) -> frozenset:
    """The top-level keys that neither the file nor an option gave: they have the base runtime's values."""
    return cfg.__dict__.get('_filled', frozenset())


def config_text(cfg: Config) -> str:
    """The whole config as Python, to be read again. mmcv's `dump` fails on strings with an apostrophe."""
    return '\n'.join(f'{key} = {pformat(value, width=110, sort_dicts=False)}'
                     for key, value in cfg._cfg_dict.to_dict().items())


def _close_files_of(error: Exception) -> None:
    """mmcv leaves its temporary copy of a broken config open; closing it late would print a complaint."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = hook


def _import_custom_modules(cfg: Config, recorded: bool) -> None:
    """Import what `custom_imports` names, and before that `facesr.register`, which a config's own list may lack.

    Not what a recorded config names: looking at somebody's run runs nothing.
    """
    customs = cfg.get('custom_imports') or {}
    names = customs.get('imports') or []
    names = [names] if isinstance(names, str) else list(names)
    cfg.custom_imports = dict(customs, imports=[REGISTER, *(name for name in names if name != REGISTER)])
    importlib.import_module(REGISTER)
    for name in cfg.custom_imports.imports[1:]:
        if recorded:
            warnings.warn(f'custom_imports: {name} is not imported, as the config of a work dir runs nothing; if you '
                          'trust it, give --config', stacklevel=2)
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # it is the user's: anything can go wrong in it
            reason = f'{name} cannot be imported ({type(error).__name__}: {error})'
            if not (isinstance(error, ImportError) and customs.get('allow_failed_imports')):
                raise UserError(f'config key "custom_imports": {reason}') from error
            warnings.warn(f'custom_imports: {reason}', stacklevel=2)


def _drop_helpers(cfg: Config, path: Path, recorded: bool) -> set:
    """Take out the names that the file only needs to write its other values; what a run recorded may have any.

    Returns:
        set: Their names.

    Raises:
        UserError: Neither this project nor the file itself reads one.
    """
    known = children('')
    unknown = [key for key in cfg if key not in known]
    read = names_read(path) if unknown and not recorded else set()
    for key in unknown:
        if not recorded and key not in read:
            refuse_unknown('', key, known)
        cfg.pop(key)
    return {*unknown, *HELPERS}


def _merge_options(cfg: Config, options: dict, path: Path, helpers: set) -> None:
    for key in options:
        _require_known(cfg, key, path, helpers)
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(f'--cfg-options: does not fit {path} ({error})') from error


def _require_known(cfg: Config, key: str, path: Path, helpers: set) -> None:
    """Refuse a mistyped key: the first part, and every part that others follow, must be in the config.

    The last part of a longer key may be new, as `optimizers.generator.weight_decay` is, unless it
    looks like one that is there.
    """
    node, parts = cfg._cfg_dict, key.split('.')
    if parts[0] == 'data_root':
        raise UserError('--cfg-options data_root: use --data-root DIR, which changes the paths made from it')
    if key == 'exp_name':
        raise UserError('--cfg-options exp_name: has done its work when the file was read; use --work-dir DIR')
    if parts[0] in helpers:
        raise UserError(f'--cfg-options {key}: "{parts[0]}" only helps to write cfg.data in {path}; override the place '
                        'itself (data.val.pipeline.0.flag ...), or write a config of your own')
    filled = FILLED_IN.match(key)
    name = filled and dict(on='degrade_on', cache='cache_images').get(filled[1], filled[1])
    if name in cfg:
        raise UserError(f'--cfg-options {key}: is filled in from the key "{name}" of the config; override that')
    if key in KEYS:
        return
    for depth, part in enumerate(parts):
        if isinstance(node, (list, tuple)):
            known = [str(i) for i in range(len(node))]
        elif isinstance(node, dict):
            known = list(node) if depth else [*node, *children('')]
        else:
            known = []
        if part not in known:
            close = similar(part, known, cutoff=CLOSE)
            if 0 < depth == len(parts) - 1 and isinstance(node, dict) and not close:
                return
            hint = f'; did you mean "{".".join([*parts[:depth], close[0]])}"?' if close else ''
            raise UserError(f'--cfg-options {key}: {path} has no key "{".".join(parts[:depth + 1])}"{hint}')
        node = node[int(part)] if isinstance(node, (list, tuple)) else node.get(part, {})


def _rebase_data(cfg: Config, data_root: str) -> None:
    """Let every path in `cfg.data` that starts with `cfg.data_root`, or else with what the folders have in common,
    start with `data_root`.
    """
    old = cfg.get('data_root', '').rstrip('/') or _common_root(cfg)

    def rebase(node):
        if isinstance(node, str) and (node == old or node.startswith(f'{old}/')):
            return f'{data_root.rstrip("/")}{node[len(old):]}'
        if isinstance(node, dict):
            return ConfigDict({key: rebase(value) for key, value in node.items()})
        if isinstance(node, (list, tuple)):
            return type(node)(rebase(value) for value in node)
        return node

    cfg.data = rebase(cfg.data)
    cfg.data_root = data_root


def _common_root(cfg: Config) -> str:
    """The folder that all image folders of a config are in."""
    folders = []

    def collect(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, (dict, list, tuple)):
                collect(value)
            elif key in ('lq_folder', 'gt_folder'):
                folders.append(str(value))

    collect(cfg.data)
    try:
        root = os.path.commonpath(folders)
    except ValueError:  # none, or relative ones and others
        root = ''
    if root in ('', '/') or len(set(folders)) < 2 or root in folders:
        raise UserError('--data-root: this config has no data_root, and its folders have none in common; use '
                        '--cfg-options data.train.gt_folder=... and the like')
    return root


def _refuse_two_values(cfg: Config, written: dict) -> None:
    """What the file itself says at its top level, perhaps by a base, goes into the training pipelines, and must not be
    said otherwise there.
    """
    for pipeline in training_pipelines(cfg):
        for number, transform in enumerate(pipeline):
            for key in FOR_DEGRADE if transform['type'] in ('Degrade', 'PairedRandomCrop') else ():
                if None not in (written[key], transform.get(key)) and transform[key] != written[key]:
                    raise UserError(f'config key "{key}": is another one than the {key} of {transform["type"]}, '
                                    f'transform {number} of the training pipeline; leave out one of them')


def _apply_patch_size(cfg: Config) -> None:
    """Put the top-level `gt_patch_size` into the training pipeline's Degrade (or MMEditing's PairedRandomCrop)."""
    size, scale = cfg.get('gt_patch_size'), cfg.get('scale', 1)
    if size is None:
        return
    if not isinstance(size, int) or size <= 0 or size % scale:
        raise UserError(f'gt_patch_size is {size!r}: give a positive multiple of the scale {scale}')
    for pipeline in training_pipelines(cfg):
        for transform in pipeline:
            if transform['type'] in ('Degrade', 'PairedRandomCrop'):
                transform['gt_patch_size'] = size


def _replace_degradation(cfg: Config, told: list) -> None:
    """Let `Degrade` do what MMEditing's transforms do in the training pipelines, where that is the same."""
    for dataset in train_dataset_cfgs(cfg) if cfg.degrade == FAST else ():
        pipeline, why = recognise(dataset.get('pipeline', []))
        if not why and pipeline is not dataset.get('pipeline') and _another_degradation(pipeline, cfg):
            why = 'the key "degradation" is another one than they are, and theirs is in the pipeline'
        if why:
            told.append(f"data.train.pipeline: MMEditing's own transforms make the LQ images, for {why}")
        elif pipeline is not dataset.get('pipeline'):
            told.append('data.train.pipeline: Degrade makes the LQ images, drawn from the same distribution as by '
                        "MMEditing's transforms, in less time (degrade=stock keeps those)")
            dataset.pipeline = pipeline


def _another_degradation(pipeline: list, cfg: Config) -> bool:
    """Whether the top-level `degradation`, perhaps of a base, is another one than a pipeline's own."""
    own = next(transform for transform in pipeline if transform['type'] == 'Degrade')
    return cfg.get('degradation') not in (None, own['degradation'])


def _apply_degradation(cfg: Config) -> None:
    """Put the top-level `degradation` and `degrade_on` into the training pipeline.

    On the device there is no LQ image in the pipeline, and the plan for it goes with the GT image.
    """
    place = cfg.get('degrade_on', LOADER)
    for pipeline in training_pipelines(cfg):
        _apply_degradation_to(pipeline, cfg, place)


def _apply_degradation_to(pipeline: list, cfg: Config, place: str) -> None:
    degrade = next((transform for transform in pipeline if transform['type'] == 'Degrade'), None)
    if degrade is None:
        if place == DEVICE:
            raise UserError('config key "degrade_on": there is no Degrade in the training pipeline to run on '
                            'the device')
        return
    degrade.update(degradation=cfg.get('degradation', degrade.get('degradation')), on=place)
    after = pipeline[pipeline.index(degrade) + 1:]
    # A config that a run on the device wrote names "lq" nowhere any more: on the loader it has to come back.
    lost = not any('lq' in transform.get('keys', ()) for transform in after)
    for transform in after:
        if place == DEVICE:
            _take_lq_from(transform)
        elif lost and transform['type'] in HAND_ON:
            transform['keys'] = ['lq', *transform['keys']]
        if transform['type'] == 'Collect':
            others = [key for key in transform.get('meta_keys') or () if key != PLAN]
            transform['meta_keys'] = [*others, PLAN] if place == DEVICE else others


def _take_lq_from(transform: ConfigDict) -> None:
    """Let a transform hand on what there is without "lq"; one that works on it is refused."""
    keys = transform.get('keys', ())
    if 'lq' not in keys:
        return
    if transform['type'] not in HAND_ON:
        raise UserError(f'config key "degrade_on": {transform["type"]} works on "lq", which is made on the device '
                        'later; use "loader"')
    transform['keys'] = [key for key in keys if key != 'lq']


def _apply_cache(cfg: Config) -> None:
    """Let the training pipeline load GT images from a cache, if the top-level `cache_images` says so."""
    cache = cfg.get('cache_images', False)
    loading = [transform for pipeline in training_pipelines(cfg) for transform in pipeline
               if transform['type'] in ('LoadImageFromFile', 'LoadCachedImage') and transform.get('key', 'gt') == 'gt']
    if cache and not loading:
        raise UserError('config key "cache_images": there is no LoadImageFromFile of "gt" in the training pipeline')
    for load in loading:
        load.pop('cache', None)
        load['type'] = 'LoadCachedImage' if cache else 'LoadImageFromFile'
        if cache:
            beside = Path(train_dataset_cfg(cfg).gt_folder).parent / CACHE_FOLDER
            load['cache'] = str(beside) if cache is True else cache


def training_pipelines(cfg: Config) -> list:
    """The transforms of each training set; none where a config is for testing alone."""
    return [dataset.get('pipeline', []) for dataset in train_dataset_cfgs(cfg)]


def train_dataset_cfgs(cfg: Config) -> list:
    """The configs of the datasets that training reads, inside whatever repeats or joins them."""
    return _leaves((cfg.get('data') or {}).get('train') or [])


def _leaves(dataset) -> list:
    if isinstance(dataset, (list, tuple)):
        return [leaf for part in dataset for leaf in _leaves(part)]
    return _leaves(dataset.dataset) if dataset['type'] == 'RepeatDataset' else [dataset]


def train_dataset_cfg(cfg: Config) -> ConfigDict:
    """The config of the training dataset, of several the first.

    Raises:
        UserError: There is none.
    """
    found = train_dataset_cfgs(cfg)
    if not found:
        raise UserError('config key "data.train": is not there; give a training dataset')
    return found[0]


def batch_size(cfg: Config, split: str) -> int:
    """Images of a split ('train', 'val' or 'test') that a process takes at a time."""
    return cfg.data.get(f'{split}_dataloader', {}).get('samples_per_gpu', cfg.data.get('samples_per_gpu', 1))


def _similar_configs(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path('configs')
    if not folder.is_dir():
        return '; run the tools from the repository folder'
    names = sorted(p.name for p in folder.glob('*.py'))
    close = similar(path.name, names)
    if close:
        return f'; did you mean {folder / close[0]}?'
    return _names(names, folder)


def _names(names: list, folder: Path) -> str:
    """What is in a folder, or some of it."""
    shown = ', '.join(str(Path(name).name) for name in names[:MOST_NAMES]) + ', ...' * (len(names) > MOST_NAMES)
    return f'; {folder} has {shown}' if names else ''
