"""Checkpoints of other programs: the weights arrive where they belong, and nothing is run to read them."""
import pickle
import re
import sys
import types

import pytest
import torch
from mmedit.models.backbones.sr_backbones import MSRResNet, RRDBNet
from torch import nn
from torch.nn import functional

from facesr.checkpoint.interpolation import interpolate
from facesr.checkpoint.io import read_checkpoint
from facesr.config import load_config
from facesr.models.build import build_restorer, load_model
from facesr.utils.errors import CheckpointError

CONFIG = 'configs/srresnet_ffhq.py'
SMALL = {'model.generator.mid_channels': 8, 'model.generator.num_blocks': 2}
RRDB = {'model.generator.mid_channels': 8, 'model.generator.num_blocks': 1, 'model.generator.growth_channels': 4}


class Block(nn.Module):
    """BasicSR's residual block, by its names."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, x):
        return x + self.conv2(functional.relu(self.conv1(x)))


class SRResNet(nn.Module):
    """What BasicSR calls MSRResNet, by its names."""

    def __init__(self):
        super().__init__()
        self.conv_first, self.body = nn.Conv2d(3, 8, 3, 1, 1), nn.Sequential(Block(), Block())
        self.upconv1, self.upconv2 = nn.Conv2d(8, 32, 3, 1, 1), nn.Conv2d(8, 32, 3, 1, 1)
        self.conv_hr, self.conv_last = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, x):
        feature = self.body(functional.leaky_relu(self.conv_first(x), 0.1))
        for upconv in (self.upconv1, self.upconv2):
            feature = functional.leaky_relu(functional.pixel_shuffle(upconv(feature), 2), 0.1)
        out = self.conv_last(functional.leaky_relu(self.conv_hr(feature), 0.1))
        return out + functional.interpolate(x, scale_factor=4, mode='bilinear', align_corners=False)


def output_of(checkpoint, options=None, config=CONFIG, ema=False):
    with torch.no_grad():
        return load_model(load_config(config, options or SMALL), checkpoint, ema).generator(IMAGE)


IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_basicsr_s_srresnet_gives_the_same_images(tmp_path):
    torch.manual_seed(0)
    net, average = SRResNet(), SRResNet()
    path = tmp_path / 'net_g_5000.pth'
    torch.save(dict(params=net.state_dict(), params_ema=average.state_dict()), path)
    theirs = {**SMALL, 'model.generator.type': 'BasicSRResNet'}
    with torch.no_grad():
        assert torch.allclose(output_of(path, theirs), net(IMAGE), atol=1e-6)
        assert torch.allclose(output_of(path, theirs, ema=True), average(IMAGE), atol=1e-6)
        torch.save(dict(params_ema=average.state_dict()), path)
        assert torch.allclose(output_of(path, theirs), average(IMAGE), atol=1e-6)
        torch.save(net.state_dict(), path)
        assert torch.allclose(output_of(path, theirs), net(IMAGE), atol=1e-6)
    with pytest.raises(CheckpointError, match='an activation after each upsampling .*type=BasicSRResNet'):
        output_of(path)
    mixed, ours = tmp_path / 'mixed.pth', tmp_path / 'ours.pth'
    interpolate(path, path, 0.5, mixed)
    with torch.no_grad():
        assert torch.allclose(output_of(mixed, theirs), net(IMAGE), atol=1e-6)
    with pytest.raises(CheckpointError, match='an activation after each upsampling'):
        output_of(mixed)
    torch.save(read_checkpoint(mixed)['state_dict'], ours)
    with pytest.raises(CheckpointError, match="one is of BasicSR's SRResNet, the other of MMEditing's"):
        interpolate(ours, path, 0.5, tmp_path / 'x.pth')


def test_basicsr_s_rrdbnet(tmp_path):
    torch.manual_seed(0)
    net = RRDBNet(3, 3, mid_channels=8, num_blocks=1, growth_channels=4)  # the same names in both
    assert 'body.0.rdb1.conv1.weight' in net.state_dict()
    path = tmp_path / 'net_g_latest.pth'
    torch.save(dict(params={f'module.{name}': value for name, value in net.state_dict().items()}), path)
    with torch.no_grad():
        assert torch.equal(output_of(path, RRDB, 'configs/rrdbnet_ffhq.py'), net(IMAGE))


def test_a_generator_s_bare_weights(tmp_path):
    torch.manual_seed(0)
    net = MSRResNet(3, 3, mid_channels=8, num_blocks=2)
    torch.save(net.state_dict(), tmp_path / 'a.pth')
    with torch.no_grad():
        assert torch.equal(output_of(tmp_path / 'a.pth'), net(IMAGE))


def test_the_averages_of_mmcv_s_hook(tmp_path):
    torch.manual_seed(0)
    model, average = (build_restorer(load_config(CONFIG, SMALL)) for _ in range(2))
    buffers = {f'ema_{re.sub("[.]", "_", name)}': value for name, value in average.state_dict().items()}
    torch.save(dict(meta=dict(iter=5), state_dict={**model.state_dict(), **buffers}), tmp_path / 'a.pth')
    with torch.no_grad():
        assert torch.equal(output_of(tmp_path / 'a.pth'), model.generator(IMAGE))
        assert torch.equal(output_of(tmp_path / 'a.pth', ema=True), average.generator(IMAGE))


@pytest.fixture
def mmengine(monkeypatch):
    """A package of this name, as far as a checkpoint's pickle asks for it; it must not be imported in reading."""
    module = types.ModuleType('mmengine.logging')

    class HistoryBuffer:
        def __init__(self):
            self.history, self.kinds = torch.arange(3).numpy(), {'mean': max}

        def __setstate__(self, _state):
            raise AssertionError('was run')

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, 'HistoryBuffer'
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setitem(sys.modules, 'mmengine', types.ModuleType('mmengine'))
    monkeypatch.setitem(sys.modules, 'mmengine.logging', module)
    return HistoryBuffer


def in_the_old_format(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_a_bare_pickle(content, path):
    path.write_bytes(pickle.dumps(content, 2))


@pytest.mark.parametrize('write', [torch.save, in_the_old_format])
def test_mmagic_s_training_checkpoint(write, tmp_path, mmengine, monkeypatch):
    torch.manual_seed(0)
    model = build_restorer(load_config(CONFIG, SMALL))
    weights = {**model.state_dict(), 'data_preprocessor.mean': torch.zeros(3), 'step_counter': torch.tensor(7)}
    buffer = mmengine()
    buffer.kinds = {}
    content = dict(meta=dict(iter=5, cfg='a'), state_dict=weights, message_hub=dict(log_scalars=dict(loss=buffer)))
    write(content, tmp_path / 'a.pth')
    monkeypatch.delitem(sys.modules, 'mmengine.logging')
    assert read_checkpoint(tmp_path / 'a.pth')['meta'] == {}
    with torch.no_grad():
        assert torch.equal(output_of(tmp_path / 'a.pth'), model.generator(IMAGE))


class Harmful:
    """What runs when its pickle is read."""

    def __reduce__(self):
        return print, ('was run', )


@pytest.mark.parametrize('write', [torch.save, in_the_old_format, as_a_bare_pickle])
@pytest.mark.parametrize('alone', [False, True])
def test_other_code_stays_refused(write, alone, tmp_path, mmengine, capsys):
    """Also where it is the first thing in a file: torch reads its old format's beginning in another way."""
    buffer = mmengine()
    buffer.kinds = {}
    write(Harmful() if alone else dict(state_dict={}, message_hub=dict(a=buffer, b=Harmful())), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='refused, because reading it would execute pickled code'):
        read_checkpoint(tmp_path / 'a.pth')
    assert 'was run' not in capsys.readouterr().out


def test_addresses_are_refused_as_such():
    for url in ('https://example.org/a.pth', 'http://example.org/a.pth', 's3://bucket/a.pth'):
        with pytest.raises(CheckpointError, match='nothing is downloaded; download it and give the file'):
            read_checkpoint(url)
