"""tools/join_data.py: several data roots as one."""
import shutil

import pytest

from facesr.config import load_config
from facesr.datasets.annotation import scan_folder
from facesr.datasets.join import join_data
from facesr.evaluation.test import load_split
from facesr.utils.errors import UserError


@pytest.fixture
def roots(tiny_root, tmp_path):
    """Two data roots with an image each where the tiny one has two; the second has none for the test."""
    for number, name in enumerate(('one', 'two')):
        for folder in ('train/GT', 'val/GT', 'val/LQ', 'test/LQ')[:4 - number]:
            (tmp_path / name / folder).mkdir(parents=True)
            for path in sorted((tiny_root / folder).iterdir())[number:number + 1]:
                shutil.copy(path, tmp_path / name / folder / f'{name}.png')
    return tmp_path / 'one', tmp_path / 'two'


def test_the_joined_root_is_one(roots, run_tool, tmp_path):
    done = run_tool('join_data.py', *roots, '--out-dir', tmp_path / 'both')
    assert done.returncode == 0, done.stderr
    assert '2 images in train/GT, 2 images in val/GT, 2 images in val/LQ, 1 images in test/LQ' in done.stdout
    assert [info.name for info in scan_folder(tmp_path / 'both/train/GT')] == ['one.png', 'two.png']
    pairs = load_split(load_config('configs/srresnet_ffhq.py', data_root=str(tmp_path / 'both')), 'val')
    assert len(pairs.dataset) == 2 and len(list(pairs)) == 2
    image = tmp_path / 'both/val/LQ/two.png'
    assert image.is_symlink() and image.read_bytes() == (roots[1] / 'val/LQ/two.png').read_bytes()


def test_a_call_again_adds_what_is_new(roots, tmp_path):
    both = tmp_path / 'both'
    assert join_data(roots, both) == {'train/GT': 2, 'val/GT': 2, 'val/LQ': 2, 'test/LQ': 1}
    shutil.copy(roots[0] / 'train/GT/one.png', roots[1] / 'train/GT/three.png')
    (both / 'train/.cache').mkdir()
    (both / 'train/.cache/images.bin').write_bytes(b'')
    assert join_data(roots, both)['train/GT'] == 3 and (both / 'train/GT/three.png').exists()
    (roots[1] / 'train/GT/three.png').unlink()
    with pytest.raises(UserError, match='three.png: is no link to an image of these folders; give another --out'):
        join_data(roots, both)


def test_mistakes_are_one_line_and_nothing_is_written(roots, tmp_path):
    shutil.copy(roots[0] / 'val/LQ/one.png', roots[1] / 'val/LQ/one.png')
    with pytest.raises(UserError, match='two/val/LQ/one.png: .*one/val/LQ/one.png has the same name; rename one'):
        join_data(roots, tmp_path / 'both')
    with pytest.raises(UserError, match='none: no such folder; give one in the layout'):
        join_data([tmp_path / 'none'], tmp_path / 'both')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='empty: has no images in train/GT, '):
        join_data([tmp_path / 'empty'], tmp_path / 'both')
    assert not (tmp_path / 'both').exists()
    with pytest.raises(UserError, match='one/test/LQ/one.png: is no link to an image of these folders'):
        join_data(roots[1:], roots[0])
