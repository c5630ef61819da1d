import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import SMALL
from mmedit.core import psnr, ssim

from facesr.analysis.comparison.compare import Comparison, ContestantRow, compare, paired_difference
from facesr.analysis.comparison.contestants import find_model, parse_entry, with_unique_labels
from facesr.analysis.comparison.format import as_json, as_markdown, as_text, check_output, write_comparison
from facesr.checkpoint.io import save_checkpoint
from facesr.config import load_config
from facesr.evaluation.test import load_split, run_test
from facesr.models.build import build_restorer, count_macs, load_model
from facesr.utils.choices import FLIP
from facesr.utils.errors import UserError
from facesr.utils.tables import shortened

CONFIG = 'configs/srresnet_ffhq.py'
OPTIONS = {**SMALL, 'ema': 0.9, 'data.workers_per_gpu': 0}


@pytest.fixture(scope='module')
def root(sample_root, tmp_path_factory):
    """FFHQ's layout with four validation pairs, 64x64 and 16x16."""
    root = tmp_path_factory.mktemp('root')
    for folder, side in {'val/GT': 64, 'val/LQ': 16}.items():
        (root / folder).mkdir(parents=True)
        for path in sorted((sample_root / folder).iterdir()):
            image = cv2.imread(str(path))
            start = (image.shape[0] - side) // 2
            cv2.imwrite(str(root / folder / path.name), image[start:start + side, start:start + side])
    return root


@pytest.fixture(scope='module')
def work_dir(root, tmp_path_factory):
    """A run as training leaves it, whose moving average differs from its weights."""
    folder = tmp_path_factory.mktemp('runs') / 'small'
    folder.mkdir()
    cfg = load_config(CONFIG, OPTIONS, str(root))
    cfg.dump(str(folder / 'srresnet_ffhq.py'))
    torch.manual_seed(0)
    model = build_restorer(cfg)
    model.add_ema()
    with torch.no_grad():
        for weights in model.generator_ema.parameters():
            weights.mul_(0.9)
    save_checkpoint(folder / 'best_PSNR_iter_2.pth', model, meta=dict(exp_name='srresnet_ffhq.py'))
    return folder


@pytest.fixture(scope='module')
def made_before(work_dir, root, tmp_path_factory):
    """HQ images of the run's moving average, as a folder and a zip."""
    from facesr.inference.network import network
    folder = tmp_path_factory.mktemp('made')
    cfg = load_config(work_dir / 'srresnet_ffhq.py')
    loader = load_split(cfg, 'val')
    net = network(load_model(cfg, work_dir / 'best_PSNR_iter_2.pth', ema=True))
    run_test(net, loader, {}, folder / 'HQ', folder / 'hq.zip')
    return folder


@pytest.fixture(scope='module')
def comparison(work_dir, made_before):
    texts = [work_dir, f'{work_dir}:ema', f'plus={work_dir}/best_PSNR_iter_2.pth:x8', made_before / 'HQ',
             f'old={made_before}/hq.zip']
    return compare([parse_entry(str(text)) for text in texts])


def by_label(comparison) -> dict:
    return {row.label: row for row in comparison.rows}


def test_everything_is_in_it_on_the_same_images(comparison, root):
    rows = by_label(comparison)
    assert list(rows) == ['small', 'small ema', 'plus', 'HQ', 'old', 'bicubic', 'bilinear']
    assert comparison.names == [path.name for path in sorted((root / 'val/LQ').iterdir())]
    assert comparison.lq_size == (16, 16) and comparison.device == 'cpu'
    for name in ('HQ', 'old'):  # the PNGs are what the moving average makes
        assert rows[name].psnr.tolist() == rows['small ema'].psnr.tolist()
        assert rows[name].difference == rows['small ema'].difference
        assert (rows[name].parameters, rows[name].macs, rows[name].seconds) == (None, None, None)
    for name, method in (('bicubic', cv2.INTER_CUBIC), ('bilinear', cv2.INTER_LINEAR)):
        for i, image in enumerate(comparison.names):
            lq, gt = (cv2.imread(str(root / folder / image)) for folder in ('val/LQ', 'val/GT'))
            hq = cv2.resize(lq, (64, 64), interpolation=method)
            assert rows[name].psnr[i] == pytest.approx(psnr(hq, gt), abs=1e-4)
            assert rows[name].ssim[i] == pytest.approx(ssim(hq, gt), abs=1e-5)
    assert len({row.psnr.tobytes() for row in comparison.rows}) == 5
    assert rows['small'].difference is None
    assert 'config' in rows['small'].source and ', EMA, ' in rows['small ema'].source
    assert 'self-ensemble' in rows['plus'].source and rows['old'].source.endswith('hq.zip')


def test_parameters_operations_and_time(comparison, work_dir):
    rows = by_label(comparison)
    model = load_model(load_config(work_dir / 'srresnet_ffhq.py'), work_dir / 'best_PSNR_iter_2.pth')
    assert rows['small'].parameters == sum(p.numel() for p in model.generator.parameters())
    macs, sides = 0, {}
    for name, conv in model.generator.named_modules():
        if isinstance(conv, torch.nn.Conv2d):
            conv.register_forward_hook(lambda conv, _, output, name=name: sides.update({name: output.shape[-2:]}))
    model.generator(torch.zeros(1, 3, 16, 16))
    for name, (height, width) in sides.items():
        macs += model.generator.get_submodule(name).weight.numel() * height * width
    assert len(sides) > 5
    assert rows['small'].macs == rows['small ema'].macs == macs
    assert rows['plus'].macs == 8 * macs
    assert all(rows[name].seconds > 0 for name in ('small', 'small ema', 'plus'))


def test_operations_of_one_convolution():
    assert count_macs(torch.nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 10, 20)) == 10 * 20 * 8 * 3 * 9
    assert count_macs(torch.nn.Linear(5, 7), torch.zeros(2, 5)) == 2 * 5 * 7


def test_statistics_are_those_of_the_images(comparison):
    row = by_label(comparison)['bilinear']
    found = row.statistics()
    assert found['mean'] == pytest.approx(row.psnr.mean())
    assert found['median'] == pytest.approx(np.sort(row.psnr)[1:3].mean())
    assert found['worst'] == row.psnr.min() and found['ssim'] == pytest.approx(row.ssim.mean())
    variance = ((row.psnr - row.psnr.mean())**2).sum() / 3
    assert found['standard_error'] == pytest.approx(math.sqrt(variance / 4))
    assert row.difference.mean == pytest.approx((row.psnr - comparison.rows[0].psnr).mean())
    assert row.difference.low <= row.difference.mean <= row.difference.high


@pytest.mark.parametrize(('images', 'times'), [(3, 400), (12, 400), (29, 400), (40, 100)])
def test_intervals_cover_the_true_difference_as_often_as_they_say(images, times):
    rng, inside = np.random.default_rng(0), 0
    for seed in range(times):
        quality = rng.normal(28, 3, images)  # images differ much more than methods do on one image
        found = paired_difference(quality + rng.normal(0.1, 0.2, images), quality, seed)
        inside += found.low <= 0.1 <= found.high
    assert 0.9 <= inside / times <= 0.99


def test_intervals_are_reproducible_and_sometimes_absent():
    psnr_values, reference = np.random.default_rng(0).normal(28, 1, (2, 40))
    assert paired_difference(psnr_values, reference, 3) == paired_difference(psnr_values, reference, 3)
    assert paired_difference(psnr_values, reference, 3) != paired_difference(psnr_values, reference, 4)
    assert paired_difference([28., 29.5], [27.9, 29]) == (pytest.approx(0.3), None, None)
    assert paired_difference(reference + 0.5, reference) == pytest.approx((0.5, 0.5, 0.5))
    assert paired_difference(np.array([np.inf, 29, 30]), np.array([28., 28, 28])) == (math.inf, None, None)


def row(label, values, **more):
    values = np.array(values, float)
    return ContestantRow(**dict(dict(label=label, source='', psnr=values, ssim=values / 100, difference=None,
                                     parameters=None, macs=None, seconds=None), **more))


def test_most_different_images():
    names, bicubic, bilinear = list('abcd'), row('bicubic', [1, 2, 3, 4]), row('bilinear', [9, 9, 9, 9])

    def order(*entries):
        return Comparison(names, [*entries, bicubic, bilinear], 'GT', (16, 16), '', 0).most_different(3)

    a, b, c = row('a', [20, 20, 20, 20]), row('b', [20, 25, 19, 20]), row('c', [20, 20, 20, 13])
    assert order(a, b) == [1, 2]
    assert order(a, b, c) == [3, 1, 2]
    assert order(row('a', [1, 0, 30, 4])) == [2, 1]  # to bicubic
    assert order(a, row('b', [20, 25, np.inf, 20])) == [2, 1]
    assert order(row('a', [20, 20, np.inf, 20]), row('b', [20, 21, np.inf, 20])) == [1]
    assert order(a, a) == []


def test_text_fits_a_terminal_and_says_everything(comparison):
    first, *others = comparison.rows
    long = comparison._replace(rows=[first._replace(label='a run whose name is far too long to show'), *others])
    for text in (as_text(comparison, 3), as_text(long, 3)):
        tables = [block for block in text.split('\n\n') if 'bicubic' in block and 'bilinear' in block]
        assert len(tables) == 2
        for table in tables:
            assert len({len(line) for line in table.splitlines()}) == 1
            assert len(table.splitlines()[0]) <= 120
    text = as_text(comparison, 3)
    small = by_label(comparison)['small']
    assert f'{small.psnr.mean():.4f}' in text and f'{small.parameters:,}' in text and '95%' in text
    assert f'{small.macs / 1e9:.2f}' in text and f'{comparison.rows[-1].difference.mean:+.4f}' in text
    first = text.split('\n\n')[-1].splitlines()[1].split()
    i = comparison.most_different(1)[0]
    assert first == [comparison.names[i], *(f'{row.psnr[i]:.4f}' for row in comparison.rows)]
    assert len(text.split('\n\n')[-1].splitlines()) == 4
    assert 'differ most' not in as_text(comparison, 0)
    assert shortened('abcdefghij', 5) == 'ab…ij' and shortened('abcde', 5) == 'abcde'


def test_markdown_has_the_same_numbers(comparison):
    text, plain = as_markdown(comparison, 2), as_text(comparison, 2)
    lines = [line for line in text.splitlines() if line.startswith('| small ')]
    assert len(lines) == 2
    for cell in lines[0].strip('| ').split(' | ')[1:]:
        assert cell in plain


def test_json_is_standard_and_complete(comparison):
    rows = [comparison.rows[0]._replace(psnr=np.array([np.inf, 20, 21, 22])), *comparison.rows[1:]]
    content = json.loads(as_json(comparison._replace(rows=rows)), parse_constant=pytest.fail)
    first, last = content['entries'][0], content['entries'][-1]
    assert first['mean'] is None and first['images'][0]['PSNR'] is None and first['images'][1]['PSNR'] == 20
    assert [image['PSNR'] for image in last['images']] == comparison.rows[-1].psnr.tolist()
    assert last['difference'] == dict(mean=comparison.rows[-1].difference.mean,
                                      interval=list(comparison.rows[-1].difference[1:]))
    assert first['macs'] == comparison.rows[0].macs and content['reference'] == 'small'


def test_two_images_have_no_interval(root, work_dir, tmp_path):
    for folder in ('val/LQ', 'val/GT'):
        (tmp_path / folder).mkdir(parents=True)
        for path in sorted((root / folder).iterdir())[:2]:
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    found = compare([parse_entry(str(work_dir))], data_root=str(tmp_path))
    assert all(row.difference.low is None for row in found.rows[1:])
    assert 'no interval for fewer than 3 images' in as_text(found, 1)
    assert found.gt == str(tmp_path / 'val/GT')


def test_entries(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('run', 'hq', 'a=b'):
        (tmp_path / name).mkdir()
    for name in ('run/iter_1.pth', 'c.py', 'x.pth', 'x.zip', 'a=b/x:y.pth', 'x.safetensors'):
        (tmp_path / name).touch()
    found = {text: parse_entry(text) for text in ('run', 'run:ema', 'hq', 'x.zip', 'c.py:x.pth:x8:ema', 'n=run:x2',
                                                  'a=b/x:y.pth', 'x.safetensors')}
    assert {text: entry.label for text, entry in found.items()} == {
        'run': 'run', 'run:ema': 'run ema', 'hq': 'hq', 'x.zip': 'x', 'c.py:x.pth:x8:ema': 'x x8 ema', 'n=run:x2': 'n',
        'a=b/x:y.pth': 'x:y', 'x.safetensors': 'x'}
    assert [entry.is_model for entry in found.values()] == [True, True, False, False, True, True, True, True]
    assert found['c.py:x.pth:x8:ema'][1:4] == (Path('x.pth'), 'c.py', ('x8', 'ema'))
    assert [entry.self_ensemble for entry in found.values()] == [False] * 4 + [True, FLIP, False, False]
    for text, said in (('none.pth', 'no such checkpoint, work dir, folder or zip'), ('run:emma', '":emma" is unknown'),
                       ('run:x8:ema:x2', 'give :x8 or :x2, not both'),
                       ('hq:ema', 'has images made before'), ('c.py:x.zip', 'has images made before')):
        with pytest.raises(UserError, match=said):
            parse_entry(text)


def test_labels_are_made_unique(tmp_path):
    (tmp_path / 'a/bicubic').mkdir(parents=True)
    (tmp_path / 'b/bicubic').mkdir(parents=True)
    entries = [parse_entry(str(tmp_path / name)) for name in ('a/bicubic', 'b/bicubic', 'b/bicubic', 'a')]
    labels = [entry.label for entry in with_unique_labels(entries)]
    assert labels == ['a/bicubic', 'b/bicubic (2)', 'b/bicubic (3)', 'a']


def test_what_does_not_fit_is_named(work_dir, made_before, root, tmp_path):
    images = tmp_path / 'HQ'
    images.mkdir()
    names = sorted(path.name for path in (made_before / 'HQ').iterdir())
    for name in names[1:]:
        (images / name).write_bytes((made_before / 'HQ' / name).read_bytes())
    (images / 'other.png').touch()
    with pytest.raises(UserError) as caught:
        compare([parse_entry(str(work_dir)), parse_entry(str(images))])
    assert f'missing (1): {names[0]}' in str(caught.value) and 'extra (1): other.png' in str(caught.value)
    with pytest.raises(UserError, match='--config CONFIG says which'):
        compare([parse_entry(str(made_before / 'HQ'))])
    alone = tmp_path / 'alone.pth'
    alone.write_bytes((work_dir / 'best_PSNR_iter_2.pth').read_bytes())
    with pytest.raises(UserError, match='no config in it; give the config of the run with --config'):
        compare([parse_entry(str(alone))])


def test_configs_of_checkpoints_that_lie_alone(work_dir, comparison, root, tmp_path):
    alone = tmp_path / 'alone.pth'
    alone.write_bytes((work_dir / 'best_PSNR_iter_2.pth').read_bytes())
    config = str(work_dir / 'srresnet_ffhq.py')
    for found in (compare([parse_entry(f'{config}:{alone}')]),
                  compare([parse_entry(str(alone))], default_config=config),
                  compare([parse_entry(f'{CONFIG}:{alone}')], options=OPTIONS, data_root=str(root))):
        assert found.rows[0].psnr.tolist() == comparison.rows[0].psnr.tolist()
        assert found.rows[0].label == 'alone'
    for name in ('a.py', 'b.py'):
        (tmp_path / name).write_text('some = 1')
    with pytest.raises(UserError, match='has a.py, b.py; give the config of the run with --config'):
        compare([parse_entry(str(alone))])
    assert find_model(parse_entry(str(alone)), config).config == Path(config)


def test_hq_images_of_another_size(work_dir, made_before, root, tmp_path):
    images = tmp_path / 'HQ'
    images.mkdir()
    for path in (made_before / 'HQ').iterdir():
        cv2.imwrite(str(images / path.name), cv2.imread(str(path))[:32])
    with pytest.raises(UserError, match='wrong size, 64x32 instead of 64x64'):
        compare([parse_entry(str(images))], load_config(work_dir / 'srresnet_ffhq.py'))


def test_tool(run_tool, work_dir, made_before, tmp_path):
    out, table = tmp_path / 'c.json', tmp_path / 'c.md'
    done = run_tool('compare.py', f'new={work_dir}', made_before / 'HQ', '--num', 2, '--out', out,
                    '--out', table)
    assert done.returncode == 0, done.stderr
    assert [entry['label'] for entry in json.loads(out.read_text())['entries']] == ['new', 'HQ', 'bicubic', 'bilinear']
    assert f'written: {out}' in done.stdout and '| new |' in table.read_text()
    assert max(map(len, done.stdout.split('\n\n')[0].splitlines())) <= 120




def test_outputs_replace_their_own_kind(comparison, tmp_path):
    notes = tmp_path / 'README.md'
    notes.write_text('mine')
    with pytest.raises(UserError, match='was not made by this tool'):
        check_output(notes)
    with pytest.raises(UserError, match='give the name of a .json file, or of a .md'):
        check_output(tmp_path / 'x.pth')
    for name in ('x.md', 'x.json'):
        write_comparison(tmp_path / name, comparison, 1)
        assert check_output(tmp_path / name) == tmp_path / name
