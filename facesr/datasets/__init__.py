from facesr.datasets.sampler import EndlessSampler
from facesr.datasets.sr_folder_lq_dataset import SRFolderLQDataset

__all__ = ['EndlessSampler', 'SRFolderLQDataset']
