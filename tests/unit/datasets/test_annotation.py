import os

import numpy as np
import pytest
from mmedit.datasets import build_dataset
from PIL import Image

from facesr.datasets.annotation import ImageInfo, differences, not_rgb, read_annotation, read_info, scan_folder
from facesr.utils.errors import UserError


def write_image(path, size=(32, 16), mode='RGB'):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(os.fsdecode(path))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / 'GT'
    folder.mkdir()
    for name in ('b.png', 'a.png', 'c.jpg'):
        write_image(folder / name)
    (folder / 'notes.txt').write_text('not an image')
    return folder


def test_writes_sorted_lines_that_mmedit_reads(run_tool, folder, tmp_path):
    ann_file = tmp_path / 'new' / 'ann.txt'
    done = run_tool('make_annotation.py', folder, ann_file)
    assert done.returncode == 0 and '3 images, written' in done.stdout
    assert ann_file.read_text() == 'a.png (16,32,3)\nb.png (16,32,3)\nc.jpg (16,32,3)\n'
    dataset = build_dataset(dict(type='SRAnnotationDataset', lq_folder=folder, gt_folder=folder, ann_file=ann_file,
                                 pipeline=[], scale=4))
    assert [info['gt_path'] for info in dataset.data_infos] == [str(folder / n) for n in ('a.png', 'b.png', 'c.jpg')]
    assert list(ann_file.parent.iterdir()) == [ann_file]  # no temporary file stays


def test_same_file_is_fine_and_another_is_kept_without_force(run_tool, refused, folder, tmp_path):
    ann_file = tmp_path / 'ann.txt'
    run_tool('make_annotation.py', folder, ann_file)
    assert 'already up to date' in run_tool('make_annotation.py', folder, ann_file).stdout
    ann_file.write_text('precious\n')
    assert '--replace' in refused('make_annotation.py', folder, ann_file)
    assert ann_file.read_text() == 'precious\n'
    assert run_tool('make_annotation.py', folder, ann_file, '--replace').returncode == 0
    assert len(read_annotation(ann_file)) == 3


def test_check_compares_with_the_folder(run_tool, refused, folder, tmp_path):
    ann_file = tmp_path / 'ann.txt'
    run_tool('make_annotation.py', folder, ann_file)
    assert 'agrees' in run_tool('make_annotation.py', folder, '--check', ann_file).stdout
    (folder / 'a.png').unlink()
    assert '1 difference(s)' in refused('make_annotation.py', folder, '--check', ann_file)
    again = refused('make_annotation.py', folder, '--check', ann_file, '--recursive', '--scale', '2')
    assert f'{folder} {ann_file} --replace --recursive --scale=2' in again


def test_differences_are_named():
    a, b = ImageInfo('a.png', 8, 8, 3), ImageInfo('b.png', 8, 8, 3)
    assert differences([a, a], [b]) == ['a.png: listed 2 times', 'a.png: listed, but not in the folder',
                                        'b.png: in the folder, but not listed']
    assert differences([a], [a._replace(width=4)]) == ['listed as a.png (8,8,3), but the file is a.png (8,4,3)']


@pytest.mark.parametrize('spoil, message', [
    (lambda folder: (folder / 'd.webp').write_bytes(b''), 'd.webp: MMEditing does not read .webp files'),
    (lambda folder: (folder / 'a.png').rename(folder / 'a.Png'), 'a.Png: MMEditing does not read .Png files'),
    (lambda folder: write_image(folder / 'd e.png'), 'd e.png: white space'),
    (lambda folder: write_image(folder / 'd.png', (30, 16)), 'd.png: 30x16 is not divisible .* in 1 image of 4'),
    (lambda folder: (folder / 'd.png').symlink_to('none.png'), 'd.png: is a link to what is not there'),
    (lambda folder: write_image(os.fsencode(folder) + b'/caf\xe9.png'), 'its name is not UTF-8'),
    (lambda folder: (folder / 'd.png').write_bytes(b'nonsense'), 'd.png: not an image'),
    (lambda folder: (folder / 'd.png').write_bytes(b''), 'd.png: not an image'),
    (lambda folder: (folder / 'b.png').write_bytes((folder / 'b.png').read_bytes()[:-200]), 'b.png: unreadable image'),
    (lambda folder: (folder / 'c.jpg').write_bytes((folder / 'c.jpg').read_bytes()[:-200]), 'c.jpg: unreadable image'),
])
def test_bad_images_are_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message):
        scan_folder(folder)


def test_missing_and_empty_folders_are_refused(refused, tmp_path):
    assert 'no such folder' in refused('make_annotation.py', tmp_path / 'none', tmp_path / 'ann.txt')
    (tmp_path / 'outer' / 'inner').mkdir(parents=True)
    assert 'no images in it' in refused('make_annotation.py', tmp_path / 'outer', tmp_path / 'ann.txt')
    write_image(tmp_path / 'outer' / 'inner' / 'a.png')
    assert 'inner has some' in refused('make_annotation.py', tmp_path / 'outer', tmp_path / 'ann.txt')
    assert not (tmp_path / 'ann.txt').exists()


def test_a_file_with_bytes_after_its_end_is_whole(folder):
    with (folder / 'a.png').open('ab') as file:
        file.write(b'trailing')
    assert read_info(folder / 'a.png') == ImageInfo('a.png', 16, 32, 3)


@pytest.mark.parametrize('mode, channels', [('L', 1), ('RGBA', 4), ('P', 3)])
def test_grey_and_rgba_are_reported(run_tool, folder, tmp_path, mode, channels):
    write_image(folder / 'd.png', mode=mode)
    infos = scan_folder(folder)
    assert infos[-1].channels == channels
    assert [info.name for info in not_rgb(infos)] == (['d.png'] if channels != 3 else [])
    output = run_tool('make_annotation.py', folder, tmp_path / 'ann.txt').stdout
    assert ('note: d.png has' in output) == (channels != 3)


@pytest.mark.parametrize('ending', ['', '\n', '\r\n'])
def test_line_endings_do_not_matter(tmp_path, ending):
    (tmp_path / 'ann.txt').write_bytes(f'a.png (8,8,3)\nb.png (8,8,3){ending}'.encode())
    assert [info.name for info in read_annotation(tmp_path / 'ann.txt')] == ['a.png', 'b.png']


@pytest.mark.parametrize('text, message', [
    ('a.png (8,8,3)\n\n', 'line 2 is ""'), ('a b.png (8,8,3)\n', 'line 1'), ('', 'ann.txt: is empty'),
    ('\ufeffa.png (8,8,3)\n', 'line 1'), ('a.png\n', 'line 1 is "a.png"')
])
def test_wrong_lines_are_named(tmp_path, text, message):
    ann_file = tmp_path / 'ann.txt'
    ann_file.write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=message):
        read_annotation(ann_file)


def test_another_encoding_is_named(tmp_path):
    (tmp_path / 'ann.txt').write_text('a.png (8,8,3)\n', encoding='utf-16')
    with pytest.raises(UserError, match='ann.txt: not a UTF-8 text file'):
        read_annotation(tmp_path / 'ann.txt')
