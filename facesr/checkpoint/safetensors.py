"""safetensors files: a generator's weights under its own names, and what the file says about itself."""
import hashlib
import importlib
import json
from pathlib import Path
from types import ModuleType

import torch

from facesr.utils.errors import CheckpointError, DamagedCheckpoint, UserError

DIGEST, PRECISION = 'sha256', 'precision'  # among what a file says about itself
DIGITS = 64  # of a SHA-256
# The one entry of the metadata, which holds all as JSON: the library writes several in random order, so that no file
# would come out the same twice. Also the entry of a checkpoint's `meta` that goes on with its weights.
ABOUT = 'facesr'


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


def is_safetensors(path: Path) -> bool:
    """Whether a file is one by its name, or by how it begins, as half-made ones have other names."""
    with path.open('rb') as file:
        start = file.read(9)  # the length of the header, little-endian and below 2**24, and the header: JSON
    return path.suffix.lower() == '.safetensors' or start[3:] == bytes(5) + b'{'


def encode_safetensors(model, about: dict) -> bytes:
    """The generator's weights, named as in its own `state_dict`, with `about` as JSON in the metadata.

    They are stored in `about`'s precision ('float16'), if it says one, else as they are.
    """
    half = about.get(PRECISION) == 'float16'
    weights = {name: (value.half() if half and value.is_floating_point() else value).contiguous()
               for name, value in model.generator.state_dict().items()}
    about = dict(about, **{DIGEST: digest(weights, about)})
    return require_library('safetensors.torch').save(weights, {ABOUT: json.dumps(about)})


def digest(weights: dict, about: dict) -> str:
    """SHA-256 over weights and what a file says about them (but the generator's config, which nothing here reads)."""
    said = {key: value for key, value in about.items() if key not in (DIGEST, 'generator')}
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(weights):
        value = weights[name].detach().contiguous()
        found.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def read_safetensors(path) -> tuple:
    """The weights in a file and what it says about itself; nothing in it is executed.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: Weights on the CPU, and `facesr.export`'s description, empty where
            another program wrote the file.

    Raises:
        CheckpointError: It is damaged, which is seen by a digest in files of `tools/export.py`, or not such a file.
    """
    library = require_library('safetensors')
    try:
        with library.safe_open(str(path), framework='pt') as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
            said = file.metadata() or {}
            about = json.loads(said.get(ABOUT, '{}'))
    except (library.SafetensorError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f'{path}: not a safetensors file, or a damaged one') from error
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise CheckpointError(f'{path}: its metadata "{ABOUT}" is not what tools/export.py writes')
    renamed = ABOUT not in said and any(f'"{DIGEST}"' in text for text in said.values())  # by a flipped bit
    if DIGEST in about:
        wrong = about[DIGEST] != digest(weights, about)
    else:  # its key may have been renamed so too
        wrong = any(value == digest(weights, {other: about[other] for other in about if other != key})
                    for key, value in about.items() if len(value) == DIGITS)
    if renamed or wrong:
        raise DamagedCheckpoint(f'{path}: is damaged: its weights are not those that were written (SHA-256)')
    return weights, about
