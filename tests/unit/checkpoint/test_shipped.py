import re

import onnx
import pytest
import torch
from conftest import ROOT

from facesr.checkpoint import shipped as module
from facesr.checkpoint.io import read_checkpoint, save_checkpoint
from facesr.checkpoint.safetensors import encode_safetensors
from facesr.checkpoint.shipped import named_network, shipped
from facesr.config import load_config
from facesr.export.exporter import SAID, export_checkpoint
from facesr.models.build import build_restorer, count_parameters, load_model
from facesr.utils.choices import FOR_PHOTOS
from facesr.utils.errors import CheckpointError, UserError
from facesr.utils.files import file_sha256

CONFIG = 'configs/sample/naf_unet_sample.py'
MOST = 4 * 10**6  # bytes of a file
NOTES = {'training_set', 'faces_seen', 'cpu_hours', 'psnr', 'notice', 'sha256', 'precision'}


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A repository whose box has one file, `face`, that says what it is for."""
    for name, text in (('configs/face.py', f'_base_ = {str(ROOT / CONFIG)!r}'), ('configs/_base_/face.py', ''),
                       ('configs/_base_/part.py', ''), ('weights/README.md', '')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / 'other.pth').write_bytes(b'PK')
    model = build_restorer(load_config(tmp_path / 'configs/face.py'))
    said = dict(face=dict(config='face', notice='\x1bBe good'), lost=dict(config='gone'), inner=dict(config='part'),
                bare={})
    for name, about in said.items():
        (tmp_path / f'weights/{name}.safetensors').write_bytes(encode_safetensors(model, about))
    monkeypatch.setattr(module, 'ROOT', tmp_path)
    return tmp_path


def test_a_network_is_named_by_its_weights(box):
    file = box / 'weights/face.safetensors'
    assert named_network(None, None, 'face') == (str(box / 'configs/face.py'), str(file), 'face')
    assert named_network(None, None, str(file)) == named_network(None, None, 'face')
    assert named_network('a.py', 'b.pth', None) == ('a.py', 'b.pth', None)


@pytest.mark.parametrize('arguments, message', [
    ((None, None, None), 'give CONFIG and CHECKPOINT, or --weights: bare, face, inner, lost'),
    (('a.py', None, None), 'give CONFIG and CHECKPOINT'),
    (('a.py', None, 'face'), 'a.py: goes with a CHECKPOINT'),
    ((None, None, 'fact'), 'did you mean face'),
    ((None, None, 'nothing.safetensors'), 'nothing.safetensors: no such file'),
    ((None, None, 'face.safetensors'), r'did you mean face\?'),
    ((None, None, 'weights'), 'weights: is a folder; give a .safetensors file'),
    ((None, None, 'other.pth'), 'other.pth: is no .safetensors file; give CONFIG and this file as CHECKPOINT'),
])
def test_what_is_mixed_or_missing_is_refused(box, arguments, message, monkeypatch):
    monkeypatch.chdir(box)
    with pytest.raises(UserError, match=message):
        named_network(*arguments)


@pytest.mark.parametrize('name, message', [('lost', "config 'gone', which is not in configs/"),
                                           ('inner', "config 'part', which is not in configs/"),
                                           ('bare', 'does not say which config')])
def test_a_file_for_no_config_here_is_refused(box, name, message):
    with pytest.raises(CheckpointError, match=message):
        named_network(None, None, name)


def test_a_notice_is_told_once_and_harmless(box, capsys):
    for _ in range(2):
        load_model(load_config(box / 'configs/face.py'), box / 'weights/face.safetensors')
    assert capsys.readouterr().err == 'note: face.safetensors: \\x1bBe good\n'


@pytest.mark.parametrize('kind', ['safetensors', 'pth', 'onnx'])
def test_a_notice_goes_with_the_weights(box, tmp_path, kind):
    cfg = load_config(box / 'configs/face.py')
    done = export_checkpoint(cfg, box / 'weights/face.safetensors', kind, out=tmp_path / f'x.{kind}')
    if kind == 'onnx':
        said = {entry.key: entry.value for entry in onnx.load(str(done.path)).metadata_props}
    else:
        said = read_checkpoint(done.path)['meta']
    assert said['notice'] == '\x1bBe good'
    with pytest.raises(UserError, match='notice is said anyway'):
        export_checkpoint(cfg, done.path if kind != 'onnx' else box / 'weights/face.safetensors', 'safetensors',
                          out=tmp_path / 'y.safetensors', notes=dict(notice='none'))


@pytest.mark.parametrize('kind', ['safetensors', 'pth'])
def test_what_a_file_says_goes_with_its_weights(box, tmp_path, kind):
    cfg = load_config(box / 'configs/face.py')
    model = build_restorer(cfg)
    model.add_ema()
    save_checkpoint(tmp_path / 'a.pth', model, meta=dict(iter=7))
    first = export_checkpoint(cfg, tmp_path / 'a.pth', kind, ema=True, out=tmp_path / f'x.{kind}',
                              notes=dict(faces_seen='12', psnr='29')).path
    again = export_checkpoint(cfg, first, 'safetensors', out=tmp_path / 'again.safetensors', half=True,
                              notes=dict(psnr='30')).path
    about = module.read_safetensors(again)[1]
    assert (about['weights'], about['iteration'], about['faces_seen'], about['psnr']) == (
        'moving average', '7', '12', '30')
    assert about['checkpoint_sha256'] == file_sha256(first)
    assert about.keys() - set(SAID) == {'faces_seen', 'psnr'} and about['precision'] == 'float16'


def test_half_precision_is_half_as_large_and_says_so(box, tmp_path):
    cfg, source = load_config(box / 'configs/face.py'), box / 'weights/face.safetensors'
    full = export_checkpoint(cfg, source, 'safetensors', out=tmp_path / 'full.safetensors')
    half = export_checkpoint(cfg, source, 'safetensors', out=tmp_path / 'half.safetensors', half=True,
                             notes=dict(faces_seen='12'))
    about = module.read_safetensors(half.path)[1]
    assert about['precision'] == 'float16' and about['faces_seen'] == '12'
    assert half.path.stat().st_size < 0.52 * full.path.stat().st_size
    assert half.difference <= 1e-6 and 0 < half.rounding < 1e-2 and full.rounding is None
    wide, narrow = (load_model(cfg, done.path).generator.state_dict() for done in (full, half))
    assert all(torch.equal(wide[name].half().float(), narrow[name]) for name in wide)


@pytest.mark.parametrize('how, message', [(dict(kind='onnx', half=True), '--half: weights of --format onnx'),
                                          *((dict(kind='pth', notes={key: '5'}), f'--note {key}=') for key in SAID)])
def test_what_has_no_effect_or_contradicts_is_refused(box, tmp_path, how, message):
    with pytest.raises(UserError, match=message):
        export_checkpoint(load_config(box / 'configs/face.py'), box / 'weights/face.safetensors',
                          out=tmp_path / f'out.{how["kind"]}', **how)
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize('name', shipped())
def test_what_is_shipped_is_small_whole_and_described(name):
    path, config = shipped()[name], load_config(named_network(None, None, name).config)
    about = module.read_safetensors(path)[1]
    assert path.stat().st_size <= MOST and about.keys() >= NOTES
    assert 'non-commercial' in about['notice'] and 'validation' in about['training_set']
    assert count_parameters(load_model(config, path).generator) == int(about['parameters']) <= config.budget
    assert re.search(rf'`{re.escape(path.name)}`.*{file_sha256(path)}', (ROOT / 'weights/README.md').read_text())


def test_photos_have_weights_in_the_box():
    assert FOR_PHOTOS in shipped()
