import numpy as np
import pytest
from mmcv import build_from_cfg
from mmedit.datasets.registry import PIPELINES

from facesr.config.degradation import LEAVES_8_BITS
from facesr.datasets.checks import RESIZING

ARGUMENTS = dict(
    Flip={}, RandomTransposeHW={}, RandomRotation=dict(degrees=9), Crop=dict(crop_size=(8, 8)),
    ColorJitter=dict(brightness=0.5), FixedCrop=dict(crop_size=(8, 8)),
    RandomResizedCrop=dict(crop_size=8))


@pytest.mark.parametrize('kind', LEAVES_8_BITS)
def test_what_may_stand_before_it_leaves_8_bits_and_is_known_to_resize(kind):
    arguments = {} if kind == 'ModCrop' else dict(keys=['gt'], **ARGUMENTS[kind])
    gt = np.random.default_rng(0).integers(0, 256, (18, 18, 3), np.uint8)
    made = build_from_cfg(dict(type=kind, **arguments), PIPELINES)(dict(gt=gt, scale=4))['gt']
    assert made.dtype == np.uint8 and (made.shape != gt.shape) == (kind in RESIZING)
