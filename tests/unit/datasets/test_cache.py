"""The cache of decoded images: right at any time, shared, and whole after a kill."""
import logging
import os
import pickle
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
import pytest
from conftest import HANGS, ROOT
from forked import Forked

from facesr.datasets.annotation import scan_folder, write_annotation
from facesr.datasets.cache import LoadCachedImage
from facesr.engine.train import build_stream, fill_cache, train
from facesr.utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Six images of different content, 24x16."""
    (tmp_path / 'GT').mkdir()
    for number in range(6):
        write(tmp_path / 'GT' / f'{number}.png', number)
    return tmp_path / 'GT'


def write(path, number, size=(24, 16)):
    cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8))


def loader(folder):
    return LoadCachedImage(folder.parent / '.cache', key='gt', channel_order='rgb')


def paths(folder):
    return sorted(str(path) for path in folder.iterdir())


def fill(folder):
    told, load = [], loader(folder)
    load.cached.fill(paths(folder), load.decode, told.append)
    return told[0]


def as_decoded(folder):
    return all((loader(folder)(dict(gt_path=path))['gt'] == cv2.imread(path)[..., ::-1]).all()
               for path in paths(folder))


def test_images_come_from_the_cache(folder, monkeypatch):
    assert '0 of 6 images are there; the others take 0 MiB' in fill(folder)
    assert loader(folder).cached.missing(paths(folder)) == [] and as_decoded(folder)
    monkeypatch.setattr(cv2, 'imdecode', None)  # nothing is decoded any more
    results = loader(folder)(dict(gt_path=paths(folder)[2]))
    assert results['gt'].flags.writeable and results['gt_ori_shape'] == (24, 16, 3)
    assert results['gt_path'] == paths(folder)[2]


def test_without_a_cache_files_are_read(folder):
    assert as_decoded(folder) and not (folder.parent / '.cache').exists()


@pytest.mark.parametrize('change', [
    lambda path: write(path, 77),
    lambda path: write(path, 77, (8, 8)),
    lambda path: os.utime(path, ns=(0, 0)),
])
def test_a_changed_file_is_read_anew(folder, change):
    fill(folder)
    change(folder / '1.png')
    assert loader(folder).cached.missing(paths(folder)) == [str(folder / '1.png')]
    assert as_decoded(folder)
    assert '5 of 6' in fill(folder)
    assert loader(folder).cached.missing(paths(folder)) == [] and as_decoded(folder)


def test_a_change_while_it_is_decoded_does_not_count(folder):
    load = loader(folder)

    def slow(path):
        image = load.decode(path)
        if path.endswith('3.png'):
            write(path, 99)
        return image

    load.cached.fill(paths(folder), slow)
    assert load.cached.missing(paths(folder)) == [str(folder / '3.png')] and as_decoded(folder)


def test_it_grows_as_images_change(folder, monkeypatch):
    monkeypatch.setattr('facesr.datasets.cache.ROOM', 2**16)
    for seed in range(3):
        for number in range(40):
            write(folder / f'{number}.png', number + 100 * seed, (64 + seed, 64))
        fill(folder)
        assert loader(folder).cached.missing(paths(folder)) == [] and as_decoded(folder)


def test_folders_and_channel_orders_do_not_mix(folder):
    fill(folder)
    other = folder.parent / 'other'
    shutil.copytree(folder, other, copy_function=shutil.copy2)  # the same names, sizes and times
    write(folder / '0.png', 5)
    assert len(loader(other).cached.missing(paths(other))) == 6
    bgr = LoadCachedImage(folder.parent / '.cache', key='gt')
    assert (bgr(dict(gt_path=paths(folder)[1]))['gt'] == cv2.imread(paths(folder)[1])).all()


def test_an_unreadable_image_is_left_to_training(folder):
    (folder / '4.png').write_bytes(b'nonsense')
    fill(folder)
    assert loader(folder).cached.missing(paths(folder)) == [str(folder / '4.png')]


def test_two_builders_and_forked_readers(folder):
    """Also where the parent has the cache open before it forks."""
    assert as_decoded(folder)
    with ProcessPoolExecutor(2, mp_context=get_context('fork')) as pool:
        list(pool.map(fill, [folder] * 2))
    assert as_decoded(folder)
    with ProcessPoolExecutor(2, mp_context=get_context('fork')) as pool:
        assert all(pool.map(as_decoded, [folder] * 4))
    assert (pickle.loads(pickle.dumps(loader(folder)))(dict(gt_path=paths(folder)[0]))['gt'].shape) == (24, 16, 3)


def test_a_reader_sees_what_another_process_adds(folder):
    fill(folder)
    assert as_decoded(folder)  # this process has it open now
    for number in range(6, 90):
        write(folder / f'{number}.png', number, (256, 256))
    with ProcessPoolExecutor(1, mp_context=get_context('fork')) as pool:
        pool.submit(fill, folder).result()
    load = loader(folder)
    assert load.cached.missing(paths(folder)) == []
    assert (load.cached.get(str(folder / '89.png')) == cv2.imread(str(folder / '89.png'))[..., ::-1]).all()


KILLED = '''
import sys, time
sys.path.insert(0, {root!r})
from facesr.datasets import cache
cache.CHUNK = 1
load = cache.LoadCachedImage({cache!r}, key='gt', channel_order='rgb')
def slow(path):
    time.sleep(0.05)
    return load.decode(path)
load.cached.fill({paths!r}, slow)
'''


@pytest.mark.slow
def test_a_kill_leaves_it_whole(folder):
    for number in range(6, 60):
        write(folder / f'{number}.png', number, (64, 64))
    script = folder.parent / 'killed.py'
    script.write_text(KILLED.format(root=str(ROOT), cache=str(folder.parent / '.cache'), paths=paths(folder)))
    process = Forked([sys.executable, script])
    deadline = time.monotonic() + HANGS
    while len(loader(folder).cached.missing(paths(folder))) > 50 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = len(loader(folder).cached.missing(paths(folder)))
    assert 0 < left <= 50 and as_decoded(folder)
    assert f'{60 - left} of 60' in fill(folder)
    assert loader(folder).cached.missing(paths(folder)) == [] and as_decoded(folder)


def test_what_cannot_be_written_is_one_line(folder, monkeypatch):
    (folder.parent / '.cache').write_text('a file')
    with pytest.raises(UserError, match='cache_images=DIR'):
        fill(folder)
    (folder.parent / '.cache').unlink()
    monkeypatch.setattr('facesr.utils.files.SPARE', 2**60)
    with pytest.raises(OSError, match='the disk is full'):
        fill(folder)


def test_a_broken_cache_is_one_line(folder):
    fill(folder)
    (folder.parent / '.cache/data.mdb').write_bytes(b'nonsense')
    with pytest.raises(UserError, match='the cache cannot be read .*; remove it'):
        as_decoded(folder)


@pytest.mark.parametrize('spoil', [
    lambda data: data[:len(data) // 2],
    lambda data: data[:8192],
    lambda data: data[:8192] + bytes(len(data) - 8192),
])
def test_a_damaged_cache_kills_no_process(folder, spoil):
    """Reading a mapped file beyond its end would, without a word."""
    fill(folder)
    file = folder.parent / '.cache/data.mdb'
    file.write_bytes(spoil(file.read_bytes()))
    with ProcessPoolExecutor(1, mp_context=get_context('fork')) as pool, \
            pytest.raises(UserError, match='the cache cannot be read .*; remove it'):
        pool.submit(as_decoded, folder).result()


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('place', ['loader', 'device'])
def test_training_takes_the_same_samples_with_and_without(workers, place, tiny_config, tiny_root, tmp_path,
                                                          monkeypatch):
    root = tmp_path / 'data'
    shutil.copytree(tiny_root, root)
    write_annotation(scan_folder(root / 'train/GT'), root / 'train.txt', force=True)
    options = {'data.train.ann_file': str(root / 'train.txt'), 'data.workers_per_gpu': workers, 'degrade_on': place,
               'data.train.gt_folder': str(root / 'train/GT')}
    batches = []
    for cache in (False, True, True):
        stream = build_stream(tiny_config(cache_images=cache, **options))
        fill_cache(stream.loader.dataset, logging.getLogger('test'))
        if len(batches) == 2:  # now nothing is decoded
            monkeypatch.setattr('mmcv.imfrombytes', None)
        batches.append(stream.next())
    assert (root / 'train/.cache/data.mdb').is_file()
    for batch in batches[1:]:
        assert all((batch[key] == batches[0][key]).all() for key in ('gt', 'lq') if key in batch)


def test_training_with_a_cache(tiny_config, tmp_path):
    train(tiny_config(cache_images=str(tmp_path / 'cache')), 'run')
    log = ''.join(path.read_text() for path in (tmp_path / 'work').glob('*.log'))
    assert f'{tmp_path}/cache: 0 of 2 images are there; the others take 2 MiB' in log
