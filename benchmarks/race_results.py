"""What a race says: the outcomes of its runs, differences with their intervals, tables, and what `race.json` has."""
import json
import math
from statistics import mean, median, stdev
from typing import NamedTuple

import numpy as np
import scipy.stats
from race_entries import AVERAGE, Entry, Length, Recipe, Trial

from facesr.analysis.comparison.compare import CONFIDENCE, half_width
from facesr.analysis.logs import read_runs
from facesr.utils.errors import UserError
from facesr.utils.tables import text_table

METRICS = ('PSNR', 'PSNR_ema')


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        curve (list[tuple]): Iteration and PSNR (dB) of each validation; the last is that of `images`.
        images (ndarray): PSNR by image, (n, ), of the last checkpoint.
        seconds (float): Of an iteration, by the clock on the wall.
        cpu_seconds (float): Of all iterations.
    """
    curve: list
    images: np.ndarray
    seconds: float = math.nan
    cpu_seconds: float = math.nan


class Row(NamedTuple):
    """A line of a table: a label's outcomes by seed, and bicubic's PSNR by image, (n, )."""
    label: str
    recipe: Recipe
    iterations: int
    bicubic: np.ndarray
    outcomes: dict

    def final(self, seed) -> float:
        """PSNR of the last checkpoint, the mean over images."""
        return self.outcomes[seed].curve[-1][1]

    def gains(self) -> list:
        """Of each seed over bicubic, in dB."""
        return [self.final(seed) - float(self.bicubic.mean()) for seed in self.outcomes]


class Difference(NamedTuple):
    """Mean of the differences in PSNR (dB), and half the widths of two intervals.

    Attributes:
        mean (float): Over seeds and images.
        half_width (float | None): Over seeds, on these images; None for one seed.
        crossed (float | None): Over seeds and images, or for one seed over images; None for one image.
    """
    mean: float
    half_width: float | None
    crossed: float | None = None

    @property
    def interval(self) -> float | None:
        """Half the width of the one that claims the most."""
        return self.half_width if self.crossed is None else self.crossed

    def verdict(self) -> str:
        """What may be said of it."""
        if not math.isfinite(self.mean):
            return 'a PSNR is not finite'
        if self.half_width is None:
            alone = 'one seed says nothing of others'
            return alone if self.crossed is None else f'{alone}; over images: {self._judged(self.crossed)}'
        judged, here = self._judged(self.interval), self._judged(self.half_width)
        return judged if judged == here else (
            f'{here} on these images ({span(self.mean, self.half_width)} over seeds), but for other images {judged}')

    def _judged(self, half_width: float) -> str:
        if abs(self.mean) <= half_width:
            return 'not told apart: the difference is within its interval'
        return 'better' if self.mean > 0 else 'worse'


def read_outcomes(trial: Trial, args) -> tuple:
    """What came of the runs that are finished.

    Returns:
        tuple: Names of the validation images, bicubic's PSNR of each, and an `Outcome` by metric and seed.

    Raises:
        UserError: Runs were measured on different images.
    """
    names, bicubic, outcomes = [], np.empty(0), {key: {} for key in METRICS}
    for seed in range(args.seeds[trial.length]):
        path = trial.folder / f'seed_{seed}.json'
        if not path.exists():
            continue
        found, (log, ) = json.loads(path.read_text()), read_runs([trial.folder / f'seed_{seed}'])
        images = dict(sorted(found['images'].items()))
        if names and list(images) != names:
            raise UserError(f'{path}: was measured on other images than the runs before; give another --out-dir')
        names, bicubic = list(images), _column(images, 'bicubic')
        for key in METRICS:
            psnr = _column(images, key)
            if len(psnr):
                way = [point for point in zip(*log.series('val', key), strict=True) if point[0] < trial.iterations]
                outcomes[key][seed] = Outcome([*way, (trial.iterations, math.fsum(psnr) / len(psnr))], psnr,
                                              median(log.series('train', 'time')[1]), found['cpu_seconds'])
    return names, bicubic, outcomes


def _column(images: dict, key: str) -> np.ndarray:
    """A value of each image that has it; null is none."""
    return np.array([math.nan if image[key] is None else image[key] for image in images.values() if key in image])


def results_of(reference: Entry, trials: list, args) -> tuple:
    """The names of the validation images, and the rows of the runs that are finished by `Length`.

    An entry's moving average, where it has one, is a row below it. There are none before the reference, which is the
    first row, has a run.

    Raises:
        UserError: Runs were measured on different images.
    """
    names, results = [], {length: [] for length in args.lengths}
    for trial in trials:
        images, bicubic, outcomes = read_outcomes(trial, args)
        if not images or not (results[trial.length] or trial.entry == reference):
            continue
        if names and images != names:
            raise UserError(f'{trial.folder}: was measured on other images than other runs; give another --out-dir')
        names = images
        results[trial.length] += [
            Row(trial.entry.label + AVERAGE * (key != 'PSNR'), trial.recipe, trial.iterations, bicubic, runs)
            for key, runs in outcomes.items() if runs]
    return names, results


def difference(row: Row, reference: Row) -> Difference | None:
    """To the reference, over the seeds that both have; None without any."""
    shared = [seed for seed in row.outcomes if seed in reference.outcomes]
    if not shared:
        return None
    values = np.stack([row.outcomes[seed].images - reference.outcomes[seed].images for seed in shared])
    by_seed = values.mean(1)
    return Difference(math.fsum(by_seed) / len(shared), float(half_width(by_seed)) if len(shared) > 1 else None,
                      crossed_half_width(values) if values.shape[1] > 1 else None)


def crossed_half_width(values: np.ndarray) -> float:
    """Half of the interval of a mean over seeds and images, both taken for samples of many more.

    The variance of the mean is that of a crossed two-way layout without repetition, from its mean squares; Student's
    quantile has Satterthwaite's degrees of freedom. It is at least Student's over seeds: with two or three of them, the
    degrees are too uncertain to be believed when they make it narrower. With normal effects it holds what it says from
    two seeds on. With one seed it is Student's over images.

    Args:
        values (ndarray): (seeds, images), two images at least.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components", 1946; for readers and
        cases, which are crossed alike, Hillis, "A comparison of denominator degrees of freedom methods for multiple
        observer ROC analysis", 2007.
    """
    seeds, images = values.shape
    if seeds == 1:
        return float(half_width(values[0]))
    by_seed, by_image = values.mean(1), values.mean(0)
    rest = values - by_seed[:, None] - by_image + values.mean()
    squares = np.array([images * by_seed.var(ddof=1), seeds * by_image.var(ddof=1),
                        np.square(rest).sum() / ((seeds - 1) * (images - 1))])
    freedom = np.array([seeds - 1, images - 1, (seeds - 1) * (images - 1)])
    total = max(squares @ (1, 1, -1), *squares[:2])  # a variance component is not negative
    if total == 0:
        return 0.0
    quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, total**2 / np.sum(squares**2 / freedom))
    return float(max(quantile * math.sqrt(total / values.size), half_width(by_seed)))


def span(middle: float, half: float | None) -> str:
    """An interval as text, nothing for None."""
    return '' if half is None else f'[{middle - half:+.3f}, {middle + half:+.3f}]'


def report(results: dict) -> str:
    """A table for each length and what may be said of each entry.

    Args:
        results (dict[Length, list[Row]]): The first row is the reference.
    """
    found = {length: rows for length, rows in results.items() if rows}
    parts = [f'{length}\n\n{_table(length, rows)}' if len(results) > 1 else _table(length, rows)
             for length, rows in found.items()]
    return '\n\n'.join([*parts, '\n'.join(_notes(found))] if parts else ['no run of the reference has ended yet'])


def _table(length: Length, rows: list) -> str:
    lines, verdicts = [], []
    for row in rows:
        finals = [row.final(seed) for seed in row.outcomes]
        found = None if row is rows[0] else difference(row, rows[0])
        hours = [outcome.cpu_seconds / 3600 for outcome in row.outcomes.values()]
        lines.append([row.label, f'{len(finals)}', f'{mean(finals):.4f}',
                      f'{stdev(finals):.4f}' if len(finals) > 1 else '', f'{mean(row.gains()):+.3f}',
                      f'{found.mean:+.4f}' if found else '', span(found.mean, found.interval) if found else '',
                      f'{row.recipe.parameters:,}', f'{row.recipe.macs / 1e9:.2f}', f'{row.iterations}',
                      f'{row.iterations * row.recipe.batch}', f'{mean(hours):.3g}'])
        if found:
            verdicts.append(f'{row.label}: {found.verdict()}')
    header = ['', 'seeds', 'PSNR', 'std', 'gain', 'diff', f'{CONFIDENCE:.0%} interval', 'parameters', 'GMACs', 'iters',
              'faces', 'CPU h']
    return '\n'.join([text_table(header, lines), '', *verdicts])


def _notes(results: dict) -> list:
    """What the columns are, a line each."""
    first = next(iter(results.values()))[0]
    return [
        f'PSNR in dB of the last checkpoint, {len(first.bicubic)} images; std: over seeds; gain: over bicubic',
        f'diff: to {first.label}; interval: over seeds and images, for one seed over images; none for one image',
        'GMACs: of an LQ image of 128x128; iters, faces, CPU h: of a run, without validations and start-up'
    ]


def as_content(results: dict, names: list) -> list:
    """What `race.json` has of each row; `names` are those of the images."""
    content = []
    for length, rows in results.items():
        for row in rows:
            found, runs = None if row is rows[0] else difference(row, rows[0]), row.outcomes
            content.append(dict(
                length=length.amount, label=row.label, iterations=row.iterations,
                faces=row.iterations * row.recipe.batch, **row.recipe._asdict(),
                seconds_per_iteration={seed: run.seconds for seed, run in runs.items()},
                cpu_hours={seed: run.cpu_seconds / 3600 for seed, run in runs.items()},
                curves={seed: run.curve for seed, run in runs.items()},
                final={seed: row.final(seed) for seed in runs},
                images={seed: dict(zip(names, run.images.tolist(), strict=True)) for seed, run in runs.items()},
                bicubic=float(row.bicubic.mean()),
                difference=found and dict(mean=found.mean, half_width=found.half_width, crossed=found.crossed,
                                          verdict=found.verdict())))
    return content
