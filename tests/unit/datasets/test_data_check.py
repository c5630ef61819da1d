"""`tools/check_data.py` names what is wrong with the data, and nothing that is right."""
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from facesr.config import load_config
from facesr.datasets.annotation import scan_folder, write_annotation
from facesr.datasets.checks import check_data
from facesr.datasets.degrade import training_recipe
from facesr.datasets.lq_set import make_lq_image

CONFIG = 'configs/srresnet_ffhq.py'


@pytest.fixture
def root(sample_root, tmp_path):
    """A copy of the sample with its annotation, to spoil."""
    root = tmp_path / 'data'
    shutil.copytree(sample_root, root)
    annotate(root)
    return root


def annotate(root):
    write_annotation(scan_folder(root / 'train/GT'), root / 'train.txt', force=True)


def check(root, config=CONFIG):
    return check_data(load_config(config, {'data.train.ann_file': str(root / 'train.txt')}, str(root)))


def test_sound_data_have_no_problem(root):
    report = check(root)
    assert report.problems == []
    assert report.images == {'train GT': 8, 'val GT': 4, 'val LQ': 4, 'test LQ': 4}


def test_real_faces_have_no_problem(ffhq_root, tmp_path):
    write_annotation(scan_folder(ffhq_root / 'train/GT'), tmp_path / 'train.txt')
    options = {'data.train.ann_file': str(tmp_path / 'train.txt')}
    assert check_data(load_config(CONFIG, options, str(ffhq_root))).problems == []


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5000])


def damage(path):
    """Bytes in the middle, where only decoding finds them."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 64] = bytes(64)
    path.write_bytes(data)


def nonsense(path):
    path.write_bytes(b'nonsense')


def grey(path):
    Image.open(path).convert('L').save(path)


def sixteen_bits(path):
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 256)


def sixteen_bit_colour(path):
    cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)


def halve(path):
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), image[:image.shape[0] // 2, :image.shape[1] // 2])


def mirror(path):
    cv2.imwrite(str(path), cv2.imread(str(path))[:, ::-1])


@pytest.mark.parametrize('file, spoil, expected', [
    ('train/GT/00001.png', remove, ['train.txt: 00001.png: listed, but not in the folder']),
    ('train/GT/00001.png', nonsense, ['00001.png: not an image']),
    ('train/GT/00001.png', damage, ['00001.png: unreadable image']),
    ('train/GT/00001.png', grey, ['00001.png: has mode L, not', 'the file is 00001.png (512,512,1)']),
    ('train/GT/00001.png', halve, ['but the file is 00001.png (256,256,3)', '00001.png: is 256x256, which the deg']),
    ('val/GT/00002.png', remove, ['val/LQ/00002.png: has no partner in']),
    ('val/LQ/00002.png', remove, ['val/GT/00002.png: has no partner in']),
    ('val/LQ/00002.png', truncate, ['val/LQ/00002.png: unreadable image']),
    ('val/GT/00002.png', truncate, ['val/GT/00002.png: unreadable image']),
    ('val/LQ/00002.png', halve, ['val/LQ/00002.png: is 64x64, but its GT', '00002.png: is 64x64; most are 128x128']),
    ('val/LQ/00002.png', mirror, ['val/LQ/00002.png: does not show what']),
    ('val/GT/00002.png', sixteen_bits, ['val/GT/00002.png: has mode I;16']),
    ('val/GT/00002.png', sixteen_bit_colour, ['val/GT/00002.png: has mode RGB;16B']),
    ('test/LQ/00003.png', truncate, ['test/LQ/00003.png: unreadable image']),
    ('test/LQ/00003.png', halve, ['test/LQ/00003.png: is 64x64; most are 128x128']),
])
def test_what_is_wrong_is_named(root, file, spoil, expected):
    spoil(root / file)
    problems = check(root).problems
    if spoil is sixteen_bits:  # grey now too, so it no longer looks like its LQ
        problems = [problem for problem in problems if 'does not show' not in problem]
    assert len(problems) == len(expected), problems
    for text in expected:
        assert any(text in problem for problem in problems), problems


def test_pairs_that_were_mixed_up(root):
    a, b = (root / f'val/LQ/0000{number}.png' for number in (0, 3))
    a.rename(root / 'aside'), b.rename(a), (root / 'aside').rename(b)
    problems = check(root).problems
    assert len(problems) == 2
    for problem, other in zip(problems, '30', strict=True):
        assert 'does not show what' in problem and problem.endswith(f'it looks like {root}/val/GT/0000{other}.png')


def test_leaks_between_splits(root):
    """As the same pixels in another file format, and degraded."""
    leaked = cv2.imread(str(root / 'train/GT/00005.png'))
    cv2.imwrite(str(root / 'val/GT/00001.png'), leaked, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    recipe = training_recipe(load_config(CONFIG))
    for name, folder in (('00001.png', 'val/LQ'), ('00002.png', 'test/LQ')):
        cv2.imwrite(str(root / folder / name), make_lq_image(leaked[..., ::-1].copy(), recipe, name, 0)[0][..., ::-1])
    problems = check(root).problems
    assert [problem.partition(' (')[0] for problem in problems] == [
        f'{root}/val/GT/00001.png: has the same pixels as {root}/train/GT/00005.png',
        f'{root}/test/LQ/00002.png: shows the same as {root}/train/GT/00005.png',
        f'{root}/test/LQ/00002.png: shows the same as {root}/val/GT/00001.png',
    ]


def test_an_image_that_is_there_twice(root):
    shutil.copy(root / 'train/GT/00000.png', root / 'train/GT/00009.png')
    annotate(root)
    assert check(root).problems == [f'{root}/train/GT/00009.png: has the same pixels as {root}/train/GT/00000.png']


def with_test_folders(root, **folders):
    cfg = load_config(CONFIG, {'data.train.ann_file': str(root / 'train.txt')}, str(root))
    cfg.data.test.update(folders)
    return check_data(cfg).problems


def test_a_split_that_is_another_one_once_more(root):
    assert with_test_folders(root, lq_folder=f'{root}/val/LQ') == []
    assert with_test_folders(root, lq_folder=f'{root}/val/../val/LQ', gt_folder=f'{root}/val/GT') == []


def test_test_pairs_are_looked_at_too(root):
    shutil.copytree(root / 'val/GT', root / 'test/GT')
    problems = with_test_folders(root, gt_folder=f'{root}/test/GT')
    assert sum('does not show what' in problem for problem in problems) == 4


def test_a_stray_file_does_not_hide_other_problems(root):
    (root / 'train/GT/stray.webp').write_bytes(b'')
    (root / 'test/LQ/sub').mkdir()
    shutil.copy(root / 'test/LQ/00000.png', root / 'test/LQ/sub')
    truncate(root / 'train/GT/00001.png')
    shutil.copy(root / 'test/LQ/00000.png', root / 'test/LQ/00009.png')
    problems = check(root).problems
    expected = ('stray.webp: MMEditing does not read', 'sub: images in a sub-folder', '00001.png: unreadable image',
                '00009.png: has the same pixels')
    assert len(problems) == len(expected) and all(any(text in problem for problem in problems) for text in expected)


def test_missing_folders_do_not_hide_other_problems(root):
    shutil.rmtree(root / 'test')
    (root / 'train.txt').unlink()
    grey(root / 'val/LQ/00000.png')
    problems = check(root).problems
    for text in ('test/LQ: no such folder', 'train.txt: no such annotation', '00000.png: has mode L'):
        assert any(text in problem for problem in problems)


def test_the_tool(root, run_tool):
    arguments = (CONFIG, '--data-root', root, '--cfg-options', f'data.train.ann_file={root}/train.txt')
    done = run_tool('check_data.py', *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('readable images: 8 train GT, 4 val GT, 4 val LQ, 4 test LQ\nno problem found\n')
    for number in range(3):
        remove(root / f'train/GT/0000{number}.png')
    done = run_tool('check_data.py', CONFIG, '--num', 2, *arguments[1:])
    assert done.returncode == 2 and done.stdout.count('listed, but not in the folder') == 2
    assert '... and 1 more; --num 3 prints all' in done.stdout
    assert done.stderr == f'error: 3 problem(s) in the data of {CONFIG}, listed above\n'
