"""Weights, precision and self-ensemble of what restores images."""
import pytest
import torch
from conftest import SMALL_NAF
from mmcv.parallel import MMDataParallel

from facesr.inference.network import geometric_self_ensemble, network
from facesr.models.build import build_restorer
from facesr.utils.choices import FLIP

NAF_UNET = 'configs/naf_unet_ffhq.py'


@pytest.fixture
def model(request, tiny_config):
    torch.manual_seed(0)
    config = getattr(request, 'param', None)
    return build_restorer(tiny_config(config, **(SMALL_NAF if config else {})))


@pytest.mark.parametrize('turned, ways', [(True, 8), (False, 2)])
def test_self_ensemble_averages_so_many_ways(turned, ways):
    seen = []

    def net(images):
        seen.append(images)
        return images

    lq = torch.rand(2, 3, 5, 7)
    assert torch.allclose(geometric_self_ensemble(net, lq, turned), lq, atol=1e-6)  # each way is undone
    views = {tuple(images[0].flatten().tolist()) for images in seen}
    assert len(seen) == len(views) == ways


def test_a_flip_ensemble_is_of_the_image_and_its_mirror_image(model):
    lq, net = torch.rand(1, 3, 8, 12), network(model)
    assert torch.equal(network(model, self_ensemble=FLIP)(lq), (net(lq) + net(lq.flip(-1)).flip(-1)) / 2)


@pytest.mark.parametrize('model', [None, NAF_UNET], indirect=True)
def test_self_ensemble_does_not_depend_on_orientation(model):
    net = network(model, self_ensemble=True)
    lq = torch.rand(1, 3, 8, 12)  # whole patches of NAFUNet's, which begin at the upper left
    for turned in (lambda x: x.flip(-1), lambda x: x.mT, lambda x: x.rot90(1, (-2, -1))):
        assert torch.allclose(net(turned(lq)), turned(net(lq)), atol=1e-5)
        assert not torch.allclose(network(model)(turned(lq)), turned(network(model)(lq)), atol=1e-4)


def test_which_weights(model):
    model.add_ema()
    for weight in model.generator_ema.parameters():
        weight.zero_()
    lq = torch.rand(1, 3, 8, 8)
    assert torch.equal(network(model)(lq), model.generator(lq))
    upscaled = torch.nn.functional.interpolate(lq, scale_factor=4, mode='bilinear', align_corners=False)
    assert torch.allclose(network(model, ema=True)(lq), upscaled)  # all that SRResNet adds is gone
    assert torch.equal(network(MMDataParallel(model, device_ids=None))(lq), model.generator(lq))


@pytest.mark.parametrize('model', [None, NAF_UNET], indirect=True)
def test_mixed_precision_gives_float32_nearby(model):
    lq = torch.rand(1, 3, 8, 8)
    full, mixed = network(model)(lq), network(model, amp='bf16')(lq)
    assert mixed.dtype == torch.float32 and not mixed.requires_grad
    assert 0 < (full - mixed).abs().max() < 0.02
