"""Testing a checkpoint: what `tools/test.py` does."""
import json
import math
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from mmcv import Config

from facesr.checkpoint import load_weights, read_checkpoint
from facesr.checks import check_metrics, check_pairs
from facesr.datasets.loader import build_eval_loader
from facesr.errors import UserError
from facesr.evaluation import bicubic_psnr, mean_metrics, measure, restore
from facesr.files import write_atomic
from facesr.inference import network
from facesr.submission import encode_png, hq_names, submission_zip
from facesr.training import build_restorer

SPLITS = ('val', 'test')


class Report(NamedTuple):
    """What a test found: images restored and, with GT, their metrics."""
    images: int
    results: list
    mean: dict
    bicubic_psnr: float


def load_model(cfg: Config, checkpoint, ema: bool = False):
    """The config's restorer with a checkpoint's weights, in eval mode, on CUDA if there is a device.

    Args:
        cfg (Config): From `load_config`.
        checkpoint (str | Path): The file.
        ema (bool): Take the moving average of the generator's weights. Default: False.

    Raises:
        UserError: The checkpoint is missing, unsafe, of another model or without moving average.
    """
    model = build_restorer(cfg)
    load_weights(model, read_checkpoint(checkpoint), checkpoint, ema)
    return model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()


def load_split(cfg: Config, split: str):
    """A loader over a split ('val' or 'test').

    Raises:
        UserError: An image is missing, unreadable or without partner, or a metric is unknown.
    """
    if split == 'val':
        check_metrics(cfg)
    check_pairs(cfg.data[split], cfg)
    return build_eval_loader(cfg.data, split)


def run_test(model, loader, save_path=None, zip_file=None) -> Report:
    """Restore a split; measure it where there is GT; write PNGs and the hand-in zip where asked.

    Args:
        model (BasicRestorer): From `load_model`.
        loader (DataLoader): From `load_split`.
        save_path (str | Path | None): Folder for the PNGs, named like the LQ images.
        zip_file (str | Path | None): The zip; appears only when every image is in it.

    Returns:
        Report: Without GT, `results` and `mean` are empty and `bicubic_psnr` is nan.

    Raises:
        UserError: HQ names would clash, or the outputs would overwrite the LQ images.
    """
    lq_paths = [info['lq_path'] for info in loader.dataset.data_infos]
    if save_path and Path(save_path).resolve() in {Path(path).resolve().parent for path in lq_paths}:
        raise UserError(f'{save_path}: is the folder of the LQ images, which would be overwritten; give another')
    names = hq_names(lq_paths)
    count, results, baseline = 0, [], []
    with ExitStack() as stack:
        add_to_zip = stack.enter_context(submission_zip(zip_file)) if zip_file else None
        for image, name in zip(restore(network(model), loader), names, strict=True):
            count += 1
            if save_path or zip_file:
                png = encode_png(image.hq)
                if save_path:
                    write_atomic(Path(save_path) / name, png)
                if zip_file:
                    add_to_zip(name, png)
            if image.gt is not None:
                results.append(measure(model, image))
                baseline.append(bicubic_psnr(image, model.test_cfg.get('crop_border', 0)))
    if not results:
        return Report(count, [], {}, math.nan)
    return Report(count, results, mean_metrics(results), fmean(baseline))


def write_metrics(path, report: Report, **about) -> None:
    """Write a report as JSON: what `about` says, the means, and each image's metrics."""
    images = [dict(name=result.name, **result.metrics) for result in report.results]
    content = dict(about, mean=report.mean, bicubic=dict(PSNR=report.bicubic_psnr), images=images)
    write_atomic(path, f'{json.dumps(content, indent=2)}\n')


def summary(report: Report) -> str:
    """The report's means, one metric a line; PSNR beside bicubic's."""
    units = {'PSNR': ' dB'}
    lines = [f'{name}: {value:.4f}{units.get(name, "")}' for name, value in report.mean.items()]
    if 'PSNR' in report.mean:
        gain = report.mean['PSNR'] - report.bicubic_psnr
        lines.append(f'bicubic PSNR: {report.bicubic_psnr:.4f} dB (the model gains {gain:+.4f} dB)')
    return '\n'.join(lines)
