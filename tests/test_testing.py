import json
import zipfile

import cv2
import numpy as np
import pytest
import torch
from mmcv.parallel import MMDataParallel
from mmedit.apis import single_gpu_test
from mmedit.core import psnr

from facesr.checkpoint import save_checkpoint
from facesr.datasets.loader import build_eval_loader
from facesr.errors import UserError
from facesr.evaluation import bicubic, evaluate_loader, restore
from facesr.inference import network
from facesr.submission import hq_names, submission_zip
from facesr.testing import load_split, run_test
from facesr.training import build_restorer

CONFIG = 'configs/srresnet_ffhq.py'


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    """A small random SRResNet and the overrides that build it."""
    from facesr.config import load_config
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('checkpoint') / 'small.pth'
    save_checkpoint(path, build_restorer(load_config(CONFIG, SMALL)))
    return path


SMALL = {'model.generator.mid_channels': 8, 'model.generator.num_blocks': 1}
SMALL_OPTIONS = ['--cfg-options', *(f'{key}={value}' for key, value in SMALL.items())]


def test_val_prints_and_writes_metrics(run_tool, checkpoint, tiny_root, tmp_path):
    out, saved = tmp_path / 'm.json', tmp_path / 'hq'
    done = run_tool('test.py', CONFIG, checkpoint, '--data-root', tiny_root, '--out', out, '--save-path', saved,
                    *SMALL_OPTIONS)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(out.read_text())
    assert [image['name'] for image in metrics['images']] == ['00000.png', '00001.png']
    for image in metrics['images']:  # from the written PNG, by hand: RGB, uint8, no crop
        hq, gt = (cv2.imread(str(folder / image['name'])).astype(float) for folder in (saved, tiny_root / 'val/GT'))
        assert image['PSNR'] == pytest.approx(10 * np.log10(255**2 / ((hq - gt)**2).mean()), abs=1e-4)
    mean = np.mean([image['PSNR'] for image in metrics['images']])
    assert metrics['mean']['PSNR'] == pytest.approx(mean)
    assert f'PSNR: {mean:.4f} dB' in done.stdout and 'SSIM: ' in done.stdout
    pairs = [[cv2.imread(str(tiny_root / side / image['name'])) for side in ('val/LQ', 'val/GT')]
             for image in metrics['images']]
    baseline = np.mean([psnr(bicubic(lq), gt) for lq, gt in pairs])
    assert metrics['bicubic']['PSNR'] == pytest.approx(baseline)
    assert f'bicubic PSNR: {baseline:.4f} dB' in done.stdout


def test_test_split_needs_no_gt_and_zips(run_tool, checkpoint, tiny_root, tmp_path):
    archive, saved = tmp_path / 'hand_in.zip', tmp_path / 'hq'
    command = ['test.py', CONFIG, checkpoint, '--data-root', tiny_root, '--split', 'test', '--zip', archive,
               *SMALL_OPTIONS]
    done = run_tool(*command, '--save-path', saved)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == ['00000.png', '00001.png']
        assert content.testzip() is None
        image = cv2.imdecode(np.frombuffer(content.read('00001.png'), np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert content.read('00000.png') == (saved / '00000.png').read_bytes()
    first = archive.read_bytes()
    assert run_tool(*command).returncode == 0
    assert archive.read_bytes() == first  # the same images, the same zip


def test_wrong_calls_are_one_line(refused, checkpoint, tiny_root, tmp_path):
    arguments = [CONFIG, checkpoint, '--data-root', tiny_root]
    assert 'give --save-path' in refused('test.py', *arguments, '--split', 'test', *SMALL_OPTIONS)
    assert '--out: the test split has no GT' in refused('test.py', *arguments, '--split', 'test', '--out', 'x.json')
    assert 'no such checkpoint' in refused('test.py', CONFIG, tmp_path / 'none.pth', '--data-root', tiny_root)
    assert 'does not fit this config' in refused('test.py', *arguments)
    assert 'nowhere/val/LQ: no such folder' in refused('test.py', CONFIG, checkpoint, '--data-root', 'nowhere')


def test_an_output_that_is_something_else_is_refused_at_once(refused, checkpoint, tiny_root, tmp_path):
    arguments = [CONFIG, checkpoint, '--data-root', tiny_root]
    before = checkpoint.read_bytes()
    for option, path in (('--zip', tmp_path), ('--out', tmp_path), ('--zip', checkpoint)):
        line = refused('test.py', *arguments, option, path, *SMALL_OPTIONS)
        assert 'give the name of a .' in line
    assert checkpoint.read_bytes() == before


def write_pair(root, name, lq_side=16, gt_side=64):
    for folder, side in (('val/LQ', lq_side), ('val/GT', gt_side)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        if side:
            cv2.imwrite(str(root / folder / name), np.zeros((side, side, 3), np.uint8))


@pytest.mark.parametrize('pair, message', [(dict(gt_side=0), 'b.png has no partner in .*val/GT'),
                                           (dict(lq_side=0), 'b.png has no partner in .*val/LQ'),
                                           (dict(gt_side=32), 'b.png is 16x16, but its GT is 32x32, not 4 times')])
def test_pairs_that_do_not_match_are_refused(tiny_config, tmp_path, pair, message):
    write_pair(tmp_path, 'a.png')
    write_pair(tmp_path, 'b.png', **pair)
    cfg = tiny_config()
    cfg.data.val.update(lq_folder=str(tmp_path / 'val/LQ'), gt_folder=str(tmp_path / 'val/GT'))
    with pytest.raises(UserError, match=message):
        load_split(cfg, 'val')


def test_a_sub_folder_with_images_is_refused(tiny_config, tmp_path):
    write_pair(tmp_path, 'a.png')
    (tmp_path / 'val/GT/.hidden').mkdir()
    cv2.imwrite(str(tmp_path / 'val/GT/.hidden/a.png'), np.zeros((64, 64, 3), np.uint8))
    cfg = tiny_config()
    cfg.data.val.update(lq_folder=str(tmp_path / 'val/LQ'), gt_folder=str(tmp_path / 'val/GT'))
    with pytest.raises(UserError, match='val/GT/.hidden: images in a sub-folder'):
        load_split(cfg, 'val')


def test_damage_in_the_middle_of_an_image_is_named(tiny_config, tmp_path):
    write_pair(tmp_path, 'a.png')
    path = tmp_path / 'val/GT/a.png'
    data = bytearray(path.read_bytes())
    data[45:60] = bytes(15)
    path.write_bytes(data)
    cfg = tiny_config()
    cfg.data.val.update(lq_folder=str(tmp_path / 'val/LQ'), gt_folder=str(tmp_path / 'val/GT'))
    with pytest.raises(UserError, match='val/GT/a.png: unreadable image'):
        load_split(cfg, 'val')


def test_inputs_are_not_overwritten(tiny_config):
    cfg = tiny_config(**SMALL)
    with pytest.raises(UserError, match='is the folder of the LQ images'):
        run_test(build_restorer(cfg), load_split(cfg, 'test'), save_path=cfg.data.test.lq_folder)


def test_restoring_leaves_grad_mode_alone(tiny_config):
    cfg = tiny_config(**SMALL)
    images = restore(network(build_restorer(cfg)), build_eval_loader(cfg.data, 'test'))
    next(images)
    assert torch.is_grad_enabled()


def test_two_lq_images_must_not_become_one_hq():
    assert hq_names(['x/a.jpg', 'x/b.png']) == ['a.png', 'b.png']
    with pytest.raises(UserError, match='a.png would be the HQ image of 2 LQ images'):
        hq_names(['x/a.jpg', 'x/a.png'])


def test_a_broken_zip_never_appears(tmp_path):
    path = tmp_path / 'a.zip'
    with pytest.raises(RuntimeError), submission_zip(path, {}) as add:
        add('a.png', b'data')
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_batches_change_no_figure(tiny_config):
    torch.manual_seed(0)
    cfg = tiny_config(**SMALL)
    model = build_restorer(cfg)
    one = evaluate_loader(model, build_eval_loader(cfg.data, 'val'))
    cfg.data.val_dataloader.samples_per_gpu = 2
    two = evaluate_loader(model, build_eval_loader(cfg.data, 'val'))
    assert [r.name for r in one] == [r.name for r in two]
    assert [r.metrics['PSNR'] for r in one] == pytest.approx([r.metrics['PSNR'] for r in two], abs=1e-4)


def test_mmedit_tests_our_restorer_without_gt(tiny_config, tmp_path):
    """Stock `single_gpu_test` on an LQ-only loader, with metrics in test_cfg."""
    cfg = tiny_config(**SMALL)
    model = MMDataParallel(build_restorer(cfg), device_ids=[0] if torch.cuda.is_available() else None)
    loader = build_eval_loader(cfg.data, 'test')
    results = single_gpu_test(model, loader, save_image=True, save_path=str(tmp_path))
    assert len(results) == 2 and results[0]['output'].shape == (1, 3, 64, 64)
    assert sorted(path.name for path in tmp_path.glob('*.png')) == ['00000.png', '00001.png']
    assert model.module.test_cfg.metrics == ['PSNR', 'SSIM']
