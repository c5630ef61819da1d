"""The formats: how a network is written in each, and how the file is run again to compare."""
import importlib
import inspect
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from typing import NamedTuple

import facesr.compat.bridged  # noqa: F401

import torch
from mmedit.models.builder import build_backbone
from mmedit.models.registry import BACKBONES
from torch.nn import functional
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from facesr.checkpoint.io import read_checkpoint
from facesr.checkpoint.safetensors import encode_safetensors, read_safetensors, require_library
from facesr.checkpoint.weights import GENERATOR, load_weights
from facesr.models.backbones.spandrel_net import SpandrelNet
from facesr.utils.errors import CheckpointError
from facesr.utils.versions import version

OPSET = 17  # ONNX Runtime reads it since 1.12 (2022)
IN, OUT = 'lq', 'hq'
ABOUT = 'facesr.json'  # the file in a TorchScript archive that has what the network says about itself
EXAMPLE = (2, 3, 16, 24)  # what a network is traced with


class Format(NamedTuple):
    """One format.

    `encode(model, about)` gives the file's bytes for a restorer on the CPU; `load(path, model)` gives what runs the
    file, None if nothing can, and the name of what runs it; `libraries` are needed to write it.
    """
    suffix: str
    encode: Callable
    load: Callable
    libraries: tuple = ()

    def require(self) -> None:
        """Raises a `UserError` if a library is missing."""
        for library in self.libraries:
            require_library(library)


def encode_onnx(model, about: dict) -> bytes:
    """ONNX with weights inside, free batch and sizes, `about` as `metadata_props`; checked by `onnx.checker`.

    By the exporter that traces: every torch since 2.1 has it, it needs no further package, and it writes RRDBNet in
    10 s where the newer one (`dynamo=True`) took 35. Traced sizes are no problem: the result is run at others.
    """
    onnx = require_library('onnx')
    scale = about['scale']
    axes = {0: 'batch', 2: 'height', 3: 'width'}
    options = dict(dynamo=False) if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    buffer = io.BytesIO()
    with _quiet(), _without_graphs_on_stdout(), _pooling_by_a_factor():
        torch.onnx.export(
            model.generator, (torch.rand(EXAMPLE), ), buffer, input_names=[IN], output_names=[OUT],
            opset_version=OPSET, **options,
            dynamic_axes={IN: axes, OUT: {0: 'batch', 2: f'{scale}*height', 3: f'{scale}*width'}})
    graph = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(graph, {**about, 'opset': str(OPSET)})
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString()


def load_onnx(path, model=None):
    """What runs an ONNX file in ONNX Runtime on the CPU, if that is installed."""
    try:
        runtime = importlib.import_module('onnxruntime')
    except ImportError:
        return None, 'ONNX Runtime'
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    return (lambda lq: torch.from_numpy(session.run([OUT], {IN: lq.numpy()})[0])), f'ONNX Runtime {runtime.__version__}'


def encode_torchscript(model, about: dict) -> bytes:
    """A traced module for `torch.jit.load`, which needs neither MMEditing nor this project; any batch and size.

    Traced, because MMEditing's RRDBNet cannot be scripted. Where a trace fixes something to a size, as windows of
    attention, the result does not pass at others.
    """
    buffer = io.BytesIO()
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(model.generator, torch.rand(EXAMPLE), check_trace=False)
        torch.jit.save(traced, buffer, _extra_files={ABOUT: json.dumps(about)})
    return _without_source_paths(buffer)


def _without_source_paths(archive: io.BytesIO) -> bytes:
    """Leaves out the stack traces of this machine, which torch adds to a TorchScript archive and nothing needs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(buffer, 'w') as rest:
        for entry in whole.infolist():
            if not entry.filename.endswith('.debug_pkl'):
                rest.writestr(entry, whole.read(entry))
    return buffer.getvalue()


def load_torchscript(path, model=None):
    """What runs a TorchScript file."""
    with _quiet():
        return torch.jit.load(str(path), map_location='cpu'), f'torch {torch.__version__}'


def encode_published(model, about: dict) -> bytes:
    """A checkpoint with weights alone, as MMEditing's `publish_model.py` makes it: no optimizer, no random states.

    It has one network, so no moving average or discriminator beside it, and nothing of the machine: no paths, no
    environment.
    """
    iteration = dict(iter=int(about['iteration'])) if 'iteration' in about else {}
    meta = dict(exp_name=about['config'], mmcv_version=version('mmcv'), **iteration, facesr=about)
    buffer = io.BytesIO()
    weights = {name: value for name, value in model.state_dict().items() if name.startswith(GENERATOR)}
    torch.save(dict(meta=meta, state_dict=weights), buffer)
    return buffer.getvalue()


def load_published(path, model):
    """What a published checkpoint computes in a model like the one that it was made from."""
    copy = deepcopy(model)
    load_weights(copy, read_checkpoint(path), path)
    return copy.generator, f'torch {torch.__version__}'


def _load_safetensors(path, model=None):
    return load_safetensors(path), f'torch {torch.__version__}'


@contextmanager
def _quiet():
    """Without torch's warnings that tracing is deprecated and may fix sizes: the result is tried at others."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


@contextmanager
def _without_graphs_on_stdout():
    """Without the thousands of lines that torch prints before it raises that ONNX lacks something."""
    log = getattr(torch._C, '_jit_onnx_log', None)
    if log:
        torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        if log:
            torch._C._jit_onnx_log = log


@contextmanager
def _pooling_by_a_factor():
    """Adaptive max pooling (SAFMN's) as max pooling by the factor of the traced sizes, which is what it is for
    multiples of it; ONNX has no other. Where sizes are no multiples the comparison with the checkpoint shows it.
    """
    adaptive = functional.adaptive_max_pool2d

    def pool(images, size):
        kernel = [int(have) // int(want) for have, want in zip(images.shape[-2:], size, strict=True)]
        return functional.max_pool2d(images, kernel)

    functional.adaptive_max_pool2d = pool
    try:
        yield
    finally:
        functional.adaptive_max_pool2d = adaptive


FORMATS = dict(
    onnx=Format('.onnx', encode_onnx, load_onnx, ('onnx', )),
    safetensors=Format('.safetensors', encode_safetensors, _load_safetensors, ('safetensors', )),
    torchscript=Format('.pt', encode_torchscript, load_torchscript),
    pth=Format('.pth', encode_published, load_published))
LARGEST = 1024  # of a number in a generator's config: an untrusted file must not build something huge
MOST = 64  # entries of a list in it
TABLES = 2**28  # bytes of what a generator computes when it is built, and no file has (OmniSR's positions, say)
WORD = re.compile(r'[A-Za-z0-9_+-]{1,32}')  # names an option; no path, no address


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
