"""`tools/show_degradation.py`: the picture, and the comparison in it."""
import cv2
import numpy as np
import pytest
from PIL import Image

from facesr.config import load_config
from facesr.datasets.degrade import require_recipe
from facesr.degradation.plan import Quantize
from facesr.degradation.recipe import Recipe
from tools._reference import compare

CONFIG, SECOND_ORDER = 'configs/srresnet_ffhq.py', 'configs/srresnet_ffhq_second_order.py'


@pytest.fixture
def gt(sample_root):
    return sorted((sample_root / 'train/GT').iterdir())[0]


def test_both_ways_are_compared_under_the_same_draws(gt):
    image, recipe = cv2.imread(str(gt))[..., ::-1].copy(), require_recipe(load_config(CONFIG), CONFIG)
    sample = compare(image, recipe, 4)
    assert sample.ours.shape == sample.reference.shape == (128, 128, 3)
    assert sample.difference.mean() < 0.5 and sample.plan == recipe.draw(np.random.default_rng(4), 512, 512)
    assert not np.array_equal(sample.ours, compare(image, recipe, 5).ours)


def test_the_picture(run_tool, sample_root, tmp_path):
    done = run_tool('show_degradation.py', CONFIG, '--data-root', sample_root, '--beside', SECOND_ORDER, '--num', 3,
                    '--out', tmp_path / 'degradation.png')
    assert done.returncode == 0, done.stderr
    assert f'{sample_root}/train/GT/00000.png' in done.stdout
    with Image.open(tmp_path / 'degradation.png') as image:
        both = image.size
        assert image.format == 'PNG' and len(image.convert('RGB').resize((64, 64)).getcolors(4096)) > 100
    done = run_tool('show_degradation.py', CONFIG, '--image', sample_root / 'val/GT/00001.png', '--num', 1, '--out',
                    tmp_path / 'one.png')
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / 'one.png') as image:
        assert image.width == both[0] and image.height < both[1]


def test_mistakes_are_one_line(refused, sample_root, tmp_path):
    out = ('--out', tmp_path / 'd.png')
    assert 'no such folder' in refused('show_degradation.py', CONFIG, '--data-root', tmp_path, *out)
    assert 'no such image' in refused('show_degradation.py', CONFIG, '--image', tmp_path / 'no.png', *out)
    lq = sample_root / 'val/LQ/00000.png'
    assert '128x128, which the degradation does not make 4 times' in refused('show_degradation.py', CONFIG, '--image',
                                                                             lq, *out)
    assert 'give the name of a .png file' in refused('show_degradation.py', CONFIG, '--out', 'x.jpg')
    assert not (tmp_path / 'd.png').exists()


def test_a_recipe_without_a_final_resize_leaves_the_size(gt):
    image = cv2.imread(str(gt))[..., ::-1].copy()
    sample = compare(image, Recipe([dict(type='Quantize', keys=['lq'])]), 0)
    assert sample.plan.steps == (Quantize(),) and sample.difference.max() < 1e-3
