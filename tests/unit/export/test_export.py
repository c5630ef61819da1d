import hashlib
import json
import re
import sys

import onnx
import onnxruntime
import pytest
import safetensors.torch as safetensors_torch
import torch
from conftest import ROOT, SMALL
from mmcv.runner import load_checkpoint as mmcv_load_checkpoint

from facesr.checkpoint.io import read_checkpoint, save_checkpoint
from facesr.checkpoint.safetensors import DIGEST
from facesr.checkpoint.shipped import shipped
from facesr.checkpoint.weights import load_weights
from facesr.config import load_config
from facesr.export.exporter import export_checkpoint, format_export
from facesr.export.formats import FORMATS
from facesr.inference.network import network
from facesr.models.build import build_restorer
from facesr.utils.choices import EXPORT_FORMATS, OPSET
from facesr.utils.errors import CheckpointError, UserError

NETWORKS = {
    'configs/srresnet_ffhq.py': SMALL,
    'configs/rrdbnet_ffhq.py': {'model.generator.mid_channels': 4, 'model.generator.num_blocks': 1,
                                'model.generator.growth_channels': 2}
}
SRRESNET, RRDBNET = NETWORKS
SIZES = ((1, 16, 16), (3, 17, 23), (1, 5, 40), (2, 1, 1))  # n, h, w: odd ones, none that networks are traced with


def config(name):
    return load_config(name, NETWORKS[name])


@pytest.fixture(scope='module')
def models():
    """For each config a random restorer with a moving average that differs."""
    torch.manual_seed(0)
    models = {}
    for name in NETWORKS:
        models[name] = model = build_restorer(config(name)).eval()
        model.add_ema()
        for value in model.generator_ema.parameters():
            value.add_(0.01 * torch.randn_like(value))
    return models


@pytest.fixture
def checkpoints(models, tmp_path):
    """A checkpoint as training leaves it, for each config."""
    paths = {}
    for name, model in models.items():
        paths[name] = tmp_path / model.generator.__class__.__name__ / 'iter_7.pth'
        meta = dict(iter=7, epoch=0, exp_name='x', env_info='here', hook_msgs=dict(best_ckpt='/home/me/best.pth'))
        optimizer = dict(generator=torch.optim.Adam(model.generator.parameters()))
        paths[name].parent.mkdir()
        save_checkpoint(paths[name], model, optimizer, meta, samples=7,
                        ranks=[dict(random={}, log_window=dict(values={}, counts={}))])
    return paths


def run_file(path, cfg):
    """What computes the network in an exported file, as other programs would."""
    if path.suffix == '.onnx':
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        return lambda lq: torch.from_numpy(session.run(['hq'], {'lq': lq.numpy()})[0])
    model = build_restorer(cfg)
    if path.suffix == '.safetensors':
        model.generator.load_state_dict(safetensors_torch.load_file(path))
        return network(model)
    mmcv_load_checkpoint(model, str(path), strict=True)
    return network(model)


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('name, ema', [(SRRESNET, False), (RRDBNET, True)])
def test_every_format_computes_what_the_checkpoint_does(models, checkpoints, name, kind, ema):
    done = export_checkpoint(config(name), checkpoints[name], kind, ema)
    assert done.difference <= 1e-4
    assert done.path.parent == checkpoints[name].parent and done.path.suffix == FORMATS[kind].suffix
    expected, net = network(models[name], ema), run_file(done.path, config(name))
    for n, height, width in SIZES:
        lq = torch.rand(n, 3, height, width)
        with torch.no_grad():
            hq = net(lq)
        assert hq.shape == (n, 3, 4 * height, 4 * width)
        assert (hq - expected(lq)).abs().max() <= 1e-4
        assert (hq - network(models[name], not ema)(lq)).abs().max() > 1e-3  # the other weights are others


def test_onnx_says_what_it_is(models, checkpoints):
    path = export_checkpoint(config(SRRESNET), checkpoints[SRRESNET], 'onnx').path
    assert path.name == 'iter_7.onnx' and len(list(path.parent.iterdir())) == 2  # no file with weights beside it
    graph = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [('', OPSET)]
    shapes = {value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
              for value in (*graph.graph.input, *graph.graph.output)}
    assert shapes == dict(lq=['batch', 3, 'height', 'width'], hq=['batch', 3, '4*height', '4*width'])
    about = {entry.key: entry.value for entry in graph.metadata_props}
    assert about['config'] == 'srresnet_ffhq' and about['opset'] == str(OPSET)
    assert (about['scale'], about['iteration'], about['weights']) == ('4', '7', 'trained')
    assert (about['color_order'], about['value_range']) == ('RGB', '0 to 1')
    assert about['parameters'] == str(sum(value.numel() for value in models[SRRESNET].generator.parameters()))
    assert about['checkpoint_sha256'] == hashlib.sha256(checkpoints[SRRESNET].read_bytes()).hexdigest()


def test_safetensors_are_plain_weights_and_serve_as_checkpoint(models, checkpoints):
    path = export_checkpoint(config(RRDBNET), checkpoints[RRDBNET], 'safetensors', ema=True).path
    assert path.name == 'iter_7_ema.safetensors'
    weights, expected = safetensors_torch.load_file(path), models[RRDBNET].generator_ema.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    model = build_restorer(config(RRDBNET))
    checkpoint = read_checkpoint(path)
    about = checkpoint['meta'].pop('facesr')
    assert checkpoint['meta'] == dict(exp_name='rrdbnet_ffhq', iter=7) and about['weights'] == 'moving average'
    load_weights(model, checkpoint, path)
    assert all(torch.equal(value, expected[name]) for name, value in model.generator.state_dict().items())
    with pytest.raises(CheckpointError, match='does not fit this config.*made with rrdbnet_ffhq'):
        load_weights(build_restorer(config(SRRESNET)), checkpoint, path)


def test_published_checkpoints_have_weights_alone_and_their_hash(models, checkpoints):
    path = export_checkpoint(config(SRRESNET), checkpoints[SRRESNET], 'pth').path
    assert path.name == f'srresnet_ffhq-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint.keys() == {'meta', 'state_dict'}
    assert checkpoint['meta'].keys() == {'exp_name', 'iter', 'mmcv_version', 'facesr'}
    assert all(name.startswith('generator.') for name in checkpoint['state_dict'])
    assert str(path.parent).encode() not in path.read_bytes() and b'/home/me' not in path.read_bytes()


def test_the_hash_goes_into_any_name_that_is_published(checkpoints, tmp_path):
    done = export_checkpoint(config(SRRESNET), checkpoints[SRRESNET], 'safetensors', publish=True,
                             out=tmp_path / 'faces.v1.safetensors')
    digest = hashlib.sha256(done.path.read_bytes()).hexdigest()[:8]
    assert done.path == tmp_path / f'faces.v1-{digest}.safetensors'


@pytest.mark.parametrize('kind', FORMATS)
def test_the_same_export_again_is_the_same_file_and_no_other_is_replaced(checkpoints, kind):
    cfg = config(SRRESNET)
    path = export_checkpoint(cfg, checkpoints[SRRESNET], kind).path
    first = path.read_bytes()
    assert export_checkpoint(cfg, checkpoints[SRRESNET], kind).path == path and path.read_bytes() == first
    path.write_bytes(b'something else')
    with pytest.raises(UserError, match='is there already and has other content; give another name with --out'):
        export_checkpoint(cfg, checkpoints[SRRESNET], kind)
    assert path.read_bytes() == b'something else'


@pytest.mark.parametrize('change', [lambda hq: hq + 2e-4, lambda hq: hq[..., :-1], lambda hq: hq * float('nan')])
def test_what_computes_something_else_is_not_written(checkpoints, monkeypatch, change):
    def load(path, model):
        net, runtime = how.load(path, model)
        return (lambda lq: change(net(lq))), runtime

    how = FORMATS['onnx']
    monkeypatch.setitem(FORMATS, 'onnx', how._replace(load=load))
    with pytest.raises(UserError, match=r'iter_7.onnx: not written, because its output in ONNX Runtime'):
        export_checkpoint(config(SRRESNET), checkpoints[SRRESNET], 'onnx')
    assert [path.name for path in checkpoints[SRRESNET].parent.iterdir()] == ['iter_7.pth']


@pytest.mark.parametrize('library', ['onnx', 'safetensors'])
def test_a_missing_library_is_named(checkpoints, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=f'the package {library} is needed for this: pip install {library}'):
        export_checkpoint(config(SRRESNET), checkpoints[SRRESNET], library)


def test_without_onnx_runtime_the_file_is_written_and_not_called_compared(checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    done = export_checkpoint(config(SRRESNET), checkpoints[SRRESNET], 'onnx')
    assert done.difference is None
    onnx.checker.check_model(str(done.path))


def test_wrong_calls_write_nothing(models, checkpoints, tmp_path):
    with pytest.raises(UserError, match='give the name of a .onnx file to write'):
        export_checkpoint(config(SRRESNET), checkpoints[SRRESNET], 'onnx', out=tmp_path / 'net.pth')
    with pytest.raises(UserError, match='does not fit this config'):
        export_checkpoint(config(RRDBNET), checkpoints[SRRESNET], 'onnx')
    broken = build_restorer(config(SRRESNET))
    broken.generator.conv_last.bias.data[0] = float('nan')
    torch.save(broken.state_dict(), tmp_path / 'nan.pth')
    with pytest.raises(UserError, match='nan.pth: weights are NaN or infinite'):
        export_checkpoint(config(SRRESNET), tmp_path / 'nan.pth', 'onnx')
    assert not list(tmp_path.rglob('*.onnx'))


@pytest.fixture(scope='module')
def exported(models, tmp_path_factory):
    """A safetensors file, its weights, and what it says about itself."""
    folder = tmp_path_factory.mktemp('exported')
    save_checkpoint(folder / 'a.pth', models[SRRESNET])
    path = export_checkpoint(config(SRRESNET), folder / 'a.pth', 'safetensors').path
    with safetensors_torch.safe_open(path, 'pt') as file:
        return path, safetensors_torch.load_file(path), json.loads(file.metadata()['facesr'])


def test_damaged_and_foreign_safetensors_are_refused(exported, tmp_path):
    path, weights, _ = exported
    whole, broken = path.read_bytes(), tmp_path / 'broken.safetensors'
    for data in (b'', whole[:-10], b'\xff' * 100, path.with_name('a.pth').read_bytes()):
        broken.write_bytes(data)
        with pytest.raises(CheckpointError, match='broken.safetensors: not a safetensors file, or a damaged one'):
            read_checkpoint(broken)
    for metadata, message in (({'facesr': '['}, 'damaged'), ({'facesr': '[' * 10**5}, 'damaged'),
                              ({'facesr': '{"a": 1}'}, 'its metadata')):
        safetensors_torch.save_file(weights, broken, metadata)
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(broken)


def test_what_a_file_says_of_its_generator_builds_nothing(exported, tmp_path):
    _, weights, about = exported
    about.pop(DIGEST)  # of another description
    for generator in ('{', '{"type": "NoSuchNet"}', '{"type": "MSRResNet", "mid_channels": 1000000000}'):
        safetensors_torch.save_file(weights, tmp_path / 'x.safetensors',
                                    {'facesr': json.dumps({**about, 'generator': generator})})
        found = read_checkpoint(tmp_path / 'x.safetensors')['state_dict']
        assert all(torch.equal(found[f'generator.{name}'], value) for name, value in weights.items())


def test_the_formats_are_those_that_the_tool_offers():
    assert tuple(FORMATS) == EXPORT_FORMATS


def test_the_summary_is_one_line(checkpoints):
    done = export_checkpoint(config(SRRESNET), checkpoints[SRRESNET], 'onnx')
    size = f'{done.path.stat().st_size / 2**20:.2f} MiB, opset {OPSET}'
    found = f'at most {done.difference:.2g} in ONNX Runtime {onnxruntime.__version__}'
    assert format_export(done) == f'{done.path} ({size}; differs from the checkpoint by {found})'
    unchecked = format_export(done._replace(difference=None, runtime='ONNX Runtime'))
    assert unchecked == f'{done.path} ({size}; not compared with the checkpoint: pip install onnxruntime)'


def test_the_tool(run_tool, refused, checkpoints):
    options = ['--cfg-options', *(f'{key}={value}' for key, value in NETWORKS[SRRESNET].items())]
    path = checkpoints[SRRESNET]
    done = run_tool('export.py', SRRESNET, path, '--publish', '--ema', *options)
    assert done.returncode == 0 and not done.stderr, done.stderr
    written, = path.parent.glob('srresnet_ffhq_ema-????????.pth')
    assert done.stdout.startswith(f'written: {written} (') and done.stdout.count('\n') == 1
    assert 'give --format' in refused('export.py', SRRESNET, path)
    twice = run_tool('export.py', SRRESNET, path, '--publish', '--note', 'a=1', '--note', 'b=2', 'a=3')
    assert twice.returncode == 2 and '--note a=...: is given twice' in twice.stderr


@pytest.mark.parametrize('options, name', [(['--format', 'safetensors'], r'mine\.safetensors'),
                                           (['--format', 'pth'], r'naf_unet_ffhq-\w{8}\.pth'),
                                           (['--publish'], r'naf_unet_ffhq-\w{8}\.pth')])
def test_the_tool_names_what_it_makes_of_weights_in_the_box(run_command, tmp_path, options, name):
    file, out = tmp_path / 'mine.safetensors', tmp_path / 'here'
    file.write_bytes(shipped()['naf_unet_ffhq'].read_bytes())
    out.mkdir()
    done = run_command([sys.executable, ROOT / 'tools/export.py', '--weights', file, *options], cwd=out)
    assert done.stderr.startswith('note: mine.safetensors: trained on') and done.stderr.count('\n') == 1
    written, = out.iterdir()
    assert re.fullmatch(name, written.name)
