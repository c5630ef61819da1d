"""A U-Net of NAFNet's blocks, made for faces under a cap on parameters."""
import facesr.compat.bridged  # noqa: F401

import torch
from mmedit.models.registry import BACKBONES
from torch import nn
from torch.nn import functional


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each pixel of (n, c, h, w)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NAFBlock(nn.Module):
    """Two residual branches without activation functions: halves of the channels gate each other by a product.

    The first looks at 3x3 neighbours, channel by channel, and weighs channels by their means over the whole image;
    the second mixes channels. Both are scaled by a factor per channel, which is learned and 0.1 at first.

    Args:
        channels (int): Channels of the features.

    Source: Chen et al., "Simple Baselines for Image Restoration" (NAFNet), ECCV 2022.
    """

    def __init__(self, channels: int):
        super().__init__()
        wide = 2 * channels
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.expand1 = nn.Conv2d(channels, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.attention = nn.Conv2d(channels, channels, 1)
        self.project1 = nn.Conv2d(channels, channels, 1)
        self.expand2 = nn.Conv2d(channels, wide, 1)
        self.project2 = nn.Conv2d(channels, channels, 1)
        self.scale1, self.scale2 = (nn.Parameter(torch.full((1, channels, 1, 1), 0.1)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) -> the same shape."""
        y = _gated(self.depthwise(self.expand1(self.norm1(x))))
        y = y * self.attention(y.mean((-2, -1), keepdim=True))
        x = _plus_scaled(x, self.scale1, self.project1, y)
        return _plus_scaled(x, self.scale2, self.project2, _gated(self.expand2(self.norm2(x))))


def _plus_scaled(x: torch.Tensor, scale: torch.Tensor, project: nn.Conv2d, y: torch.Tensor) -> torch.Tensor:
    """x + scale * project(y), summed in the precision of the weights, not autocast's: sums of many branches want it."""
    # Scaling the weights instead of what they give saves two passes over the features.
    branch = functional.conv2d(y, project.weight * scale.view(-1, 1, 1, 1), project.bias * scale.flatten())
    return x.to(scale.dtype) + branch.to(scale.dtype)


def _gated(x: torch.Tensor) -> torch.Tensor:
    one, other = x.chunk(2, 1)
    return one * other


@BACKBONES.register_module()
class NAFUNet(nn.Module):
    """NAFNet's U-Net on patches of the LQ image: features at 1/2, 1/4, 1/8 ... of its size.

    Patches of 2x2 pixels become channels (pixel unshuffle), of which a 3x3 convolution makes features: the full size,
    where operations are dearest, has no blocks. On the way down 2x2 convolutions halve the size, on the way up 1x1
    convolutions and pixel shuffle double it, and what had that size before is added. One 3x3 convolution and pixel
    shuffle make the HQ image, to which the bilinearly upscaled LQ image is added. Lower levels and the means in the
    blocks see the whole face. Sides that are no multiples of patch_size * 2 ** (levels - 1) are padded by repeating
    the border, and what that adds is cut off again.

    Args:
        in_channels (int): Channels of the LQ image. Default: 3.
        out_channels (int): Channels of the HQ image; as many as `in_channels`. Default: 3.
        mid_channels (tuple[int]): Channels of each level, the finest first.
        num_blocks (tuple[int]): Blocks of each level on the way down; the last level's are the middle.
        num_up_blocks (tuple[int]): Blocks of each level on the way up, the finest first: one level fewer.
        patch_size (int): LQ pixels to a side of what is one position of the finest level. Default: 2.
        upscale_factor (int): Default: 4.

    Raises:
        ValueError: The numbers of levels do not go together, or the image would have other channels.

    Attributes:
        tile (int): LQ pixels to a side of what tools/restore.py computes at once: the whole image as far as 0.8 GB
            of memory go (fp32), since the means in the blocks want it.

    Sources: NAFNet as above; pixel unshuffle before the first convolution: ESPCN's idea reversed, as in FFDNet
    (Zhang et al., TIP 2018); the bilinear skip: MMEditing's `MSRResNet`.
    """

    tile = 1024

    def __init__(self, in_channels: int = 3, out_channels: int = 3, mid_channels=(64, 96, 128),
                 num_blocks=(2, 2, 4), num_up_blocks=(3, 3), patch_size: int = 2, upscale_factor: int = 4):
        super().__init__()
        levels = len(mid_channels)
        if len(num_blocks) != levels or len(num_up_blocks) != levels - 1:
            raise ValueError(f'mid_channels has {levels} levels: give as many num_blocks (now {len(num_blocks)}) and '
                             f'one fewer num_up_blocks (now {len(num_up_blocks)})')
        if in_channels != out_channels:
            raise ValueError(f'in_channels is {in_channels}, out_channels {out_channels}: the image is added to the '
                             'result, so both are the same')
        self.upscale_factor, self.patch_size, self.multiple = upscale_factor, patch_size, patch_size * 2 ** (levels - 1)
        self.head = nn.Conv2d(in_channels * patch_size**2, mid_channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(map(_blocks, mid_channels, num_blocks))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in _pairs(mid_channels))
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in _pairs(mid_channels))
        self.decoder = nn.ModuleList(map(_blocks, mid_channels, num_up_blocks))
        self.tail = nn.Conv2d(mid_channels[0], out_channels * (upscale_factor * patch_size)**2, 3, padding=1)
        with torch.no_grad():  # it begins close to the upscaled LQ image
            self.tail.weight.mul_(0.1)
            self.tail.bias.zero_()

    def init_weights(self, pretrained=None, strict: bool = True) -> None:
        """Nothing: MMEditing calls it, and weights are as made. `load_from` of a config starts from others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """LQ (n, 3, h, w) in [0, 1], RGB -> HQ (n, 3, scale h, scale w), not clipped."""
        height, width = x.shape[-2:]
        padded = functional.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode='replicate')
        y, skips = self.encoder[0](self.head(functional.pixel_unshuffle(padded, self.patch_size))), []
        for down, blocks in zip(self.down, self.encoder[1:], strict=True):
            skips.append(y)
            y = blocks(down(y))
        for up, blocks in reversed(list(zip(self.up, self.decoder, strict=True))):
            y = blocks(functional.pixel_shuffle(up(y), 2) + skips.pop())
        hq = functional.pixel_shuffle(self.tail(y), self.upscale_factor * self.patch_size)
        hq = hq[..., :height * self.upscale_factor, :width * self.upscale_factor]
        upscaled = functional.interpolate(x, scale_factor=self.upscale_factor, mode='bilinear', align_corners=False)
        return hq.to(x.dtype) + upscaled


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


def _pairs(channels) -> zip:
    """Each level's channels with those of the next coarser one."""
    return zip(channels[:-1], channels[1:], strict=True)
