import cv2
import pytest
import torch
import torch.nn.functional as F

from facesr.inference.network import network
from facesr.inference.tiling import TOLERANCE, measure_overlap, restore_tiled, spans
from facesr.models.build import build_restorer
from facesr.utils.errors import UserError
from facesr.utils.pixels import to_uint8

SRRESNET = {'model.generator.mid_channels': 8, 'model.generator.num_blocks': 2}
RRDBNET = {**SRRESNET, 'model.generator.num_blocks': 1, 'model.generator.growth_channels': 4}


def strong(cfg, factor):
    """A random network whose weights are so large that its pixels depend on many others, with outputs around 1."""
    torch.manual_seed(0)
    model = build_restorer(cfg)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith('weight') and 'conv_last' not in name:
                weight.mul_(factor)
        net, probe = network(model), torch.rand(1, 3, 32, 32)
        model.generator.conv_last.weight.mul_(1 / net(probe).std())
    return net


def blur(radius):
    """Sees exactly `radius` LQ pixels far, with zeros beyond the image."""
    row = torch.ones(3, 1, 1, 2 * radius + 1) / (2 * radius + 1)

    def net(lq):
        lq = F.conv2d(F.conv2d(lq, row, padding=(0, radius), groups=3), row.mT, padding=(radius, 0), groups=3)
        return F.interpolate(lq, scale_factor=4, mode='nearest')

    return net


@pytest.mark.parametrize('tile,overlap', [(7, 0), (8, 2), (9, 4), (32, 7), (256, 44)])
def test_spans_cover_an_axis_once_with_equal_tiles(tile, overlap):
    for length in [*range(1, 200), 511, 1000, 2049]:
        parts = spans(length, tile, overlap)
        assert [x for part in parts for x in range(part.keep_from, part.keep_to)] == list(range(length))
        assert len({part.stop - part.start for part in parts}) == 1 and parts[0].stop - parts[0].start <= tile
        for part in parts:
            assert part.start == 0 or part.keep_from - part.start >= overlap
            assert part.stop == length or part.stop - part.keep_to >= overlap
            assert part.start >= 0 and part.stop <= length


def test_tiles_are_as_few_and_as_small_as_can_be():
    assert len(spans(256, 256, 10)) == 1
    assert [part.stop - part.start for part in spans(257, 256, 10)] == [139, 139]


@pytest.mark.parametrize('config,options,factor', [('configs/srresnet_ffhq.py', SRRESNET, 3),
                                                   ('configs/rrdbnet_ffhq.py', RRDBNET, 5)])
def test_seams_are_below_a_step_of_8_bits(tiny_config, sample_root, config, options, factor):
    net = strong(tiny_config(config, **options), factor)
    overlap = measure_overlap(net)
    face = cv2.imread(str(sample_root / 'val/GT/00000.png'))[200:260, 200:290, ::-1].copy()
    for image in (torch.from_numpy(face).permute(2, 0, 1)[None] / 255, torch.rand(1, 3, 60, 90)):
        whole = net(image)
        assert (restore_tiled(net, image, 48, 0) - whole).abs().max() > 1 / 255  # without overlap they show
        assert (restore_tiled(net, image, 48, overlap) - whole).abs().max() < 1 / 255
    assert 2 < overlap < 20


def test_the_measured_overlap_is_how_far_the_network_looks():
    assert measure_overlap(blur(3)) == 3
    assert measure_overlap(blur(40)) == 40  # beyond half the first probe
    assert measure_overlap(blur(80)) is None


def test_tiles_and_whole_are_the_same_where_the_overlap_suffices():
    image = torch.rand(1, 3, 70, 33)
    for finish in (None, to_uint8):
        whole = restore_tiled(blur(3), image, finish=finish)
        assert whole.shape == (1, 3, 280, 132) and whole.dtype == (torch.uint8 if finish else torch.float32)
        tiled = restore_tiled(blur(3), image, 20, 3, finish)
        assert (tiled.float() - whole.float()).abs().max() <= (1 if finish else 1e-6)
        assert (restore_tiled(blur(3), image, 20, 2, finish).float() - whole.float()).abs().max() > TOLERANCE


def pooled(lq):
    """Looks at all of the image: each tile is as bright as its mean."""
    return lq.mean((-2, -1), keepdim=True) + torch.zeros_like(lq).repeat_interleave(4, -1).repeat_interleave(4, -2)


def steps(image):
    """The largest difference of neighbours along either axis."""
    return max(image.diff(dim=axis).abs().max().item() for axis in (-1, -2))


@pytest.mark.parametrize('height,width', [(90, 60), (60, 90), (90, 90), (48, 200)])
def test_tiles_of_a_network_that_looks_further_fade_into_each_other(height, width):
    image = (torch.linspace(0, 0.5, height)[:, None] + torch.linspace(0, 0.5, width)).expand(2, 3, -1, -1)
    seam = steps(restore_tiled(pooled, image, 48, 12))
    faded = restore_tiled(pooled, image, 48, 12, blend=True)
    assert seam > 0.05 and steps(faded) < seam / 40  # over 2 * 12 * 4 pixels, of which a third tile may take some
    assert faded.mean() == pytest.approx(0.5, abs=0.01) and faded.shape == (2, 3, 4 * height, 4 * width)
    rounded = restore_tiled(pooled, image, 48, 12, to_uint8, blend=True)
    assert rounded.dtype == torch.uint8 and (rounded / 255 - faded).abs().max() < 2 / 255


def test_fading_changes_nothing_where_tiles_agree():
    image = torch.rand(1, 3, 70, 33)
    before = image.clone()
    faded = restore_tiled(blur(0), image, 20, 4, blend=True)
    assert (faded - blur(0)(image)).abs().max() < 1e-6 and torch.equal(image, before)
    assert torch.equal(restore_tiled(lambda lq: lq, image, 20, 4, to_uint8, True), to_uint8(image))


def test_what_goes_through_the_network_is_never_larger_than_a_tile():
    seen = []

    def net(lq):
        seen.append(tuple(lq.shape[-2:]))
        return lq

    image = torch.rand(1, 3, 50, 19)
    assert torch.equal(restore_tiled(net, image, 20, 4), image)
    assert len(set(seen)) == 1 and max(seen[0]) <= 20 and len(seen) == 4
    seen.clear()
    assert torch.equal(restore_tiled(net, image, 50, 60), image)  # needs no tiles
    assert seen == [(50, 19)]


def test_a_tile_without_middle_is_refused():
    with pytest.raises(UserError, match=r'--tile 8: .* give at least --tile 16'):
        restore_tiled(blur(4), torch.rand(1, 3, 9, 9), 8, 4)
