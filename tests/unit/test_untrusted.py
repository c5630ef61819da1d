"""Configs, names and pictures from elsewhere run nothing, forge nothing and fill no memory."""
import json
import threading
import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SMALL
from PIL import Image

from facesr.analysis.comparison.contestants import parse_entry, with_unique_labels
from facesr.analysis.comparison.format import check_output
from facesr.analysis.work_dir import find_sources
from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config
from facesr.engine.record import record_config
from facesr.engine.train import train
from facesr.submission.predictions import open_predictions
from facesr.utils import images
from facesr.utils.errors import DamagedCheckpoint, UserError
from facesr.utils.literals import read_literals

PWN = 'import pathlib\npathlib.Path({!r}).touch()\n'


# Configs


@pytest.mark.parametrize('text', [
    '!!python/object/apply:pathlib.Path.touch [{!r}]', 'a: !!python/object/apply:os.mkdir [{!r}]',
    'a: !!python/tuple [1]'])
def test_yaml_runs_nothing(text, tmp_path):
    path, pwned = tmp_path / 'x.yml', tmp_path / 'pwned'
    path.write_text(text.format(str(pwned)))
    with pytest.raises(UserError, match='x.yml: cannot be read as a config') as caught:
        load_config(path)
    assert not pwned.exists() and '\n' not in str(caught.value)


def test_a_yaml_base_runs_nothing(tmp_path):
    (tmp_path / 'base.yaml').write_text(f'a: !!python/object/apply:os.mkdir ["{tmp_path}/pwned"]')
    (tmp_path / 'x.py').write_text("_base_ = './base.yaml'")
    with pytest.raises(UserError, match='cannot be read as a config'):
        load_config(tmp_path / 'x.py')
    assert not (tmp_path / 'pwned').exists()


def test_plain_yaml_is_read(tmp_path):
    (tmp_path / 'x.yml').write_text('total_iters: 5\nmodel: {type: FaceRestorer}\n')
    assert load_config(tmp_path / 'x.yml').total_iters == 5


@pytest.fixture
def run_dir(tiny_config, tmp_path):
    train(tiny_config(**SMALL, total_iters=1), 'run', validate=False)
    return tmp_path / 'work'


def test_looking_at_a_run_runs_nothing(run_dir, tmp_path, tiny_root):
    expected = load_config(run_dir / 'run.py')
    text, pwned = (run_dir / 'run.py').read_text(), tmp_path / 'pwned'
    (run_dir / 'run.py').write_text(PWN.format(str(pwned)) + text)
    sources = find_sources(run_dir)
    assert sources.config == run_dir / 'run.py' and not pwned.exists()
    assert sources.cfg.model == expected.model and sources.cfg.work_dir == expected.work_dir
    (run_dir / 'run.config.json').unlink()
    with pytest.raises(UserError, match='run.py: is not what a run records .line 1 is more than plain values., and is '
                       'not run; if you trust it, give the config by its name'):
        find_sources(run_dir)
    assert not pwned.exists()
    (run_dir / 'run.py').write_text(text)  # of an earlier version, or MMEditing's: plain values
    assert find_sources(run_dir).cfg.model == expected.model
    (run_dir / 'run.py').write_text("_base_ = '/etc/x.py'")
    with pytest.raises(UserError, match='it inherits from another file'):
        find_sources(run_dir)
    for broken in ('[1]', '{', '"x"'):
        (run_dir / 'run.config.json').write_text(broken)
        with pytest.raises(UserError, match='is not what a run records'):
            find_sources(run_dir)


def test_the_config_of_a_run_is_its_own_without_images_too(run_dir):
    for name in ('another', 'zzz'):
        (run_dir / f'{name}.py').write_text('total_iters = 7\n')
    assert find_sources(run_dir, images=False).config.name == 'run.py'


def test_plain_values_alone():
    text = '"""A config."""\na = dict(b=[1, -2.5, (3, "x" "y")], c={"d": None, 4: True}, e=inf)\n'
    assert read_literals(text) == dict(a=dict(b=[1, -2.5, (3, 'xy')], c={'d': None, 4: True}, e=float('inf')))
    for wrong in ('a = b', 'a = open("x")', 'import os', 'a = [x for x in ()]', 'a.b = 1', 'a = dict(1)', 'a = f"{1}"',
                  'a = dict(**{})', 'a = {**{}}', 'a = 2 ** 10**10', 'a = (', 'a = -"x"', 'a = __import__("os")'):
        with pytest.raises(ValueError):
            read_literals(wrong)


# Digests


def test_a_flipped_bit_in_safetensors_is_noticed(tmp_path):
    import torch

    from facesr.checkpoint.safetensors import encode_safetensors
    model = torch.nn.Module()
    model.generator = torch.nn.Conv2d(3, 3, 3)
    path = tmp_path / 'x.safetensors'
    whole = encode_safetensors(model, dict(config='x', scale='4'))
    path.write_bytes(whole)
    before, noticed = read_checkpoint(path), 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 300).tolist():
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            now = read_checkpoint(path)
        except UserError:
            noticed += 1
            continue
        assert now['meta'] == before['meta'] and all(
            value.equal(before['state_dict'][name]) for name, value in now['state_dict'].items())
    assert noticed > 250
    path.write_bytes(whole.replace(b'sha256', b'shq256'))
    with pytest.raises(UserError, match='is damaged'):
        read_checkpoint(path)
    data = bytearray(whole)
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedCheckpoint, match='its weights are not those that were written'):
        read_checkpoint(path)


def test_a_flipped_bit_in_the_cache_is_not_used(tmp_path):
    from facesr.datasets import cache
    path = tmp_path / 'x.png'
    cv2.imwrite(str(path), np.full((8, 8, 3), 7, np.uint8))
    cached = cache.ImageCache(tmp_path / 'cache')
    cached.fill([str(path)], lambda name: cv2.imread(name), lambda _: None)
    assert (cached.get(str(path)) == 7).all()
    cache._close_all()
    file = tmp_path / 'cache' / cache.DATA
    data = bytearray(file.read_bytes())
    at = data.find(bytes([7]) * 192)
    data[at + 100] ^= 4
    file.write_bytes(data)
    assert cached.get(str(path)) is None
    cache._close_all()


# Names


EVIL = 'a\x1b[2J\nerror: all is lost.png'


@pytest.fixture
def evil_root(tmp_path):
    """A folder of GT images, one with a name that a terminal would obey."""
    folder = tmp_path / 'GT'
    folder.mkdir()
    for name in (EVIL, 'b.png'):
        data = cv2.imencode('.png', np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))[1]
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize('tool', [('score.py', '{gt}', '{gt}'), ('make_annotation.py', '{gt}', '{gt}.txt'),
                                  ('make_lq.py', '{gt}', '{gt}_lq'), ('score.py', '{gt}/' + EVIL, '{gt}'),
                                  ('plot_curves.py', '{gt}/' + EVIL), ('check_data.py', '{gt}/' + EVIL),
                                  ('report.py', '{gt}/' + EVIL), ('compare.py', '{gt}/' + EVIL)])
def test_no_tool_lets_a_name_speak_to_the_terminal(tool, run_tool, evil_root):
    done = run_tool(tool[0], *(argument.format(gt=evil_root) for argument in tool[1:]))
    said = done.stdout + done.stderr
    assert '\x1b' not in said and '\nerror: all is lost' not in said and 'Traceback' not in said
    assert tool[0] in ('make_lq.py', 'plot_curves.py') or '\\x1b[2J\\n' in said


def test_no_checkpoint_speaks_to_the_terminal(run_tool, tiny_root, tmp_path):
    import torch
    path = tmp_path / 'x.pth'
    torch.save(dict(meta=dict(exp_name=EVIL), state_dict={'generator.\x1b[2J\nx': torch.ones(1)}), path)
    for tool, *how in (('test.py', '--data-root', tiny_root), ('export.py', '--format', 'pth')):
        done = run_tool(tool, 'configs/srresnet_ffhq.py', path, *how)
        assert done.returncode == 2 and done.stderr.count('\n') == 1 and '\x1b' not in done.stderr
        assert 'does not fit this config' in done.stderr and '\\x1b[2J\\n' in done.stderr


# Pictures


def test_pictures_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / 'x.png'
    Image.new('RGB', (200, 100)).save(path)
    monkeypatch.setattr(images, 'MOST_PIXELS', 10_000)
    with pytest.raises(UserError, match='x.png: is 200x100, more than the 0 million pixels that are read'), \
            images.opened_image(path):
        pass
    with pytest.raises(UserError, match='is 200x100'):
        images.read_image(path)


def test_pixels_in_flight_are_bounded():
    from concurrent.futures import ThreadPoolExecutor
    gate, lock, held, most = images._Gate(100), threading.Lock(), [], []

    def hold(pixels):
        with gate.room_for(pixels):
            with lock:
                held.append(pixels)
                most.append((sum(held), len(held)))
            time.sleep(0.001)
            with lock:
                held.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [60, 60, 30, 200, 10] * 20))
    assert not held and max(number for _, number in most) > 1  # they did overlap
    assert all(pixels <= 100 or (pixels, number) == (200, 1) for pixels, number in most)


def test_a_large_flat_picture_costs_little(tmp_path):
    """What check_data sees of it takes no float copy of all its pixels."""
    from facesr.datasets.checks import _see
    path = tmp_path / 'x.png'
    Image.new('RGB', (6000, 4000)).save(path)
    tracemalloc.start()
    assert _see(path, True).info.width == 6000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 6000 * 4000


# Files that are left behind


def test_hidden_files_are_no_predictions(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / '.a.png.0a1b2c-123.abc.tmp').touch()
    with open_predictions(tmp_path) as predictions:
        assert predictions.names == ['a.png'] and not predictions.problems


# Hints


def test_hints_that_lead_on(tmp_path, run_dir, refused):
    runs = run_dir.parent
    with pytest.raises(UserError, match='is a folder of work dirs; name those to compare'):
        parse_entry(str(runs))
    with pytest.raises(UserError, match='c.txt: give the name of a .json file, or of a .md'):
        check_output('c.txt')
    with pytest.raises(UserError, match='is a config; give the work dir of a run, as work_dirs/srresnet_ffhq$'):
        find_sources('configs/srresnet_ffhq.py')
    with pytest.raises(UserError, match='x.onnx: is an exported network; give the checkpoint'):
        (tmp_path / 'x.onnx').touch()
        read_checkpoint(tmp_path / 'x.onnx')
    assert f'is no JSON log; give the work dir of the run, as {run_dir}' in refused(
        'plot_curves.py', run_dir / 'iter_1.pth')
    assert 'is a config; give the work dir of a run' in refused('plot_curves.py', 'configs/srresnet_ffhq.py')
    entries = [parse_entry(f'a={run_dir}'), parse_entry(f'a={run_dir}')]
    assert [entry.label for entry in with_unique_labels(entries)] == ['a (1)', 'a (2)']


def test_nothing_to_do_says_how_to_train_longer(tiny_config, run_dir, caplog):
    train(tiny_config(**SMALL, total_iters=1), 'run', resume='auto', validate=False)
    assert 'to train longer, for example: --resume --cfg-options total_iters=2' in caplog.text
    assert json.loads((run_dir / 'run.config.json').read_text())['total_iters'] == 1
    assert Path(run_dir / 'run.py').is_file()


def test_a_recorded_config_imports_nothing_that_it_names(tmp_path, monkeypatch):
    (tmp_path / 'harmful.py').write_text('raise SystemExit("was run")')
    monkeypatch.syspath_prepend(tmp_path)
    cfg = load_config('configs/srresnet_ffhq.py')
    cfg.custom_imports = dict(imports=['facesr.register', 'harmful'])
    record_config(cfg, 'run', tmp_path)
    with pytest.warns(UserWarning, match='harmful is not imported'):
        assert load_config(tmp_path / 'run.py', recorded=True).model.generator.num_blocks == 20
