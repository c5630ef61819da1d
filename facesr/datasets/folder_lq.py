"""A folder of LQ images without GT: what a competition's test split is."""
import os.path as osp
from pathlib import Path

import facesr.compat.bridged  # noqa: F401

from mmedit.datasets.base_sr_dataset import BaseSRDataset
from mmedit.datasets.registry import DATASETS

from facesr.utils.errors import UserError
from facesr.utils.images import list_images


@DATASETS.register_module()
class SRFolderLQDataset(BaseSRDataset):
    """LQ images of one folder, sorted by name; the counterpart of MMEditing's `SRFolderGTDataset`.

    Sub-folders are not entered: HQ images are named after their LQ images and must not clash.

    Args:
        lq_folder (str | Path): Folder with the LQ images.
        pipeline (list[dict | callable]): Transforms; they find the path under `lq_path`.
        scale (int): Upsampling factor.
        test_mode (bool): Kept for MMEditing's signature. Default: True.

    Raises:
        UserError: The folder is missing or has no image.
    """

    def __init__(self, lq_folder: str | Path, pipeline: list, scale: int, test_mode: bool = True):
        super().__init__(pipeline, scale, test_mode)
        self.lq_folder = str(lq_folder)
        self.data_infos = self.load_annotations()

    def load_annotations(self) -> list[dict]:
        """Returns list[dict]: one `dict(lq_path=...)` per image, sorted by name."""
        if not osp.isdir(self.lq_folder):
            raise UserError(f'{self.lq_folder} is not a folder: give one with LQ images')
        names = list_images(self.lq_folder)
        if not names:
            raise UserError(f'{self.lq_folder} has no images: give a folder with LQ images')
        return [dict(lq_path=osp.join(self.lq_folder, name)) for name in names]
