"""Train configs for the same number of iterations on the same samples, over several seeds, and compare their PSNR.

    python benchmarks/race.py L1=configs/srresnet_ffhq_one_cycle.py \\
        "PSNR=configs/srresnet_ffhq_one_cycle.py model.pixel_loss.type=PSNRLoss" \\
        --data-root ../shared/ffhq --iterations 1000 --seeds 5 --out work_dirs/race_losses

An entry is `LABEL=CONFIG [KEY=VALUE ...]`; the first is the reference. Of one with `ema` the moving average is a row of
its own. Iterations in a config's schedule shrink with the run; batch, patch, seeds and validations are the same for
all, and so are the samples and their degradations, which depend on the seed alone. What counts is the PSNR of the last
validation: the best of several would favour the run that varies most. Differences are paired by seed, with Student's
95 % interval; that is about seeds, on these validation images.

Stop it whenever you like: the same command goes on, and more seeds or entries may be added. OUT has `race.json` and
`race.png`, which are brought up to date after each run, and the runs.
"""
import argparse
import contextlib
import json
import math
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import NamedTuple

import facesr.register  # noqa: F401

import numpy as np
import scipy.stats
import torch
from matplotlib.figure import Figure

from facesr.analysis.figures.curves import COLOURS, DPI, styles
from facesr.analysis.figures.save import save_figure
from facesr.analysis.logs import Run, read_runs
from facesr.config import config_text, load_config, train_dataset_cfg
from facesr.datasets.annotation import read_annotation, scan_folder, write_annotation
from facesr.engine.preflight import check_discriminator, check_schedule
from facesr.evaluation.metrics import build_metrics
from facesr.models.build import build_restorer, count_parameters
from facesr.utils.choices import AMP_MODES
from facesr.utils.cli import ArgumentParser, ConfigOptions, positive_int
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.files import as_json, write_atomic
from facesr.utils.tables import text_table

ROOT = Path(__file__).resolve().parent.parent

CONFIDENCE = 0.95
METRICS = ('PSNR', 'PSNR_ema')
SETTINGS = ('data_root', 'iterations', 'points', 'patch', 'batch', 'amp')  # equal for all runs of a race


class Entry(NamedTuple):
    """What runs: a label, a config's path and overrides by dotted key."""
    label: str
    config: str
    options: dict


class Row(NamedTuple):
    """A line of the result: PSNR in dB by seed and iteration, and seconds per iteration by seed."""
    label: str
    parameters: int
    curves: dict
    seconds: dict

    def final(self, seed) -> float:
        """PSNR of the last validation."""
        return self.curves[seed][-1][1]


class Difference(NamedTuple):
    """Mean of the differences in PSNR (dB) over seeds, and half the width of its interval (None for one seed)."""
    mean: float
    half_width: float | None

    def verdict(self) -> str:
        """What may be said of it."""
        if self.half_width is None:
            return 'one seed says nothing'
        if not math.isfinite(self.mean):
            return 'a PSNR is not finite'
        if abs(self.mean) <= self.half_width:
            return 'not told apart: the difference is within its interval'
        return 'better' if self.mean > 0 else 'worse'


def parse_entry(text: str) -> Entry:
    """Read `LABEL=CONFIG [KEY=VALUE ...]`.

    Raises:
        UserError: It is something else.
    """
    try:
        first, *overrides = shlex.split(text)
        label, config = first.split('=', 1)
        options = dict(override.split('=', 1) for override in overrides)
        options = {key: ConfigOptions._parse_iterable(value) for key, value in options.items()}
    except (ValueError, SyntaxError, AssertionError) as error:
        raise UserError(f'{text!r}: write LABEL=CONFIG, or "LABEL=CONFIG KEY=VALUE ..."') from error
    if not re.fullmatch(r'[\w.+-]*\w[\w.+-]*', label):
        raise UserError(f'{text!r}: a label is made of letters, digits and . _ + -, as it names a folder')
    return Entry(label, config, options)


def race_config(entry: Entry, args):
    """An entry's config for a run of `args.iterations`; iterations in its schedule shrink alike.

    Raises:
        UserError: The config or an override is wrong.
    """
    cfg = load_config(entry.config, entry.options)
    interval = -(-args.iterations // args.points)
    options = {
        'seed': 0,  # each run has its own
        'total_iters': args.iterations, 'gt_patch_size': args.patch, 'amp': args.amp, 'evaluation.interval': interval,
        'checkpoint_config.interval': interval, 'checkpoint_config.max_keep_ckpts': 1,
        'log_config.interval': max(1, interval // 5), 'data.train_dataloader.samples_per_gpu': args.batch,
        'data.workers_per_gpu': 0,  # a process has its own core
        'data.train.ann_file': str(args.out / 'train.txt'), 'cache_images': str(args.out / 'cache')
    }
    same_for_all = options.keys() & entry.options.keys()
    if same_for_all:
        raise UserError(f'{entry.label}: {min(same_for_all)} is the same for all entries; leave it out (--iterations, '
                        '--patch, --batch, --amp, --points and --seeds are for that)')
    options = {**entry.options, **_short_schedule(cfg, args.iterations), **options}
    cfg = load_config(entry.config, options, args.data_root)
    if 'PSNR' not in build_metrics(cfg.get('test_cfg')):
        raise UserError(f'{entry.label}: test_cfg.metrics lacks PSNR, which is what is compared')
    check_discriminator(cfg)
    check_schedule(cfg)
    return cfg


def _short_schedule(cfg, iterations: int) -> dict:
    """Overrides that end a config's schedule after so many iterations."""
    factor, schedule = iterations / cfg.total_iters, cfg.get('lr_config') or {}
    short = {key: [max(1, round(value * factor)) for value in schedule[key]]
             for key in ('step', 'periods') if isinstance(schedule.get(key), (list, tuple))}
    if 'periods' in short:
        short['periods'][-1] += max(0, iterations - sum(short['periods']))  # lost by rounding
    if schedule.get('warmup_iters'):
        short['warmup_iters'] = max(1, round(schedule['warmup_iters'] * factor))
    return {f'lr_config.{key}': value for key, value in short.items()}


def prepare(entries: list, args) -> dict:
    """Write what the runs need into `args.out`; returns parameters by label.

    Raises:
        UserError: An entry is wrong, or the folder has a race with other settings.
    """
    _check_earlier(entries, args)
    configs = {entry.label: race_config(entry, args) for entry in entries}
    if len(configs) < len(entries):
        raise UserError('two entries have the same label; give each its own')
    texts = {args.out / f'{label}.py': config_text(cfg) for label, cfg in configs.items()}
    for label, (path, text) in zip(configs, texts.items(), strict=True):
        if path.exists() and path.read_text() != text:
            raise UserError(f'{path}: the entry {label} was another one before; give it another label')
    parameters = {label: count_parameters(build_restorer(cfg).generator) for label, cfg in configs.items()}
    infos, listed = scan_folder(train_dataset_cfg(next(iter(configs.values()))).gt_folder), args.out / 'train.txt'
    if listed.exists() and read_annotation(listed) != infos:
        raise UserError(f'{args.data_root}: has other training images than when this race began; give another --out')
    write_annotation(infos, listed)
    for path, text in texts.items():
        write_atomic(path, text)
    return parameters


def settings_of(args) -> dict:
    """What has to be equal for all runs, as `race.json` has it."""
    return {key: str(getattr(args, key)) for key in SETTINGS}


def _check_earlier(entries: list, args) -> None:
    """That what is in the folder is this race."""
    if not args.out.exists():
        return
    if not args.out.is_dir():
        raise UserError(f'--out {args.out}: is a file; give a folder')
    earlier = args.out / 'race.json'
    if not earlier.exists():
        if any(args.out.iterdir()):
            raise UserError(f'{args.out}: has something else in it; give another --out')
        return
    found = earlier_results(args)
    for key, value in settings_of(args).items():
        if found['settings'][key] != value:
            raise UserError(f'{args.out}: has a race with {key}={found["settings"][key]}; give another --out, or the '
                            'same settings to go on')
    missing = [entry['label'] for entry in found['entries'] if entry['label'] not in [new.label for new in entries]]
    seeds = 1 + max((int(seed) for row in found['results'] for seed in row['final']), default=0)
    if missing or seeds > args.seeds:
        more = ', '.join(missing) or f'{seeds} seeds'
        raise UserError(f'{args.out}: its results also have {more}; give them too, or another --out')


def earlier_results(args) -> dict:
    """What is in `race.json`; nothing has been spent where there is none.

    Raises:
        UserError: It is none of ours, or damaged.
    """
    path = args.out / 'race.json'
    if not path.exists():
        return dict(cpu_hours=0)
    try:
        found = json.loads(path.read_text())
        if not (set(SETTINGS) <= set(found['settings']) and {'entries', 'results', 'cpu_hours'} <= set(found)):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path}: not the results of a race, or damaged; give another --out') from error
    return found


def run_all(entries: list, args, done) -> None:
    """Train what is not trained yet, `args.jobs` at a time; calls `done(seconds of CPU)` after each run.

    Seeds come in order, each with all entries, so that a race that is stopped compares what it has.

    Raises:
        UserError: A run failed. It and the others are stopped, with everything saved.
        KeyboardInterrupt: SIGINT or SIGTERM asked for it; the same holds.
    """
    waiting = [(entry, seed) for seed in range(args.seeds) for entry in entries if finished(entry, seed, args) is None]
    running, total = {}, len(waiting)
    cpu = _cpu_seconds()
    try:
        while waiting or running:
            while waiting and len(running) < args.jobs:
                entry, seed = waiting.pop(0)
                running[start(entry, seed, args)] = entry, seed
            ended = [process for process in running if process.poll() is not None]
            for process in ended:
                entry, seed = running.pop(process)
                if process.returncode:
                    raise UserError(f'{entry.label}, seed {seed}: {_last_line(output_of(entry, seed, args))}')
                place = total - len(waiting) - len(running)
                print(f'{entry.label}, seed {seed}: done ({place} of {total})', flush=True)
                before, cpu = cpu, _cpu_seconds()
                done(cpu - before)
            time.sleep(0 if ended else 0.2)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        if running:
            done(_cpu_seconds() - cpu)


def start(entry: Entry, seed: int, args) -> subprocess.Popen:
    """Begin a run, or go on with it."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // args.jobs))
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(args.out / f'{entry.label}.py'), '--work-dir',
               str(work_dir(entry, seed, args)), '--resume', 'auto', '--seed', str(seed)]
    output = output_of(entry, seed, args)
    output.parent.mkdir(exist_ok=True)
    with output.open('w') as file:
        # Not in our process group: Ctrl-C would reach it twice, by the terminal and by us.
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                                env=dict(os.environ, OMP_NUM_THREADS=threads, OPENCV_FOR_THREADS_NUM=threads))


def work_dir(entry: Entry, seed: int, args) -> Path:
    """Where a run writes."""
    return args.out / entry.label / f'seed_{seed}'


def output_of(entry: Entry, seed: int, args) -> Path:
    """What a run printed."""
    return args.out / entry.label / f'seed_{seed}.txt'


def finished(entry: Entry, seed: int, args) -> Run | None:
    """The logs of a run that reached its end and was validated there, else None."""
    folder = work_dir(entry, seed, args)
    if not (folder / f'iter_{args.iterations}.pth').is_file():
        return None
    run, = read_runs([folder])
    return run if any(record['iter'] == args.iterations for record in run.val) else None


def rows_of(entries: list, parameters: dict, args) -> list:
    """The rows of the runs that are finished; an entry's moving average, where it has one, is a row below it.

    None before the reference, which is the first row, has a run.
    """
    rows = []
    for entry in entries:
        runs = {seed: finished(entry, seed, args) for seed in range(args.seeds)}
        runs = {seed: run for seed, run in runs.items() if run is not None}
        if entry is entries[0] and not runs:
            break
        seconds = {seed: median(run.series('train', 'time')[1]) for seed, run in runs.items()}
        for key in METRICS:
            curves = {seed: list(zip(*run.series('val', key), strict=True)) for seed, run in runs.items()}
            if curves and all(curves.values()):
                rows.append(Row(entry.label + ' (EMA)' * (key != 'PSNR'), parameters[entry.label], curves, seconds))
    return rows


def difference(row: Row, reference: Row) -> Difference | None:
    """To the reference, over the seeds that both have; None without any."""
    values = [row.final(seed) - reference.final(seed) for seed in row.curves if seed in reference.curves]
    if not values:
        return None
    if len(values) == 1:
        return Difference(values[0], None)
    return Difference(mean(values), float(half_width(values)))


def half_width(values):
    """Half of Student's interval of a mean, along the first axis, which are the seeds."""
    return scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * scipy.stats.sem(values)


def report(rows: list) -> str:
    """The table, and what may be said of each entry."""
    lines, verdicts = [], []
    for row in rows:
        finals = [row.final(seed) for seed in row.curves]
        found = None if row is rows[0] else difference(row, rows[0])
        interval = '' if found is None or found.half_width is None else (
            f'[{found.mean - found.half_width:+.3f}, {found.mean + found.half_width:+.3f}]')
        deviation = f'{stdev(finals):.4f}' if len(finals) > 1 else ''
        lines.append([row.label, f'{len(finals)}', f'{mean(finals):.4f}', deviation,
                      f'{found.mean:+.4f}' if found else '', interval, f'{row.parameters:,}',
                      f'{median(row.seconds.values()):.3f}'])
        if found:
            verdicts.append(f'{row.label}: {found.verdict()}')
    header = ['', 'seeds', 'PSNR', 'std over seeds', 'difference', f'{CONFIDENCE:.0%} interval', 'parameters', 's/it']
    return '\n'.join([text_table(header, lines), '', *verdicts])


def write_results(rows: list, entries: list, args, cpu_seconds: float) -> None:
    """`race.json` and `race.png`."""
    results = []
    for row in rows:
        found = None if row is rows[0] else difference(row, rows[0])
        results.append(dict(
            label=row.label, parameters=row.parameters, seconds_per_iteration=row.seconds, curves=row.curves,
            final={seed: row.final(seed) for seed in row.curves},
            difference=found and dict(mean=found.mean, half_width=found.half_width, verdict=found.verdict())))
    write_atomic(args.out / 'race.json', as_json(dict(
        settings=settings_of(args), jobs=args.jobs,
        entries=[dict(label=entry.label, config=entry.config, options=entry.options) for entry in entries],
        machine=f'{os.cpu_count()} cores, torch {torch.__version__}', cpu_hours=round(cpu_seconds / 3600, 3),
        confidence=CONFIDENCE, results=results)))
    if rows:
        save_figure(figure_of(rows), args.out / 'race.png', DPI)


def figure_of(rows: list) -> Figure:
    """PSNR against iterations, the mean over seeds with the range of them, and the difference with its interval."""
    figure = Figure(figsize=(11, 4.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    for number, (row, look) in enumerate(zip(rows, styles(), strict=False)):
        style = dict(look, markersize=4, linewidth=1.2, elinewidth=0.9, capsize=2)
        x, by_seed = _curves(row, row.curves)
        beside = x + (number - len(rows) / 2) * 0.012 * x[-1]  # so that bars do not hide each other
        middle = by_seed.mean(0)
        span = np.maximum([middle - by_seed.min(0), by_seed.max(0) - middle], 0)  # rounding can make it negative
        left.errorbar(beside, middle, span, label=row.label, **style)
        shared = [seed for seed in row.curves if seed in rows[0].curves]
        if row is not rows[0] and len(shared) > 1:
            differences = _curves(row, shared)[1] - _curves(rows[0], shared)[1]
            right.errorbar(beside, differences.mean(0), half_width(differences), **style)
    right.axhline(0, color=COLOURS[0], linewidth=1)
    left.set(xlabel='iteration', ylabel='validation PSNR (dB)')
    left.set_title('mean and range over seeds', fontsize=9)
    right.set(xlabel='iteration', ylabel=f'difference to {rows[0].label} (dB)')
    right.set_title(f'paired by seed, with {CONFIDENCE:.0%} interval', fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.legend(loc='outside lower center', ncols=min(len(rows), 6), fontsize=9, frameon=False)
    return figure


def _curves(row: Row, seeds) -> tuple:
    """Iterations, and PSNR as (seeds, iterations)."""
    x = [iteration for iteration, _ in next(iter(row.curves.values()))]
    return np.array(x), np.array([[psnr for _, psnr in row.curves[seed]] for seed in seeds])


def _last_line(path: Path) -> str:
    lines = path.read_text(errors='replace').strip().splitlines()
    return lines[-1].removeprefix('error: ') if lines else f'failed; see {path}'


def _cpu_seconds() -> float:
    """Of the processes that ended so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def parse_args():
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('entries', nargs='+', metavar='ENTRY', help='LABEL=CONFIG, or "LABEL=CONFIG KEY=VALUE ..."')
    parser.add_argument('--data-root', required=True, metavar='DIR', help='in the layout of data/README.md')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='the folder of this race')
    parser.add_argument('--iterations', type=positive_int, default=1000, help='of a run (default: 1000)')
    parser.add_argument('--seeds', type=positive_int, default=3, help='how many: 0, 1, ... (default: 3)')
    parser.add_argument('--points', type=positive_int, default=4, help='validations of a run (default: 4)')
    parser.add_argument('--patch', type=positive_int, default=96, help='side of the GT crop (default: 96)')
    parser.add_argument('--batch', type=positive_int, default=4, help='images per iteration (default: 4)')
    parser.add_argument('--amp', choices=AMP_MODES, help='mixed precision (default: full)')
    parser.add_argument('--jobs', type=positive_int, default=1, help='runs at a time (default: 1)')
    return parser.parse_args()


@report_user_errors
def main():
    """Run the race and print its table."""
    args = parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    entries = [parse_entry(text) for text in args.entries]
    args.out, args.data_root = args.out.resolve(), str(Path(args.data_root).resolve())
    parameters = prepare(entries, args)
    spent = 3600 * earlier_results(args)['cpu_hours']

    def done(seconds: float) -> None:
        nonlocal spent
        spent += seconds
        write_results(rows_of(entries, parameters, args), entries, args, spent)

    done(0)
    with contextlib.suppress(KeyboardInterrupt):
        run_all(entries, args, done)
        print(f'\n{report(rows_of(entries, parameters, args))}\n\nwritten: {args.out}/race.json and race.png')
        return
    raise UserError(f'stopped, with everything saved in {args.out}; the same command goes on')


if __name__ == '__main__':
    main()
