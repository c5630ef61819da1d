"""The architectures of spandrel, a library of restoration networks, as generators."""
import importlib
import inspect
from functools import cache

import torch
from mmedit.models.registry import BACKBONES
from torch import nn
from torch.nn import functional as F

from facesr.utils.errors import similar


@BACKBONES.register_module()
class SpandrelNet(nn.Module):
    """A network of the library `spandrel`, for example `dict(type='SpandrelNet', architecture='SAFMN', dim=72)`.

    It is an instance of a subclass of the architecture's own class: its weights keep their names, so a generator
    exported as .safetensors (which RCAN and IPT cannot be) loads in `spandrel.ModelLoader`. Images of any size go
    through: they are padded by reflection to what spandrel says that the network needs, as spandrel's own call does,
    and its output is cropped.

    Args:
        architecture (str): One of `architectures()`, for example 'SAFMN' or 'PLKSR'.
        hyperparameters: The architecture's arguments, under its own names; the scale is one of them.

    Raises:
        ValueError: There is no such architecture, or it cannot be built with these arguments.
    """

    def __new__(cls, architecture=None, **hyperparameters):
        """An instance of the architecture's subclass; without one (as `copy` makes instances) of this class."""
        return super().__new__(cls if architecture is None else _subclass(architecture))

    def __init__(self, architecture: str, **hyperparameters):
        _check_arguments(architecture, hyperparameters)
        try:
            super().__init__(**hyperparameters)
        except Exception as error:  # the networks check nothing, so what a wrong number leads to can be anything
            raise ValueError(f'{architecture} cannot be built with these arguments ({type(error).__name__}: {error})'
                             ) from error
        for module in self.modules():
            if hasattr(module, 'eval_conv'):  # SPAN's: computed from other weights in eval mode, never trained
                module.eval_conv.requires_grad_(False)
        self._least, self._multiple = _size_requirements(self, architecture)

    def init_weights(self, pretrained: str | None = None, strict: bool = True) -> None:
        """Nothing, for the architecture's constructor has drawn the weights.

        Args:
            pretrained (str | None): Only None.
            strict (bool): Of no effect.

        Raises:
            ValueError: Weights are to be loaded.
        """
        if pretrained is not None:
            raise ValueError('SpandrelNet: pretrained: use load_from, which reads weights safely and entirely')

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> (n, 3, scale h, scale w), RGB in [0, 1], not clipped."""
        height, width = x.shape[-2:]
        x = self._padded(x)
        output = super().forward(x)
        output = output[0] if isinstance(output, (tuple, list)) else output  # behind the image: what it made of it
        scale = output.shape[-1] // x.shape[-1]
        return output[..., :scale * height, :scale * width]

    def _padded(self, x):
        if self._least == 0 and self._multiple == 1:
            return x
        height, width = x.shape[-2:]
        down, right = (self._missing(length) for length in (height, width))
        # An image as short as the padding cannot be reflected far enough; the rest is its last pixel.
        y_reflected, x_reflected = min(down, height - 1), min(right, width - 1)
        x = F.pad(x, (0, x_reflected, 0, y_reflected), 'reflect')
        return F.pad(x, (0, right - x_reflected, 0, down - y_reflected), 'replicate')

    def _missing(self, length):
        length, given = max(length, self._least), length
        return length + -length % self._multiple - given


@cache
def architectures() -> dict:
    """What can be built: the class of each network in spandrel and spandrel's `Architecture` for it, by name.

    Raises:
        ValueError: spandrel is not installed.
    """
    try:
        spandrel = importlib.import_module('spandrel')  # here, because whoever takes another generator needs it not
    except ImportError as error:
        raise ValueError('the package spandrel is needed for this: pip install spandrel') from error
    found = {}
    for support in spandrel.MAIN_REGISTRY:
        module = inspect.getmodule(type(support.architecture))
        for name, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, nn.Module) and hasattr(value, 'hyperparameters'):
                found[name] = (value, support.architecture)
    return found


@cache
def _subclass(architecture: str) -> type:
    known = architectures()
    if architecture not in known:
        folded = {name.lower(): name for name in sorted(known)}
        close = similar(str(architecture).lower(), folded, most=3)
        hint = f'did you mean {" or ".join(folded[name] for name in close)}?' if close else ''
        raise ValueError(f'spandrel has no architecture {architecture!r}; '
                         f'{hint or "it has " + ", ".join(folded.values())}')
    return type(architecture, (SpandrelNet, known[architecture][0]), {'__module__': __name__})


def _check_arguments(architecture: str, hyperparameters: dict) -> None:
    parameters = inspect.signature(architectures()[architecture][0]).parameters
    wrong = [name for name in hyperparameters if name not in parameters]
    lacking = [name for name, parameter in parameters.items()
               if parameter.default is parameter.empty and name not in hyperparameters]
    if wrong or lacking:
        problem = f'has no argument "{wrong[0]}"' if wrong else f'needs the argument "{lacking[0]}"'
        raise ValueError(f'{architecture} {problem}; it takes {", ".join(parameters)}')


def _size_requirements(net: SpandrelNet, architecture: str) -> tuple:
    """The smallest side and the number that sides are multiples of, from what spandrel makes of the weights."""
    if any(value.is_meta for value in net.parameters()):  # it will compute nothing
        return 0, 1
    with torch.random.fork_rng(devices=[]):  # spandrel builds the network again
        try:
            needed = architectures()[architecture][1].load(net.state_dict()).size_requirements
        except Exception:  # whatever spandrel meets where it cannot read the arguments from the weights
            return 0, 1
    return needed.minimum, needed.multiple_of
