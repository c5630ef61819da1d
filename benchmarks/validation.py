"""What validation costs per image besides the network: MMEditing's way beside ours, in one run.

The network is replaced by one that only enlarges. Everything else is what `tools/test.py --out-dir` does:
decoding, conversion, PSNR, SSIM, PNG files; ours measures bicubic as well. Each of the two takes its turn.

    python benchmarks/validation.py --val DATA/val --rounds 5
"""
import argparse
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import facesr.register  # noqa: F401

import cv2
import torch
from mmedit.core import psnr, ssim
from mmedit.models.restorers import BasicRestorer

from facesr.config import load_config
from facesr.datasets.checks import require_images
from facesr.datasets.loader import build_eval_loader
from facesr.evaluation import metrics
from facesr.evaluation.metrics import build_metrics
from facesr.evaluation.test import run_test
from facesr.inference.network import as_arrays, network
from facesr.models.build import build_restorer
from facesr.utils.cli import positive_int
from facesr.utils.errors import report_user_errors

CONFIG = Path(__file__).resolve().parent.parent / 'configs/srresnet_ffhq.py'
REPEATS = 5  # of the metrics alone, per round


class Enlarge(torch.nn.Module):
    """In the place of a generator."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))  # whose device is the model's

    def forward(self, lq):
        """(n, 3, h, w) -> (n, 3, 4h, 4w)."""
        return torch.nn.functional.interpolate(lq, scale_factor=4)


def load(val, workers: int, samples: int, stock: bool):
    """A loader over the pairs, as MMEditing reads them or as ours does."""
    cfg = load_config(CONFIG, {'data.val_dataloader.workers_per_gpu': workers,
                                'data.val_dataloader.samples_per_gpu': samples})
    cfg.data.val.update(lq_folder=f'{val}/LQ', gt_folder=f'{val}/GT')
    if stock:
        pipeline = cfg.data.val.pipeline
        pipeline[2].pop('to_float32')
        pipeline.insert(2, dict(type='RescaleToZeroOne', keys=['lq', 'gt']))
        cfg.model.type = 'BasicRestorer'  # after load_config, which would make it ours
    model = build_restorer(cfg)
    model.generator = Enlarge()
    model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()
    return model, build_eval_loader(cfg.data, 'val'), cfg


def run_stock(val, out, workers: int):
    """Seconds per image of MMEditing's `forward_test` with metrics and files, and its results."""
    model, loader, _ = load(val, workers, 1, stock=True)
    device, results = next(model.parameters()).device, []
    assert type(model) is BasicRestorer
    start = time.perf_counter()
    with torch.no_grad():
        for batch in loader:
            results.append(model(lq=batch['lq'].to(device), gt=batch['gt'].to(device), meta=batch['meta'].data[0],
                                 test_mode=True, save_image=True, save_path=str(out))['eval_result'])
    return (time.perf_counter() - start) / len(results), results


def run_ours(val, out, workers: int, samples: int):
    """Seconds per image of ours, and its results."""
    model, loader, cfg = load(val, workers, samples, stock=False)
    start = time.perf_counter()
    report = run_test(network(model), loader, build_metrics(cfg.test_cfg), out)
    return (time.perf_counter() - start) / report.images, [result.metrics for result in report.results]


def repeated(val, folder: Path, images: int) -> Path:
    """A copy of the pairs in which they come again and again, so that starting processes does not count for much."""
    for side in ('LQ', 'GT'):
        (folder / side).mkdir(parents=True)
        files = [Path(val) / side / name for name in require_images(Path(val) / side, {})]
        for number in range(images):
            shutil.copy(files[number % len(files)], folder / side / f'{number:05d}.png')
    return folder


def same(stock, ours) -> bool:
    """Whether both found the same."""
    return all(abs(x['PSNR'] - y['PSNR']) < 1e-4 and abs(x['SSIM'] - y['SSIM']) < 1e-5
               for x, y in zip(stock, ours, strict=True))


def metric_times(val) -> dict:
    """Seconds per image of each metric alone, stock and ours, on one pair."""
    _, loader, _ = load(val, 0, 1, stock=False)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    gt = next(iter(loader))['gt']
    hq = (gt.float() * 0.9 + 12).to(torch.uint8)
    arrays = as_arrays(hq)[0], as_arrays(gt)[0]
    hq, gt = hq.to(device), gt.to(device)
    calls = {('PSNR', 'stock'): lambda: psnr(*arrays), ('PSNR', 'ours'): lambda: metrics.psnr(hq, gt).tolist(),
             ('SSIM', 'stock'): lambda: ssim(*arrays), ('SSIM', 'ours'): lambda: metrics.ssim(hq, gt).tolist()}
    return {name: _seconds(call) for name, call in calls.items()}


def _seconds(call) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def parse_args():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--val', required=True, help='folder with LQ and GT')
    parser.add_argument('--images', type=positive_int, default=96,
                        help='pairs, repeated if there are fewer (default: 96)')
    parser.add_argument('--rounds', type=positive_int, default=5)
    parser.add_argument('--threads', type=int, help="torch's and OpenCV's threads (default: theirs)")
    return parser.parse_args()


@report_user_errors
def main():
    """Measure and print."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    rows = {('whole, no loading processes', 'stock', 0, 1): [], ('whole, no loading processes', 'ours', 0, 1): [],
            ('whole, no loading processes, samples_per_gpu=4', 'ours', 0, 4): [],
            ('whole, 2 loading processes', 'stock', 2, 1): [], ('whole, 2 loading processes', 'ours', 2, 1): []}
    alone, reference = {}, None
    folder = Path(tempfile.mkdtemp())
    try:
        val, out = repeated(args.val, folder / 'val', args.images), folder / 'HQ'
        run_ours(val, out, 0, 1)  # warm
        for _ in range(args.rounds):
            for (what, who, workers, samples), times in rows.items():
                if who == 'stock':
                    seconds, reference = run_stock(val, out, workers)
                else:
                    seconds, results = run_ours(val, out, workers, samples)
                    assert same(reference, results), f'{what}: other figures than MMEditing\'s'
                times.append(seconds)
            for name, seconds in metric_times(args.val).items():
                alone.setdefault(name, []).append(seconds)
    finally:
        shutil.rmtree(folder)
    print(f'torch {torch.__version__}, OpenCV {cv2.__version__}, {torch.get_num_threads()} threads, '
          f'{"CUDA" if torch.cuda.is_available() else "CPU"}; ms per image, median of {args.rounds} rounds')
    print(f'{"":<50}{"stock":>8}{"ours":>8}{"ratio":>8}')
    for name in ('PSNR', 'SSIM'):
        show(name, median(alone[name, 'stock']), median(alone[name, 'ours']))
    stock = {}
    for (what, who, workers, _), times in rows.items():
        if who == 'stock':
            stock[workers] = median(times)
        else:
            show(what, stock[workers], median(times))


def show(what: str, stock: float, ours: float) -> None:
    """A row of the table."""
    print(f'{what:<50}{1000 * stock:>8.1f}{1000 * ours:>8.1f}{stock / ours:>8.2f}')


if __name__ == '__main__':
    main()
