"""safetensors files: a generator's weights under its own names, and what it takes to build it."""
import importlib
import json
import re
from contextlib import contextmanager
from types import ModuleType

import torch
from mmedit.models.builder import build_backbone
from mmedit.models.registry import BACKBONES
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from facesr.checkpoint import CheckpointError
from facesr.errors import UserError
from facesr.models.spandrel_net import SpandrelNet

KEY = 'facesr'  # one entry of metadata, of JSON: the library writes several in random order, and no file twice
LARGEST = 1024  # of a number in a generator's config: an untrusted file must not build something huge
MOST = 64  # entries of a list in it
TABLES = 2**28  # bytes of what a generator computes when it is built, and no file has (OmniSR's positions, say)
WORD = re.compile(r'[A-Za-z0-9_+-]{1,32}')  # names an option; no path, no address


def require_library(name: str) -> ModuleType:
    """Import an optional library.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition('.')[0]
        raise UserError(f'the package {package} is needed for this: pip install {package}') from error


def encode_safetensors(model, about: dict) -> bytes:
    """The generator's weights, named as in its own `state_dict`, with `about` as JSON in the metadata."""
    weights = {name: value.contiguous() for name, value in model.generator.state_dict().items()}
    return require_library('safetensors.torch').save(weights, {KEY: json.dumps(about)})


def read_safetensors(path) -> tuple:
    """The weights in a file and what it says about itself; nothing in it is executed.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: Weights on the CPU, and `facesr.export`'s description, empty where
            another program wrote the file.

    Raises:
        CheckpointError: It is damaged, or not such a file.
    """
    library = require_library('safetensors')
    try:
        with library.safe_open(str(path), framework='pt') as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
            about = json.loads((file.metadata() or {}).get(KEY, '{}'))
    except (library.SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f'{path}: not a safetensors file, or a damaged one') from error
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise CheckpointError(f'{path}: its metadata "{KEY}" is not what tools/export.py writes')
    return weights, about


def load_safetensors(path):
    """Build the generator that a file of `tools/export.py` describes, with its weights.

    The file need not be trusted: its description is JSON, names one of MMEditing's backbones (or a class that the
    caller registered), has bounded numbers alone (of spandrel's architectures also words and short lists), and must
    fit the weights before anything of that size is allocated, but for tables that it computes, of at most `TABLES`
    bytes. Building it ends where it gets more weights than those.

    Args:
        path (str | Path): The file.

    Returns:
        nn.Module: On the CPU, in eval mode, (n, 3, h, w) -> (n, 3, scale h, scale w), RGB in [0, 1], not clipped.

    Raises:
        CheckpointError: It is damaged, was written by another program, or does not fit its description.
    """
    weights, about = read_safetensors(path)
    generator = _generator_config(about, path)
    try:
        with torch.device('meta'), _LinspaceOnCPU(), _at_most(len(weights)):
            net = build_backbone(generator)
        expected = {name: value.shape for name, value in net.state_dict().items()}
        if expected != {name: value.shape for name, value in weights.items()}:
            raise CheckpointError(f'{path}: its weights are not those of the {generator["type"]} that it describes')
        if sum(value.numel() * value.element_size() for value in net.buffers()) > TABLES:
            raise CheckpointError(f'{path}: the {generator["type"]} that it describes would need tables of more than '
                                  f'{TABLES >> 20} MiB')
        net = build_backbone(generator)
    except CheckpointError:
        raise
    except Exception as error:  # numbers that a network is not made for can lead to anything
        raise CheckpointError(f'{path}: no generator can be built from its metadata '
                              f'({" ".join(str(error).split())})') from error
    net.load_state_dict(weights)
    return net.eval()


def _generator_config(about: dict, path) -> dict:
    if 'generator' not in about:
        raise CheckpointError(f'{path}: does not say which generator its weights are for; give a file that '
                              'tools/export.py wrote')
    try:
        generator = json.loads(about['generator'])
    except (ValueError, RecursionError):
        generator = None
    if not isinstance(generator, dict) or not isinstance(generator.get('type'), str):
        raise CheckpointError(f'{path}: its metadata has no generator with a type')
    kind = BACKBONES.get(generator['type'])
    module = getattr(kind, '__module__', 'mmedit.')
    if module.startswith('mmedit.') and not module.startswith('mmedit.models.backbones.'):
        raise CheckpointError(f'{path}: {generator["type"]} is no backbone that is known here')
    is_plain, taken = _is_number, f'numbers up to {LARGEST}'
    if kind is SpandrelNet:
        is_plain, taken = _is_plain, f'numbers up to {LARGEST}, words and lists of these'
    for key, value in generator.items():
        if key != 'type' and not is_plain(value):
            raise CheckpointError(f'{path}: its generator has {key}={str(value)[:40]!r}; only {taken} are taken from a '
                                  'file')
    return generator


def _is_number(value) -> bool:
    return isinstance(value, (bool, int, float)) and abs(value) <= LARGEST


def _is_plain(value) -> bool:
    """Whether a value may be an argument of spandrel's architectures."""
    if isinstance(value, list):
        return len(value) <= MOST and all(_is_plain(entry) and not isinstance(entry, list) for entry in value)
    return value is None or _is_number(value) or isinstance(value, str) and WORD.fullmatch(value) is not None


class _LinspaceOnCPU(TorchFunctionMode):
    """Values that architectures read while they are built (the rates of stochastic depth) are not without content."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {}, **(dict(device='cpu') if func is torch.linspace else {}))
        return func(*args, **kwargs)


@contextmanager
def _at_most(count: int):
    """Ends building a network (`ValueError`) that registers far more parameters than a file has weights."""
    left = 2 * count + 100  # a parameter may be replaced

    def register(module, name, parameter):
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f'it would have more weights than the {count} in the file')

    handle = register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()
