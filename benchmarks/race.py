"""Train configs at equal cost on the same images, over several seeds, and compare their PSNR.

    python benchmarks/race.py L1=configs/srresnet_ffhq_one_cycle.py \\
        "PSNR=configs/srresnet_ffhq_one_cycle.py model.pixel_loss.type=PSNRLoss" \\
        --data-root DATA --iterations 1000 --seeds 5 --out-dir work_dirs/race_losses

An entry is `LABEL=CONFIG [KEY=VALUE ...]`; the first is the reference. Of one with `ema` the moving average is a row of
its own. What is equal is one of --iterations, --faces, --macs and --cpu-hours. Given several lengths, each is a race of
its own, in which each entry's schedule shrinks to its own number of iterations. At equal iterations batch, patch and
precision are the same for all, and so are the samples and their degradations, which depend on the seed alone. At
another cost they belong to an entry (data.train_dataloader.samples_per_gpu, gt_patch_size, amp).

What counts is the PSNR of the last checkpoint: the best of several would favour the run that varies most. Differences
are paired by seed and image; docs/races.md says how to read them. Stop it whenever you like: the same command goes on,
and more lengths, seeds or entries may be added. DIR has `race.json` and `race.png`, which are brought up to date after
each run, and the runs.
"""
import argparse
import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import facesr.register  # noqa: F401

import torch
from race_entries import (
    ANNOTATION,
    Length,
    calibration_config,
    calibration_of,
    earlier_results,
    parse_entry,
    prepare,
    require_same,
    settings_of,
    trials_of,
    write_configs,
)
from race_figure import figure_of
from race_results import CONFIDENCE, as_content, report, results_of

from facesr.analysis.figures.curves import DPI
from facesr.analysis.figures.save import save_figure
from facesr.datasets.annotation import write_annotation
from facesr.utils.choices import AMP_MODES
from facesr.utils.cli import ArgumentParser, positive_int
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.files import as_json, write_atomic
from facesr.utils.lock import WorkDirLock

ROOT = Path(__file__).resolve().parent.parent

PATCH, BATCH = 96, 4  # at equal iterations


class Job(NamedTuple):
    """A call of race_run.py: what it is called, its arguments, and the file that it writes."""
    name: str
    arguments: list
    result: Path

    @property
    def output(self) -> Path:
        """What it printed."""
        return self.result.with_suffix('.txt')


def calibrate(entries: list, args, done) -> None:
    """Measure the CPU seconds of an iteration where they are not known yet; once known they stay, for the same entry.

    Raises:
        UserError, KeyboardInterrupt: As `run_all`.
    """
    jobs = []
    for entry in entries:
        (config, text), result = calibration_config(entry, args), calibration_of(entry, args)
        if not (require_same(entry, config, text, args) and result.exists()):
            result.unlink(missing_ok=True)
            write_atomic(config, text)
            jobs.append(Job(f'{entry.label}, CPU seconds of an iteration', [config, '--calibrate'], result))
    run_all(jobs, args, done)


def jobs_of(trials: list, args) -> list:
    """What is not finished yet of what is to be trained.

    Seeds come in order, each with all entries, so that a race that is stopped compares what it has; long runs are the
    last.
    """
    jobs = []
    for length in args.lengths:
        here = [trial for trial in trials if trial.length == length]
        for seed in range(args.seeds[length]):
            for trial in here:
                result, label = trial.folder / f'seed_{seed}.json', trial.entry.label
                if not result.exists() and (args.only is None or label in args.only):
                    name = ', '.join([label, *([str(length)] if len(args.lengths) > 1 else []), f'seed {seed}'])
                    folder = trial.folder / f'seed_{seed}'
                    jobs.append(Job(name, [trial.config, '--work-dir', folder, '--seed', seed], result))
    return jobs


def run_all(waiting: list, args, done) -> None:
    """Do jobs, `args.jobs` at a time; calls `done(seconds of CPU)` after each.

    Raises:
        UserError: A run failed. It and the others are stopped, with everything saved.
        KeyboardInterrupt: SIGINT or SIGTERM asked for it; the same holds.
    """
    waiting, running, total = list(waiting), {}, len(waiting)
    cpu = _cpu_seconds()
    try:
        while waiting or running:
            while waiting and len(running) < args.jobs:
                job = waiting.pop(0)
                running[start(job, args)] = job
            ended = [process for process in running if process.poll() is not None]
            for process in ended:
                job = running.pop(process)
                if process.returncode:
                    raise UserError(f'{job.name}: {_last_line(job.output)}')
                place = total - len(waiting) - len(running)
                print(f'{job.name}: done ({place} of {total})', flush=True)
                before, cpu = cpu, _cpu_seconds()
                done(cpu - before)
            time.sleep(0 if ended else 0.2)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        if _cpu_seconds() > cpu:  # of those that were stopped, or failed
            done(_cpu_seconds() - cpu)


def start(job: Job, args) -> subprocess.Popen:
    """Begin a run, or go on with it."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // args.jobs))
    command = [sys.executable, ROOT / 'benchmarks/race_run.py', *job.arguments, '--out', job.result]
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with job.output.open('w') as file:
        # Not in our process group: Ctrl-C would reach it twice, by the terminal and by us. With our lock.
        return subprocess.Popen([*map(str, command)], stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                                pass_fds=[args.lock.fileno()],
                                env=dict(os.environ, OMP_NUM_THREADS=threads, OPENCV_FOR_THREADS_NUM=threads))


def write_results(names: list, results: dict, entries: list, args, cpu_seconds: float) -> None:
    """`race.json` and `race.png`."""
    write_atomic(args.out_dir / 'race.json', as_json(dict(
        settings=settings_of(args), jobs=args.jobs,
        entries=[dict(label=entry.label, config=entry.config, options=entry.options) for entry in entries],
        machine=f'{os.cpu_count()} cores, torch {torch.__version__}', cpu_hours=round(cpu_seconds / 3600, 3),
        confidence=CONFIDENCE, results=as_content(results, names))))
    if names:
        save_figure(figure_of(results), args.out_dir / 'race.png', DPI)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors='replace').strip().splitlines()
    return lines[-1].removeprefix('error: ') if lines else f'failed; see {path}'


def _cpu_seconds() -> float:
    """Of the processes that ended so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def positive_float(text: str) -> float:
    """An argument's type: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
    return number


def parse_args():
    """The command line; `lengths` in order, `seeds` by length."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                            former={'--out': '--out-dir'})
    parser.add_argument('entries', nargs='+', metavar='ENTRY', help='LABEL=CONFIG, or "LABEL=CONFIG KEY=VALUE ..."')
    parser.add_argument('--data-root', required=True, metavar='DIR', help='in the layout of data/README.md')
    parser.add_argument('--out-dir', required=True, type=Path, metavar='DIR', help='the folder of this race')
    costs = parser.add_mutually_exclusive_group()
    for cost, kind, help in (
            ('iterations', positive_int, 'of a run (default: 1000)'),
            ('faces', positive_int, 'training images of a run, counted as often as they are seen'),
            ('macs', positive_float, 'multiply-adds of a run, in 1e12, of the forward pass alone'),
            ('cpu_hours', positive_float, "CPU time of a run; an entry's iterations are measured once, before")):
        costs.add_argument(f'--{cost.replace("_", "-")}', nargs='+', type=kind, metavar='N', help=help)
    parser.add_argument('--seeds', nargs='+', type=positive_int, default=[3], metavar='N',
                        help='how many: 0, 1, ...; one number, or one for each length (default: 3)')
    parser.add_argument('--only', nargs='+', metavar='LABEL', help='train these entries for now, show all')
    parser.add_argument('--points', type=positive_int, default=4,
                        help='validations of a run, the last included (default: 4)')
    parser.add_argument('--patch', type=positive_int, help='side of the GT crop (default: 96 at equal iterations, else '
                        "the config's); an entry's gt_patch_size comes first at another cost")
    parser.add_argument('--batch', type=positive_int, help='images per iteration (default: 4, likewise)')
    parser.add_argument('--amp', choices=AMP_MODES, help='mixed precision (default: full, likewise)')
    parser.add_argument('--jobs', type=positive_int, default=1, help='runs at a time (default: 1)')
    args = parser.parse_args()
    given = {cost: getattr(args, cost) for cost in ('iterations', 'faces', 'macs', 'cpu_hours')}
    args.cost, amounts = next(((cost, found) for cost, found in given.items() if found), ('iterations', [1000]))
    if args.cost == 'iterations':
        args.patch, args.batch = args.patch or PATCH, args.batch or BATCH
    if len(args.seeds) not in (1, len(amounts)):
        parser.error(f'--seeds: {len(args.seeds)} numbers for {len(amounts)} lengths; give one, or one for each')
    seeds = args.seeds * len(amounts) if len(args.seeds) == 1 else args.seeds
    args.seeds = {Length(args.cost, amount): count for amount, count in zip(amounts, seeds, strict=True)}
    args.lengths = sorted(args.seeds)
    return args


@report_user_errors
def main():
    """Run the race and print its table."""
    args = parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    entries = [parse_entry(text) for text in args.entries]
    args.out_dir, args.data_root = args.out_dir.resolve(), str(Path(args.data_root).resolve())
    recipes, infos = prepare(entries, args)
    # Held by the runs too: should the race be killed, nobody begins anew beside those that it leaves.
    with WorkDirLock(args.out_dir, option='--out-dir', inherited=True) as args.lock:
        spent = 3600 * earlier_results(args)['cpu_hours']

        def results() -> tuple:
            known = [entry for entry in entries if args.cost != 'cpu_hours' or calibration_of(entry, args).exists()]
            return results_of(entries[0], trials_of(known, recipes, args), args)

        def done(seconds: float) -> None:
            nonlocal spent
            spent += seconds
            write_results(*results(), entries, args, spent)

        done(0)
        write_annotation(infos, args.out_dir / ANNOTATION)
        with contextlib.suppress(KeyboardInterrupt):
            if args.cost == 'cpu_hours':
                calibrate(entries, args, done)
            trials = trials_of(entries, recipes, args)
            write_configs(trials, args)
            run_all(jobs_of(trials, args), args, done)
            print(f'\n{report(results()[1])}\n\nwritten: {args.out_dir}/race.json and race.png')
            return
    raise UserError(f'stopped, with everything saved in {args.out_dir}; the same command goes on')


if __name__ == '__main__':
    main()
