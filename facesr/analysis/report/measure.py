"""The validation images of a report: what each measures, and the pictures of some."""
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from facesr.analysis.examples import find_places
from facesr.analysis.work_dir import Sources
from facesr.evaluation.evaluator import bicubic_psnr, evaluate
from facesr.evaluation.metrics import build_metrics
from facesr.evaluation.test import load_split
from facesr.inference.network import network
from facesr.models.build import count_parameters, load_model
from facesr.utils.images import encode_png, read_image


class ImageRow(NamedTuple):
    """What one validation image measures: PSNR in dB, other metrics by name; `rank` 1 has the highest PSNR."""
    name: str
    metrics: dict
    bicubic: float
    rank: int

    @property
    def gain(self) -> float:
        """PSNR above bicubic's, in dB."""
        return self.metrics['PSNR'] - self.bicubic


class Pictures(NamedTuple):
    """An image to look at: PNG files as bytes, of the very pixels that were measured, and (width, height) of LQ, GT."""
    row: ImageRow
    lq: bytes
    hq: bytes
    gt: bytes
    lq_size: tuple
    gt_size: tuple


class Measured(NamedTuple):
    """What a checkpoint does on the validation images, in their order."""
    rows: list
    pictures: list
    parameters: int
    device: str


def measure_run(sources: Sources, images: int | list[str]) -> Measured:
    """Restore and measure the validation split of a run.

    Args:
        sources (Sources): From `find_sources`, with a checkpoint.
        images (int | list[str]): How many images to compare, from the best PSNR over the median to the worst; or
            their names, with or without suffix.

    Raises:
        UserError: Data or checkpoint are not in order, or a name is not among the images.
    """
    cfg = sources.cfg
    loader = load_split(cfg, 'val')
    pairs = [(info['lq_path'], info['gt_path']) for info in loader.dataset.data_infos]
    wanted = images if isinstance(images, int) else find_places([lq for lq, _ in pairs], images)
    model = load_model(cfg, sources.checkpoint, sources.ema)
    device = next(model.parameters()).device
    names = list(dict.fromkeys(['PSNR', *cfg.test_cfg['metrics']]))  # PSNR ranks them, asked for or not
    metrics = build_metrics(dict(cfg.test_cfg, metrics=names))
    # On the disk, because which images are shown is known at the end, and thousands would fill the memory.
    with TemporaryDirectory() as folder:
        rows = _measure(network(model), loader, metrics, Path(folder), cfg.test_cfg.get('crop_border', 0))
        places = _spread(rows, wanted) if isinstance(wanted, int) else wanted
        pictures = [_pictures(rows[i], *pairs[i], Path(folder) / f'{i}.png') for i in places]
    return Measured(rows, pictures, count_parameters(model.generator), _name_of(device))


def _measure(net, loader, metrics: dict, folder: Path, border: int) -> list:
    """Measure every pair, and write HQ number i to `folder`/i.png."""
    measured = []
    for i, (image, result) in enumerate(evaluate(net, loader, metrics)):
        (folder / f'{i}.png').write_bytes(encode_png(image.hq))
        measured.append((result, bicubic_psnr(image.lq, image.gt, border)))
    order = sorted(range(len(measured)), key=lambda i: (-measured[i][0].metrics['PSNR'], measured[i][0].name))
    ranks = {i: rank for rank, i in enumerate(order, 1)}
    return [ImageRow(result.name, result.metrics, baseline, ranks[i]) for i, (result, baseline) in enumerate(measured)]


def _spread(rows: list, count: int) -> list:
    """Places of `count` images: the median, or best and worst, or all three and others evenly between them."""
    by_rank = sorted(range(len(rows)), key=lambda i: rows[i].rank)
    count, last, middle = min(count, len(rows)), len(rows) - 1, (len(rows) - 1) // 2
    if count < 3:
        return [by_rank[rank] for rank in ([middle] if count == 1 else [0, last])]
    above, below = (count - 1) // 2, count // 2  # steps to the median, and from there on
    ranks = [middle * k // above for k in range(above)]
    return [by_rank[rank] for rank in [*ranks, *(middle + (last - middle) * k // below for k in range(below + 1))]]


def _pictures(row: ImageRow, lq_path: str, gt_path: str, hq_path: Path) -> Pictures:
    lq, gt = read_image(lq_path), read_image(gt_path)
    return Pictures(row, encode_png(lq), hq_path.read_bytes(), encode_png(gt), lq.shape[1::-1], gt.shape[1::-1])


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'
