"""The order in which training images are read."""
import numpy as np
import torch
from torch.utils.data import Sampler


class EndlessSampler(Sampler):
    """Shuffled passes over a dataset, one after the other without end.

    The k-th index is a function of `size`, `seed` and k alone, so a run that is resumed with the same
    data and batch size goes on where it stopped instead of starting the order anew. Without ends of
    epochs, mmcv's `IterLoader` never runs into the two seconds that it sleeps at each of them.

    Args:
        size (int): Number of images.
        seed (int): Seed of the order.
        start (int): Number of indices already used (iteration x batch size). Default: 0.
    """

    def __init__(self, size: int, seed: int, start: int = 0):
        if size < 1:
            raise ValueError('the dataset is empty')
        self.size, self.seed, self.start = size, seed, start

    def __iter__(self):
        epoch, skip = divmod(self.start, self.size)
        while True:
            mixed = np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(mixed))
            yield from torch.randperm(self.size, generator=generator).tolist()[skip:]
            epoch, skip = epoch + 1, 0

    def __len__(self):
        """Images in one pass, as mmcv's hooks ask for it."""
        return self.size
