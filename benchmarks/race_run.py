"""A run of `race.py`, in a process of its own: trains, and measures the last checkpoint on each validation image.

    python benchmarks/race_run.py CONFIG --work-dir DIR --seed 0 --out FILE.json

FILE has PSNR by image of the generator, of its moving average if there is one and of bicubic upscaling, and the CPU
seconds of the training's iterations: of all threads, with loading and degradation, without validations, checkpoints
and start-up. They are kept in the checkpoints, so that a resumed run goes on counting. With `--calibrate` it is the CPU
seconds of one iteration instead, and no checkpoint is kept.
"""
import argparse
import tempfile
import time
from pathlib import Path

import facesr.register  # noqa: F401

from mmcv.runner import HOOKS, Hook

from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config
from facesr.engine.train import EVAL_PRIORITY, LOG_PRIORITY, RESUME_AUTO, train
from facesr.evaluation.evaluator import bicubic_psnr, evaluate
from facesr.evaluation.metrics import build_metrics
from facesr.evaluation.test import load_split
from facesr.inference.network import network
from facesr.models.build import load_model
from facesr.utils.cli import ArgumentParser
from facesr.utils.errors import report_user_errors
from facesr.utils.files import as_json, write_atomic

CPU = 'cpu_seconds'  # among the hooks' messages, which a checkpoint holds
WARM_UP, MEASURED = 3, 10  # iterations of a calibration


@HOOKS.register_module()
class StopCpuClock(Hook):
    """Adds what an iteration took to the hooks' messages; before anything is validated or saved.

    Args:
        warm_up (int): First iterations that do not count. Default: 0.
    """

    def __init__(self, warm_up: int = 0):
        self.warm_up = warm_up

    def after_train_iter(self, runner):
        """Count an iteration."""
        if runner.done > self.warm_up:
            messages = runner.meta['hook_msgs']
            messages[CPU] = messages.get(CPU, 0.0) + time.process_time() - runner.cpu_mark


@HOOKS.register_module()
class StartCpuClock(Hook):
    """Lets the next iteration begin; after everything else."""

    def before_epoch(self, runner):
        """Before the first iteration."""
        runner.cpu_mark = time.process_time()

    after_train_iter = before_epoch


def run(cfg, name: str) -> dict:
    """Train to the end, or go on with it, and measure: what FILE has.

    Raises:
        UserError: Config or data are not in order, or training was stopped; what was done is saved.
    """
    pairs = load_split(cfg, 'val')
    # The only validation would measure what is measured below.
    _train(cfg, name, validate=cfg.evaluation.interval < cfg.total_iters)
    checkpoint = Path(cfg.work_dir) / f'iter_{cfg.total_iters}.pth'
    images, border = {}, cfg.test_cfg.get('crop_border', 0)
    for key, ema in (('PSNR', False), ('PSNR_ema', True))[:1 if cfg.get('ema') is None else 2]:
        net = network(load_model(cfg, checkpoint, ema))
        for restored, result in evaluate(net, pairs, build_metrics(dict(metrics=['PSNR'], crop_border=border))):
            image = images.setdefault(result.name, dict(bicubic=bicubic_psnr(restored.lq, restored.gt, border)))
            image[key] = result.metrics['PSNR']
    spent = read_checkpoint(checkpoint)['meta']['hook_msgs'][CPU]
    return dict(iterations=cfg.total_iters, cpu_seconds=spent, images=images)


def calibrate(cfg, name: str) -> dict:
    """CPU seconds of an iteration, the mean of a few after some that warm up."""
    cfg.total_iters = WARM_UP + MEASURED
    with tempfile.TemporaryDirectory(prefix='race_') as folder:
        cfg.work_dir = folder
        _train(cfg, name, validate=False, warm_up=WARM_UP)
        checkpoint = read_checkpoint(Path(folder) / f'iter_{cfg.total_iters}.pth')
    return dict(seconds=checkpoint['meta']['hook_msgs'][CPU] / MEASURED)


def _train(cfg, name: str, validate: bool, warm_up: int = 0) -> None:
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []),
                        dict(type='StopCpuClock', warm_up=warm_up, priority=(LOG_PRIORITY + EVAL_PRIORITY) // 2),
                        dict(type='StartCpuClock', priority='LOWEST')]
    train(cfg, name, RESUME_AUTO, validate)


@report_user_errors
def main():
    """Run and write FILE."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='as race.py writes it')
    parser.add_argument('--out', required=True, metavar='FILE.json', help='the result')
    parser.add_argument('--work-dir', metavar='DIR', help='logs and checkpoints')
    parser.add_argument('--seed', type=int, default=0, help='of the run (default: 0)')
    parser.add_argument('--calibrate', action='store_true', help='CPU seconds of an iteration')
    args = parser.parse_args()
    cfg, name = load_config(args.config), Path(args.config).stem
    cfg.seed, cfg.work_dir = args.seed, args.work_dir
    write_atomic(args.out, as_json(calibrate(cfg, name) if args.calibrate else run(cfg, name)))


if __name__ == '__main__':
    main()
