"""What is looked at before a run starts, so that it does not fail hours later or with a traceback."""
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from mmcv import Config

from facesr.annotation import read_annotation, read_info
from facesr.config import batch_size, train_dataset_cfg, training_recipe
from facesr.datasets.degrade import DEVICE
from facesr.degradation.device import OPENCV, TORCHVISION
from facesr.errors import UserError
from facesr.evaluation import EMA_SUFFIX
from facesr.files import list_images
from facesr.metrics import WINDOW, build_metrics
from facesr.models import is_ours

LARGEST = 2**32  # NumPy's seeds end there
SMALL = 32  # side of an LQ image that a generator is tried on
DISCRIMINATOR_SIZES = dict(ModifiedVGG=128)  # sides of the images that they take
# The keys about how a step is computed, with the values that leave it as MMEditing computes it.
PLAIN_STEP = dict(amp=None, accumulation_steps=1, grad_clip=None, channels_last=False, compile=False, ema=None)


def count_parameters(module) -> int:
    """Number of parameters of an `nn.Module`, frozen ones included."""
    return sum(p.numel() for p in module.parameters())


def count_discriminator(restorer) -> int:
    """Number of parameters of a restorer's discriminator, 0 if it has none."""
    discriminator = getattr(restorer, 'discriminator', None)
    return count_parameters(discriminator) if discriminator is not None else 0


def check_budget(generator, cfg: Config, more: int = 0) -> int:
    """Returns the generator's parameter count.

    Args:
        generator (nn.Module): The generator.
        cfg (Config): With the `budget` (None or absent: no cap).
        more (int): Parameters of a discriminator, which count too. Default: 0.

    Raises:
        UserError: They are more than the `budget`.
    """
    count, budget = count_parameters(generator), cfg.get('budget')
    if budget is not None and count + more > budget:
        who, it = (f'generator ({count:,}) and discriminator ({more:,}) have', 'them') if more else (
            'the generator has', 'it')
        raise UserError(f'{who} {count + more:,} parameters, {count + more - budget:,} over the budget of {budget:,}; '
                        f'make {it} smaller, or switch the cap off with --cfg-options budget=None')
    return count


def check_scale(generator, cfg: Config) -> None:
    """That the generator makes images larger by the training data's scale, by a look at what it makes of a small one.

    Raises:
        UserError: It does not, or cannot compute at all.
    """
    scale = train_dataset_cfg(cfg).get('scale')
    side = min(SMALL, (cfg.get('gt_patch_size') or SMALL * (scale or 1)) // (scale or 1))
    training = generator.training
    try:
        with torch.no_grad():
            height, width = generator.eval()(torch.zeros(1, 3, side, side)).shape[-2:]
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(f'config key "model.generator": cannot restore an LQ image of {side}x{side} pixels '
                        f'({" ".join(str(error).split())})') from error
    finally:
        generator.train(training)
    if scale and (height, width) != (scale * side, scale * side):
        raise UserError(f'config key "model.generator": makes images {height / side:g} times as large, but the data '
                        f'are for {scale} times; change the argument for it (upscale_factor, upscale, scale, ...)')


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
    if cfg.get('degrade_jpeg', OPENCV) not in (OPENCV, TORCHVISION):
        raise UserError(f'config key "degrade_jpeg" is {cfg.degrade_jpeg!r}: give "{OPENCV}" or "{TORCHVISION}"')
    if cfg.get('on_data_error', 'stop') not in ('stop', 'skip'):
        raise UserError(f'config key "on_data_error" is {cfg.on_data_error!r}: give "stop" or "skip"')
    if not is_ours(cfg.model.type):  # MMEditing's own: it trains in its own way only
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


def check_metrics(cfg: Config) -> None:
    """That validation knows how to compute what `test_cfg.metrics` and `evaluation.save_best` name.

    Raises:
        UserError: A metric is unknown or lacks what it needs, or `save_best` is not among the metrics.
    """
    metrics = list(build_metrics(cfg.get('test_cfg')))
    best = (cfg.get('evaluation') or {}).get('save_best')
    logged = metrics + [name + EMA_SUFFIX for name in metrics if cfg.get('ema') is not None]
    if best is not None and best not in logged:
        raise UserError(f'config key "evaluation.save_best" is {best!r}: give one of {", ".join(logged)}, or None')


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


def check_training_data(cfg: Config) -> None:
    """The annotation file and the images it lists.

    Raises:
        UserError: One is missing, or a GT size is not what the degradation works on.
    """
    train = train_dataset_cfg(cfg)
    folder = require_folder(train.gt_folder, cfg)
    if 'ann_file' not in train:
        return
    if not Path(train.ann_file).is_file():
        raise UserError(f'{train.ann_file}: no such annotation file; make it with: '
                        f'python tools/make_annotation.py {train.gt_folder} {train.ann_file}')
    infos = read_annotation(train.ann_file)
    missing = [info.name for info in infos if not (folder / info.name).is_file()]
    if missing:
        raise UserError(f'{train.ann_file} lists {missing[0]}, which is not in {folder} ({len(missing)} of '
                        f'{len(infos)} missing); make one for this folder with: python tools/make_annotation.py '
                        f'{folder} OTHER.txt, and pass --cfg-options data.train.ann_file=OTHER.txt')
    unfit = unfit_sizes(infos, cfg)
    wrong = [info for info in infos if (info.height, info.width) in unfit]
    if wrong:
        raise UserError(f'{folder / wrong[0].name} is {wrong[0].width}x{wrong[0].height}, which the degradation does '
                        f'not make {train.scale} times smaller ({len(wrong)} of {len(infos)} images); resize them or '
                        'change the target_size of the degradation')
    patch = cfg.get('gt_patch_size')
    small = [info for info in infos if patch and min(info.height, info.width) < patch]
    if small:
        raise UserError(f'config key "gt_patch_size" is {patch}, but {folder / small[0].name} is only '
                        f'{small[0].width}x{small[0].height}')


def check_pairs(split: str, cfg: Config) -> None:
    """The images of the validation or test dataset ('val' or 'test').

    Raises:
        UserError: A folder is missing or empty, an image is unreadable or truncated, an LQ or GT image
            has no partner of the same name, their sizes do not differ by the scale, or LQ images of different
            sizes are to be one batch.
    """
    dataset_cfg = cfg.data[split]
    lq_folder = Path(dataset_cfg.lq_folder)
    lq = _decoded_infos(lq_folder, cfg)
    sizes = {(info.width, info.height): name for name, info in lq.items()}
    if len(sizes) > 1 and batch_size(cfg, split) > 1:
        (first, name), (second, other) = list(sizes.items())[:2]
        raise UserError(f'{lq_folder}: {name} is {first[0]}x{first[1]}, {other} is {second[0]}x{second[1]}: no batch; '
                        f'use --cfg-options data.{split}_dataloader.samples_per_gpu=1')
    if 'gt_folder' not in dataset_cfg:
        return
    gt_folder, scale = Path(dataset_cfg.gt_folder), dataset_cfg.scale
    gt = _decoded_infos(gt_folder, cfg)
    alone = sorted(lq.keys() ^ gt.keys())
    if alone:
        there, lacking = (lq_folder, gt_folder) if alone[0] in lq else (gt_folder, lq_folder)
        raise UserError(f'{there / alone[0]} has no partner in {lacking} ({len(alone)} images without one); '
                        'LQ and GT must have the same names')
    test_cfg = cfg.get('test_cfg') or {}
    least = 2 * test_cfg.get('crop_border', 0) + (WINDOW if 'SSIM' in str(test_cfg.get('metrics')) else 1)
    small = [name for name, info in gt.items() if min(info.height, info.width) < least]
    if small:
        raise UserError(f'{gt_folder / small[0]}: is smaller than the {least} pixels a side that test_cfg.metrics with '
                        f'test_cfg.crop_border={test_cfg.get("crop_border", 0)} can measure')
    for name, info in lq.items():
        if (info.height * scale, info.width * scale) != (gt[name].height, gt[name].width):
            raise UserError(f'{lq_folder / name} is {info.width}x{info.height}, but its GT is {gt[name].width}x'
                            f'{gt[name].height}, not {scale} times as large; the folders do not belong together')


def _decoded_infos(folder: Path, cfg: Config) -> dict:
    """What a folder's images are, by name; several are decoded at a time."""
    names = require_images(folder, cfg)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        infos = pool.map(lambda name: read_info(folder / name, decode=True), names)
        return dict(zip(names, infos, strict=True))


def require_folder(folder, cfg: Config) -> Path:
    """The folder as a Path.

    Raises:
        UserError: It is missing; the config's `data_hint` says how to get the data.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder; {cfg.get("data_hint", "give one with --data-root")}')
    return folder


def require_images(folder, cfg: Config) -> list:
    """Names of the images in a folder.

    Raises:
        UserError: The folder is missing, has no images, or has some in a sub-folder, which MMEditing's
            `SRFolderDataset` would read as well.
    """
    folder = require_folder(folder, cfg)
    names = list_images(folder)
    if not names:
        raise UserError(f'{folder}: no images in it; {cfg.get("data_hint", "give another with --data-root")}')
    for child in sorted(path for path in folder.iterdir() if path.is_dir()):
        if list_images(child):
            raise UserError(f'{child}: images in a sub-folder would be read too; move or remove it')
    return names


def unfit_sizes(infos, cfg: Config) -> set:
    """The (height, width) among training images that the degradation does not bring to LQ size."""
    recipe, scale = training_recipe(cfg), train_dataset_cfg(cfg).scale
    return {size for size in {(info.height, info.width) for info in infos} if recipe and not recipe.fits(*size, scale)}
