"""Training samples per second: MMEditing's transforms beside ours, in one run.

    python benchmarks/degradation.py --gt DATA/train/GT

First on one core, from the PNG file to the tensors, then through the loader with 0, 1, 2 ... processes. The ways take
turns for `--rounds` rounds, so that a busy machine slows all of them; the fastest round counts. Without `--gt` the
embedded sample is used.
"""
import argparse
import logging
import os
import platform
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import facesr.register  # noqa: F401

import cv2
import numpy as np
import torch

from facesr.config import PLAN, load_config
from facesr.datasets.annotation import scan_folder, write_annotation
from facesr.datasets.batch_stream import BatchStream, to_device
from facesr.datasets.loader import build_train_loader
from facesr.datasets.sample import make_sample
from facesr.degradation.device import BatchDegradation
from facesr.engine.train import fill_cache
from facesr.utils.cli import positive_int
from facesr.utils.errors import report_user_errors
from facesr.utils.random import seeded

ROOT = Path(__file__).resolve().parent.parent

COURSE, SECOND_ORDER = 'configs/srresnet_ffhq.py', 'configs/srresnet_ffhq_second_order.py'
STOCK = "MMEditing's transforms"
BATCH = 8


def stock_pipeline(cfg) -> list:
    """The training pipeline in MMEditing's own transforms."""
    return [
        dict(type='LoadImageFromFile', io_backend='disk', key='gt', flag='color', channel_order='rgb'),
        dict(type='RescaleToZeroOne', keys=['gt']),
        dict(type='CopyValues', src_keys=['gt'], dst_keys=['lq']),
        *deepcopy(list(cfg.degradation)),
        dict(type='PairedRandomCrop', gt_patch_size=cfg.gt_patch_size),
        dict(type='Flip', keys=['lq', 'gt'], flip_ratio=0.5, direction='horizontal'),
        dict(type='ImageToTensor', keys=['lq', 'gt']),
        dict(type='Collect', keys=['lq', 'gt'], meta_keys=['gt_path']),
    ]


def ways(config: str, folder: Path, cache: Path) -> dict:
    """Configs by the way that they make samples."""
    options = {'data.train.gt_folder': str(folder), 'data.train.lq_folder': str(folder),
               'data.train.ann_file': str(cache.parent / 'ann.txt'), 'data.train_dataloader.samples_per_gpu': BATCH}
    stock = load_config(config, options)
    stock.data.train.pipeline = stock_pipeline(stock)
    return {
        STOCK: stock,
        'ours': load_config(config, options),
        'ours, cache_images': load_config(config, {**options, 'cache_images': str(cache)}),
        "ours, degrade_on='device': the loader's part": load_config(config, {**options, 'degrade_on': 'device'}),
        '   the same, cache_images': load_config(config, {**options, 'degrade_on': 'device',
                                                          'cache_images': str(cache)}),
    }


def loader(cfg, workers: int = 0):
    """A loader with so many processes."""
    data = deepcopy(cfg.data)
    data.workers_per_gpu = workers
    return build_train_loader(data, 0)


def one_core(configs: dict, count: int, rounds: int) -> dict:
    """Milliseconds per sample on one core, by way; the fastest of some rounds over `count` samples."""
    cores, threads = os.sched_getaffinity(0), (cv2.getNumThreads(), torch.get_num_threads())
    os.sched_setaffinity(0, {min(cores)})
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    samples = {way: loader(cfg).dataset for way, cfg in configs.items()}
    found = {way: [] for way in samples}
    try:
        for number in range(rounds + 1):  # the first warms up
            for way, dataset in samples.items():
                start = time.perf_counter()
                for position in range(count):
                    dataset[position, position % len(dataset)]
                if number:
                    found[way].append((time.perf_counter() - start) / count * 1000)
    finally:
        os.sched_setaffinity(0, cores)
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    return {way: min(times) for way, times in found.items()}


def on_device(cfg, rounds: int) -> float:
    """Milliseconds per sample of the device's part, batch by batch."""
    device = torch.device('cuda', 0) if torch.cuda.is_available() else torch.device('cpu')
    stream, degradation, times = BatchStream(lambda _start: loader(cfg)), BatchDegradation(), []
    for _ in range(rounds * 4):
        batch = to_device(stream.next(), device)
        start = time.perf_counter()
        degradation(batch['gt'], [meta[PLAN] for meta in batch['meta']])
        if device.type == 'cuda':
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / BATCH * 1000)
    return float(np.median(times))


def throughput(cfg, workers: int, batches: int) -> float:
    """Samples per second that come out of the loader."""
    iterator = iter(loader(cfg, workers))
    for _ in range(2 + 2 * workers):  # what was made while the processes started
        next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return batches * BATCH / (time.perf_counter() - start)


def print_one_core(title: str, times: dict) -> None:
    """A table of milliseconds, rates and ratios."""
    print(f'\n{title}\n{"":46} {"ms/sample":>9} {"samples/s":>9} {"times stock":>11}')
    for way, milliseconds in times.items():
        print(f'{way:46} {milliseconds:9.1f} {1000 / milliseconds:9.1f} {times[STOCK] / milliseconds:11.2f}')


@report_user_errors
def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--gt', type=Path, metavar='FOLDER', help='512x512 GT images (default: the embedded sample)')
    parser.add_argument('--samples', type=positive_int, default=96, help='per round and way (default: 96)')
    parser.add_argument('--rounds', type=positive_int, default=5, help='rounds (default: 5)')
    parser.add_argument('--workers', type=int, nargs='*', default=[0, 1, 2], help='loading processes (default: 0 1 2)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = args.gt, Path(temporary) / 'cache'
        if folder is None:
            make_sample(temporary)
            folder = Path(temporary) / 'train/GT'
        infos = scan_folder(folder)
        write_annotation(infos, Path(temporary) / 'ann.txt')
        print(f'{len(infos)} images of {folder if args.gt else "the sample"}, {os.cpu_count()} cores '
              f'({platform.processor() or platform.machine()}), torch {torch.__version__}, OpenCV {cv2.__version__}')
        for title, config in (("The course's degradation", COURSE), ('Second order', SECOND_ORDER)):
            with seeded(0):
                configs = ways(config, folder, cache)
                fill_cache(loader(configs['ours, cache_images']).dataset, logging.getLogger(__name__))
                print_one_core(f'{title}, one core, 512x512 GT', one_core(configs, args.samples, args.rounds))
                device = configs["ours, degrade_on='device': the loader's part"]
                where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'the CPU, all cores'
                print(f"the device's part, batch {BATCH}, on {where}: {on_device(device, args.rounds):.1f} ms/sample")
        print(f'\nLoader, batch {BATCH}, samples/s by number of processes (times stock)')
        print(f'{"":46} ' + ' '.join(f'{workers:>14}' for workers in args.workers))
        print_loader(ways(COURSE, folder, cache), args)


def print_loader(configs: dict, args) -> None:
    """A table of rates by number of loading processes."""
    batches = max(4, args.samples // BATCH)
    rates = {way: [[] for _ in args.workers] for way in configs}
    for _ in range(args.rounds):
        for place, workers in enumerate(args.workers):
            for way, cfg in configs.items():
                rates[way][place].append(throughput(cfg, workers, batches))
    for way, by_workers in rates.items():
        cells = (f'{max(found):7.1f} ({max(found) / max(stock):4.2f})'
                 for found, stock in zip(by_workers, rates[STOCK], strict=True))
        print(f'{way:46} ' + ' '.join(f'{cell:>14}' for cell in cells))


if __name__ == '__main__':
    main()
