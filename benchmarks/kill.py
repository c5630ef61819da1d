"""Kill a training at random moments, go on, and compare with a training that was left alone.

    python benchmarks/kill.py --kills 20 --workers 2

Each kill is a SIGKILL of the whole process group at a random moment, from the start of Python to the writing of a
checkpoint. Afterwards every checkpoint left must be readable, and at the end the weights must equal those of the
run that was not killed, bit for bit (on a CPU).
"""
import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import facesr.register  # noqa: F401

from facesr.checkpoint.io import read_checkpoint
from facesr.checkpoint.naming import find_latest
from facesr.datasets.annotation import scan_folder, write_annotation
from facesr.datasets.sample import make_sample

ROOT = Path(__file__).resolve().parent.parent

# A small net, so that most of the time goes into loading, hooks and checkpoints: what a kill can hurt.
TINY_NET = ('model.generator.num_blocks=1', 'model.generator.mid_channels=8', 'gt_patch_size=32')


class Outcome(NamedTuple):
    """What the kills did."""
    kills: int
    before_a_checkpoint: int
    done_again: int
    checkpoints_read: int
    broken: list
    equal: bool


def command(root, work_dir, iterations: int, workers: int, *options) -> list:
    """The command line of one training."""
    return [
        sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / 'configs/srresnet_ffhq.py'), '--data-root', str(root),
        '--work-dir', str(work_dir), '--resume', 'auto', '--cfg-options', *TINY_NET,
        f'data.train.ann_file={root}/train.txt', f'data.workers_per_gpu={workers}', f'total_iters={iterations}',
        'data.train_dataloader.samples_per_gpu=2', 'data.val_dataloader.workers_per_gpu=0', 'evaluation.interval=10',
        'checkpoint_config.interval=1', 'log_config.interval=1', 'ema=0.9', 'grad_clip=1.0', *options
    ]


def _run(command: list) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _start(command: list) -> subprocess.Popen:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def kill_and_compare(root, folder, kills: int, workers: int, iterations: int = 30, seed: int = 0,
                     longest: float = 6.0, after=(), options=(), run: Callable = _run,
                     start: Callable = _start) -> Outcome:
    """Train once undisturbed and once with `kills` SIGKILLs, each within `longest` seconds of a start.

    Args:
        root (Path): Data in FFHQ's layout, with `train.txt`.
        folder (Path): Where the two runs go; an undisturbed one that is there already is taken.
        kills (int): Their number; fewer if training ends before.
        workers (int): Loading processes.
        iterations (int): Of the training. Default: 30.
        seed (int): Of the moments. Default: 0.
        longest (float): Seconds after a start until which it is killed. Default: 6.
        after (Sequence[int]): For each kill, iterations that the start logs before those seconds begin, so that a
            slow machine gets as far as a quick one. Default: none.
        options (Sequence[str]): More config overrides. Default: none.
        run (Callable[[list], None]): Runs a command line to its end. Default: in a process.
        start (Callable[[list], Popen]): Starts one, as the leader of a process group. Default: in a process.
    """
    straight, killed, moments = Path(folder) / 'straight', Path(folder) / f'killed_{workers}', random.Random(seed)
    if not (straight / f'iter_{iterations}.pth').exists():
        run(command(root, straight, iterations, workers, *options))
    done, early, again, read, broken = 0, 0, 0, 0, []
    while done < kills:
        process = start(command(root, killed, iterations, workers, *options))
        try:
            _wait_for(process, killed, after[done] if after else 0)
            process.wait(moments.uniform(0, longest))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f'training ended by itself with status {process.returncode}')
        done += 1
        for path in killed.glob('*.pth'):
            try:
                read_checkpoint(path)
                read += 1
            except Exception as error:  # whatever it is: the file is not whole
                broken.append(f'{path.name}: {error}')
        latest = find_latest(killed)
        early += latest is None
        again += max(_logged(killed) - (read_checkpoint(latest)['meta']['iter'] if latest else 0), 0)
    run(command(root, killed, iterations, workers, *options))
    a, b = (read_checkpoint(path / f'iter_{iterations}.pth') for path in (straight, killed))
    equal = all(a['state_dict'][name].equal(b['state_dict'][name]) for name in a['state_dict'])
    return Outcome(done, early, again, read, broken, equal and a['state_dict'].keys() == b['state_dict'].keys())


def _wait_for(process, work_dir: Path, iterations: int) -> None:
    """Until so many iterations more are logged, or the process has ended."""
    before = _logged(work_dir)
    while iterations and process.poll() is None and _logged(work_dir) < before + iterations:
        time.sleep(0.05)


def _logged(work_dir: Path) -> int:
    """The last iteration in the JSON logs."""
    last = 0
    for log in work_dir.glob('*.log.json'):
        for line in log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                last = max(last, json.loads(line).get('iter', 0))
    return last


def main():
    """Print a table row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--iterations', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / 'sample'
        make_sample(root)
        write_annotation(scan_folder(root / 'train/GT'), root / 'train.txt')
        start = time.monotonic()
        outcome = kill_and_compare(root, folder, args.kills, args.workers, args.iterations, args.seed)
    print(f'workers {args.workers}, {args.iterations} iterations, a checkpoint each: {outcome.kills} kills '
          f'({outcome.before_a_checkpoint} before the first checkpoint), {outcome.checkpoints_read} checkpoints read '
          f'after them, {len(outcome.broken)} broken, {outcome.done_again} iterations done again, final weights '
          f'{"equal bit for bit" if outcome.equal else "DIFFER"} ({time.monotonic() - start:.0f} s)')
    for line in outcome.broken:
        print(line)
    sys.exit(not outcome.equal or bool(outcome.broken))


if __name__ == '__main__':
    main()
