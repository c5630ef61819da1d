import copy
import sys

import pytest
import spandrel
import torch
from mmcv import ConfigDict
from mmedit.models.builder import build_backbone

from facesr.checkpoint.io import read_checkpoint, save_checkpoint
from facesr.checkpoint.weights import load_weights
from facesr.config import load_config
from facesr.engine.dry_run import dry_run
from facesr.engine.train import train
from facesr.export.exporter import export_checkpoint
from facesr.export.formats import FORMATS
from facesr.models.backbones.spandrel_net import SpandrelNet, architectures
from facesr.models.build import build_restorer, count_parameters
from facesr.utils.errors import UserError

SMALL = {
    'configs/plksr_ffhq.py': {'model.generator.dim': 8, 'model.generator.n_blocks': 1,
                              'model.generator.kernel_size': 5},
    'configs/safmn_ffhq.py': {'model.generator.dim': 8, 'model.generator.n_blocks': 1},
    'configs/rrdbnet_ffhq_original.py': {'model.generator.mid_channels': 8, 'model.generator.num_blocks': 1},
}
PLKSR, SAFMN, RRDBNET = SMALL
OTHERS = {  # another kind each: re-parameterised, windows of attention that pad themselves, windows that do not
    'SPAN': dict(num_in_ch=3, num_out_ch=3, feature_channels=8, norm=False),
    'SwinIR': dict(upscale=4, embed_dim=12, depths=[2], num_heads=[2], window_size=8, mlp_ratio=2, img_size=16,
                   upsampler='pixelshuffledirect'),
    'DITN': dict(dim=12, ITL_blocks=1, SAL_blocks=1)
}
SIZES = ((1, 1), (3, 9), (16, 16), (17, 23))  # of LQ images


def random_net(architecture, **arguments):
    torch.manual_seed(0)
    return build_backbone(dict(type='SpandrelNet', architecture=architecture, **arguments))


def config_of(architecture, **arguments):
    cfg = load_config(SAFMN)
    cfg.model.generator = ConfigDict(type='SpandrelNet', architecture=architecture, **arguments)
    return cfg


@pytest.fixture
def export(tmp_path):
    """Writes a small random network of a config in a format; returns the network and the file."""

    def write(name, kind):
        torch.manual_seed(0)
        cfg = load_config(name, SMALL[name])
        model = build_restorer(cfg).eval()
        save_checkpoint(tmp_path / 'net.pth', model)
        return model.generator, export_checkpoint(cfg, tmp_path / 'net.pth', kind).path

    return write


def test_architectures_go_by_spandrels_names():
    assert {'ATD', 'OmniSR', 'PLKSR', 'RealPLKSR', 'SAFMN', 'SPAN', 'SwinIR'} <= architectures().keys()
    net = random_net('SAFMN', dim=8, n_blocks=2)
    assert isinstance(net, architectures()['SAFMN'][0]) and isinstance(net, SpandrelNet)
    theirs = architectures()['SAFMN'][0](dim=8, n_blocks=2)
    assert {name: value.shape for name, value in net.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()}


@pytest.mark.parametrize('architecture, arguments', [*OTHERS.items(), ('SAFMN', dict(dim=8, n_blocks=1))])
def test_any_size_goes_in(architecture, arguments):
    net = random_net(architecture, **arguments).eval()
    for height, width in SIZES:
        with torch.no_grad():
            hq = net(torch.rand(2, 3, height, width))
        assert hq.shape == (2, 3, 4 * height, 4 * width) and hq.isfinite().all()


def test_padding_is_reflection_and_is_cut_off():
    net = random_net('SAFMN', dim=8, n_blocks=1).eval()
    lq = torch.rand(1, 3, 13, 16)
    reflected = torch.cat([lq, lq[:, :, [11, 10, 9]]], 2)
    with torch.no_grad():
        assert torch.equal(net(lq), net(reflected)[:, :, :52])


@pytest.mark.parametrize('architecture, arguments', [*OTHERS.items(), ('PLKSR', dict(dim=8, n_blocks=1))])
def test_copies_and_modes(architecture, arguments):
    net, lq = random_net(architecture, **arguments), torch.rand(1, 3, 16, 16)
    other = copy.deepcopy(net).eval()
    assert type(other) is type(net) and count_parameters(other) == count_parameters(net)
    with torch.no_grad():
        expected = net.eval()(lq)
        assert torch.equal(other(lq), expected)
        net.train()
        net(lq)
        assert torch.equal(net.eval()(lq), expected)
        other.load_state_dict(net.state_dict())
        assert torch.equal(other(lq), expected)


@pytest.mark.parametrize('architecture, arguments', OTHERS.items())
def test_every_weight_that_is_trained_has_a_gradient(architecture, arguments):
    """Else DDP would wait for it in vain."""
    net = random_net(architecture, **arguments)
    net(torch.rand(1, 3, 16, 16)).sum().backward()
    assert [name for name, value in net.named_parameters() if value.requires_grad and value.grad is None] == []


@pytest.mark.parametrize('config', [PLKSR, SAFMN])
def test_a_step_changes_all_weights_and_the_moving_average_follows(config):
    model = build_restorer(load_config(config, SMALL[config]))
    model.add_ema()
    before = {name: value.clone() for name, value in model.generator.named_parameters()}
    batch = dict(lq=torch.rand(2, 3, 8, 8), gt=torch.rand(2, 3, 32, 32))
    outputs = model.train_step(batch, dict(generator=torch.optim.Adam(model.generator.parameters(), lr=0.01)))
    assert outputs['log_vars']['loss'].isfinite()
    model.update_ema(0.5)
    for name, mean in model.generator_ema.named_parameters():
        now = model.generator.get_parameter(name)
        assert not torch.equal(now, before[name])
        assert torch.allclose(mean, (now + before[name]) / 2)


@pytest.mark.parametrize('arguments, message', [
    (dict(architecture='SAFNM', dim=8), "spandrel has no architecture 'SAFNM'; did you mean SAFMN"),
    (dict(architecture='omnisr'), "no architecture 'omnisr'; did you mean OmniSR?"),
    (dict(architecture='Xyz'), "no architecture 'Xyz'; it has ATD, .*SwinIR"),
    (dict(architecture='SAFMN', dim=8, blocks=3), 'SAFMN has no argument "blocks"; it takes dim, n_blocks, ffn_scale'),
    (dict(architecture='SAFMN'), 'SAFMN needs the argument "dim"; it takes dim'),
    (dict(architecture='SAFMN', dim=-8), 'SAFMN cannot be built with these arguments'),
    (dict(dim=8), 'architecture'),
])
def test_mistakes_are_one_line(arguments, message):
    cfg = load_config(SAFMN)
    cfg.model.generator = ConfigDict(type='SpandrelNet', **arguments)
    with pytest.raises(UserError, match=f'config key "model": .*{message}') as caught:
        build_restorer(cfg)
    assert '\n' not in str(caught.value)


def test_without_spandrel_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    architectures.cache_clear()
    try:
        with pytest.raises(ValueError, match='pip install spandrel'):
            architectures()
    finally:
        architectures.cache_clear()


@pytest.mark.parametrize('options, message', [
    ({'upscaling_factor': 2}, 'makes images 2 times as large, but the data are for 4 times; change'),
    ({'architecture': 'RetinexFormer', 'dim': None}, 'has no argument "dim"'),
])
def test_another_scale_than_the_datas_is_refused_before_training(tiny_config, tmp_path, options, message):
    cfg = tiny_config(SAFMN, **{**SMALL[SAFMN], **{f'model.generator.{key}': value for key, value in options.items()}})
    with pytest.raises(UserError, match=message):
        train(cfg, 'wrong_scale')
    assert not (tmp_path / 'work').exists()


def test_what_fails_in_the_network_is_one_line(tiny_config):
    cfg = tiny_config(SAFMN, **{**SMALL[SAFMN], 'model.generator.dim': 6})  # 4 does not divide it
    with pytest.raises(UserError, match='cannot restore an LQ image of 8x8 pixels .*'):
        dry_run(cfg)


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('config', [PLKSR, SAFMN])
def test_every_format_is_written(export, config, kind):
    net, path = export(config, kind)  # compares with the checkpoint
    assert path.suffix == FORMATS[kind].suffix
    if kind == 'safetensors':
        other = read_checkpoint(path)['state_dict']
        assert all(torch.equal(value, other[f'generator.{name}']) for name, value in net.state_dict().items())


def test_what_a_trace_fixes_to_a_size_is_refused_in_one_line(tmp_path, capfd):
    message = 'not written, because in ONNX Runtime .* it does not run at another size than SwinIR was traced with'
    cfg = config_of('SwinIR', **OTHERS['SwinIR'])
    save_checkpoint(tmp_path / 'net.pth', build_restorer(cfg))
    with pytest.raises(UserError, match=message) as caught:
        export_checkpoint(cfg, tmp_path / 'net.pth', 'onnx')
    assert '\n' not in str(caught.value) and capfd.readouterr().out == ''
    assert [path.name for path in tmp_path.iterdir()] == ['net.pth']


def test_an_operator_that_onnx_lacks_is_one_line(tmp_path, capfd):
    cfg = config_of('ATD', upscale=4, embed_dim=16, depths=[1], num_heads=[2], window_size=8, category_size=16,
                    num_tokens=8, reducted_dim=4, upsampler='pixelshuffledirect')
    save_checkpoint(tmp_path / 'net.pth', build_restorer(cfg))
    with pytest.raises(UserError, match='ATD cannot be written as onnx: Unsupported: ONNX export of operator Sort'):
        export_checkpoint(cfg, tmp_path / 'net.pth', 'onnx')
    assert capfd.readouterr().out == ''


@pytest.mark.parametrize('config', SMALL)
def test_exported_safetensors_load_in_spandrel(export, config):
    net, path = export(config, 'safetensors')
    descriptor = spandrel.ModelLoader().load_from_file(path)
    assert descriptor.architecture.id == dict(zip(SMALL, ('PLKSR', 'SAFMN', 'ESRGAN'), strict=True))[config]
    assert (descriptor.scale, descriptor.input_channels, descriptor.output_channels) == (4, 3, 3)
    assert count_parameters(descriptor.model) == count_parameters(net)
    for height, width in ((16, 16), (13, 20)):
        lq = torch.rand(1, 3, height, width)
        with torch.no_grad():
            assert (descriptor(lq) - net(lq).clamp(0, 1)).abs().max() <= 1e-6  # spandrel clips


def test_tables_that_torch_does_not_save(tmp_path):
    """OmniSR computes positions when it is built: they are in no checkpoint."""
    cfg = config_of('OmniSR', num_in_ch=3, num_out_ch=3, num_feat=8, block_num=1, res_num=1, window_size=8, up_scale=4)
    model = build_restorer(cfg).eval()
    save_checkpoint(tmp_path / 'net.pth', model)
    load_weights(build_restorer(cfg), read_checkpoint(tmp_path / 'net.pth'), 'net.pth')
    path = export_checkpoint(cfg, tmp_path / 'net.pth', 'safetensors').path
    load_weights(build_restorer(cfg), read_checkpoint(path), path)


def test_architectures_with_words_and_lists_are_written_too(tmp_path):
    cfg = config_of('SwinIR', **OTHERS['SwinIR'])
    model, lq = build_restorer(cfg).eval(), torch.rand(1, 3, 16, 16)
    save_checkpoint(tmp_path / 'net.pth', model)
    path = export_checkpoint(cfg, tmp_path / 'net.pth', 'safetensors').path
    other = build_restorer(cfg).eval()
    load_weights(other, read_checkpoint(path), path)
    with torch.no_grad():
        assert torch.equal(other.generator(lq), model.generator(lq))
