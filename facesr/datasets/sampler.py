"""The order in which training images are read."""
import numpy as np
import torch
from torch.utils.data import Sampler


class EndlessSampler(Sampler):
    """Shuffled passes over a dataset, one after the other without end.

    Yields `(k, index)`: the position in the order, counted over all processes, and the image that is
    read there. The index is a function of `size`, `seed` and k alone, so a resumed run goes on where it
    stopped, also with another batch size or number of processes. Without ends of epochs, mmcv's
    `IterLoader` never runs into the two seconds that it sleeps at each of them.

    Args:
        size (int): Number of images.
        seed (int): Seed of the order.
        start (int): Number of positions already used, by all processes together. Default: 0.
        batch_size (int): Images that a process takes at a time. Default: 1.
        rank (int): Which process this is; of each `world_size` batches it takes one. Default: 0.
        world_size (int): Number of processes. Default: 1.
    """

    def __init__(self, size: int, seed: int, start: int = 0, batch_size: int = 1, rank: int = 0, world_size: int = 1):
        if size < 1:
            raise ValueError('the dataset is empty')
        self.size, self.seed, self.start = size, seed, start
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def __iter__(self):
        for position, index in self._order():
            if (position - self.start) // self.batch_size % self.world_size == self.rank:
                yield position, index

    def _order(self):
        epoch, skip = divmod(self.start, self.size)
        while True:
            mixed = np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(mixed))
            order = torch.randperm(self.size, generator=generator).tolist()
            for place in range(skip, self.size):
                yield epoch * self.size + place, order[place]
            epoch, skip = epoch + 1, 0

    def __len__(self):
        """Images in one pass, as mmcv's hooks ask for it."""
        return self.size
