"""On real faces of the competition: the figures that its README states."""
import json
from statistics import fmean

import cv2
import pytest
from conftest import SMALL_OPTIONS
from mmedit.core import psnr

from facesr.datasets.annotation import scan_folder
from facesr.evaluation.evaluator import bicubic

PUBLISHED_BICUBIC = 27.428  # dB, mean RGB PSNR of the 12 pairs


def test_bicubic_scores_what_is_published(ffhq_root):
    gt_paths = sorted((ffhq_root / 'val/GT').iterdir())
    if len(gt_paths) != 12:
        pytest.skip('the published figure is for the 12 pairs of the excerpt')
    pairs = [[cv2.imread(str(ffhq_root / side / path.name)) for side in ('val/LQ', 'val/GT')] for path in gt_paths]
    assert fmean(psnr(bicubic(lq), gt) for lq, gt in pairs) == pytest.approx(PUBLISHED_BICUBIC, abs=1e-3)


def test_annotation_of_real_gt(ffhq_root):
    infos = scan_folder(ffhq_root / 'train/GT')
    assert infos[0].line == '00000.png (512,512,3)'
    assert {info.line.split(' ')[1] for info in infos} == {'(512,512,3)'}


def test_train_and_validate_real_faces(ffhq_root, run_tool, tmp_path):
    ann_file = tmp_path / 'ann.txt'
    assert run_tool('make_annotation.py', ffhq_root / 'train/GT', ann_file).returncode == 0
    done = run_tool('train.py', 'configs/srresnet_ffhq.py', '--data-root', ffhq_root, '--work-dir', tmp_path / 'work',
                    '--cfg-options', f'data.train.ann_file={ann_file}', 'gt_patch_size=64', 'total_iters=2',
                    'data.train_dataloader.samples_per_gpu=2', 'log_config.interval=1', *SMALL_OPTIONS)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / 'work').glob('best_PSNR_iter_2.pth'))) == 1


def test_the_weights_in_the_box_restore_real_faces(ffhq_root, run_tool, tmp_path):
    gains = []
    for how in ([], ['--flip-ensemble']):
        done = run_tool('test.py', '--weights', 'naf_unet_ffhq', '--data-root', ffhq_root, '--out', tmp_path / 'm.json',
                        *how)
        assert done.returncode == 0, done.stderr
        scores = json.loads((tmp_path / 'm.json').read_text())
        gains.append(scores['mean']['PSNR'] - scores['bicubic']['PSNR'])
    assert 1.55 < gains[0] < gains[1]
