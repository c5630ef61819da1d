import hashlib
import json
import time
import zipfile

import cv2
import numpy as np
import pytest
import torch
from conftest import SMALL, SMALL_OPTIONS
from mmcv.parallel import MMDataParallel
from mmedit.apis import single_gpu_test
from mmedit.core import psnr

from facesr.checkpoint.io import read_checkpoint
from facesr.datasets.loader import build_eval_loader
from facesr.evaluation.evaluator import ImageResult, bicubic, evaluate_loader, restore
from facesr.evaluation.metrics import build_metrics
from facesr.evaluation.test import SplitReport, load_split, run_test, write_metrics
from facesr.inference.network import network
from facesr.models.build import build_restorer
from facesr.submission.archive import hq_names, submission_zip
from facesr.utils import images
from facesr.utils.errors import UserError
from facesr.utils.images import encode_png

CONFIG = 'configs/srresnet_ffhq.py'





def test_val_prints_and_writes_metrics(run_tool, checkpoint, tiny_root, tmp_path):
    out, saved = tmp_path / 'm.json', tmp_path / 'hq'
    done = run_tool('test.py', CONFIG, checkpoint, '--data-root', tiny_root, '--out', out, '--out-dir', saved,
                    '--cfg-options', *SMALL_OPTIONS)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(out.read_text())
    assert [image['name'] for image in metrics['images']] == ['00000.png', '00001.png']
    assert metrics['conventions'] == dict(PSNR='RGB, 8 bits', SSIM='RGB, 8 bits') and metrics['crop_border'] == 0
    assert metrics['checkpoint_sha256'] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
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
               '--cfg-options', *SMALL_OPTIONS]
    done = run_tool(*command, '--out-dir', saved)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == ['00000.png', '00001.png']
        assert content.testzip() is None
        image = cv2.imdecode(np.frombuffer(content.read('00001.png'), np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert content.read('00000.png') == (saved / '00000.png').read_bytes()
    assert 'verified: 2 RGB PNGs named like the LQ images, 64x64, nothing else' in done.stdout
    record = json.loads((tmp_path / 'submission.json').read_text())
    assert record['zip'] == 'hand_in.zip' and record['images'] == 2 and record['split'] == 'test'
    assert record['zip_sha256'] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert record['checkpoint_sha256'] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record['parameters'] < record['budget'] == 1821085 and record['cfg_options'] == SMALL
    assert record['versions']['torch'] == torch.__version__ and record['date'] > '2026'
    (saved / 'mine.webp').touch()
    (saved / 'mine.png').touch()
    done = run_tool(*command, '--out-dir', saved)
    assert done.returncode == 0 and 'has 1 other images too (mine.png)' in done.stdout
    first = archive.read_bytes()
    other = run_tool(*command, '--zip', tmp_path / 'other.zip')
    assert other.returncode == 2 and 'is about hand_in.zip, which is still there' in other.stderr
    done = run_tool(*command, '--self-ensemble', '--amp', 'bf16')
    assert done.returncode == 0 and archive.read_bytes() != first
    record = json.loads((tmp_path / 'submission.json').read_text())
    assert record['self_ensemble'] is True and record['amp'] == 'bf16' and record['ema'] is False
    assert 'not allowed with' in run_tool(*command, '--self-ensemble', '--flip-ensemble').stderr
    assert run_tool(*command, '--flip-ensemble').returncode == 0
    record = json.loads((tmp_path / 'submission.json').read_text())
    assert record['self_ensemble'] == 'flip' and 'notice' not in record
    torch.save(dict(read_checkpoint(checkpoint), meta=dict(notice='Not for handing in')), tmp_path / 'told.pth')
    command[2] = tmp_path / 'told.pth'
    assert run_tool(*command).stderr == 'note: told.pth: Not for handing in\n'
    assert json.loads((tmp_path / 'submission.json').read_text())['notice'] == 'Not for handing in'


def test_wrong_calls_are_one_line(refused, checkpoint, tiny_root, tmp_path):
    arguments = [CONFIG, checkpoint, '--data-root', tiny_root]
    assert 'give --out-dir' in refused('test.py', *arguments, '--split', 'test', '--cfg-options', *SMALL_OPTIONS)
    assert '--out: the test split has no GT' in refused('test.py', *arguments, '--split', 'test', '--out', 'x.json')
    assert 'no such checkpoint' in refused('test.py', CONFIG, tmp_path / 'none.pth', '--data-root', tiny_root)
    assert 'does not fit this config' in refused('test.py', *arguments)
    assert 'nowhere/val/LQ: no such folder' in refused('test.py', CONFIG, checkpoint, '--data-root', 'nowhere')


def test_an_output_that_is_something_else_is_refused_at_once(refused, checkpoint, tiny_root, tmp_path):
    arguments = [CONFIG, checkpoint, '--data-root', tiny_root]
    before = checkpoint.read_bytes()
    line = refused('test.py', *arguments, '--zip', tmp_path / 'a.zip', '--out', tmp_path / 'submission.json')
    assert 'is where the record of the zip goes' in line
    (tmp_path / 'submission.json').write_text('{"my": "own"}')
    assert 'submission.json: is there and was not made by this tool' in refused(
        'test.py', *arguments, '--zip', tmp_path / 'a.zip')
    assert (tmp_path / 'submission.json').read_text() == '{"my": "own"}'
    (tmp_path / 'submission.json').write_text('{"zip": "b.zip", "zip_sha256": ""}')  # of a hand-in
    assert 'submission.json: is there and was not made by this tool' in refused(
        'test.py', *arguments, '--out', tmp_path / 'submission.json')
    for option, path in (('--zip', tmp_path), ('--out', tmp_path), ('--zip', checkpoint)):
        line = refused('test.py', *arguments, option, path, '--cfg-options', *SMALL_OPTIONS)
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
    cfg = tiny_config()
    net, metrics = network(build_restorer(cfg)), build_metrics(cfg.test_cfg)
    for split, folder in (('test', cfg.data.test.lq_folder), ('val', cfg.data.val.gt_folder)):
        with pytest.raises(UserError, match='is a folder of LQ or GT images'):
            run_test(net, load_split(cfg, split), metrics, save_path=folder)


def test_no_folder_of_the_data_takes_outputs(refused, checkpoint, tiny_root):
    for folder in ('val/GT', 'train/GT'):
        line = refused('test.py', CONFIG, checkpoint, '--data-root', tiny_root, '--split', 'test', '--out-dir',
                       tiny_root / folder, '--cfg-options', *SMALL_OPTIONS)
        assert f'{folder}: is a folder of LQ or GT images' in line


def test_a_border_that_leaves_nothing_is_refused(tiny_config):
    cfg = tiny_config(**{'test_cfg.crop_border': 30})
    with pytest.raises(UserError, match='00000.png: is smaller than the 71 pixels .*crop_border=30'):
        load_split(cfg, 'val')


def test_a_network_of_another_scale_is_told(tiny_config):
    cfg = tiny_config()
    with pytest.raises(UserError, match='makes 32x32 of it, but its GT is 64x64'):
        run_test(lambda lq: lq.repeat(1, 1, 2, 2), load_split(cfg, 'val'), build_metrics(cfg.test_cfg))


def test_infinite_psnr_is_valid_json(tmp_path):
    report = SplitReport(1, {}, [ImageResult('a.png', dict(PSNR=float('inf')))], dict(PSNR=float('inf')), 30.)
    (tmp_path / 'a.pth').write_bytes(b'')
    write_metrics(tmp_path / 'm.json', report, tmp_path / 'a.pth')
    assert json.loads((tmp_path / 'm.json').read_text(), parse_constant=pytest.fail)['mean'] == dict(PSNR=None)


def test_restoring_leaves_grad_mode_alone(tiny_config):
    cfg = tiny_config()
    images = restore(network(build_restorer(cfg)), build_eval_loader(cfg.data, 'test'))
    next(images)
    assert torch.is_grad_enabled()


def test_two_lq_images_must_not_become_one_hq():
    assert hq_names(['x/a.jpg', 'x/b.png']) == ['a.png', 'b.png']
    with pytest.raises(UserError, match='a.png would be the HQ image of 2 LQ images'):
        hq_names(['x/a.jpg', 'x/a.png'])


def test_a_broken_zip_never_appears(tmp_path):
    path = tmp_path / 'a.zip'
    with pytest.raises(RuntimeError), submission_zip(path, [], {}) as add:
        add('a.png', b'data')
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('sizes, message', [
    ({'a.png': (4, 5)}, '4x4'), ({'a.png': (4, 4), 'b.png': (4, 4)}, 'b.png'), ({}, 'a.png')])
def test_a_zip_that_is_not_what_it_should_be_never_appears(sizes, message, tmp_path):
    path = tmp_path / 'a.zip'
    with pytest.raises(UserError, match=f'{path}.*{message}') as raised, submission_zip(path, sizes, sizes) as add:
        add('a.png', encode_png(np.zeros((4, 4, 3), np.uint8)))
    assert '.tmp' not in str(raised.value) and not list(tmp_path.iterdir())


def test_a_zip_is_compared_with_the_lq_folder(tiny_config, tiny_root, tmp_path):
    """And not with what was restored."""
    (tmp_path / 'one.txt').write_text('00000.png (64,64,3)\n')
    cfg, path = tiny_config(), tmp_path / 'a.zip'
    cfg.data.val.update(type='SRAnnotationDataset', ann_file=str(tmp_path / 'one.txt'))
    net = network(build_restorer(cfg))
    assert run_test(net, load_split(cfg, 'val'), build_metrics(cfg.test_cfg)).images == 1
    with pytest.raises(UserError, match=r'val/LQ: has 2 images, but the config reads 1 of them \(not 00001.png\)'):
        run_test(net, load_split(cfg, 'val'), build_metrics(cfg.test_cfg), zip_file=path)
    loader = load_split(cfg, 'test')
    loader.batch_sampler.sampler = [0]  # whatever it is that leaves an image out
    with pytest.raises(UserError, match=r'a.zip: missing \(1\): 00001.png'):
        run_test(net, loader, zip_file=path)
    assert not path.exists()


def test_the_same_images_are_the_same_zip(tiny_config, tmp_path):
    torch.manual_seed(0)
    cfg = tiny_config()
    net = network(build_restorer(cfg))
    for name in ('a.zip', 'b.zip'):
        run_test(net, load_split(cfg, 'test'), zip_file=tmp_path / name)
    assert (tmp_path / 'a.zip').read_bytes() == (tmp_path / 'b.zip').read_bytes()


def test_images_are_zipped_in_order_however_long_they_take(tiny_config, tmp_path, monkeypatch):
    encode, waits = images.encode_png, iter([0.1, 0])

    def slow(image):
        time.sleep(next(waits))
        return encode(image)

    monkeypatch.setattr(images, 'encode_png', slow)
    cfg = tiny_config()
    run_test(network(build_restorer(cfg)), load_split(cfg, 'test'), zip_file=tmp_path / 'a.zip')
    with zipfile.ZipFile(tmp_path / 'a.zip') as archive:
        assert archive.namelist() == ['00000.png', '00001.png']


def test_an_image_that_cannot_be_written_is_told(tiny_config, tmp_path):
    (tmp_path / 'folder').write_text('in the way')
    cfg = tiny_config()
    with pytest.raises(OSError, match='folder'):
        run_test(network(build_restorer(cfg)), load_split(cfg, 'test'), save_path=tmp_path / 'folder')


def test_a_model_over_the_budget_makes_no_zip(refused, checkpoint, tiny_root, tmp_path):
    arguments = [CONFIG, checkpoint, '--data-root', tiny_root, '--split', 'test', '--zip', tmp_path / 'a.zip']
    assert 'over the budget of 1,000' in refused('test.py', *arguments, '--cfg-options', *SMALL_OPTIONS, 'budget=1000')
    assert not (tmp_path / 'a.zip').exists()


def test_what_is_not_finite_is_refused(tiny_config):
    cfg = tiny_config()
    with pytest.raises(UserError, match='00000.png: the network gives NaN'):
        run_test(lambda lq: lq.repeat(1, 1, 4, 4) * float('nan'), load_split(cfg, 'test'))


def test_lq_images_of_two_sizes_are_no_batch(tiny_config, tmp_path):
    write_pair(tmp_path, 'a.png')
    write_pair(tmp_path, 'b.png', 8, 32)
    cfg = tiny_config()
    cfg.data.val.update(lq_folder=str(tmp_path / 'val/LQ'), gt_folder=str(tmp_path / 'val/GT'))
    assert len(load_split(cfg, 'val')) == 2
    cfg.data.val_dataloader.samples_per_gpu = 2
    with pytest.raises(UserError, match='a.png is 16x16, b.png is 8x8: no batch; use .*samples_per_gpu=1'):
        load_split(cfg, 'val')


def test_batches_change_no_figure(tiny_config):
    torch.manual_seed(0)
    cfg = tiny_config()
    model = build_restorer(cfg)
    one = evaluate_loader(model, build_eval_loader(cfg.data, 'val'))
    cfg.data.val_dataloader.samples_per_gpu = 2
    two = evaluate_loader(model, build_eval_loader(cfg.data, 'val'))
    assert [r.name for r in one] == [r.name for r in two]
    assert [r.metrics['PSNR'] for r in one] == pytest.approx([r.metrics['PSNR'] for r in two], abs=1e-4)


def test_mmedit_tests_our_restorer_without_gt(tiny_config, tmp_path):
    """Stock `single_gpu_test` on an LQ-only loader, with metrics in test_cfg."""
    cfg = tiny_config()
    model = MMDataParallel(build_restorer(cfg), device_ids=[0] if torch.cuda.is_available() else None)
    loader = build_eval_loader(cfg.data, 'test')
    results = single_gpu_test(model, loader, save_image=True, save_path=str(tmp_path))
    assert len(results) == 2 and results[0]['output'].shape == (1, 3, 64, 64)
    assert sorted(path.name for path in tmp_path.glob('*.png')) == ['00000.png', '00001.png']
    assert model.module.test_cfg.metrics == ['PSNR', 'SSIM']
