"""Layouts of data that MMEditing's datasets read: the checks and the readers see the same."""
import cv2
import numpy as np
import pytest
from mmedit.datasets import RepeatDataset
from mmediting_forms import organiser, paired_pipeline

from facesr.config import load_config, train_dataset_cfg
from facesr.datasets.annotation import read_annotation, scan_folder, write_annotation
from facesr.datasets.checks import check_data, check_pairs, check_training_data
from facesr.datasets.loader import build_eval_loader
from facesr.datasets.seeded_samples import SeededSamples, UnreadableImage
from facesr.engine.dry_run import dry_run
from facesr.engine.train import build_stream
from facesr.utils.errors import UserError

SMALL = 'data["workers_per_gpu"] = 0'
TRANSPOSED = "dict(type='RandomTransposeHW', keys=['lq', 'gt'], transpose_ratio=0.5),"
PAIRED = paired_pipeline(32, TRANSPOSED) + '''
data['train']['dataset'].update(pipeline=train_pipeline, lq_folder='ROOT/train/LQ', filename_tmpl='{}x4')
'''


@pytest.fixture
def root(tmp_path):
    """Small pictures in the layout of the competition, with sub-folders and LQ images for training."""
    rng, root = np.random.default_rng(0), tmp_path / 'data'
    for number in range(4):
        gt = cv2.GaussianBlur(rng.integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 2)
        lq = cv2.resize(gt, (16, 16), interpolation=cv2.INTER_AREA)
        split = 'train' if number < 2 else 'val'
        for folder, image, name in ((f'{split}/GT', gt, f'{number}.png'), (f'{split}/LQ', lq, f'{number}x4.png')):
            (root / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / folder / name), image)
    (root / 'test/LQ').mkdir(parents=True)
    cv2.imwrite(str(root / 'test/LQ/9.png'), rng.integers(0, 256, (16, 16, 3), np.uint8))
    return root


@pytest.fixture
def config(root, tmp_path):
    """Writes a config for paired images with `filename_tmpl`, with more lines, and loads it."""

    def load(*more):
        path = tmp_path / 'paired.py'
        path.write_text(organiser(root, SMALL, PAIRED.replace('ROOT', str(root)),
                                  'data["val"]["filename_tmpl"] = "{}x4"', *more))
        return load_config(path)

    return load


def test_pairs_on_the_disk_by_a_template(config, root):
    cfg = config()
    check_training_data(cfg)
    check_pairs('val', cfg)
    assert check_data(cfg).images == {'train GT': 2, 'train LQ': 2, 'val GT': 2, 'val LQ': 2, 'test LQ': 1}
    assert check_data(cfg).problems == []
    found = dry_run(cfg)
    assert found.training_images == found.validation_images == 2 and found.shapes['lq'] == (2, 3, 8, 8)
    (root / 'val/LQ/2x4.png').rename(root / 'val/LQ/2.png')
    with pytest.raises(UserError, match=r"2.png has no partner in .*GT .*but for filename_tmpl '\{\}x4'"):
        check_pairs('val', cfg)
    assert any('val/GT/2.png: has no partner in' in line for line in check_data(cfg).problems)


def test_training_lq_are_looked_at(config, root):
    cfg = config()
    small = cv2.imread(str(root / 'train/LQ/0x4.png'))[:8, :8]
    cv2.imwrite(str(root / 'train/LQ/0x4.png'), small)
    with pytest.raises(UserError, match='0x4.png is 8x8, but its GT is 64x64, not 4 times as large'):
        check_training_data(cfg)
    assert any('train/LQ/0x4.png: is 8x8' in line for line in check_data(cfg).problems)
    (root / 'train/LQ/0x4.png').unlink()
    with pytest.raises(UserError, match='0x4.png: no such LQ image .1 of 2 missing.*filename_tmpl'):
        check_training_data(cfg)
    assert any('train/GT/0.png: has no partner in' in line for line in check_data(cfg).problems)
    (root / 'train/LQ/0x4.png').write_bytes(b'no image')
    with pytest.raises(UserError, match='0x4.png: not an image'):
        check_training_data(cfg)


def test_unchanged_takes_images_of_all_kinds(config, root):
    """Grey, transparent and 16-bit ones become 8-bit colour, in the order that the transforms count on."""
    gt = cv2.imread(str(root / 'train/GT/0.png'))
    cv2.imwrite(str(root / 'train/GT/0.png'), cv2.cvtColor(gt, cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(root / 'train/GT/1.png'), cv2.cvtColor(gt, cv2.COLOR_BGR2BGRA))
    batch = build_stream(config()).next()
    assert batch['gt'].shape == (2, 3, 32, 32) and batch['gt'].min() >= 0 and batch['gt'].max() <= 1


def test_unchanged_of_colour_is_what_it_was(config, root):
    """BGR, whatever `channel_order` says; `Normalize` turns it where there is one."""
    batch = next(iter(build_eval_loader(config(
        'test_pipeline[0].update(flag="unchanged")', 'test_pipeline[1].update(flag="unchanged")').data, 'val')))
    bgr = cv2.imread(str(root / 'val/LQ/2x4.png')).astype(np.float32) / 255
    assert (batch['lq'][0].numpy().transpose(1, 2, 0) == bgr).all()


def test_annotated_sub_folders(root, tmp_path, config, run_tool):
    for number in range(2):
        folder = root / f'train/GT/0000{number}'
        folder.mkdir()
        (root / f'train/GT/{number}.png').rename(folder / f'{number}.png')
    ann_file = tmp_path / 'ann.txt'
    done = run_tool('make_annotation.py', root / 'train/GT', ann_file, '--recursive')
    assert done.returncode == 0, done.stderr
    assert ann_file.read_text() == '00000/0.png (64,64,3)\n00001/1.png (64,64,3)\n'
    assert run_tool('make_annotation.py', root / 'train/GT', '--check', ann_file, '--recursive').returncode == 0
    cfg = config(f'data["train"]["dataset"].update(type="SRAnnotationDataset", ann_file="{ann_file}")')
    assert check_data(cfg).problems == []
    assert dry_run(cfg).training_images == 2
    assert dry_run(config()).training_images == 2  # the folder form enters them too
    write_annotation(scan_folder(root / 'train/GT/00000'), tmp_path / 'other.txt')
    with pytest.raises(UserError, match='lists 0.png, which is not in'):
        check_training_data(config('data["train"]["dataset"].update(type="SRAnnotationDataset", '
                                   f'ann_file="{tmp_path / "other.txt"}")'))
    assert [info.name for info in read_annotation(ann_file)] == ['00000/0.png', '00001/1.png']


def test_validation_images_of_several_sizes(config, root):
    gt, lq = (cv2.imread(str(root / name)) for name in ('val/GT/2.png', 'val/LQ/2x4.png'))
    cv2.imwrite(str(root / 'val/GT/2.png'), gt[:, :48])
    cv2.imwrite(str(root / 'val/LQ/2x4.png'), lq[:, :12])
    check_pairs('val', config())
    assert dry_run(config()).validation_images == 2
    with pytest.raises(UserError, match='no batch; use --cfg-options data.val_dataloader.samples_per_gpu=1'):
        check_pairs('val', config('data["val_dataloader"]["samples_per_gpu"] = 2'))


def test_a_validation_set_by_annotation(config, root, tmp_path):
    write_annotation(scan_folder(root / 'val/GT')[:1], tmp_path / 'val.txt')
    cfg = config(f'data["val"].update(type="SRAnnotationDataset", ann_file="{tmp_path / "val.txt"}")')
    check_pairs('val', cfg)
    assert dry_run(cfg).validation_images == 1


def test_a_folder_without_annotation_is_looked_at_too(tmp_path, root):
    (tmp_path / 'flat.py').write_text(organiser(root, SMALL))
    cfg = load_config(tmp_path / 'flat.py')
    assert train_dataset_cfg(cfg).type == 'SRFolderDataset'
    with pytest.raises(UserError, match='0.png is 64x64, which the degradation does not make 4 times smaller .2 of 2'):
        check_training_data(cfg)


def test_a_dataset_of_the_user_s_own_need_not_have_paths():
    class Own(list):
        def __getitem__(self, index):
            raise ValueError('nothing there')

    samples = SeededSamples(RepeatDataset(Own('ab'), 2), seed=0)
    assert samples.paths == []
    with pytest.raises(UnreadableImage, match=r'^sample 1: this training image cannot be used \(ValueError: nothing'):
        samples[0, 3]
