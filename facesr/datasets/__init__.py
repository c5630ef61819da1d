from facesr.datasets.cache import ImageCache, LoadCachedImage
from facesr.datasets.degrade import Degrade
from facesr.datasets.sampler import EndlessSampler
from facesr.datasets.seeded import SeededSamples
from facesr.datasets.sr_folder_lq_dataset import SRFolderLQDataset
from facesr.datasets.stream import BatchStream

__all__ = [
    'BatchStream', 'Degrade', 'EndlessSampler', 'ImageCache', 'LoadCachedImage', 'SRFolderLQDataset', 'SeededSamples'
]
