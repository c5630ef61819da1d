"""safetensors files: a generator's weights under its own names, and what the file says about itself."""
import importlib
import json
from pathlib import Path
from types import ModuleType

from facesr.utils.errors import CheckpointError, UserError

KEY = 'facesr'  # one entry of metadata, of JSON: the library writes several in random order, and no file twice


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


def read_safetensors(path: str | Path) -> tuple:
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
