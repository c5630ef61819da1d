import pytest
import torch
from mmedit.models.builder import build_backbone

from facesr.config import load_config
from facesr.engine.train import prepare
from facesr.models.build import build_restorer
from facesr.utils.errors import UserError

SIZE = dict(in_channels=3, out_channels=3, mid_channels=8, num_blocks=2, upscale_factor=4)


def test_an_open_gate_is_srresnet():
    """With all attention at 1 the weights of an MSRResNet give an MSRResNet's images."""
    plain, attentive = build_backbone(dict(SIZE, type='MSRResNet')), build_backbone(
        dict(SIZE, type='MSRResNetCA', reduction=4))
    missing = attentive.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys and all('.attention.' in name for name in missing.missing_keys)
    for block in attentive.trunk_net:
        torch.nn.init.zeros_(block.attention.excite.weight)
        torch.nn.init.constant_(block.attention.excite.bias, 100)
    lq = torch.rand(2, 3, 9, 7)
    assert torch.equal(attentive(lq), plain(lq))
    for block in attentive.trunk_net:
        torch.nn.init.constant_(block.attention.excite.bias, -100)  # closed: the trunk passes its input on
    assert torch.equal(attentive.trunk_net(torch.ones(1, 8, 5, 5)), torch.ones(1, 8, 5, 5))


def test_attention_depends_on_the_image_and_learns():
    block = build_backbone(dict(SIZE, type='MSRResNetCA', reduction=4)).trunk_net[0]
    gates = []
    block.attention.excite.register_forward_hook(lambda _module, _input, output: gates.append(output.sigmoid()))
    block(torch.rand(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    assert gates[0].shape == (2, 8, 1, 1) and not torch.equal(gates[0][0], gates[0][1])
    assert all(float(p.grad.abs().max()) > 0 for p in block.attention.excite.parameters())


def test_a_reduction_that_leaves_nothing_is_one_line():
    cfg = load_config('configs/srresnet_ca_ffhq.py', {'model.generator.reduction': 65})
    with pytest.raises(UserError, match='reduction is 65: give a whole number from 1 to the 64 mid_channels'):
        build_restorer(cfg)


def test_as_strong_as_rcans_it_is_over_the_cap(tiny_config):
    with pytest.raises(UserError, match='1,824,595 parameters, 3,510 over the budget of 1,821,085'):
        prepare(tiny_config('configs/srresnet_ca_ffhq.py', **{'model.generator.reduction': 16}))
