"""From a checkpoint to a file in another format that was run, compared with it and only then kept."""
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import facesr.compat.bridged  # noqa: F401

import torch
from torch import nn

import facesr
from facesr.checkpoint.io import newest_of, read_checkpoint
from facesr.checkpoint.safetensors import ABOUT, DIGEST, PRECISION
from facesr.checkpoint.weights import NOTICE
from facesr.config import Config
from facesr.export.formats import FORMATS, GRAPH_DIGEST, IN, OPSET_KEY, OUT
from facesr.models.build import count_parameters, load_model
from facesr.utils.choices import OPSET
from facesr.utils.errors import UserError
from facesr.utils.files import atomic_path, file_sha256, is_there, output_file

TOLERANCE = 1e-4  # largest difference to the checkpoint's network, of images in [0, 1]
# What files say about themselves, which no note can say.
SAID = ('config', 'generator', 'weights', 'scale', 'parameters', 'iteration', 'checkpoint_sha256', 'input', 'output',
        'color_order', 'value_range', 'made_by', PRECISION, DIGEST, OPSET_KEY, GRAPH_DIGEST)
# What it is compared on: not the batch or the sizes that it was traced with. Multiples of 4, as networks that
# begin with pixel unshuffle need.
SHAPES = ((3, 3, 20, 36), (1, 3, 32, 12))


class ExportError(UserError):
    """The network cannot be written in the format, or what was written does not compute the same."""


class Exported(NamedTuple):
    """A written file.

    `difference` is the largest to the checkpoint (rounded to half precision, if it was), None where nothing could run
    the file; `rounding` is the largest that half precision makes, None in full precision.
    """
    path: Path
    difference: float | None
    runtime: str
    rounding: float | None = None


def export_checkpoint(cfg: Config, checkpoint: str | Path, kind: str, ema: bool = False, publish: bool = False,
                      out: str | Path | None = None, half: bool = False, notes: dict | None = None) -> Exported:
    """Write a checkpoint's generator in another format.

    The network takes `lq` (n, 3, h, w), RGB in [0, 1], float32, of any n, h and w, and gives `hq` (n, 3,
    scale h, scale w), not clipped. The file is compared with the checkpoint on random images, on the CPU, before
    it appears under its name. No other file is ever replaced.

    Args:
        cfg (Config): From `load_config`.
        checkpoint (str | Path): The file.
        kind (str): One of `FORMATS`.
        ema (bool): Take the moving average of the generator's weights. Default: False.
        publish (bool): Add the first eight digits of the file's SHA-256 to its name, as MMEditing's
            `publish_model.py` does. 'pth' always has them. Default: False.
        out (str | Path | None): The file. Default: beside the checkpoint, named after it, or to publish after
            the config.
        half (bool): Store weights as float16, half as large ('safetensors' alone). Default: False.
        notes (dict[str, str] | None): What else the file is to say about itself. Default: None.

    Raises:
        UserError: The checkpoint is missing, unsafe or of another model, a library is missing, the file's
            name is taken or has another suffix, a note has the name of what a file says anyway, or the exported
            network differs by more than `TOLERANCE`.
    """
    how = FORMATS[kind]
    if half and kind != 'safetensors':
        raise UserError(f'--half: weights of --format {kind} stay float32; use --format safetensors')
    publish = publish or kind == 'pth'
    path = output_file(out, how.suffix) if out else _default_path(cfg, checkpoint, how.suffix, ema, publish)
    how.require()
    stored = read_checkpoint(checkpoint)
    for key in notes or {}:
        if key in SAID or (key == NOTICE and NOTICE in stored['meta']):
            raise UserError(f'--note {key}=...: {key} is said anyway; give another key')
    model = load_model(cfg, checkpoint, ema, 'cpu', stored)  # a GPU's convolutions may round to TF32
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise ExportError(f'{checkpoint}: weights are NaN or infinite; export an earlier checkpoint')
    expected, rounding = _run(model.generator, _random_images()), None
    if half:
        full, expected = expected, _run(_rounded(model.generator, checkpoint), _random_images())
        rounding = _difference(expected, full)
    about = describe(cfg, checkpoint, stored['meta'], model.generator, ema, expected[0].shape[-1] // SHAPES[0][-1])
    about |= {PRECISION: 'float16'} if half else {}
    about |= {key: str(value) for key, value in (notes or {}).items()}
    data = _encoded(model, kind, about, _name(cfg))
    if publish:
        path = path.with_name(f'{path.stem}-{hashlib.sha256(data).hexdigest()[:8]}{path.suffix}')
    is_there(path, data, 'give another name with --out, or remove it', ExportError)
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(data)
        net, runtime = how.load(temporary, model)
        difference = None if net is None else _compared(net, expected, f'{path}: not written', runtime, _name(cfg))
    return Exported(path, difference, runtime, rounding)


def _rounded(generator: nn.Module, checkpoint) -> nn.Module:
    """The generator, its weights as float16 has them."""
    weights = {name: value.half().to(value.dtype) if value.is_floating_point() else value
               for name, value in generator.state_dict().items()}
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise ExportError(f'{checkpoint}: weights are too large for float16; leave --half out')
    generator.load_state_dict(weights)
    return generator


def _encoded(model: nn.Module, kind: str, about: dict, name: str) -> bytes:
    """The file's bytes, or an error that says what the format lacks."""
    try:
        return FORMATS[kind].encode(model, about)
    except RuntimeError as error:  # torch's exporters raise it for what they cannot express
        raise ExportError(f'{name} cannot be written as {kind}: {_first_sentence(error)}; give another --format'
                          ) from error


def _compared(net: Callable, expected: list, refusal: str, runtime: str, name: str) -> float:
    """The largest difference of what a written file computes to what the checkpoint does; an error if it is large."""
    try:
        difference = _difference(_run(net, _random_images()), expected)
    except Exception as error:  # each runtime has its own
        raise ExportError(f'{refusal}, because in {runtime} it does not run at another size than {name} was traced '
                          f'with ({_first_sentence(error)}); give another --format') from error
    if not difference <= TOLERANCE:  # nan too
        raise ExportError(f'{refusal}, because its output in {runtime} differs by {difference:.2g} from the '
                          f'checkpoint, which is more than {TOLERANCE:g}; try another version of {runtime}')
    return difference


def format_export(done: Exported) -> str:
    """An export in one line: file, size, opset of an ONNX file, and what the comparison found."""
    opset = f', opset {OPSET}' if done.path.suffix == '.onnx' else ''
    if done.difference is None:
        check = f'not compared with the checkpoint: pip install {done.runtime.lower().replace(" ", "")}'
    else:
        check = f'differs from the checkpoint by at most {done.difference:.2g} in {done.runtime}'
    half = '' if done.rounding is None else f'; half precision changes outputs by at most {done.rounding:.2g}'
    return f'{done.path} ({done.path.stat().st_size / 2**20:.2f} MiB{opset}; {check}{half})'


def describe(cfg: Config, checkpoint: str | Path, meta: dict, generator: nn.Module, ema: bool, scale: int) -> dict:
    """What a file says about itself: plain strings, the same for the same checkpoint and versions.

    Returns:
        dict[str, str]: `config`, `generator` (JSON of its config), `weights`, `scale`, `parameters`, `iteration`
            and `notice` (if known), `checkpoint_sha256`, `input`, `output`, `color_order`, `value_range` and `made_by`;
            and of a checkpoint that was exported before, the notes that it has.
    """
    earlier = meta.get(ABOUT, {})
    about = {key: value for key, value in earlier.items() if key not in SAID}
    about |= dict(
        config=Path(cfg.filename).stem,
        generator=json.dumps(cfg.model.generator.to_dict(), sort_keys=True),
        weights='moving average' if ema else earlier.get('weights', 'trained'),
        scale=scale,
        parameters=count_parameters(generator),
        checkpoint_sha256=file_sha256(newest_of(checkpoint)),
        input=f'{IN}: float32 (batch, 3, height, width)',
        output=f'{OUT}: float32 (batch, 3, {scale} x height, {scale} x width), not clipped',
        color_order='RGB',
        value_range='0 to 1',
        made_by=f'facesr {facesr.__version__}, torch {torch.__version__}')
    if 'iter' in meta:
        about['iteration'] = meta['iter']
    if NOTICE in meta:  # it goes with the weights
        about[NOTICE] = meta[NOTICE]
    return {key: str(value) for key, value in about.items()}


def _default_path(cfg: Config, checkpoint, suffix: str, ema: bool, publish: bool) -> Path:
    name = Path(cfg.filename if publish else checkpoint).stem
    return Path(checkpoint).with_name(f'{name}{"_ema" if ema else ""}{suffix}')


def _random_images() -> list:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(shape, generator=generator) for shape in SHAPES]


def _name(cfg: Config) -> str:
    return cfg.model.generator.get('architecture', cfg.model.generator.type)


def _first_sentence(error: Exception) -> str:
    """Of a message that goes on with stack traces and graphs."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ' '.join(lines[0].partition('. ')[0].split()).rstrip('.:')


@torch.no_grad()
def _run(net, images: list) -> list:
    return [net(image) for image in images]


def _difference(ours: list, theirs: list) -> float:
    """The largest absolute difference; infinite where shapes differ, nan where a value is."""
    if [a.shape for a in ours] != [b.shape for b in theirs]:
        return float('inf')
    return float(torch.stack([(a - b).abs().max() for a, b in zip(ours, theirs, strict=True)]).max())
