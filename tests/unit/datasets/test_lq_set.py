"""`tools/make_lq.py`: the same LQ for a name and seed, whatever else is in the folder, and nothing lost."""
import json
import shutil

import cv2
import numpy as np
import pytest

from facesr.config import load_config
from facesr.datasets.degrade import training_recipe
from facesr.datasets.lq_set import MANIFEST, make_lq_set
from facesr.degradation.cpu import degrade
from facesr.degradation.recipe import Recipe
from facesr.utils.errors import UserError

CONFIG = 'configs/srresnet_ffhq.py'


@pytest.fixture
def gt(sample_root, tmp_path):
    """Three GT images."""
    folder = tmp_path / 'GT'
    folder.mkdir()
    for path in sorted((sample_root / 'val/GT').iterdir())[:3]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope='module')
def recipe():
    return training_recipe(load_config(CONFIG))


def images(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob('*.png'))}


def manifest(folder):
    return [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]


def test_the_tool_makes_a_set_that_validates(gt, run_tool, tmp_path):
    lq = tmp_path / 'LQ'
    done = run_tool('make_lq.py', CONFIG, gt, '--out-dir', lq, '--seed', 3)
    assert done.returncode == 0 and '3 LQ images written, 0 were there' in done.stdout
    assert [cv2.imread(str(path)).shape for path in sorted(lq.glob('*.png'))] == [(128, 128, 3)] * 3
    header, *lines = manifest(lq)
    assert header['seed'] == 3 and header['scale'] == 4 and header['degradation'][0]['type'] == 'RandomBlur'
    assert [line['name'] for line in lines] == sorted(images(gt))
    assert [step['type'] for step in lines[0]['steps']] == ['Blur', 'Resize', 'Noise', 'Jpeg', 'Resize', 'Quantize',
                                                            'Resize']
    again = run_tool('make_lq.py', CONFIG, gt, '--out-dir', lq, '--seed', 3)
    assert '0 LQ images written, 3 were there' in again.stdout


def test_the_manifest_says_what_was_done(gt, recipe, tmp_path):
    """Its numbers, given to the degradation, make the image again."""
    from facesr.degradation import plan as steps
    make_lq_set(gt, tmp_path / 'LQ', recipe, 4)
    for line in manifest(tmp_path / 'LQ')[1:]:
        plan = [getattr(steps, step.pop('type'))(**step) for step in line['steps']]
        image = degrade(cv2.cvtColor(cv2.imread(str(gt / line['name'])), cv2.COLOR_BGR2RGB), plan)
        written = cv2.cvtColor(cv2.imread(str(tmp_path / 'LQ' / line['name'])), cv2.COLOR_BGR2RGB)
        assert (np.rint(image * 255).clip(0, 255) == written).all()


def test_an_image_depends_on_its_name_and_the_seed_alone(gt, recipe, tmp_path):
    make_lq_set(gt, tmp_path / 'all', recipe, 4, seed=1)
    first = sorted(images(gt))[0]
    (gt / first).unlink()
    make_lq_set(gt, tmp_path / 'fewer', recipe, 4, seed=1)
    make_lq_set(gt, tmp_path / 'seed', recipe, 4, seed=2)
    every, fewer, other = (images(tmp_path / name) for name in ('all', 'fewer', 'seed'))
    assert every.pop(first) and every == fewer
    assert all(other[name] != fewer[name] for name in fewer)
    assert len(set(fewer.values())) == 2


def test_it_goes_on_after_a_kill(gt, recipe, tmp_path, monkeypatch):
    make_lq_set(gt, tmp_path / 'whole', recipe, 4)
    cut = tmp_path / 'cut'
    write, count = cv2.imencode, []

    def power_cut(suffix, image, *args):
        count.append(suffix)
        if suffix == '.png' and count.count('.png') == 3:
            raise KeyboardInterrupt
        return write(suffix, image, *args)

    monkeypatch.setattr(cv2, 'imencode', power_cut)
    with pytest.raises(KeyboardInterrupt):
        make_lq_set(gt, cut, recipe, 4)
    monkeypatch.undo()
    assert len(images(cut)) == 2
    with (cut / MANIFEST).open('a') as file:
        file.write('{"name": "000')  # a line that was being written
    assert make_lq_set(gt, cut, recipe, 4) == (1, 2)
    assert images(cut) == images(tmp_path / 'whole') and manifest(cut) == manifest(tmp_path / 'whole')


def test_a_removed_image_is_made_again(gt, recipe, tmp_path):
    make_lq_set(gt, tmp_path / 'LQ', recipe, 4)
    before = images(tmp_path / 'LQ')
    next((tmp_path / 'LQ').glob('*.png')).unlink()
    assert make_lq_set(gt, tmp_path / 'LQ', recipe, 4) == (1, 2)
    assert images(tmp_path / 'LQ') == before and len(manifest(tmp_path / 'LQ')) == 4


@pytest.mark.parametrize('spoil, message', [
    (lambda gt, lq: (lq / MANIFEST).unlink(), f'has images, but no {MANIFEST}'),
    (lambda gt, lq: cv2.imwrite(str(next(gt.glob('*.png'))), np.zeros((512, 512, 3), np.uint8)), 'has changed since'),
    (lambda gt, lq: cv2.imwrite(str(gt / '9.png'), np.zeros((256, 256, 3), np.uint8)), '9.png is 256x256, which'),
    (lambda gt, lq: (lq / MANIFEST).write_text((lq / MANIFEST).read_text().splitlines()[0] + '\n3\n'), 'no manifest'),
    (lambda gt, lq: (lq / MANIFEST).write_bytes(b'\xff\xfe'), 'another degradation, scale or seed'),
    (lambda gt, lq: next(lq.glob('*.png')).write_bytes(b'hallo'), 'is not what was made; remove it'),
    (lambda gt, lq: (gt / '9.png').write_bytes(b'nonsense'), '9.png: not an image'),
    (lambda gt, lq: cv2.imwrite(str(gt / '9.jpg'), np.zeros((512, 512, 3), np.uint8)), '9.jpg: LQ images have'),
])
def test_what_is_there_is_not_overwritten(spoil, message, gt, recipe, tmp_path):
    lq = tmp_path / 'LQ'
    make_lq_set(gt, lq, recipe, 4)
    spoil(gt, lq)
    before = images(lq)
    with pytest.raises(UserError, match=message):
        make_lq_set(gt, lq, recipe, 4)
    assert images(lq) == before


def test_another_recipe_or_seed_takes_another_folder(gt, recipe, refused, tmp_path):
    make_lq_set(gt, tmp_path / 'LQ', recipe, 4)
    second = Recipe(load_config('configs/srresnet_ffhq_second_order.py').degradation)
    for other, seed in ((recipe, 1), (second, 0)):
        with pytest.raises(UserError, match='another degradation, scale or seed'):
            make_lq_set(gt, tmp_path / 'LQ', other, 4, seed)
    for folder in (gt, gt / 'LQ'):
        assert 'is the GT folder, or in it' in refused('make_lq.py', CONFIG, gt, '--out-dir', folder)
    assert 'no such folder' in refused('make_lq.py', CONFIG, tmp_path / 'none', '--out-dir', tmp_path / 'LQ2')
    assert 'not a whole number' in refused('make_lq.py', CONFIG, gt, '--out-dir', tmp_path / 'LQ2', '--seed', '-1')
