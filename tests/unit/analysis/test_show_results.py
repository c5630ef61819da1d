"""`tools/show_results.py`: which images it shows, and what is in the picture."""
import cv2
import numpy as np
import pytest
import torch
from conftest import SMALL, SMALL_OPTIONS
from mmedit.core import psnr
from PIL import Image
from torch.utils.data import DataLoader

from facesr.analysis.examples import Example, best_median_worst, named
from facesr.analysis.figures.results import CAPTION, GAP, HEADER, find_detail, plot_comparison
from facesr.checkpoint.io import save_checkpoint
from facesr.config import load_config
from facesr.evaluation.evaluator import Restored, bicubic
from facesr.evaluation.test import load_split
from facesr.models.build import build_restorer
from facesr.utils.errors import UserError

CONFIG = 'configs/srresnet_ffhq.py'


@pytest.fixture
def loader(tiny_config, tiny_root, tmp_path):
    """Seven pairs, of which a nearest-neighbour network is the worse the higher their number."""
    generator = np.random.default_rng(0)
    for i in range(7):
        gt = np.full((64, 64, 3), 128.) + generator.normal(0, 1 + 3 * i, (64, 64, 3))
        for folder, image in (('GT', gt), ('LQ', gt[::4, ::4])):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f'{i}.png'), image.clip(0, 255).astype(np.uint8))
    cfg = tiny_config(**{'data.val.lq_folder': str(tmp_path / 'LQ'), 'data.val.gt_folder': str(tmp_path / 'GT'),
                         'data.val_dataloader.samples_per_gpu': 2})
    return load_split(cfg, 'val')


class Nearest:
    """Counts its images."""
    images = 0

    def __call__(self, lq):
        self.images += len(lq)
        return lq.repeat_interleave(4, 2).repeat_interleave(4, 3)


def by_hand(folder, name):
    lq, gt = (cv2.imread(str(folder / side / name)) for side in ('LQ', 'GT'))
    return psnr(lq.repeat(4, 0).repeat(4, 1), gt), psnr(bicubic(lq), gt)


def test_best_median_and_worst(loader, tmp_path):
    net = Nearest()
    rows = best_median_worst(net, loader)
    assert [row.label for row in rows.rows] == ['best: 0.png', 'median: 3.png', 'worst: 6.png']
    assert rows.images == 7 and net.images == 7 + 3
    values = [by_hand(tmp_path, f'{i}.png') for i in range(7)]
    assert [(row.psnr, row.bicubic_psnr) for row in rows.rows] == [pytest.approx(values[i]) for i in (0, 3, 6)]
    assert (rows.mean, rows.bicubic_mean) == pytest.approx(np.mean(values, 0))
    assert np.array_equal(rows.rows[1].image.gt, cv2.imread(str(tmp_path / 'GT/3.png'))[..., ::-1])


@pytest.mark.parametrize('count, labels', [(1, ['best: 0.png']), (2, ['best: 0.png', 'worst: 1.png'])])
def test_of_few_images_each_is_shown_once(loader, count, labels):
    few = DataLoader(loader.dataset, sampler=range(count), collate_fn=loader.collate_fn)
    assert [row.label for row in best_median_worst(Nearest(), few).rows] == labels


def test_named_images_alone_are_restored(loader):
    net = Nearest()
    rows = named(net, loader, ['5.png', '2', '5.png'])
    assert [row.label for row in rows.rows] == ['5.png', '2.png'] and net.images == rows.images == 2
    with pytest.raises(UserError, match='--images 9.png: no such image in .*LQ, which has 0.png to 6.png'):
        named(net, loader, ['1.png', '9.png'])


def test_detail_is_found_in_the_middle():
    gt = np.full((80, 120, 3), 90, np.uint8)
    gt[:, :20] = np.arange(80)[:, None, None] % 2 * 200  # at the edge
    gt[42:52, 62:72] = 255 * (np.indices((10, 10)).sum(0) % 2)[..., None]
    left, top, side = find_detail(gt)
    assert side == 20 and left <= 62 and left + side >= 72 and top <= 42 and top + side >= 52
    assert find_detail(np.zeros((3, 5, 3), np.uint8))[2] == 1


def test_pictures_are_shown_pixel_by_pixel(tmp_path):
    generator = np.random.default_rng(0)
    lq, hq, gt = (generator.integers(0, 256, (size, size, 3), np.uint8) for size in (128, 512, 512))
    row = Example('worst: $x$_1.png', Restored('x.png', hq, lq, gt), 20., 19.)
    plot_comparison([row, row], 'a title', tmp_path / 'p.png', (8, 16, 100))
    page = np.asarray(Image.open(tmp_path / 'p.png').convert('RGB'))
    assert page.shape[1] == 4 * 512 + 5 * GAP
    top, zoomed = 2 * HEADER + GAP, hq[16:116, 8:108].repeat(5, 0).repeat(5, 1)
    left = GAP + 2 * (512 + GAP)
    assert np.array_equal(page[top + 130:top + 512, left:left + 512], hq[130:])  # below the frame
    top, left = top + 512 + CAPTION, left + (512 - 500) // 2
    assert np.array_equal(page[top:top + 500, left:left + 500], zoomed)
    frame = page[2 * HEADER + GAP + 16:2 * HEADER + GAP + 116, GAP + 8]
    assert (frame == frame[0]).all()  # one colour along the left edge of the part


def test_large_and_oblong_pictures_fit(tmp_path):
    lq, gt = np.zeros((300, 150, 3), np.uint8), np.zeros((1200, 600, 3), np.uint8)
    small = Restored('b.png', gt[:64, :64], lq[:16, :16], gt[:64, :64])
    large = Restored('a.png', gt, lq, gt)
    plot_comparison([Example('a', large, 1., 1.), Example('b', small, 1., 1.)], '', tmp_path / 'p.png')
    with Image.open(tmp_path / 'p.png') as image:
        assert image.size[0] < 4 * 1024 + 5 * GAP and image.size[1] > 1024 + 512
    with pytest.raises(UserError, match=r'--crop 40 0 32: not inside b, which is 64x64'):
        plot_comparison([Example('b', small, 1., 1.)], '', tmp_path / 'q.png', (40, 0, 32))
    assert not (tmp_path / 'q.png').exists()


def test_the_tool(run_tool, refused, tiny_root, tmp_path):
    torch.manual_seed(0)
    model = build_restorer(load_config(CONFIG, {**SMALL, 'ema': 0.9}))
    model.add_ema()
    save_checkpoint(tmp_path / 'small.pth', model)
    call = ['show_results.py', CONFIG, tmp_path / 'small.pth', '--data-root', tiny_root, '--out', tmp_path / 'r.png']
    options = ['--cfg-options', *SMALL_OPTIONS]
    done = run_tool(*call, '--ema', *options)
    assert done.returncode == 0, done.stderr
    assert 'best: 0000' in done.stdout and 'worst: 0000' in done.stdout and 'mean of 2: ' in done.stdout
    with Image.open(tmp_path / 'r.png') as image:
        assert image.format == 'PNG' and image.size[0] == 4 * 512 + 5 * GAP
    assert 'not inside 00001.png, which is 64x64' in refused(*call, '--images', '00001.png', '--crop', 60, 0, 8,
                                                             *options)
