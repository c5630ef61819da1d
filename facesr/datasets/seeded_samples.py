"""Training samples that depend on their position in the order and on nothing else."""
from bisect import bisect_right

import facesr.compat.bridged  # noqa: F401

import cv2
from mmedit.datasets.pipelines import DegradationsWithShuffle
from torch.utils.data import ConcatDataset, Dataset

from facesr.datasets.cache import LoadCachedImage
from facesr.datasets.pipeline import name_failures, parts, transforms_of
from facesr.utils.errors import UserError
from facesr.utils.random import seeded

SKIPPED = 'skipped_images'  # where a sample's meta names the images that it stands in for
TRIES = 10
IMAGE_ERRORS = (cv2.error, AttributeError, OSError, ValueError)  # what transforms raise of images that are broken


class UnreadableImage(UserError):
    """A training image that was fine when it was annotated cannot be used any more."""


class SeededSamples(Dataset):
    """A training set whose random draws are seeded by each sample's position in the order.

    So a sample is the same in whichever process or worker it is made, before or after a resume.

    Args:
        dataset (Dataset): MMEditing's training dataset.
        seed (int): The run's seed.
        skip_unreadable (bool): Take the next image instead of one that cannot be used, and name it under
            `skipped_images` in the sample's meta. Default: False.
    """

    def __init__(self, dataset: Dataset, seed: int, skip_unreadable: bool = False):
        self.dataset, self.seed, self.skip_unreadable = dataset, seed, skip_unreadable
        name_failures(dataset, 'train', IMAGE_ERRORS)
        # MMEditing's DegradationsWithShuffle shuffles what the last sample left, and a resume would not know that.
        self._orders = [(transform.degradations, list(transform.degradations)) for transform in transforms_of(dataset)
                        if isinstance(transform, DegradationsWithShuffle)]

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, position_and_index):
        position, index = position_and_index
        skipped = []
        while True:
            try:
                for degradations, order in self._orders:
                    degradations[:] = order
                with seeded(self.seed, position):
                    sample = self.dataset[index]
            except IMAGE_ERRORS as error:
                path, reason = self._path(index), ' '.join(str(error).split())
                if not self.skip_unreadable or len(skipped) == TRIES - 1:
                    raise UnreadableImage(
                        f'{path}: this training image cannot be used ({type(error).__name__}: {reason}); repair or '
                        'remove it and make the annotation anew, or skip such images with --cfg-options '
                        'on_data_error=skip') from error
                skipped.append(path)
                index = (index + 1) % len(self.dataset)
            else:
                if skipped:
                    sample['meta'].data[SKIPPED] = skipped
                return sample

    @property
    def caches(self) -> list:
        """The pipelines' `LoadCachedImage`: one of a dataset, or none."""
        return [transform for transform in transforms_of(self.dataset) if isinstance(transform, LoadCachedImage)]

    @property
    def paths(self) -> list:
        """The GT images' paths."""
        infos = (info for dataset in parts(self.dataset) for info in getattr(dataset, 'data_infos', ()))
        return [str(info['gt_path']) for info in infos if 'gt_path' in info]  # a user's own dataset may have others

    def _path(self, index: int) -> str:
        dataset = self.dataset
        while isinstance(dataset, ConcatDataset) or hasattr(dataset, 'dataset'):
            if isinstance(dataset, ConcatDataset):
                part = bisect_right(dataset.cumulative_sizes, index)
                index -= dataset.cumulative_sizes[part - 1] if part else 0
                dataset = dataset.datasets[part]
            else:
                index, dataset = index % len(dataset.dataset), dataset.dataset
        infos = getattr(dataset, 'data_infos', None)
        return str(infos[index]['gt_path']) if infos and 'gt_path' in infos[index] else f'sample {index}'
