"""A fixed set of LQ images for GT images of one's own: what `tools/make_lq.py` does."""
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facesr.datasets.annotation import read_info
from facesr.degradation.cpu import degrade
from facesr.degradation.recipe import Recipe
from facesr.utils.errors import UserError
from facesr.utils.files import is_there, remove_leftovers, write_atomic
from facesr.utils.images import decode_image, encode_image, list_images
from facesr.utils.pixels import to_uint8

MANIFEST = 'manifest.jsonl'
LOSSLESS = ('.png', '.bmp', '.ppm', '.tif', '.tiff')


def make_lq_image(gt: np.ndarray, recipe: Recipe, name: str, seed: int) -> tuple:
    """LQ of one GT image; what is drawn depends on the name and the seed alone.

    Args:
        gt (ndarray): (h, w, 3), uint8, RGB.
        recipe (Recipe): What to draw from.
        name (str): The image's file name.
        seed (int): At least 0.

    Returns:
        tuple[ndarray, Plan]: LQ (h', w', 3), uint8, RGB, and what was done.
    """
    plan = recipe.draw(np.random.default_rng([seed, *name.encode()]), *gt.shape[:2])
    return to_uint8(torch.from_numpy(degrade(gt, plan.steps))).numpy(), plan


def make_lq_set(gt_folder: str | Path, lq_folder: str | Path, recipe: Recipe, scale: int, seed: int = 0) -> tuple:
    """Write an LQ image for each GT image, and a manifest with the parameters of each.

    An interrupted call is taken up where it stopped. `manifest.jsonl` holds the recipe and the seed in its first
    line, then a line for each image: name, hashes of the GT and the LQ file, steps.

    Args:
        gt_folder (str | Path): 8-bit images in a lossless format, for the LQ images have their names.
        lq_folder (str | Path): Where to write.
        recipe (Recipe): What to draw from.
        scale (int): Of GT to LQ.
        seed (int): Of all draws. Default: 0.

    Returns:
        tuple[int, int]: Images written now, and images that were there already.

    Raises:
        UserError: A GT image cannot be used, or the LQ folder has other contents; what is there is left alone.
    """
    gt_folder, lq_folder = Path(gt_folder), Path(lq_folder)
    names = _gt_names(gt_folder, lq_folder, recipe, scale)
    header = json.loads(json.dumps(dict(degradation=recipe.degradation, scale=scale, seed=seed)))
    done = _read_manifest(lq_folder, header)
    remove_leftovers(lq_folder)
    _write_manifest(lq_folder, header, done)  # without a line that a kill cut off
    written = 0
    with (lq_folder / MANIFEST).open('a', encoding='utf-8') as lines:
        for name in tqdm(names, desc='make LQ', unit='image', disable=None):
            data = (gt_folder / name).read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if name in done and (lq_folder / name).exists():
                if done[name]['gt_sha256'] != digest:
                    raise UserError(f'{gt_folder / name}: has changed since {lq_folder / name} was made; remove that '
                                    'one to make it anew')
                if done[name]['lq_sha256'] != hashlib.sha256((lq_folder / name).read_bytes()).hexdigest():
                    raise UserError(f'{lq_folder / name}: is not what was made; remove it to make it anew')
                continue
            lq, plan = make_lq_image(decode_image(data, gt_folder / name), recipe, name, seed)
            digests = dict(gt_sha256=digest, lq_sha256=_write_image(lq_folder / name, lq))
            done[name] = dict(name=name, **digests, steps=plan.as_dicts())
            lines.write(f'{json.dumps(done[name])}\n')
            lines.flush()
            written += 1
    _write_manifest(lq_folder, header, done)
    return written, len(names) - written


def _gt_names(gt_folder: Path, lq_folder: Path, recipe: Recipe, scale: int) -> list:
    """The GT images' names, if LQ images can be made of all of them."""
    if not gt_folder.is_dir():
        raise UserError(f'{gt_folder}: no such folder; give the folder with the GT images')
    if gt_folder.resolve() in (lq_folder.resolve(), *lq_folder.resolve().parents):
        raise UserError(f'{lq_folder}: is the GT folder, or in it; give another for the LQ images')
    names = list_images(gt_folder)
    if not names:
        raise UserError(f'{gt_folder}: no images in it; give the folder with the GT images')
    lossy = [name for name in names if Path(name).suffix.lower() not in LOSSLESS]
    if lossy:
        raise UserError(f'{gt_folder / lossy[0]}: LQ images have the names of their GT, and {Path(lossy[0]).suffix} '
                        f'would compress them once more; convert it to .png ({len(lossy)} of {len(names)} images)')
    for name in names:
        info = read_info(gt_folder / name)
        if not recipe.fits(info.height, info.width, scale):
            raise UserError(f'{gt_folder / name} is {info.width}x{info.height}, which the degradation does not make '
                            f'{scale} times smaller; resize it, or change the target_size of the degradation')
    return names


def _read_manifest(lq_folder: Path, header: dict) -> dict:
    """The images made so far, by name."""
    manifest = lq_folder / MANIFEST
    if not manifest.exists():
        if lq_folder.is_dir() and list_images(lq_folder):
            raise UserError(f'{lq_folder}: has images, but no {MANIFEST} that says how they were made; give an empty '
                            'or new folder')
        return {}
    lines = []
    for text in manifest.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break  # cut off by a kill
    if not all(isinstance(line, dict) and 'name' in line for line in lines[1:]):
        raise UserError(f'{manifest}: is no manifest of LQ images; move it away')
    if not lines or lines[0] != header:
        raise UserError(f'{manifest}: these images were made with another degradation, scale or seed; give another '
                        'folder')
    return {line['name']: line for line in lines[1:]}


def _write_manifest(lq_folder: Path, header: dict, done: dict) -> None:
    lines = [header, *(done[name] for name in sorted(done))]
    write_atomic(lq_folder / MANIFEST, ''.join(f'{json.dumps(line)}\n' for line in lines))


def _write_image(path: Path, image: np.ndarray) -> str:
    """Returns the file's hash."""
    data = encode_image(image, path.suffix)
    if not is_there(path, data, 'move it away'):
        write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()
