"""Everything that a config points at, looked at before it costs a training run: what `tools/check_data.py` does."""
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from facesr.config import Config, batch_size, train_dataset_cfgs
from facesr.datasets.annotation import ImageInfo, differences, info_of, read_annotation, read_info
from facesr.datasets.degrade import recipe_of
from facesr.datasets.pairs import annotation_files, lq_name, reads, turned
from facesr.utils.errors import UserError
from facesr.utils.images import IMG_EXTENSIONS, decode_image, deep_colour, list_images, opened_image

THUMBNAIL = 16  # its side
LARGE = 2**24  # values of an image
# Correlation of two thumbnails. Of an LQ and its GT it was at least 0.976 (500 draws of each recipe, 12 pairs of the
# organiser), of two different faces of FFHQ at most 0.92 (2,556 pairs).
SAME_PICTURE, OTHER_PICTURE = 0.97, 0.95
TRAIN_GT = 'train GT'
# Of what may stand before `Degrade` (facesr.config.degradation).
RESIZING = ('Crop', 'ModCrop', 'FixedCrop', 'RandomResizedCrop')
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
    problems, seen, folders = [], {}, data_folders(cfg)
    for kind, folder in folders.items():
        try:
            names = require_images(folder, cfg, recursive=kind.startswith(TRAIN_GT))
        except UserError as error:
            problems.append(str(error))
            if not Path(folder).is_dir():
                continue
            names = sorted(path.name for path in Path(folder).iterdir()
                           if path.name.endswith(IMG_EXTENSIONS) and path.is_file())
        seen[kind] = _look_at(Path(folder), names, kind, problems, _turned(cfg, kind))
    for train in train_dataset_cfgs(cfg):
        if 'gt_folder' in train:
            _check_training(train, cfg, _seen_in(train.gt_folder, folders, seen), problems)
            if reads(train, 'lq'):
                _check_pairs(train, _seen_in(train.lq_folder, folders, seen),
                             _seen_in(train.gt_folder, folders, seen), problems)
    for split in ('val', 'test'):
        if f'{split} GT' in seen and f'{split} LQ' in seen:
            _check_pairs(cfg.data[split], seen[f'{split} LQ'], seen[f'{split} GT'], problems)
    for kind in ('val LQ', 'test LQ'):
        _check_one_size(folders.get(kind), seen.get(kind, {}), problems)
    _find_twins(folders, seen, problems)
    return DataReport({kind: len(images) for kind, images in seen.items()}, problems)


def data_folders(cfg: Config) -> dict:
    """The folders that are read, by what is in them."""
    folders = {}

    def add(what: str, folder) -> None:
        # A split may be another one once more, as when HQ images of the validation set are wanted.
        if folder and Path(folder).resolve() not in {Path(other).resolve() for other in folders.values()}:
            number = 1 + sum(kind.startswith(what) for kind in folders)
            folders[what if number == 1 else f'{what} {number}'] = folder

    for train in train_dataset_cfgs(cfg):
        add(TRAIN_GT, train.get('gt_folder'))
        add('train LQ', train.get('lq_folder') if reads(train, 'lq') else None)
    for split in ('val', 'test'):
        for key, what in (('gt_folder', 'GT'), ('lq_folder', 'LQ')):
            add(f'{split} {what}', cfg.data.get(split, {}).get(key))
    return folders


def _seen_in(folder, folders: dict, seen: dict) -> dict:
    """What was seen of the images of a folder."""
    return next((seen.get(kind, {}) for kind, other in folders.items()
                 if Path(other).resolve() == Path(folder).resolve()), {})


def _turned(cfg: Config, kind: str) -> bool:
    """Whether the first data set that reads images of a kind reads them as their EXIF orientations say."""
    split, what = kind.split()[:2]
    datasets = train_dataset_cfgs(cfg) if split == 'train' else [cfg.data[split]]
    return turned(datasets[0], what.lower())


def _look_at(folder: Path, names, kind: str, problems: list, upright: bool) -> dict:
    """What is seen of each readable image, by name; several are read at a time."""
    seen = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: _see(folder / name, upright), names)
        for name, image in zip(names, tqdm(found, kind, len(names), unit='image', disable=None), strict=True):
            if isinstance(image, str):
                problems.append(image)
                continue
            seen[name] = image
            if image.mode != 'RGB':
                problems.append(f'{folder / name}: has mode {image.mode}, not 8-bit RGB; convert it')
    return seen


def _see(path: Path, upright: bool):
    """`Seen`, or what is wrong."""
    try:
        with opened_image(path) as image:
            mode = deep_colour(image) or image.mode
            image.load()  # finds damage that OpenCV makes up for
            pixels = decode_image(path.read_bytes(), path, upright)
            info = info_of(path, image, pixels)
            return Seen(info, mode, blake2b(pixels.data, digest_size=16).digest(), _thumbnail(pixels))
    except UserError as error:
        return str(error)
    except OSError as error:
        return f'{path}: {error.strerror}'


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """`THUMBNAIL` pixels a side, of mean 0 and length 1."""
    if pixels.size > LARGE:  # as floats it would take four times the memory
        pixels = cv2.resize(pixels, (64 * THUMBNAIL, 64 * THUMBNAIL), interpolation=cv2.INTER_AREA)
    thumbnail = cv2.resize(np.float32(pixels), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()
    thumbnail -= thumbnail.mean()
    return thumbnail / max(float(np.linalg.norm(thumbnail)), 1e-6)


def _check_training(train, cfg: Config, images: dict, problems: list) -> None:
    infos = [image.info._replace(name=name) for name, image in images.items()]
    folder = Path(train.gt_folder)
    for ann_file in annotation_files(train):
        try:
            annotated = [info for info in read_annotation(ann_file)
                         if info.name in images or not (folder / info.name).exists()]  # the others have been named
            problems += [f'{ann_file}: {line}' for line in differences(annotated, infos)]
        except UserError as error:
            problems.append(str(error))
    unfit, patch = unfit_sizes(infos, train), cfg.get('gt_patch_size') or 0
    for info in infos:
        path, size = Path(train.gt_folder) / info.name, f'{info.width}x{info.height}'
        if (info.height, info.width) in unfit:
            problems.append(f'{path}: is {size}, which the degradation does not make {train.scale} times smaller')
        elif min(info.height, info.width) < patch:
            problems.append(f'{path}: is {size}, smaller than gt_patch_size {patch}')


def _check_pairs(dataset, lq: dict, gt: dict, problems: list) -> None:
    """LQ and GT of the same name, but for `filename_tmpl`, in the folders of a dataset's config."""
    lq_folder, gt_folder = Path(dataset.lq_folder), Path(dataset.gt_folder)
    partners = {lq_name(name, dataset): name for name in gt}
    problems += [f'{lq_folder / name}: has no partner in {gt_folder}' for name in sorted(lq.keys() - partners.keys())
                 if dataset.get('filename_tmpl', '{}') != '{}' or not (gt_folder / name).exists()]
    problems += [f'{gt_folder / partners[name]}: has no partner in {lq_folder}'
                 for name in sorted(partners.keys() - lq.keys())
                 if not (lq_folder / name).exists()]  # an unreadable one has been named
    names = sorted(lq.keys() & partners.keys())
    for name in names:
        small, large = lq[name].info, gt[partners[name]].info
        if (small.height * dataset.scale, small.width * dataset.scale) != (large.height, large.width):
            problems.append(f'{lq_folder / name}: is {small.width}x{small.height}, but its GT is {large.width}x'
                            f'{large.height}, not {dataset.scale} times as large')
            continue
        alike = float(lq[name].thumbnail @ gt[partners[name]].thumbnail)
        if alike < OTHER_PICTURE:
            most, best = max((float(lq[name].thumbnail @ gt[partners[other]].thumbnail), partners[other])
                             for other in names)
            hint = f'; it looks like {gt_folder / best}' if most >= OTHER_PICTURE else ''
            problems.append(f'{lq_folder / name}: does not show what {gt_folder / partners[name]} shows (correlation '
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
    splits = [next(filter(None, ([kind for kind in seen if kind.startswith(f'{split} {what}') and seen[kind]]
                                 for what in ('GT', 'LQ'))), []) for split in ('train', 'val', 'test')]
    for place, kinds in enumerate(splits):
        for kind, other in product(kinds, chain(*splits[place + 1:])):
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
    """The images that training reads, and the annotation files that list them.

    Raises:
        UserError: One is missing, a GT size is not what the degradation works on, or an LQ image that is read from
            the disk has not the size that its GT asks for.
    """
    for train in train_dataset_cfgs(cfg):
        if 'gt_folder' in train:  # else it is a dataset of another kind
            _check_training_set(train, cfg)


def _check_training_set(train, cfg: Config) -> None:
    folder = require_folder(train.gt_folder, cfg)
    infos = training_infos(train, cfg)
    unfit = unfit_sizes(infos, train)
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
    if reads(train, 'lq'):
        _check_training_lq(train, infos, cfg)


def training_infos(train, cfg: Config) -> list:
    """Name and size of each GT image of a training dataset: as its annotation says, else from the files' headers.

    Raises:
        UserError: An annotation file or an image is missing, or one is unreadable.
    """
    folder, infos = require_folder(train.gt_folder, cfg), []
    if not annotation_files(train):
        names = require_images(folder, cfg, recursive=True)
        return [read_info(folder / name, turned=turned(train, 'gt'))._replace(name=name) for name in names]
    for ann_file in annotation_files(train):
        if not Path(ann_file).is_file():
            raise UserError(f'{ann_file}: no such annotation file; make it with: '
                            f'python tools/make_annotation.py {train.gt_folder} {ann_file}')
        listed = read_annotation(ann_file)
        missing = [info.name for info in listed if not (folder / info.name).is_file()]
        if missing:
            raise UserError(f'{ann_file} lists {missing[0]}, which is not in {folder} ({len(missing)} of '
                            f'{len(listed)} missing); make one for this folder with: python tools/make_annotation.py '
                            f'{folder} OTHER.txt, and pass --cfg-options data.train.ann_file=OTHER.txt')
        infos += listed
    return infos


def _check_training_lq(train, infos, cfg: Config) -> None:
    folder, scale = require_folder(train.lq_folder, cfg), train.scale
    names = {info.name: lq_name(info.name, train) for info in infos}
    missing = [name for name in names.values() if not (folder / name).is_file()]
    if missing:
        raise UserError(f'{folder / missing[0]}: no such LQ image ({len(missing)} of {len(names)} missing); LQ images '
                        f'have the names of their GT by filename_tmpl {train.get("filename_tmpl", "{}")!r}')
    for info in infos:
        lq = read_info(folder / names[info.name], turned=turned(train, 'lq'))
        if (lq.height * scale, lq.width * scale) != (info.height, info.width):
            raise UserError(f'{folder / lq.name} is {lq.width}x{lq.height}, but its GT is {info.width}x{info.height}, '
                            f'not {scale} times as large; the folders do not belong together')


def check_pairs(split: str, cfg: Config, least: int = 1) -> None:
    """The images of the validation or test dataset ('val' or 'test').

    Args:
        split (str): Of them.
        cfg (Config): From `load_config`.
        least (int): Pixels a side that GT images have to have to be measured. Default: 1.

    Raises:
        UserError: A folder is missing or empty, an image is unreadable or truncated, an LQ or GT image
            has no partner of its name (by `filename_tmpl`), their sizes do not differ by the scale, or LQ images of
            different sizes are to be one batch.
    """
    dataset_cfg = (cfg.get('data') or {}).get(split)
    if not dataset_cfg or 'lq_folder' not in dataset_cfg:
        raise UserError(f'config key "data.{split}{".lq_folder" if dataset_cfg else ""}": is not there; give a dataset '
                        'with a folder of LQ images')
    lq_folder = Path(dataset_cfg.lq_folder)
    gt_names = [info.name for ann_file in annotation_files(dataset_cfg) for info in read_annotation(ann_file)]
    lq = _decoded_infos(lq_folder, cfg, [lq_name(name, dataset_cfg) for name in gt_names], turned(dataset_cfg, 'lq'))
    sizes = {(info.width, info.height): name for name, info in lq.items()}
    if len(sizes) > 1 and batch_size(cfg, split) > 1:
        (first, name), (second, other) = list(sizes.items())[:2]
        raise UserError(f'{lq_folder}: {name} is {first[0]}x{first[1]}, {other} is {second[0]}x{second[1]}: no batch; '
                        f'use --cfg-options data.{split}_dataloader.samples_per_gpu=1')
    if 'gt_folder' not in dataset_cfg:
        return
    gt_folder, scale = Path(dataset_cfg.gt_folder), dataset_cfg.scale
    gt = _decoded_infos(gt_folder, cfg, gt_names, turned(dataset_cfg, 'gt'))
    partners = {lq_name(name, dataset_cfg): name for name in gt}
    alone = sorted(lq.keys() ^ partners.keys())
    if alone:
        there, lacking = (lq_folder / alone[0], gt_folder) if alone[0] in lq else (
            gt_folder / partners[alone[0]], lq_folder)
        template = dataset_cfg.get('filename_tmpl', '{}')
        but = f', but for filename_tmpl {template!r}' if template != '{}' else ''
        raise UserError(f'{there} has no partner in {lacking} ({len(alone)} images without one); '
                        f'LQ and GT must have the same names{but}')
    small = [name for name, info in gt.items() if min(info.height, info.width) < least]
    if small:
        raise UserError(f'{gt_folder / small[0]}: is smaller than the {least} pixels a side that test_cfg.metrics with '
                        f'test_cfg.crop_border={(cfg.get("test_cfg") or {}).get("crop_border", 0)} can measure')
    for name, info in lq.items():
        large = gt[partners[name]]
        if (info.height * scale, info.width * scale) != (large.height, large.width):
            raise UserError(f'{lq_folder / name} is {info.width}x{info.height}, but its GT is {large.width}x'
                            f'{large.height}, not {scale} times as large; the folders do not belong together')


def _decoded_infos(folder: Path, cfg: Config, names, upright: bool) -> dict:
    """What a folder's images are, by name, or those of some names; several are decoded at a time."""
    names = names or require_images(folder, cfg)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        infos = pool.map(lambda name: read_info(folder / name, decode=True, turned=upright), names)
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


def require_images(folder, cfg: Config, recursive: bool = False) -> list:
    """Names of the images in a folder; with `recursive`, also of those in its sub-folders.

    Raises:
        UserError: The folder is missing, has no images, or has some in a sub-folder, which MMEditing's
            `SRFolderDataset` would read as well, unless it is `recursive`.
    """
    folder = require_folder(folder, cfg)
    names = list_images(folder, recursive)
    if not names:
        raise UserError(f'{folder}: no images in it; {cfg.get("data_hint", "give another with --data-root")}')
    for child in () if recursive else sorted(path for path in folder.iterdir() if path.is_dir()):
        if list_images(child):
            raise UserError(f'{child}: images in a sub-folder would be read too; move or remove it')
    return names


def unfit_sizes(infos, train) -> set:
    """The (height, width) among images of a training dataset that its degradation does not bring to LQ size.

    None where images get another size before: `Degrade` looks at that.
    """
    recipe, types = recipe_of(train), [transform['type'] for transform in train.get('pipeline', ())]
    if recipe and set(RESIZING) & set(types[:types.index('Degrade')]):
        return set()
    return {size for size in {(info.height, info.width) for info in infos}
            if recipe and not recipe.fits(*size, train.scale)}
