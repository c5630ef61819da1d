"""The formats: how a network is written in each, and how the file is run again to compare."""
import hashlib
import importlib
import inspect
import io
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import facesr.compat.bridged  # noqa: F401

import torch
from torch import nn
from torch.nn import functional

from facesr.checkpoint.io import meta_of, read_checkpoint
from facesr.checkpoint.safetensors import encode_safetensors, require_library
from facesr.checkpoint.weights import GENERATOR, generator_weights
from facesr.utils.choices import OPSET
from facesr.utils.errors import UserError
from facesr.utils.versions import version

OPSET_KEY, GRAPH_DIGEST = 'opset', 'graph_sha256'  # in an ONNX file's metadata
IN, OUT = 'lq', 'hq'
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


def encode_onnx(model: nn.Module, about: dict) -> bytes:
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
    onnx.helper.set_model_props(graph, {**about, OPSET_KEY: str(OPSET), GRAPH_DIGEST: _digest(graph)})
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString()


def load_onnx(path, model=None) -> tuple[Callable | None, str]:
    """What runs an ONNX file in ONNX Runtime on the CPU, if that is installed.

    Raises:
        UserError: The file is not what was written.
    """
    _check_onnx(path)
    try:
        runtime = importlib.import_module('onnxruntime')
    except ImportError:
        return None, 'ONNX Runtime'
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    return (lambda lq: torch.from_numpy(session.run([OUT], {IN: lq.numpy()})[0])), f'ONNX Runtime {runtime.__version__}'


def _check_onnx(path) -> None:
    """That the network in a file has the digest that it was written with, if it says one."""
    onnx = require_library('onnx')
    try:
        graph = onnx.load(str(path))
    except Exception as error:  # protobuf's own
        raise UserError(f'{path}: not an ONNX file, or a damaged one') from error
    written = {entry.key: entry.value for entry in graph.metadata_props}.get(GRAPH_DIGEST)
    if written and written != _digest(graph):
        raise UserError(f'{path}: is damaged: its network is not the one that was written (SHA-256)')


def _digest(graph) -> str:
    return hashlib.sha256(graph.graph.SerializeToString(deterministic=True)).hexdigest()


def encode_published(model, about: dict) -> bytes:
    """A checkpoint with weights alone, as MMEditing's `publish_model.py` makes it: no optimizer, no random states.

    It has one network, so no moving average or discriminator beside it, and nothing of the machine: no paths, no
    environment.
    """
    buffer = io.BytesIO()
    weights = {name: value for name, value in model.state_dict().items() if name.startswith(GENERATOR)}
    torch.save(dict(meta=dict(meta_of(about), mmcv_version=version('mmcv')), state_dict=weights), buffer)
    return buffer.getvalue()


def load_torch(path: str | Path, model: nn.Module) -> tuple[Callable, str]:
    """What the weights in a published checkpoint or a safetensors file compute in a generator like the one that they
    are from.
    """
    generator = deepcopy(model.generator)
    generator.load_state_dict(generator_weights(read_checkpoint(path), path))
    return generator, f'torch {torch.__version__}'


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

    functional.adaptive_max_pool2d = pool  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.adaptive_max_pool2d = adaptive


FORMATS = dict(
    onnx=Format('.onnx', encode_onnx, load_onnx, ('onnx', )),
    safetensors=Format('.safetensors', encode_safetensors, load_torch, ('safetensors', )),
    pth=Format('.pth', encode_published, load_torch))
