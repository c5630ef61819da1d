import pytest
import torch
from mmedit.models import build_backbone

from facesr.config import load_config
from facesr.models.build import build_restorer, count_macs, count_parameters
from facesr.utils.errors import UserError

CONFIG = 'configs/naf_unet_ffhq.py'
SMALL = dict(mid_channels=(4, 6), num_blocks=(1, 1), num_up_blocks=(1, ), patch_size=1)


def build(**how):
    torch.manual_seed(0)
    return build_backbone(dict(type='NAFUNet', **{**SMALL, **how})).eval()


def test_what_is_shipped_is_counted_exactly():
    generator = build_restorer(load_config(CONFIG)).generator
    assert count_parameters(generator) == 1_234_048
    assert count_macs(generator, torch.rand(1, 3, 128, 128)) == 1_478_820_864


@pytest.mark.parametrize('size', [(8, 8), (5, 7), (1, 3), (33, 16)])
@pytest.mark.parametrize('scale, patch', [(2, 1), (3, 2), (4, 2), (4, 3)])
def test_any_size_goes_through(size, scale, patch):
    with torch.no_grad():
        hq = build(upscale_factor=scale, patch_size=patch)(torch.rand(2, 3, *size))
    assert hq.shape == (2, 3, scale * size[0], scale * size[1])


def test_padding_repeats_the_border():
    net, lq = build(), torch.rand(1, 3, 6, 5)
    padded = torch.cat([lq, lq[..., -1:]], -1)
    with torch.no_grad():
        # The skip differs where the upscaled border does: at the last two columns of a pixel.
        torch.testing.assert_close(net(lq)[..., :16], net(padded)[..., :16])


def test_it_begins_near_the_upscaled_image():
    net, lq = build(), torch.rand(1, 3, 8, 8)
    upscaled = torch.nn.functional.interpolate(lq, scale_factor=4, mode='bilinear', align_corners=False)
    with torch.no_grad():
        assert (net(lq) - upscaled).abs().max() < 0.2


def test_every_weight_is_trained():
    net = build().train()
    net(torch.rand(2, 3, 8, 8)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())


def test_all_of_a_face_reaches_each_pixel():
    """Through the means in the blocks, and the coarser level."""
    net, lq = build().double(), torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    net(lq)[0, :, 0, 0].sum().backward()
    assert (lq.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize('how, message', [
    (dict(num_blocks=(1, )), 'give as many num_blocks'),
    (dict(num_up_blocks=(1, 1)), 'one fewer num_up_blocks'),
    (dict(out_channels=1), 'both are the same'),
])
def test_numbers_that_do_not_go_together_are_refused(how, message):
    options = {f'model.generator.{key}': value for key, value in {**SMALL, **how}.items()}
    with pytest.raises(UserError, match=f'config key "model.*{message}'):
        build_restorer(load_config(CONFIG, options))
