"""Building a config's model, loading weights into it, and what it costs."""
from collections.abc import Callable
from pathlib import Path

import torch
from mmedit.models import build_model
from mmedit.models.registry import MODELS
from mmedit.models.restorers import BasicRestorer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facesr.checkpoint.io import read_checkpoint
from facesr.checkpoint.weights import load_weights
from facesr.config import Config, train_dataset_cfg
from facesr.models.restorers.face_restorer import FaceRestorer
from facesr.utils.device import cuda_available
from facesr.utils.errors import UserError, did_you_mean, mistakes_in
from facesr.utils.memory import enough_memory

SMALL = 32  # side of an LQ image that a generator is tried on


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of an `nn.Module`, frozen ones included."""
    return sum(p.numel() for p in module.parameters())


def count_discriminator(restorer: nn.Module) -> int:
    """Number of parameters of a restorer's discriminator, 0 if it has none."""
    discriminator = getattr(restorer, 'discriminator', None)
    return count_parameters(discriminator) if discriminator is not None else 0


def check_budget(generator: nn.Module, cfg: Config, more: int = 0) -> int:
    """Returns the generator's parameter count.

    Args:
        generator (nn.Module): The generator.
        cfg (Config): With the `budget` (None or absent: no cap).
        more (int): Parameters of a discriminator, which count too. Default: 0.

    Raises:
        UserError: They are more than the `budget`.
    """
    count, budget = count_parameters(generator), cfg.get('budget')
    if budget is not None and count + more > budget:
        who, it = (f'generator ({count:,}) and discriminator ({more:,}) have', 'them') if more else (
            'the generator has', 'it')
        raise UserError(f'{who} {count + more:,} parameters, {count + more - budget:,} over the budget of {budget:,}; '
                        f'make {it} smaller, or switch the cap off with --cfg-options budget=None')
    return count


def check_scale(generator: nn.Module, cfg: Config) -> None:
    """That the generator makes images larger by the training data's scale, by a look at what it makes of a small one.

    Raises:
        UserError: It does not, or cannot compute at all.
    """
    scale = train_dataset_cfg(cfg).get('scale')
    side = min(SMALL, (cfg.get('gt_patch_size') or SMALL * (scale or 1)) // (scale or 1))
    training = generator.training
    try:
        with torch.no_grad():
            height, width = generator.eval()(torch.zeros(1, 3, side, side)).shape[-2:]
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(f'config key "model.generator": cannot restore an LQ image of {side}x{side} pixels '
                        f'({" ".join(str(error).split())})') from error
    finally:
        generator.train(training)
    if scale and (height, width) != (scale * side, scale * side):
        raise UserError(f'config key "model.generator": makes images {height / side:g} times as large, but the data '
                        f'are for {scale} times; change the argument for it (upscale_factor, upscale, scale, ...)')


def count_macs(net: Callable, lq: torch.Tensor) -> int:
    """Multiply-accumulate operations of convolutions and matrix products, as torch counts them (half its FLOPs)."""
    with FlopCounterMode(display=False) as counter:
        net(lq)
    return counter.get_total_flops() // 2


def is_face_restorer(type_name: str) -> bool:
    """Whether a config's `model.type` is a `FaceRestorer`, which knows all ways to compute a step."""
    kind = MODELS.get(type_name)
    return isinstance(kind, type) and issubclass(kind, FaceRestorer)


def load_model(cfg: Config, checkpoint: str | Path, ema: bool = False, device: str | torch.device | None = None,
               stored: dict | None = None) -> BasicRestorer:
    """The config's restorer with a checkpoint's weights, in eval mode.

    Args:
        cfg (Config): From `load_config`.
        checkpoint (str | Path): The file.
        ema (bool): Take the moving average of the generator's weights. Default: False.
        device (str | torch.device | None): Where it is to be. Default: None, for CUDA if there is a device.
        stored (dict | None): What `read_checkpoint` made of the file, if it was read. Default: None.

    Raises:
        UserError: The checkpoint is missing, unsafe, of another model or without moving average.
    """
    model = build_restorer(cfg)
    load_weights(model, stored or read_checkpoint(checkpoint), checkpoint, ema)
    with enough_memory(f'{checkpoint}: memory does not suffice for the network; free the device, or use --device cpu'):
        return model.to(device or ('cuda' if cuda_available() else 'cpu')).eval()


def build_restorer(cfg: Config) -> BasicRestorer:
    """The config's restorer (a `BasicRestorer`), on the CPU.

    Raises:
        UserError: A name or an argument in `cfg.model` is wrong.
    """
    if cfg.model.get('pretrained'):  # mmcv would unpickle it, and load what happens to fit
        raise UserError('config key "model.pretrained": use load_from, which reads weights safely and entirely')
    for key, part in cfg.model.items():
        if isinstance(part, dict) and 'type' in part and MODELS.get(part['type']) is None:
            hint = did_you_mean(part['type'], MODELS.module_dict, otherwise='neither MMEditing nor facesr has it')
            raise UserError(f'config key "model.{key}.type" is {part["type"]!r}: {hint}')
    with mistakes_in('model'):
        return build_model(cfg.model, train_cfg=cfg.get('train_cfg'), test_cfg=cfg.get('test_cfg'))
