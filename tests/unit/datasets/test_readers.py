"""What looks at images reads them as training and validation do."""
import io

import cv2
import numpy as np
import pytest
from mmediting_forms import organiser
from PIL import Image

from facesr.config import load_config
from facesr.datasets.annotation import read_info, scan_folder
from facesr.datasets.checks import check_data, check_pairs, check_training_data
from facesr.datasets.loader import build_eval_loader
from facesr.utils.errors import UserError

FACE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 2)


def encoded(image, kind, **how) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, kind, **how)
        return file.getvalue()


def turned(image, kind='JPEG') -> bytes:
    """An image whose EXIF says that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, kind, exif=exif)


@pytest.fixture
def config(tmp_path):
    """Writes GT and LQ files into all splits, and loads a config for them."""

    def load(gt: bytes, lq: bytes, *more, name='0.png'):
        for split in ('train', 'val', 'test'):
            for kind, data in (('GT', gt), ('LQ', lq)):
                (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
                (tmp_path / split / kind / name).write_bytes(data)
        path = tmp_path / 'a.py'
        path.write_text(organiser(tmp_path, 'data["workers_per_gpu"] = 0', *more))
        return load_config(path)

    return load


PNG, LQ = encoded(FACE, 'PNG'), encoded(FACE[::4, ::4], 'PNG')


@pytest.mark.parametrize('data', [
    PNG[:-12], encoded(FACE, 'TGA'), encoded(FACE, 'PCX'), encoded(FACE, 'TIFF', compression='zstd'),
    encoded(FACE[..., 0].astype(np.float32), 'TIFF')], ids=['no end', 'TGA', 'PCX', 'zstd', 'floats'])
def test_what_pillow_alone_reads_is_named_by_each_check(data, config, tmp_path):
    cfg = config(data, LQ)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    if cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None:
        pytest.skip('this OpenCV reads it')
    for check in (lambda: check_pairs('val', cfg), lambda: read_info(tmp_path / 'val/GT/0.png', decode=True)):
        with pytest.raises(UserError, match='val/GT/0.png: OpenCV, which images are read with, cannot read this'):
            check()
    problems = check_data(cfg).problems
    for split in ('train', 'val'):
        assert any(f'{split}/GT/0.png: OpenCV, which images' in line for line in problems)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize('flag, size', [('color', (64, 48)), ('color_ignore_orientation', (48, 64)),
                                        ('unchanged', (48, 64))])
def test_a_size_is_that_of_the_image_that_is_read(kind, flag, size, config, tmp_path):
    """flag="color" turns an image as its EXIF orientation says, the other flags do not."""
    name = f'0.{kind.lower()[:3]}'.replace('jpe', 'jpg')
    lines = f'for load in (train_pipeline[0], *test_pipeline[:2]):\n    load["flag"] = {flag!r}'
    cfg = config(turned(FACE[:48], kind), turned(FACE[:48:4, ::4], kind), lines, name=name)
    sample = build_eval_loader(cfg.data, 'val').dataset[0]
    assert sample['gt'].shape[1:] == size and sample['lq'].shape[1:] == tuple(side // 4 for side in size)
    check_pairs('val', cfg)
    assert not [line for line in check_data(cfg).problems if '/val/' in line and ': is ' in line]
    upright = flag == 'color'
    for decode in (True, False):
        info = read_info(tmp_path / 'val/GT' / name, decode, upright)
        assert (info.height, info.width) == size
    if upright:  # what MMEditing's own tool for annotations reads
        assert scan_folder(tmp_path / 'val/GT')[0].line == f'{name} (64,48,3)'


def test_one_that_is_turned_beside_one_that_is_not(config):
    cfg = config(turned(FACE[:48]), encoded(FACE[:48:4, ::4], 'JPEG'), name='0.jpg')
    with pytest.raises(UserError, match='0.jpg is 16x12, but its GT is 48x64, not 4 times as large'):
        check_pairs('val', cfg)
    assert any('is 16x12, but its GT is 48x64' in line for line in check_data(cfg).problems)
    with pytest.raises(UserError, match='is 48x64, which the degradation does not make 4 times smaller'):
        check_training_data(cfg)
