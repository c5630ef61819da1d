"""Large images go through a network in overlapping tiles, of which the middles are put together."""
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from tqdm import tqdm

from facesr.utils.errors import UserError

# What may differ from the untiled result, of values in [0, 1]. A tenth of the smallest step of 8 bits, because real
# images are not the probes.
TOLERANCE = 0.1 / 255
PROBES = (64, 128)  # sides of the tiles that are measured, in LQ pixels; half of one is the largest overlap found


class Span(NamedTuple):
    """A tile along one axis, in LQ pixels: what goes through the network, and what is kept of it."""
    start: int
    stop: int
    keep_from: int
    keep_to: int


def spans(length: int, tile: int, overlap: int) -> list:
    """Tiles of one size that cover an axis; what is kept of them covers it once.

    They are as small as their number allows, and the last is shifted inwards. At the image's borders nothing is cut
    off: what the network does there is what it does untiled.

    Args:
        length (int): Of the axis, in LQ pixels.
        tile (int): The largest side of a tile, more than twice the overlap.
        overlap (int): What is cut off at each side that is not the image's border.

    Returns:
        list[Span]
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    inner = length - 2 * overlap
    count = math.ceil(inner / (tile - 2 * overlap))
    step = math.ceil(inner / count)
    starts = [min(i * step, inner - step) for i in range(count)]
    cuts = [0, *(start + overlap for start in starts[1:]), length]
    return [Span(start, start + step + 2 * overlap, cuts[i], cuts[i + 1]) for i, start in enumerate(starts)]


def restore_tiled(net: Callable, lq: torch.Tensor, tile: int = 0, overlap: int = 0,
                  finish: Callable | None = None, blend: bool = False) -> torch.Tensor:
    """Restore images tile by tile. Where the overlap reaches as far as the network looks, nothing shows.

    Args:
        net (Callable): (n, 3, h, w) -> (n, 3, scale h, scale w), from `facesr.inference.network.network`.
        lq (Tensor): (n, 3, h, w), RGB in [0, 1].
        tile (int): Largest side of what goes through the network at once, in LQ pixels, the overlap included;
            0: all of it. Default: 0.
        overlap (int): LQ pixels that are computed around what is kept of a tile (see `measure_overlap`). Default: 0.
        finish (Callable | None): Applied to each tile's result, `to_uint8` for example, which takes a quarter of
            the memory. Default: None.
        blend (bool): Do not cut the overlap off: fade from tile to tile in all of it, for networks that look further,
            whose tiles differ. Default: False.

    Returns:
        Tensor: (n, 3, scale h, scale w), on the host.

    Raises:
        UserError: The tile has no middle.
    """
    height, width = lq.shape[-2:]
    tile = tile or max(height, width)
    if tile <= 2 * overlap and tile < max(height, width):
        raise UserError(f'--tile {tile}: nothing would be left of a tile without an overlap of {overlap} pixels on '
                        f'each side; give at least --tile {4 * overlap}, or a smaller --overlap, and seams may show')
    rows, columns, fade = spans(height, tile, overlap), spans(width, tile, overlap), overlap if blend else 0
    count = len(rows) * len(columns)
    with tqdm(total=count, desc='tiles', leave=False, disable=None if count > 1 else True) as progress:

        def restored(y: Span, x: Span) -> torch.Tensor:
            hq = net(lq[..., y.start:y.stop, x.start:x.stop])
            progress.update()
            return (finish(hq) if finish else hq).cpu()

        strips = (_joined(columns, (restored(y, x) for x in columns), -1, fade) for y in rows)
        return _joined(rows, strips, -2, fade)


def _joined(spans: list, parts: Iterable, axis: int, fade: int) -> torch.Tensor:
    """Tiles side by side, each faded into from the one before it over `fade` LQ pixels on both sides of the cut."""
    output = None
    for span, part in zip(spans, parts, strict=True):
        if len(spans) == 1:
            return part
        scale = part.shape[axis] // (span.stop - span.start)
        if output is None:
            shape = list(part.shape)
            shape[axis] = scale * spans[-1].stop
            output = part.new_empty(shape)
        first = scale * (span.keep_from - fade if span.start else 0)
        part = part.narrow(axis, first - scale * span.start, scale * span.stop - first)
        target, length = output.narrow(axis, first, part.shape[axis]), 2 * scale * fade if span.start else 0
        weight = ((torch.arange(length) + 0.5) / max(length, 1)).view(-1, *[1] * (-1 - axis))
        mixed = target.narrow(axis, 0, length).float().lerp(part.narrow(axis, 0, length).float(), weight)
        target.copy_(part)
        target.narrow(axis, 0, length).copy_(mixed if part.is_floating_point() else mixed.round())
    return output


def measure_overlap(net: Callable) -> int | None:
    """The overlap from which a network's tiles differ from the untiled image by less than `TOLERANCE`.

    The receptive field would be safe, but it is 44 LQ pixels for SRResNet with 20 blocks and some 245 for RRDBNet with
    16, while training leaves most of it unused. So black and white noise, which upsets networks more than photos do,
    and plain white are restored as a tile and as part of a larger image. The result depends on the network alone.

    On a photo of a real face, SRResNet with 20 blocks after 500 iterations differed from untiled by at most 14 / 255
    without overlap, 2.8 with 2 pixels, 0.65 with 4, and 0.016 with the 7 that are measured here.

    Args:
        net (Callable): As for `restore_tiled`; in full precision, of which the rounding is far below the tolerance.

    Returns:
        int | None: In LQ pixels, at most half the largest of `PROBES`; None where even that does not suffice.
    """
    for side in PROBES:
        for overlap, error in enumerate(_tile_errors(net, side)):
            if error < TOLERANCE:
                return overlap
    return None


def _tile_errors(net: Callable, side: int) -> list:
    """By how much a tile's middle is wrong at most, when 0, 1, ... `side / 2 - 1` LQ pixels are cut off around it."""
    margin = side // 2 + 1  # odd: what a network does depends on where its own pooling or windows begin in a tile, too
    noise = torch.rand(1, 3, side + 2 * margin, side + 2 * margin, generator=torch.Generator().manual_seed(0)).round()
    image = torch.cat([noise, torch.ones_like(noise)])
    whole, tile = net(image), net(image[..., margin:-margin, margin:-margin])
    scale = tile.shape[-1] // side
    error = (whole[..., scale * margin:-scale * margin, scale * margin:-scale * margin] - tile).abs().amax((0, 1))
    return [error[scale * cut:-scale * cut or None, scale * cut:-scale * cut or None].max().item()
            for cut in range(side // 2)]
