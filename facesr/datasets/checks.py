"""Everything that a config points at, looked at before it costs a training run: what `tools/check_data.py` does."""
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from facesr.config import Config, batch_size, train_dataset_cfg
from facesr.datasets.annotation import ImageInfo, differences, info_of, read_annotation, read_info
from facesr.datasets.degrade import training_recipe
from facesr.utils.errors import UserError
from facesr.utils.images import IMG_EXTENSIONS, list_images, opened_image

THUMBNAIL = 16  # its side
# Correlation of two thumbnails. Of an LQ and its GT it was at least 0.976 (500 draws of each recipe, 12 pairs of the
# organiser), of two different faces of FFHQ at most 0.92 (2,556 pairs).
SAME_PICTURE, OTHER_PICTURE = 0.97, 0.95
BLOCK = 1024  # images that are compared with all others at a time


class Seen(NamedTuple):
    """What was found out about a readable image."""
    info: ImageInfo
    mode: str  # Pillow's, or its raw one (RGB;16B) where the file has more than 8 bits
    digest: bytes  # of the pixels
    thumbnail: np.ndarray  # of mean 0 and length 1


class DataReport(NamedTuple):
    """What was looked at and what is wrong with it, in words that begin with a path."""
    images: dict  # number by what they are ('train GT', 'val LQ', ...)
    problems: list


def check_data(cfg: Config) -> DataReport:
    """Look at all images that a config's training, validation and test read.

    Found are: files and folders that are missing, unreadable, truncated, not 8-bit RGB, of a wrong size or not
    annotated as they are; LQ and GT that do not belong together; images that are there twice; and pictures that are in
    two splits, also degraded.

    Args:
        cfg (Config): From `load_config`.
    """
    problems, seen, folders = [], {}, _folders(cfg)
    for kind, folder in folders.items():
        try:
            names = require_images(folder, cfg)
        except UserError as error:
            problems.append(str(error))
            if not Path(folder).is_dir():
                continue
            names = sorted(path.name for path in Path(folder).iterdir()
                           if path.name.endswith(IMG_EXTENSIONS) and path.is_file())
        seen[kind] = _look_at(Path(folder), names, kind, problems)
    if 'train' in cfg.data:
        _check_training(cfg, seen, problems)
    for split in ('val', 'test'):
        if f'{split} GT' in seen and f'{split} LQ' in seen:
            _check_pairs(cfg.data[split], seen[f'{split} LQ'], seen[f'{split} GT'], problems)
    for kind in ('val LQ', 'test LQ'):
        _check_one_size(folders.get(kind), seen.get(kind, {}), problems)
    _find_twins(folders, seen, problems)
    return DataReport({kind: len(images) for kind, images in seen.items()}, problems)


def _folders(cfg: Config) -> dict:
    """The folders that are read, by what is in them."""
    folders = {}
    if 'train' in cfg.data:
        folders['train GT'] = train_dataset_cfg(cfg).gt_folder
    for split in ('val', 'test'):
        for key, what in (('gt_folder', 'GT'), ('lq_folder', 'LQ')):
            folder = cfg.data.get(split, {}).get(key)
            # A split may be another one once more, as when HQ images of the validation set are wanted.
            if folder and Path(folder).resolve() not in {Path(other).resolve() for other in folders.values()}:
                folders[f'{split} {what}'] = folder
    return folders


def _look_at(folder: Path, names, kind: str, problems: list) -> dict:
    """What is seen of each readable image, by name; several are read at a time."""
    seen = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(_see, (folder / name for name in names))
        for name, image in zip(names, tqdm(found, kind, len(names), unit='image', disable=None), strict=True):
            if isinstance(image, str):
                problems.append(image)
                continue
            seen[name] = image
            if image.mode != 'RGB':
                problems.append(f'{folder / name}: has mode {image.mode}, not 8-bit RGB; convert it')
    return seen


def _see(path: Path):
    """`Seen`, or what is wrong."""
    try:
        with opened_image(path) as image:
            info, mode = info_of(path, image), _raw_mode(image)
            pixels = np.asarray(image.convert('RGB'))
    except UserError as error:
        return str(error)
    except OSError as error:
        return f'{path}: {error.strerror}'
    thumbnail = cv2.resize(np.float32(pixels), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()
    thumbnail -= thumbnail.mean()
    return Seen(info, mode, blake2b(pixels, digest_size=16).digest(),
                thumbnail / max(float(np.linalg.norm(thumbnail)), 1e-6))


def _raw_mode(image) -> str:
    """The mode; of 16-bit colour, which Pillow makes 8-bit RGB of, what is in the file."""
    raw = [part for tile in image.tile for part in np.atleast_1d(tile[3]) if ';16' in str(part)]
    return str(raw[0]) if raw and image.mode == 'RGB' else image.mode


def _check_training(cfg: Config, seen: dict, problems: list) -> None:
    train, images = train_dataset_cfg(cfg), seen.get('train GT', {})
    infos = [image.info for image in images.values()]
    if 'ann_file' in train:
        try:
            annotated = read_annotation(train.ann_file)
            there = {path.name for path in Path(train.gt_folder).glob('*')}
            broken = there - {info.name for info in infos}  # these have been named
            annotated = [info for info in annotated if info.name not in broken]
            problems += [f'{train.ann_file}: {line}' for line in differences(annotated, infos)]
        except UserError as error:
            problems.append(str(error))
    unfit, patch = unfit_sizes(infos, cfg), cfg.get('gt_patch_size') or 0
    for info in infos:
        path, size = Path(train.gt_folder) / info.name, f'{info.width}x{info.height}'
        if (info.height, info.width) in unfit:
            problems.append(f'{path}: is {size}, which the degradation does not make {train.scale} times smaller')
        elif min(info.height, info.width) < patch:
            problems.append(f'{path}: is {size}, smaller than gt_patch_size {patch}')


def _check_pairs(dataset, lq: dict, gt: dict, problems: list) -> None:
    """LQ and GT of the same name, in the folders of a dataset's config."""
    lq_folder, gt_folder = Path(dataset.lq_folder), Path(dataset.gt_folder)
    for alone, there, lacking in ((lq.keys() - gt.keys(), lq_folder, gt_folder),
                                  (gt.keys() - lq.keys(), gt_folder, lq_folder)):
        problems += [f'{there / name}: has no partner in {lacking}' for name in sorted(alone)
                     if not (lacking / name).exists()]  # an unreadable one has been named
    names = sorted(lq.keys() & gt.keys())
    for name in names:
        small, large = lq[name].info, gt[name].info
        if (small.height * dataset.scale, small.width * dataset.scale) != (large.height, large.width):
            problems.append(f'{lq_folder / name}: is {small.width}x{small.height}, but its GT is {large.width}x'
                            f'{large.height}, not {dataset.scale} times as large')
            continue
        alike = float(lq[name].thumbnail @ gt[name].thumbnail)
        if alike < OTHER_PICTURE:
            most, best = max((float(lq[name].thumbnail @ gt[other].thumbnail), other) for other in names)
            hint = f'; it looks like {gt_folder / best}' if most >= OTHER_PICTURE else ''
            problems.append(f'{lq_folder / name}: does not show what {gt_folder / name} shows (correlation '
                            f'{alike:.3f} when both are small){hint}')


def _check_one_size(folder, images: dict, problems: list) -> None:
    """Competition images have one size."""
    sizes = Counter((image.info.width, image.info.height) for image in images.values())
    if len(sizes) > 1:
        (width, height), _ = sizes.most_common(1)[0]
        problems += [f'{Path(folder) / name}: is {image.info.width}x{image.info.height}; most are {width}x{height}'
                     for name, image in images.items() if (image.info.width, image.info.height) != (width, height)]


def _find_twins(folders: dict, seen: dict, problems: list) -> None:
    """The same pixels anywhere, and the same picture, if degraded, in two splits: what is trained on must not be
    what is measured on.
    """
    by_content = defaultdict(list)
    for kind, images in seen.items():
        for name, image in images.items():
            by_content[image.digest].append(Path(folders[kind]) / name)
    for paths in by_content.values():
        problems += [f'{path}: has the same pixels as {paths[0]}' for path in paths[1:]]
    splits = [next((kind for kind in (f'{split} GT', f'{split} LQ') if seen.get(kind)), None)
              for split in ('train', 'val', 'test')]
    splits = [kind for kind in splits if kind]
    for place, kind in enumerate(splits):
        for other in splits[place + 1:]:
            problems += [f'{Path(folders[other]) / theirs}: shows the same as {Path(folders[kind]) / ours} '
                         f'(correlation {alike:.3f} when both are small)'
                         for ours, theirs, alike in _alike(seen[kind], seen[other])]


def _alike(these: dict, those: dict):
    """Names of images that show the same but have not the same pixels, with the correlation."""
    ours, theirs = list(these), list(those)
    columns = np.stack([those[name].thumbnail for name in theirs]).T
    for start in range(0, len(ours), BLOCK):
        rows = np.stack([these[name].thumbnail for name in ours[start:start + BLOCK]])
        alike = rows @ columns
        for i, j in np.argwhere(alike >= SAME_PICTURE):
            if these[ours[start + i]].digest != those[theirs[j]].digest:
                yield ours[start + i], theirs[j], float(alike[i, j])


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


def check_pairs(split: str, cfg: Config, least: int = 1) -> None:
    """The images of the validation or test dataset ('val' or 'test').

    Args:
        split (str): Of them.
        cfg (Config): From `load_config`.
        least (int): Pixels a side that GT images have to have to be measured. Default: 1.

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
    small = [name for name, info in gt.items() if min(info.height, info.width) < least]
    if small:
        raise UserError(f'{gt_folder / small[0]}: is smaller than the {least} pixels a side that test_cfg.metrics with '
                        f'test_cfg.crop_border={(cfg.get("test_cfg") or {}).get("crop_border", 0)} can measure')
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


def require_folder(folder: str | Path, cfg: Config) -> Path:
    """The folder as a Path.

    Raises:
        UserError: It is missing; the config's `data_hint` says how to get the data.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder; {cfg.get("data_hint", "give one with --data-root")}')
    return folder


def require_images(folder: str | Path, cfg: Config) -> list:
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


def unfit_sizes(infos: list, cfg: Config) -> set:
    """The (height, width) among training images that the degradation does not bring to LQ size."""
    recipe, scale = training_recipe(cfg), train_dataset_cfg(cfg).scale
    return {size for size in {(info.height, info.width) for info in infos} if recipe and not recipe.fits(*size, scale)}
