"""Several ways to make HQ images, measured on the same pairs: what `tools/compare.py` does."""
import math
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import scipy.stats
from torch.utils.data import DataLoader

from facesr.analysis.comparison.contestants import (
    INTERPOLATIONS,
    Contestant,
    HandedIn,
    Interpolation,
    Model,
    find_model,
    with_unique_labels,
)
from facesr.config import Config
from facesr.evaluation.evaluator import measure, read_batches, require_size
from facesr.evaluation.metrics import build_metrics
from facesr.evaluation.test import load_split
from facesr.submission.archive import hq_names
from facesr.utils.errors import UserError

METRICS = dict(metrics=['PSNR', 'SSIM'])  # as the competition: RGB, whole images
CONFIDENCE, RESAMPLES, FEWEST = 0.95, 10_000, 3  # of the interval; images that it takes
BOOTSTRAP_FROM = 30  # images; of 3 the bootstrap's interval holds the truth 70 times of 100, of 12 89 times


class Difference(NamedTuple):
    """Mean paired difference in PSNR, in dB, and the ends of its interval (None: no interval)."""
    mean: float
    low: float | None
    high: float | None


class ContestantRow(NamedTuple):
    """What was found out about one contestant.

    Attributes:
        label (str): What it is called.
        source (str): Where it comes from.
        psnr (ndarray): Per image, in dB.
        ssim (ndarray): Per image.
        difference (Difference | None): To the reference; None for itself.
        parameters (int | None): Of its network.
        macs (int | None): Multiply-accumulate operations for one image.
        seconds (float | None): Median per image, of the network alone.
    """
    label: str
    source: str
    psnr: np.ndarray
    ssim: np.ndarray
    difference: Difference | None
    parameters: int | None
    macs: int | None
    seconds: float | None

    def statistics(self) -> dict:
        """Mean, median, worst and standard error of the mean (None of one image) of PSNR in dB; mean SSIM."""
        with np.errstate(invalid='ignore'):  # of infinite PSNR
            error = float(self.psnr.std(ddof=1)) / math.sqrt(len(self.psnr)) if len(self.psnr) > 1 else None
        return dict(mean=math.fsum(self.psnr) / len(self.psnr), median=float(np.median(self.psnr)),
                    worst=float(self.psnr.min()), standard_error=error, ssim=float(self.ssim.mean()))


class Comparison(NamedTuple):
    """A `Row` per contestant, the reference first and plain upscaling last.

    Attributes:
        names (list[str]): Of the images, in the order of the rows' arrays.
        rows (list[Row]): They.
        gt (str): Folder of the GT images.
        lq_size (tuple[int, int]): Height and width of the first LQ image, for which operations were counted.
        device (str): On which networks ran.
        seed (int): Of the bootstrap, of 30 images and more.
    """
    names: list
    rows: list
    gt: str
    lq_size: tuple
    device: str
    seed: int

    def most_different(self, count: int) -> list:
        """Indices of the images on which the entries (of one alone: it and bicubic) differ most, the most first."""
        entries = self.rows[:-len(INTERPOLATIONS)]
        psnr = np.stack([row.psnr for row in (entries if len(entries) > 1 else self.rows[:2])])
        with np.errstate(invalid='ignore'):
            spread = np.nan_to_num(psnr.max(0) - psnr.min(0), nan=0, posinf=np.inf)
        return [i for i in np.argsort(-spread, kind='stable')[:count].tolist() if spread[i] > 0]


def compare(entries: list, config: Config = None, default_config: str | Path | None = None, options: dict | None = None,
            data_root: str | None = None, seed: int = 0) -> Comparison:
    """Measure entries, bicubic and bilinear upscaling on the same validation pairs.

    Args:
        entries (list[Entry]): From `facesr.analysis.comparison.contestants.parse_entry`; the first is the reference.
        config (Config | None): Whose validation pairs to take. Default: the first model's.
        default_config (str | None): Config of checkpoints that have none beside them.
        options (dict | None): Overrides of all configs, as `load_config` takes them.
        data_root (str | None): As `load_config` takes it.
        seed (int): Of the bootstrap. Default: 0.

    Raises:
        UserError: An entry, its config or an image is missing or does not fit.
    """
    entries = with_unique_labels(entries)
    models = {entry.label: find_model(entry, default_config, options, data_root) for entry in entries if entry.is_model}
    if config is None and not models:
        raise UserError('only images made before: --config CONFIG says which validation pairs they are of')
    cfg = config or next(iter(models.values())).cfg
    loader = load_split(cfg, 'val')
    lq_paths = [info['lq_path'] for info in loader.dataset.data_infos]
    names = dict(zip(lq_paths, hq_names(lq_paths), strict=True))
    contestants: list[Contestant] = [
        Model(entry.label, models[entry.label], entry.self_ensemble) if entry.is_model else
        HandedIn(entry.label, entry.path, names) for entry in entries
    ]
    contestants += map(Interpolation, INTERPOLATIONS)
    results = measure_all(contestants, loader)
    rows = [_row(contestant, images, results[0], seed)
            for contestant, images in zip(contestants, results, strict=True)]
    devices = {str(contestant.device) for contestant in contestants if isinstance(contestant, Model)}
    return Comparison([Path(path).name for path in lq_paths], rows, cfg.data.val.gt_folder,
                      tuple(loader.dataset[0]['lq'].shape[-2:]), ', '.join(devices), seed)


def measure_all(contestants: list, loader: DataLoader) -> list:
    """PSNR and SSIM of every contestant's image of every pair; each pair is read once.

    Returns:
        list[list[ImageResult]]: Per contestant, per image.

    Raises:
        UserError: An HQ image has not the size of its GT.
    """
    metrics, results = build_metrics(METRICS), [[] for _ in contestants]
    for i, batch in enumerate(read_batches(loader)):
        for contestant, images in zip(contestants, results, strict=True):
            if i == 0:
                contestant.prepare(batch)
            hq = contestant.restore(batch)
            require_size(hq, batch, contestant.source, 'leave it out, or give the config that it goes with')
            images += measure(metrics, batch, hq)
    return results


def paired_difference(psnr: np.ndarray, reference: np.ndarray, seed: int = 0) -> Difference:
    """Mean of the differences of two contestants' PSNR on the same images, with its 95 % interval.

    The interval is the bias-corrected and accelerated bootstrap's, of 10,000 resamples of the images; of fewer than 30
    images Student's. There is none for fewer than three images, or where a PSNR is infinite.

    Source: Efron, "Better bootstrap confidence intervals", 1987.
    """
    with np.errstate(invalid='ignore'):
        differences = np.asarray(psnr) - np.asarray(reference)
    mean = math.fsum(differences) / len(differences) if np.isfinite(differences).all() else float(differences.mean())
    if len(differences) < FEWEST or not math.isfinite(mean):
        return Difference(mean, None, None)
    if len(differences) < BOOTSTRAP_FROM:
        half = float(half_width(differences))
        return Difference(mean, mean - half, mean + half)
    if np.ptp(differences) == 0:  # which the bootstrap complains of
        return Difference(mean, mean, mean)
    interval = scipy.stats.bootstrap(
        (differences, ), np.mean, n_resamples=RESAMPLES, batch=1000, confidence_level=CONFIDENCE, method='BCa',
        random_state=np.random.default_rng(seed)).confidence_interval
    return Difference(mean, float(interval.low), float(interval.high))


def half_width(values):
    """Half of Student's interval of a mean, along the first axis."""
    return scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * scipy.stats.sem(values)


def _row(contestant, images: list, reference: list, seed: int) -> ContestantRow:
    psnr, first = (np.array([image.metrics['PSNR'] for image in results]) for results in (images, reference))
    ssim = np.array([image.metrics['SSIM'] for image in images])
    return ContestantRow(contestant.label, contestant.source, psnr, ssim,
                         None if images is reference else paired_difference(psnr, first, seed), contestant.parameters,
                         contestant.macs, median(contestant.seconds) if contestant.seconds else None)
