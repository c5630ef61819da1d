"""Data loaders for training and evaluation."""
import os
from copy import deepcopy
from functools import partial

import facesr.compat.bridged  # noqa: F401

import cv2
import torch
from mmcv import ConfigDict
from mmcv.parallel import collate
from mmedit.datasets.builder import build_dataset
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader

from facesr.datasets.pipeline import name_failures
from facesr.datasets.sampler import EndlessSampler
from facesr.datasets.seeded_samples import SeededSamples
from facesr.utils import dist
from facesr.utils.device import cuda_available
from facesr.utils.errors import mistakes_in
from facesr.utils.signals import ignore_interrupts


def build_train_loader(data_cfg: ConfigDict, seed: int, start: int = 0, skip_unreadable: bool = False) -> DataLoader:
    """A loader over the training set that never ends (see `EndlessSampler` and `SeededSamples`).

    Args:
        data_cfg (ConfigDict): `cfg.data`; `train_dataloader` may set `samples_per_gpu`,
            `workers_per_gpu` (at most one per core is started) and anything that torch's DataLoader takes.
        seed (int): Of the order and of every random draw.
        start (int): Samples already used, by all processes together, for a resumed run. Default: 0.
        skip_unreadable (bool): Replace images that cannot be used. Default: False.
    """
    with mistakes_in('data.train'):
        dataset = build_dataset(deepcopy(data_cfg.train))  # of which some of MMEditing's transforms make objects
    options = _loader_options(data_cfg, 'train')
    sampler = EndlessSampler(len(dataset), seed, start, options['batch_size'], dist.rank(),
                             dist.world_size())
    options.setdefault('persistent_workers', options['num_workers'] > 0)
    with mistakes_in('data.train_dataloader'):
        return DataLoader(SeededSamples(dataset, seed, skip_unreadable), sampler=sampler, worker_init_fn=_init_worker,
                          **options)


def build_eval_loader(data_cfg: ConfigDict, split: str) -> DataLoader:
    """A loader that reads `cfg.data`'s 'val' or 'test' once, in the order of names (MMEditing's is the disk's).

    Of several processes each reads a part: its rank's image of every `world_size`.
    """
    with mistakes_in(f'data.{split}'):
        dataset = build_dataset(deepcopy(data_cfg[split]))
    name_failures(dataset, split)
    dataset.data_infos.sort(key=lambda info: info['lq_path'])
    part = range(dist.rank(), len(dataset), dist.world_size())
    with mistakes_in(f'data.{split}_dataloader'):
        return DataLoader(dataset, sampler=part, worker_init_fn=_init_worker, **_loader_options(data_cfg, split))


def most_workers() -> int:
    """Cores for each process on this machine; more workers than that would only get in each other's way."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, cores // dist.local_processes())


def _loader_options(data_cfg, split: str) -> dict:
    shared = {key: data_cfg[key] for key in ('samples_per_gpu', 'workers_per_gpu', 'pin_memory') if key in data_cfg}
    options = {**shared, **data_cfg.get(f'{split}_dataloader', {})}
    batch_size = options.pop('samples_per_gpu', 1)
    workers = min(options.pop('workers_per_gpu', 0), most_workers())
    for key in ('persistent_workers', 'prefetch_factor', 'multiprocessing_context', 'timeout') if workers == 0 else ():
        options.pop(key, None)  # torch refuses them without workers
    options.setdefault('pin_memory', cuda_available())
    return dict(
        options,
        batch_size=batch_size,
        num_workers=workers,
        generator=torch.Generator(),  # else each pass would take a number from the one that training draws from
        collate_fn=partial(collate, samples_per_gpu=batch_size))


def _init_worker(_worker_id: int) -> None:
    """Workers are the parallelism: threads of their own would fight over the cores."""
    cv2.setNumThreads(0)
    threadpool_limits(1)  # BLAS and OpenMP; torch has limited its own
    ignore_interrupts()
