import random

import cv2
import numpy as np
import pytest

from facesr.datasets.annotation import scan_folder
from facesr.datasets.sample import make_sample
from facesr.utils.errors import UserError


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob('*.png'))}


def test_the_sample_is_the_same_each_time(sample_root, tmp_path):
    np.random.seed(123)
    state, python_state = np.random.get_state()[1].copy(), random.getstate()
    make_sample(tmp_path)
    assert contents(tmp_path) == contents(sample_root)
    assert (np.random.get_state()[1] == state).all() and random.getstate() == python_state


def test_other_images_are_not_overwritten(tmp_path):
    precious = tmp_path / 'val/GT/00001.png'
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b'precious')
    with pytest.raises(UserError, match='00001.png: is there already and has other content'):
        make_sample(tmp_path)
    assert list(contents(tmp_path).values()) == [b'precious']


def test_the_sample_has_ffhqs_layout(sample_root):
    sizes = {'train/GT': 512, 'val/GT': 512, 'val/LQ': 128, 'test/LQ': 128}
    for folder, side in sizes.items():
        infos = scan_folder(sample_root / folder)
        assert {(i.height, i.width, i.channels) for i in infos} == {(side, side, 3)}
    names = [sorted(path.name for path in (sample_root / folder).iterdir()) for folder in ('val/GT', 'val/LQ')]
    assert names[0] == names[1]


def test_lq_are_degraded_versions_of_their_gt(sample_root):
    for path in sorted((sample_root / 'val/LQ').iterdir()):
        lq = cv2.imread(str(path)).astype(float)
        gt = cv2.resize(cv2.imread(str(sample_root / 'val/GT' / path.name)), (128, 128), interpolation=cv2.INTER_AREA)
        error = np.sqrt(((lq - gt)**2).mean())
        assert 1 < error < 40  # neither untouched nor another picture (or swapped channels)


def test_train_and_validation_show_different_people(sample_root):
    """Their backgrounds differ: grey studio wall against blue."""
    blue = {
        folder: np.mean([cv2.imread(str(path))[:60, -60:, 0].mean() - cv2.imread(str(path))[:60, -60:, 2].mean()
                         for path in (sample_root / folder).iterdir()]) for folder in ('train/GT', 'val/GT')
    }
    assert blue['val/GT'] > 40 > blue['train/GT']
