import re

import onnx
import pytest
import torch
from conftest import ROOT

from facesr.checkpoint import shipped as module
from facesr.checkpoint.io import read_checkpoint
from facesr.checkpoint.safetensors import encode_safetensors
from facesr.checkpoint.shipped import named_network, shipped
from facesr.config import load_config
from facesr.export.exporter import export_checkpoint
from facesr.models.build import build_restorer, count_parameters, load_model
from facesr.utils.choices import FOR_PHOTOS
from facesr.utils.errors import CheckpointError, UserError
from facesr.utils.files import file_sha256

CONFIG = 'configs/sample/naf_unet_sample.py'
MOST = 4 * 10**6  # bytes of a file
SAID = {'training_set', 'faces_seen', 'cpu_hours', 'psnr', 'notice', 'sha256', 'precision'}


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A repository whose box has one file, `face`, that says what it is for."""
    for name, text in (('configs/face.py', f'_base_ = {str(ROOT / CONFIG)!r}'), ('weights/README.md', '')):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    model = build_restorer(load_config(tmp_path / 'configs/face.py'))
    said = dict(face=dict(config='face', notice='\x1bBe good'), lost=dict(config='gone'), bare={})
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
    ((None, None, None), 'give CONFIG and CHECKPOINT, or --weights: bare, face, lost'),
    (('a.py', None, None), 'give CONFIG and CHECKPOINT'),
    (('a.py', None, 'face'), 'a.py: goes with a CHECKPOINT'),
    ((None, None, 'fact'), 'did you mean face'),
    ((None, None, 'nothing.safetensors'), 'nothing.safetensors: no such file'),
])
def test_what_is_mixed_or_missing_is_refused(box, arguments, message):
    with pytest.raises(UserError, match=message):
        named_network(*arguments)


@pytest.mark.parametrize('name, message', [('lost', "config 'gone', which is not in configs/"),
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
                                          (dict(kind='safetensors', notes=dict(scale='5')), '--note scale=')])
def test_what_has_no_effect_or_contradicts_is_refused(box, tmp_path, how, message):
    with pytest.raises(UserError, match=message):
        export_checkpoint(load_config(box / 'configs/face.py'), box / 'weights/face.safetensors',
                          out=tmp_path / f'out.{how["kind"]}', **how)
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize('name', shipped())
def test_what_is_shipped_is_small_whole_and_described(name):
    path, config = shipped()[name], load_config(named_network(None, None, name).config)
    about = module.read_safetensors(path)[1]
    assert path.stat().st_size <= MOST and about.keys() >= SAID
    assert 'non-commercial' in about['notice'] and 'validation' in about['training_set']
    assert count_parameters(load_model(config, path).generator) == int(about['parameters']) <= config.budget
    assert re.search(rf'`{re.escape(path.name)}`.*{file_sha256(path)}', (ROOT / 'weights/README.md').read_text())


def test_photos_have_weights_in_the_box():
    assert FOR_PHOTOS in shipped()
