"""Testing a checkpoint: what `tools/test.py` does."""
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from torch.utils.data import DataLoader

from facesr.config import Config
from facesr.datasets.checks import check_pairs
from facesr.datasets.loader import build_eval_loader
from facesr.evaluation.evaluator import bicubic_psnr, mean_metrics, measure, read_batches, restore_batch
from facesr.evaluation.metrics import METRICS, check_metrics, least_side
from facesr.inference.network import as_arrays
from facesr.submission.archive import hq_names, submission_zip
from facesr.utils.errors import UserError
from facesr.utils.files import as_json, file_sha256, write_atomic
from facesr.utils.images import list_images, save_png
from facesr.utils.threads import Background


class SplitReport(NamedTuple):
    """What a test found: images restored and, with GT, their metrics."""
    images: int
    sizes: dict  # (height, width) of each HQ image by name
    results: list
    mean: dict
    bicubic_psnr: float


def load_split(cfg: Config, split: str) -> DataLoader:
    """A loader over a split ('val' or 'test').

    Raises:
        UserError: An image is missing, unreadable or without partner, or a metric is unknown.
    """
    if split == 'val':
        check_metrics(cfg)
    check_pairs(split, cfg, least_side(cfg.get('test_cfg')))
    return build_eval_loader(cfg.data, split)


def run_test(net: Callable, loader: DataLoader, metrics: dict | None = None, save_path: str | Path | None = None,
             zip_file: str | Path | None = None, crop_border: int = 0) -> SplitReport:
    """Restore a split; measure it where there is GT; write PNGs and the hand-in zip where asked.

    Args:
        net (Callable): From `facesr.inference.network.network`.
        loader (DataLoader): From `load_split`.
        metrics (dict[str, Callable] | None): From `build_metrics`; needed where there is GT.
        save_path (str | Path | None): Folder for the PNGs, named like the LQ images.
        zip_file (str | Path | None): The zip; appears only when every image is in it, and it is verified.
        crop_border (int): Pixels at each side that bicubic is not measured on. Default: 0.

    Returns:
        SplitReport: Without GT, `results` and `mean` are empty and `bicubic_psnr` is nan.

    Raises:
        UserError: HQ names would clash, the outputs would overwrite LQ or GT images, or a zip would be without an
            image of the LQ folder.
    """
    infos = loader.dataset.data_infos
    if save_path:
        refuse_folder_of_inputs(save_path, {Path(info[key]).parent for info in infos for key in ('lq_path', 'gt_path')
                                            if key in info})
    lq_paths = [info['lq_path'] for info in infos]
    names, scale = dict(zip(lq_paths, hq_names(lq_paths), strict=True)), loader.dataset.scale
    sizes, results, baseline = {}, [], []
    with ExitStack() as stack:
        add_to_zip = None
        if zip_file:
            add_to_zip = stack.enter_context(submission_zip(zip_file, _all_of_the_folder(loader, names), sizes))
        background = stack.enter_context(Background())  # writes and measures while the next batch is computed
        for batch in read_batches(loader):
            hq = restore_batch(net, batch)
            outputs = [names[path] for path in batch.lq_paths]
            sizes.update(dict.fromkeys(outputs, tuple(scale * side for side in batch.lq.shape[-2:])))
            if save_path or zip_file:
                for name, image in zip(outputs, as_arrays(hq), strict=True):
                    background.submit(save_png, image, Path(save_path) / name if save_path else None,
                                      then=partial(add_to_zip, name) if add_to_zip else None)
            if batch.gt is not None:
                background.submit(measure, metrics, batch, hq, then=results.extend)
                for lq, gt in zip(as_arrays(batch.lq), as_arrays(batch.gt), strict=True):
                    background.submit(bicubic_psnr, lq, gt, crop_border, then=baseline.append)
    if not results:
        return SplitReport(len(sizes), sizes, [], {}, math.nan)
    return SplitReport(len(sizes), sizes, results, mean_metrics(results), fmean(baseline))


def _all_of_the_folder(loader: DataLoader, names: dict) -> list:
    """The names of the HQ images of a whole LQ folder: it, and not what is restored, says what is handed in.

    Raises:
        UserError: Not all of it is to be restored.
    """
    folder = Path(loader.dataset.lq_folder)
    wanted = hq_names(list_images(folder))
    lacking = sorted(set(wanted) - {names[info['lq_path']] for info in loader.dataset.data_infos})
    if lacking:
        raise UserError(f'{folder}: has {len(wanted)} images, but the config reads {len(wanted) - len(lacking)} of '
                        f'them (not {lacking[0]}); a zip is of all: give a dataset without annotation file')
    return wanted


def refuse_folder_of_inputs(folder: str | Path, inputs: Iterable) -> None:
    """HQ images have the names of their LQ images, so they would take the places of those and of GT.

    Raises:
        UserError: The folder is one of the inputs'.
    """
    if Path(folder).resolve() in {Path(path).resolve() for path in inputs}:
        raise UserError(f'{folder}: is a folder of LQ or GT images, which would be overwritten; give another')


def write_metrics(path: str | Path, report: SplitReport, checkpoint: str | Path, crop_border: int = 0, **about) -> None:
    """Write a report as JSON: `about`, checkpoint, conventions, the means, and each image's metrics."""
    about.update(checkpoint=str(checkpoint), checkpoint_sha256=file_sha256(checkpoint), crop_border=crop_border,
                 conventions={name: METRICS[name].convention for name in report.mean})
    images = [dict(name=result.name, **result.metrics) for result in report.results]
    content = dict(about, mean=report.mean, bicubic=dict(PSNR=report.bicubic_psnr), images=images)
    write_atomic(path, as_json(content))


def format_split(report: SplitReport, crop_border: int = 0) -> str:
    """The report's means, one metric a line, with what it measures; PSNR beside bicubic's."""
    lines = [f'{name}: {value:.4f}{METRICS[name].unit} ({METRICS[name].convention}, crop_border {crop_border})'
             for name, value in report.mean.items()]
    if 'PSNR' in report.mean:
        gain = report.mean['PSNR'] - report.bicubic_psnr
        lines.append(f'bicubic PSNR: {report.bicubic_psnr:.4f} dB (the model gains {gain:+.4f} dB)')
    return '\n'.join(lines)
