"""The keys of a config: what each may be, and what becomes of those that MMEditing has.

`KEYS` has every key of the levels that are closed: what stands there and is not in it is read by nobody, and refused.
What is given to a constructor (model, transforms, optimizers, hooks) is held to the constructor's arguments instead.
"""
import textwrap
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

from facesr.utils.errors import UserError, similar

HONOURED, MAPPED, REFUSED = 'honoured', 'mapped', 'refused'
GONE = 'gone'
LARGEST = 2**32  # NumPy's seeds end there
SHOWN = 60  # characters of a value in a message
CLOSE = 0.75  # similarity (difflib's ratio) from which a key is taken for a mistyped one
SPLITS = ('train', 'val', 'test')
# Names that configs write their values with, and that stay in what mmcv or a run has dumped.
HELPERS = ('scale', 'resize_modes', 'train_pipeline', 'zoomed_pipeline', 'val_pipeline', 'test_pipeline',
           'demo_pipeline', 'train_dataset_type', 'val_dataset_type', 'test_dataset_type', 'dataset_type',
           'img_norm_cfg')
# MMEditing's models for something else than one image and one scale.
OTHER_TASKS = {name: task for task, names in {
    'any scale': ('LIIF', ),
    'a reference image': ('TTSR', ),
    'faces with landmarks': ('DIC', ),
    'generators that were trained before': ('GLEAN', ),
    'videos': ('EDVR', 'TDAN', 'BasicVSR', 'RealBasicVSR', 'BasicInterpolator', 'CAIN', 'FLAVR'),
    'matting': ('BaseMattor', 'DIM', 'GCA', 'IndexNet'),
    'inpainting': ('OneStageInpaintor', 'TwoStageInpaintor', 'AOTInpaintor', 'DeepFillv1Inpaintor', 'GLInpaintor',
                   'PConvInpaintor'),
    'translating images': ('CycleGAN', 'Pix2Pix'),
}.items() for name in names}


class Kind(NamedTuple):
    """What values a key takes: in words that follow "give", and as a test of a value."""
    words: str
    fits: Callable


class Key(NamedTuple):
    """A key that is declared.

    Attributes:
        kind (Kind): What values it takes; of a refused key, those that ask for nothing.
        status (str | None): Of a key that MMEditing has: HONOURED, MAPPED or REFUSED; GONE of one that only earlier
            configs of ours have.
        note (str): What becomes of it; of a key that is refused or gone, the counterpart.
    """
    kind: Kind
    status: str | None = None
    note: str = ''


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_typed(value) -> bool:
    return isinstance(value, dict) and isinstance(value.get('type'), str)


def whole(least: int) -> Kind:
    """Whole numbers from `least` on."""
    return Kind(f'a whole number, at least {least}', lambda value: _is_whole(value) and least <= value < LARGEST)


def choice(*values) -> Kind:
    """Some values; True is not taken for 1."""
    words = ', '.join(f'"{value}"' if isinstance(value, str) else repr(value) for value in values)
    head, comma, last = words.rpartition(', ')
    return Kind(f'{head} or {last}' if comma else words,
                lambda value: any(type(value) is type(other) and value == other for other in values))


def optional(kind: Kind) -> Kind:
    """The same, or None."""
    return Kind(f'{kind.words}, or None', lambda value: value is None or kind.fits(value))


def listing(kind: Kind, words: str) -> Kind:
    """Lists and tuples of a kind."""
    return Kind(words, lambda value: isinstance(value, (list, tuple)) and all(map(kind.fits, value)))


def either(words: str, *kinds: Kind) -> Kind:
    """Values of any of some kinds."""
    return Kind(words, lambda value: any(kind.fits(value) for kind in kinds))


TEXT = Kind('a text', lambda value: isinstance(value, str) and bool(value))
FLAG = Kind('True or False', lambda value: isinstance(value, bool))
POSITIVE = Kind('a number above 0', lambda value: _is_number(value) and value > 0)
DICT = Kind('a dict', lambda value: isinstance(value, dict))
TYPED = Kind('a dict with a "type"', _is_typed)
TYPED_LIST = listing(TYPED, 'a list of dicts with a "type" each')
ANYTHING = Kind('anything', lambda _value: True)
NOTHING = Kind('None', lambda value: value is None)
OFF = choice(None, False)

_LOADER = {
    'samples_per_gpu': Key(whole(1), HONOURED, 'a process takes so many images at a time; goes before `data`\'s'),
    'workers_per_gpu': Key(whole(0), HONOURED, 'at most one per core is started; goes before `data`\'s'),
    'batch_size': Key(whole(1), MAPPED, '`samples_per_gpu` (the newer name)'),
    'num_workers': Key(whole(0), MAPPED, '`workers_per_gpu` (the newer name)'),
    'pin_memory': Key(FLAG, HONOURED, ''),
    'persistent_workers': Key(FLAG, HONOURED, 'where there are workers'),
    'prefetch_factor': Key(optional(whole(1)), HONOURED, 'where there are workers'),
    'timeout': Key(Kind('seconds, at least 0', lambda value: _is_number(value) and value >= 0), HONOURED, ''),
    'multiprocessing_context': Key(optional(choice('fork', 'spawn', 'forkserver')), HONOURED, ''),
}
_TRAIN_LOADER = {
    'drop_last': Key(FLAG, MAPPED, 'the order of training images has no end, so there is no last batch'),
    'shuffle': Key(choice(True), REFUSED, 'training images always come in a shuffled order; leave it out'),
}
_EVAL_LOADER = {
    'drop_last': Key(choice(False), REFUSED, 'every image is measured; leave it out'),
    'shuffle': Key(choice(False), REFUSED, 'images come in the order of their names; leave it out'),
}
_BY_EPOCH = Key(choice(False), REFUSED, 'training is counted in iterations; give False and the numbers in iterations')

KEYS = {
    # What a run consists of.
    'model': Key(TYPED, HONOURED, ''),
    'train_cfg': Key(optional(DICT), HONOURED, ''),
    'test_cfg': Key(optional(DICT), HONOURED, ''),
    'data': Key(DICT, HONOURED, ''),
    'optimizers': Key(
        Kind('a dict with a "type", or one of such dicts by network',
             lambda value: _is_typed(value) or isinstance(value, dict) and all(map(_is_typed, value.values()))),
        HONOURED, 'one for all networks becomes one with the same arguments for each'),
    'total_iters': Key(whole(1), HONOURED, ''),
    'lr_config': Key(
        Kind('a dict with a "policy", or None for a constant rate',
             lambda value: value is None or isinstance(value, dict) and isinstance(value.get('policy'), str)),
        HONOURED, 'in iterations; None is a constant rate'),
    'checkpoint_config': Key(DICT, HONOURED, 'written atomically, with all that an exact resume needs'),
    'evaluation': Key(optional(DICT), HONOURED, 'the best checkpoint is kept, also where `save_best` is not given'),
    'log_config': Key(DICT, HONOURED, ''),
    'log_level': Key(choice('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'), HONOURED, ''),
    'work_dir': Key(optional(TEXT), HONOURED, ''),
    'load_from': Key(optional(TEXT), HONOURED, 'a file: nothing is downloaded'),
    'resume_from': Key(optional(TEXT), MAPPED, '`--resume CKPT`, which goes before it; it goes before `load_from`'),
    'auto_resume': Key(FLAG, MAPPED, '`--resume auto`'),
    'custom_hooks': Key(optional(TYPED_LIST), HONOURED, ''),
    'custom_imports': Key(optional(DICT), HONOURED, 'a module that is missing is named'),
    'visual_config': Key(optional(TYPED), HONOURED, '`output_dir` lies in the work dir'),
    'exp_name': Key(TEXT, HONOURED, 'names the work dir where the config says so'),
    'seed': Key(whole(0), HONOURED, '`--seed` goes before it'),
    'deterministic': Key(FLAG, HONOURED, '`--deterministic`; on a CPU runs repeat bit for bit anyway'),
    'cudnn_benchmark': Key(FLAG, HONOURED, ''),
    # MMEditing's other keys.
    'fp16': Key(optional(DICT), MAPPED, '`amp=\'fp16\'`, whose scale finds itself; MMEditing\'s training ignores it'),
    'optimizer_config': Key(optional(DICT), MAPPED, '`grad_clip` (the largest L2 norm); MMEditing ignores it'),
    'runner': Key(optional(DICT), MAPPED, '`max_iters` of an `IterBasedRunner` is `total_iters`; others are refused'),
    'total_epochs': Key(NOTHING, REFUSED, 'training is counted in iterations: give total_iters'),
    'optimizer': Key(NOTHING, REFUSED, 'MMEditing\'s key is "optimizers": give optimizers = dict(generator=...)'),
    'momentum_config': Key(NOTHING, REFUSED, 'give betas or momentum in optimizers; a schedule for it there is none'),
    'workflow': Key(
        Kind('[("train", 1)]', lambda value: value is None or [list(part) for part in value] == [['train', 1]]
             if isinstance(value, (list, tuple)) and all(isinstance(part, (list, tuple)) for part in value)
             else value is None),
        REFUSED, 'only [("train", 1)]; how often validation runs says evaluation.interval'),
    'dist_params': Key(
        Kind('dict(backend="nccl") or "gloo"', lambda value: value is None or isinstance(value, dict)
             and value.keys() <= {'backend', 'port'} and value.get('backend', 'nccl') in ('nccl', 'gloo')),
        MAPPED, 'the backend is nccl on CUDA, else gloo; the port is torchrun\'s'),
    'launcher': Key(choice('none', 'pytorch'), MAPPED, '`--launcher`'),
    'gpus': Key(choice(None, 0, 1), REFUSED, 'for several GPUs: torchrun --nproc_per_node=N tools/train.py CONFIG '
                '--launcher pytorch'),
    'gpu_ids': Key(
        Kind('one GPU', lambda value: value is None or isinstance(value, (list, tuple, range)) and len(value) <= 1),
        REFUSED, 'choose the GPU with CUDA_VISIBLE_DEVICES; for several: torchrun --nproc_per_node=N tools/train.py '
        'CONFIG --launcher pytorch'),
    'autoscale_lr': Key(OFF, REFUSED, 'give the rate that you want in optimizers.generator.lr'),
    'find_unused_parameters': Key(FLAG, MAPPED, 'every parameter takes part in each step, so there are none to find'),
    'mp_start_method': Key(choice('fork'), REFUSED, 'data.train_dataloader.multiprocessing_context says it'),
    'opencv_num_threads': Key(whole(0), MAPPED, 'loading processes have one thread each'),
    # This project's own.
    'budget': Key(optional(whole(1))),
    'amp': Key(optional(choice('auto', 'fp16', 'bf16', 'none'))),
    'channels_last': Key(FLAG),
    'compile': Key(either('True, False or a dict of torch.compile\'s arguments', FLAG, DICT)),
    'accumulation_steps': Key(whole(1)),
    'grad_clip': Key(optional(Kind('the largest L2 norm of the gradient', POSITIVE.fits))),
    'ema': Key(optional(Kind('a decay in [0, 1), for example 0.999',
                             lambda value: _is_number(value) and 0 <= value < 1))),
    'memory_limit_gb': Key(optional(POSITIVE)),
    'on_data_error': Key(choice('stop', 'skip')),
    'degrade': Key(choice('fast', 'stock')),
    'degrade_jpeg': Key(choice('opencv'), GONE, "is no longer there to choose, for only OpenCV's codec does what the "
                        'reference does; leave it out'),
    'degrade_on': Key(choice('loader', 'device')),
    'degradation': Key(ANYTHING),  # `Recipe` looks at it
    'cache_images': Key(either('True, False or a folder, as ./cache', FLAG,
                               Kind('', lambda value: isinstance(value, str) and '/' in value))),
    'gt_patch_size': Key(ANYTHING),  # looked at with the scale
    'data_root': Key(TEXT),
    'data_hint': Key(TEXT),
    'load_hint': Key(TEXT),
    # What only helps to write the others.
    **{name: Key(ANYTHING) for name in HELPERS},

    'data.train': Key(either('a dict with a "type", or a list of such dicts', TYPED, TYPED_LIST), HONOURED,
                      'a `RepeatDataset` around everything is left out: the order of training images has no end'),
    'data.val': Key(TYPED, HONOURED, ''),
    'data.test': Key(TYPED, HONOURED, 'its GT is not read: `--split val` measures'),
    **{f'data.{split}_dataloader': Key(DICT, HONOURED, '') for split in SPLITS},
    'data.samples_per_gpu': Key(whole(1), HONOURED, 'of the loaders that have none of their own'),
    'data.workers_per_gpu': Key(whole(0), HONOURED, 'of the loaders that have none of their own'),
    'data.pin_memory': Key(FLAG, HONOURED, 'of the loaders that have none of their own'),
    **{f'data.{split}_{name}_per_gpu': Key(whole(least), MAPPED, f'`data.{split}_dataloader.{name}_per_gpu`')
       for split in ('val', 'test') for name, least in (('samples', 1), ('workers', 0))},
    'data.drop_last': Key(FLAG, MAPPED, 'for training alone, whose order of images has no end'),
    'data.shuffle': Key(choice(True), REFUSED, 'training images always come in a shuffled order; leave it out'),
    'data.seed': Key(NOTHING, REFUSED, 'give the top-level seed, which decides the order too'),
    'data.prefetch_num': Key(NOTHING, REFUSED, 'give data.train_dataloader.prefetch_factor'),
    **{f'data.{split}_dataloader.{name}': key for split in SPLITS
       for name, key in {**_LOADER, **(_TRAIN_LOADER if split == 'train' else _EVAL_LOADER)}.items()},

    'evaluation.interval': Key(whole(1), HONOURED, 'the last iteration is validated too'),
    'evaluation.start': Key(optional(whole(1)), HONOURED, ''),
    'evaluation.save_best': Key(optional(TEXT), HONOURED, 'default: the first of `test_cfg.metrics`'),
    'evaluation.rule': Key(optional(choice('greater', 'less')), HONOURED, ''),
    'evaluation.save_image': Key(FLAG, HONOURED, 'in `val_visuals` of the work dir, as MMEditing names them'),
    'evaluation.gpu_collect': Key(FLAG, MAPPED, 'what several processes measure is gathered, whichever way'),
    'evaluation.by_epoch': _BY_EPOCH,
    'evaluation.metric': Key(NOTHING, REFUSED, 'give test_cfg.metrics'),
    'evaluation.key_indicator': Key(NOTHING, REFUSED, 'its name today is save_best'),

    'checkpoint_config.interval': Key(whole(1), HONOURED, 'the last iteration is saved too'),
    'checkpoint_config.max_keep_ckpts': Key(
        Kind('a whole number, at least 1, or -1 for all',
             lambda value: _is_whole(value) and (value >= 1 or value == -1)), HONOURED, ''),
    'checkpoint_config.save_optimizer': Key(FLAG, HONOURED, ''),
    'checkpoint_config.by_epoch': _BY_EPOCH,
    'checkpoint_config.out_dir': Key(NOTHING, REFUSED, 'checkpoints are in the work_dir'),
    'checkpoint_config.create_symlink': Key(choice(True), REFUSED, 'latest.pth is a link, or a copy where links fail'),
    'checkpoint_config.save_last': Key(choice(True), REFUSED, 'the last iteration is always saved'),

    'log_config.interval': Key(whole(1), HONOURED, ''),
    'log_config.hooks': Key(TYPED_LIST, HONOURED, 'in iterations'),

    'test_cfg.metrics': Key(ANYTHING, HONOURED, ''),  # `build_metrics` looks at them
    'test_cfg.crop_border': Key(ANYTHING, HONOURED, ''),
    'test_cfg.convert_to': Key(optional(choice('y')), MAPPED, '`PSNR_Y` and `SSIM_Y` in `test_cfg.metrics`'),
    'train_cfg.disc_steps': Key(whole(1), HONOURED, ''),
    'train_cfg.disc_init_steps': Key(whole(0), HONOURED, ''),
    'train_cfg.start_iter': Key(Kind('a whole number', _is_whole), HONOURED, 'of `RealESRGAN`'),
}
CLOSED = ('', 'data', *(f'data.{split}_dataloader' for split in SPLITS), 'evaluation', 'checkpoint_config',
          'log_config', 'test_cfg', 'train_cfg')

FILES_ALONE = 'images are read from files here (cache_images=True keeps them decoded, as LMDB would)'
_PARAMS = {
    'RandomBlur': ('kernel_size', 'kernel_list', 'kernel_prob', 'sigma_x', 'sigma_y', 'rotate_angle', 'beta_gaussian',
                   'beta_plateau', 'omega', 'prob', 'sigma_x_step', 'sigma_y_step', 'rotate_angle_step',
                   'beta_gaussian_step', 'beta_plateau_step', 'omega_step'),
    'RandomResize': ('resize_mode_prob', 'resize_scale', 'resize_opt', 'resize_prob', 'target_size', 'is_size_even',
                     'resize_step', 'prob'),
    'RandomNoise': ('noise_type', 'noise_prob', 'gaussian_sigma', 'gaussian_gray_noise_prob', 'poisson_scale',
                    'poisson_gray_noise_prob', 'gaussian_sigma_step', 'poisson_scale_step', 'prob'),
    'RandomJPEGCompression': ('quality', 'quality_step', 'prob'),
}
# What MMEditing's constructors take without looking.
_SWALLOWED = {
    'LoadImageFromFile': ('io_backend', 'key', 'flag', 'channel_order', 'convert_to', 'save_original_img', 'use_cache',
                          'backend'),
    **dict.fromkeys(_PARAMS, ('params', 'keys')),
    'Quantize': ('keys', ),
    'DegradationsWithShuffle': ('degradations', 'keys', 'shuffle_idx'),
}


def refuse(key: str, value, words: str) -> None:
    """End with what is wrong with a key's value.

    Raises:
        UserError: Always.
    """
    shown = textwrap.shorten(repr(value), SHOWN, placeholder=' ...')
    raise UserError(f'config key "{key}" is {shown}: {words}')


def refuse_unknown(level: str, name: str, known) -> None:
    """End with a key that nobody reads.

    Raises:
        UserError: Always.
    """
    close = similar(name, known, cutoff=CLOSE)
    where = f'config key "{level}": has "{name}"' if level else f'config key "{name}": is there'
    hint = f'did you mean "{close[0]}"?' if close else 'remove it, or see docs/mmediting.md for the keys there are'
    raise UserError(f'{where}, which nobody reads; {hint}')


def children(level: str) -> dict:
    """The declared keys of a closed level by their last names."""
    prefix = f'{level}.' if level else ''
    return {key[len(prefix):]: found for key, found in KEYS.items()
            if key.startswith(prefix) and '.' not in key[len(prefix):]}


def check_keys(cfg) -> None:
    """Hold a config to the table.

    Args:
        cfg (Config): Or a dict; before or after it is translated.

    Raises:
        UserError: At a closed level there is a key that nobody reads, or a value is of another kind than its key
            takes, or a key asks for what there is not. The message names the key, the value and what is wanted.
    """
    task = OTHER_TASKS.get(cfg['model']['type']) if _is_typed(cfg.get('model')) else None
    if task:  # before its other keys, which are for that
        refuse('model.type', cfg['model']['type'], f'is for {task}; here there are BasicRestorer, SRGAN, ESRGAN and '
               'RealESRGAN, with generators for one image and one scale')
    for level in CLOSED:
        node = cfg
        for part in filter(None, level.split('.')):
            node = node.get(part) if hasattr(node, 'get') else None
        if node is None:
            continue
        known = children(level)
        for name, value in node.items():
            if name not in known:
                refuse_unknown(level, name, known)
            key, found = f'{level}.{name}' if level else name, known[name]
            if not found.kind.fits(value):
                refuse(key, value, found.note if found.status in (REFUSED, GONE) else f'give {found.kind.words}')
    for name in ('generator', 'discriminator', 'pixel_loss', 'perceptual_loss', 'gan_loss'):
        part = (cfg.get('model') or {}).get(name)
        if part is not None and not _is_typed(part):
            refuse(f'model.{name}', part, f'give {TYPED.words}')
    for split in SPLITS:
        if split in (cfg.get('data') or {}):
            _check_dataset(f'data.{split}', cfg['data'][split])
    _check_degradation('degradation', cfg.get('degradation'))


def _check_dataset(key: str, node) -> None:
    """What a dataset's constructor would not look at; in lists and wrappers too."""
    if isinstance(node, (list, tuple)):
        for number, part in enumerate(node):
            _check_dataset(f'{key}.{number}', part)
        return
    if not _is_typed(node):
        refuse(key, node, f'give {TYPED.words}')
    if node['type'] == 'SRLmdbDataset':
        refuse(f'{key}.type', node['type'], f'{FILES_ALONE}; give SRFolderDataset or SRAnnotationDataset')
    if node['type'] == 'RepeatDataset':
        known = dict(dataset=DICT, times=whole(1))
    elif node['type'] == 'ConcatDataset':
        known = dict(datasets=TYPED_LIST)
    else:
        known = None
    if known:
        for name in node:
            if name != 'type' and name not in known:
                refuse_unknown(key, name, known)
        for name, kind in known.items():
            inner_list = name == 'dataset' and TYPED_LIST.fits(node.get(name))
            if not kind.fits(node.get(name)) and not inner_list:
                refuse(f'{key}.{name}', node.get(name), f'give {kind.words}')
        _check_dataset(f'{key}.{"dataset" if "dataset" in known else "datasets"}',
                       node['dataset' if 'dataset' in known else 'datasets'])
        return
    paths = either('a folder, as text', TEXT)
    kinds = dict(scale=whole(1), pipeline=TYPED_LIST, lq_folder=paths, gt_folder=paths, test_mode=FLAG,
                 filename_tmpl=TEXT, ann_file=either('a file, or a list of files', TEXT, listing(TEXT, '')))
    for name, kind in kinds.items():
        if name in node and not kind.fits(node[name]):
            refuse(f'{key}.{name}', node[name], f'give {kind.words}')
    if 'gt_folder' in node and 'scale' not in node:
        refuse(f'{key}.scale', None, 'give how many times larger GT images are')
    for number, transform in enumerate(node.get('pipeline', ())):
        _check_transform(f'{key}.pipeline.{number}', transform)


def _check_transform(key: str, transform) -> None:
    if transform.get('io_backend', 'disk') != 'disk':
        refuse(f'{key}.io_backend', transform['io_backend'], f'{FILES_ALONE}; give "disk"')
    known = _SWALLOWED.get(transform['type'])
    for name in transform if known else ():
        if name not in (*known, 'type'):
            refuse_unknown(key, name, known)
    if transform['type'] in _PARAMS:
        params = transform.get('params')
        if not isinstance(params, dict):
            refuse(f'{key}.params', params, f'give {DICT.words}')
        for name in params:
            if name not in _PARAMS[transform['type']]:
                refuse_unknown(f'{key}.params', name, _PARAMS[transform['type']])
    for inner in ('degradation', 'degradations'):
        _check_degradation(f'{key}.{inner}', transform.get(inner))


def _check_degradation(key: str, steps) -> None:
    """The steps of a recipe, in lists where they are shuffled together; what is none of them, `Recipe` refuses."""
    for number, step in enumerate(steps if isinstance(steps, (list, tuple)) else ()):
        if _is_typed(step):
            _check_transform(f'{key}.{number}', step)
        else:
            _check_degradation(f'{key}.{number}', step)


def mmediting_table() -> str:
    """MMEditing's keys and what becomes of each, as a table in Markdown."""
    rows = ['| key | | what becomes of it |', '|---|---|---|']
    for key, found in KEYS.items():
        if found.status not in (None, GONE):
            takes = f'takes {found.kind.words}' if not found.note else found.note
            rows.append(f'| `{key}` | {found.status} | {takes} |')
    return '\n'.join(rows)
