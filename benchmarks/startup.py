"""What starting a tool costs: CPU seconds of `--help` and of a trivial job, of each tool.

    python benchmarks/startup.py
    python benchmarks/startup.py --checkout OTHER    # the same jobs with the tools of another checkout

CPU seconds are user plus system of the process and what it starts, so other work on the machine hardly matters; the
smallest of `--rounds` counts. Jobs are on the embedded sample, with a network of one block. `demo.py` starts
the others and has no job of its own.
"""
import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from facesr.utils.cli import ArgumentParser, positive_int
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.tables import NONE, text_table

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/srresnet_ffhq.py'
NET = ('model.generator.num_blocks=1', 'model.generator.mid_channels=8', 'data.workers_per_gpu=0')


def parse_args():
    """The arguments."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=positive_int, default=2, metavar='N', help='default: 2')
    parser.add_argument('--checkout', type=Path, default=ROOT, metavar='DIR', help='whose tools (default: these)')
    return parser.parse_args()


def make_inputs(folder: Path) -> None:
    """The embedded sample, its annotation, two checkpoints, a work dir and a log."""
    from facesr.checkpoint.io import save_checkpoint
    from facesr.config import load_config
    from facesr.datasets.annotation import scan_folder, write_annotation
    from facesr.datasets.sample import make_sample
    from facesr.models.build import build_restorer
    make_sample(folder)
    write_annotation(scan_folder(folder / 'train/GT'), folder / 'train.txt')
    cfg = load_config(ROOT / CONFIG, {'model.generator.num_blocks': 1, 'model.generator.mid_channels': 8})
    for name in ('psnr', 'gan'):
        save_checkpoint(folder / f'{name}.pth', build_restorer(cfg))
    log = folder / 'work/1.log.json'
    log.parent.mkdir()
    log.write_text(''.join(f'{{"mode": "train", "iter": {i}, "loss": {1 / i}, "lr": 1e-4}}\n' for i in range(1, 9)))


def jobs(folder: Path) -> dict:
    """A trivial job's arguments by tool."""
    checkpoint, out = folder / 'psnr.pth', folder / 'out'
    data, net = ('--data-root', folder), ('--cfg-options', *NET)
    annotated = ('--cfg-options', f'data.train.ann_file={folder}/train.txt', *NET)
    return {
        'check_data.py': (CONFIG, *data, *annotated),
        'compare.py': (f'{CONFIG}:{checkpoint}', *data, *net),
        'export.py': (CONFIG, checkpoint, '--format', 'safetensors', '--out', out / 'net.safetensors', *net),
        'interpolate.py': (checkpoint, folder / 'gan.pth', '--out', out / 'mixed.pth'),
        'make_annotation.py': (folder / 'train/GT', out / 'ann.txt'),
        'make_lq.py': (folder / 'train/GT', out / 'LQ'),
        'make_sample.py': ('--out', out / 'sample'),
        'plot_curves.py': (folder / 'work', '--out', out / 'curves'),
        'report.py': (folder / 'work', '--config', CONFIG, '--no-images', '--out', out / 'report.html'),
        'restore.py': (CONFIG, checkpoint, folder / 'val/LQ', '--out', out / 'restored', *net),
        'score.py': (folder / 'val/GT', folder / 'val/GT'),
        'show_degradation.py': (CONFIG, *data, '--samples', 1, '--out', out / 'degradation.png', *annotated),
        'show_results.py': (CONFIG, checkpoint, *data, '--out', out / 'results.png', *net),
        'test.py': (CONFIG, checkpoint, *data, *net),
        'train.py': (CONFIG, *data, '--dry-run', *annotated, 'data.train_dataloader.samples_per_gpu=1',
                     'gt_patch_size=32'),
    }


def cpu_seconds(checkout: Path, tool: str, arguments: tuple) -> float:
    """User and system time of a tool's process, with those that it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, f'tools/{tool}', *map(str, arguments)], cwd=checkout, capture_output=True,
                          text=True, env=dict(os.environ, PYTHONPATH=str(checkout), OMP_NUM_THREADS='1'))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UserError(f'tools/{tool} {" ".join(map(str, arguments))}: '
                        f'{done.stderr.strip() or f"status {done.returncode}"}')
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@report_user_errors
def main():
    """Print the table."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder))
        found = {}
        for _ in range(args.rounds):
            for tool in sorted(path.name for path in (args.checkout / 'tools').glob('[a-z]*.py')):
                job = jobs(Path(folder)).get(tool)
                seconds = [cpu_seconds(args.checkout, tool, ('--help', )),
                           cpu_seconds(args.checkout, tool, job) if job else None]
                earlier = found.get(tool, seconds)
                found[tool] = [a if a is None else min(a, b) for a, b in zip(seconds, earlier, strict=True)]
    rows = [[tool, *(NONE if value is None else f'{value:.2f}' for value in values)] for tool, values in found.items()]
    print(text_table(['CPU seconds', '--help', 'trivial job'], rows))


if __name__ == '__main__':
    main()
