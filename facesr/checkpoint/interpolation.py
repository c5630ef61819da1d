"""Network interpolation: between the weights that give the best PSNR and those of a GAN."""
import io
from pathlib import Path

import torch

from facesr.checkpoint.io import newest_of, read_checkpoint
from facesr.checkpoint.weights import (
    GENERATOR,
    NOTICE,
    OF_BASICSR,
    generator_weights,
    is_of_basicsr,
    notice_of,
    tell_notice,
)
from facesr.utils.errors import CheckpointError
from facesr.utils.files import atomic_path, file_sha256, is_there, output_file
from facesr.utils.versions import version


def interpolate(psnr_checkpoint: str | Path, gan_checkpoint: str | Path, alpha: float, out: str | Path,
                ema: bool = False) -> Path:
    """Write the checkpoint of a generator with weights (1 - alpha) x PSNR + alpha x GAN.

    Noise and artifacts of the GAN fade with alpha, and so do its textures; no training is needed. What comes out has
    a generator alone and goes with the config of either.

    Args:
        psnr_checkpoint (str | Path): A checkpoint of the network that the GAN was started from.
        gan_checkpoint (str | Path): The GAN's.
        alpha (float): In [0, 1].
        out (str | Path): The .pth file; never replaces another one.
        ema (bool): Take the moving averages of both. Default: False.

    Returns:
        Path: The file.

    Raises:
        CheckpointError: A checkpoint cannot be read, has NaN or infinite weights or no moving average, the two are of
            different generators, or the file's name is taken.

    Source: Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCVW 2018, section 3.4.
    """
    path = output_file(out, '.pth')
    ends = [read_checkpoint(checkpoint) for checkpoint in (psnr_checkpoint, gan_checkpoint)]
    for end, source in zip(ends, (psnr_checkpoint, gan_checkpoint), strict=True):
        tell_notice(end, source)
    psnr, gan = (_finite_weights(end, source, ema)
                 for end, source in zip(ends, (psnr_checkpoint, gan_checkpoint), strict=True))
    _require_same_generator(psnr, gan, psnr_checkpoint, gan_checkpoint)
    basicsr = [is_of_basicsr(end) for end in ends]
    if basicsr[0] != basicsr[1]:
        raise CheckpointError(f"{psnr_checkpoint} and {gan_checkpoint}: one is of BasicSR's SRResNet, the other of "
                              "MMEditing's, which compute otherwise; give two of a kind")
    about = dict(alpha=alpha, weights='moving average' if ema else 'trained', psnr=Path(psnr_checkpoint).name,
                 psnr_sha256=file_sha256(newest_of(psnr_checkpoint)), gan=Path(gan_checkpoint).name,
                 gan_sha256=file_sha256(newest_of(gan_checkpoint)))
    origin = {key: value for key, value in ends[1]['meta'].items() if key == 'exp_name'}
    notice = notice_of(*(end['meta'].get(NOTICE) for end in ends))
    checkpoint = dict(meta=dict(origin, mmcv_version=version('mmcv'), interpolation=about, **notice,
                                **({OF_BASICSR: True} if basicsr[0] else {})),
                      state_dict={GENERATOR + name: _between(psnr[name], gan[name], alpha) for name in gan})
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    is_there(path, buffer.getvalue(), 'give another name with --out, or remove it', CheckpointError)
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(buffer.getbuffer())
    return path


def _finite_weights(checkpoint: dict, path, ema: bool) -> dict:
    weights = generator_weights(checkpoint, path, ema)
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise CheckpointError(f'{path}: weights are NaN or infinite; give an earlier checkpoint')
    return weights


def _require_same_generator(psnr: dict, gan: dict, psnr_path, gan_path) -> None:
    different = sorted(name for name in psnr.keys() | gan.keys()
                       if name not in psnr or name not in gan or psnr[name].shape != gan[name].shape)
    if different:
        raise CheckpointError(f'{psnr_path} and {gan_path}: are of different generators ({len(different)} weights, as '
                              f'{different[0]}, differ in shape or are in one alone); the GAN has to be trained from '
                              'the other, with load_from')


def _between(psnr: torch.Tensor, gan: torch.Tensor, alpha: float) -> torch.Tensor:
    if not gan.is_floating_point():  # what counts, as batch norm's steps
        return gan.clone()
    return torch.lerp(psnr.to(gan.dtype), gan, alpha)  # exact at both ends
