"""Data loaders for training and evaluation."""
import os
from functools import partial

import cv2
import torch
from mmcv.parallel import collate
from mmedit.datasets.builder import build_dataset, worker_init_fn
from torch.utils.data import DataLoader, Dataset

from facesr.datasets.sampler import EndlessSampler
from facesr.errors import UserError, mistakes_in


def build_train_loader(data_cfg, seed: int, start_iter: int = 0) -> DataLoader:
    """A loader over the training set that never ends (see `EndlessSampler`).

    Args:
        data_cfg (ConfigDict): `cfg.data`; `train_dataloader` may set `samples_per_gpu`,
            `workers_per_gpu` (at most one per core is started) and anything that torch's DataLoader takes.
        seed (int): Of the order and of the workers' random draws.
        start_iter (int): Iterations already done, for a resumed run. Default: 0.
    """
    with mistakes_in('data.train'):
        dataset = build_dataset(data_cfg.train)
    options = _loader_options(data_cfg, 'train')
    workers = options['num_workers']
    sampler = EndlessSampler(len(dataset), seed, start_iter * options['batch_size'])
    # A resumed run must not draw the same degradations again that it began with.
    init = partial(_init_worker, num_workers=workers, seed=seed + start_iter)
    if workers == 0:  # this process does the work of a worker
        worker_init_fn(0, num_workers=1, rank=0, seed=seed + start_iter)
    options.setdefault('persistent_workers', workers > 0)
    with mistakes_in('data.train_dataloader'):
        return DataLoader(_NamesBadImages(dataset), sampler=sampler, worker_init_fn=init, **options)


def build_eval_loader(data_cfg, split: str) -> DataLoader:
    """A loader that reads `cfg.data`'s 'val' or 'test' once, in the order of names (MMEditing's is the disk's)."""
    with mistakes_in(f'data.{split}'):
        dataset = build_dataset(data_cfg[split])
    dataset.data_infos.sort(key=lambda info: info['lq_path'])
    with mistakes_in(f'data.{split}_dataloader'):
        return DataLoader(dataset, shuffle=False, worker_init_fn=_one_thread, **_loader_options(data_cfg, split))


class _NamesBadImages(Dataset):
    """A training set whose errors name the image: OpenCV's do not (an image may break after it was annotated)."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        try:
            return self.dataset[index]
        except (cv2.error, AttributeError, OSError, ValueError) as error:
            infos = getattr(self.dataset, 'dataset', self.dataset).data_infos  # inside a RepeatDataset
            path = infos[index % len(infos)]['gt_path']
            reason = ' '.join(str(error).split())
            raise UserError(f'{path}: this training image cannot be used ({type(error).__name__}: {reason}); repair or '
                            'remove it, make the annotation anew, and go on with --resume') from error


def _loader_options(data_cfg, split: str) -> dict:
    shared = {key: data_cfg[key] for key in ('samples_per_gpu', 'workers_per_gpu') if key in data_cfg}
    options = {**shared, **data_cfg.get(f'{split}_dataloader', {})}
    batch_size = options.pop('samples_per_gpu', 1)
    workers = min(options.pop('workers_per_gpu', 0), _cores())
    options.setdefault('pin_memory', torch.cuda.is_available())
    return dict(
        options,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=partial(collate, samples_per_gpu=batch_size))


def _cores() -> int:
    """Cores this process may use; more workers than that only get in each other's way."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _one_thread(_worker_id: int) -> None:
    cv2.setNumThreads(0)  # workers are the parallelism; OpenCV's own threads would fight over the cores


def _init_worker(worker_id: int, num_workers: int, seed: int) -> None:
    _one_thread(worker_id)
    worker_init_fn(worker_id, num_workers, rank=0, seed=seed)
