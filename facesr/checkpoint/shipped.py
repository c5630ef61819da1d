"""The weights in the box, `weights/`, and naming a network by its weights instead of by CONFIG and CHECKPOINT."""
from pathlib import Path
from typing import NamedTuple

from facesr.checkpoint.safetensors import is_safetensors, read_safetensors
from facesr.utils.errors import CheckpointError, UserError, did_you_mean

ROOT = Path(__file__).resolve().parents[2]
SUFFIX = '.safetensors'


class Network(NamedTuple):
    """A network's config and its weights; `name` is None where both were given."""
    config: str
    checkpoint: str
    name: str | None = None


def shipped() -> dict:
    """The files in the box by name, which is that of their config."""
    return {path.stem: path for path in sorted((ROOT / 'weights').glob(f'*{SUFFIX}'))}


def named_network(config: str | None, checkpoint: str | None, weights: str | None) -> Network:
    """What is meant by CONFIG and CHECKPOINT, or by --weights instead of both.

    Args:
        config (str | None): The first, if it is given.
        checkpoint (str | None): The second, if it is given.
        weights (str | None): A name in `weights/`, or a .safetensors file that `tools/export.py` wrote for one of
            the configs here.

    Raises:
        UserError: Both ways are mixed, something is missing, or there is no such file.
        CheckpointError: The file does not say which config it is for, or that is not here.
    """
    if weights is None:
        if config is None or checkpoint is None:
            raise UserError('give CONFIG and CHECKPOINT, or --weights: '
                            f'{", ".join(shipped()) or "a .safetensors file of tools/export.py"}')
        return Network(config, checkpoint)
    if config is not None:
        raise UserError(f'{config}: goes with a CHECKPOINT, but --weights stands for both; give one or the other')
    path = shipped().get(weights, Path(weights))
    if path.is_dir():
        raise UserError(f'--weights {weights}: is a folder; give a {SUFFIX} file')
    if not path.is_file():
        hint = did_you_mean(path.name.removesuffix(SUFFIX), shipped(),
                            otherwise=f'give a file, or one of {", ".join(shipped()) or "none"}')
        raise UserError(f'--weights {weights}: no such file; {hint}')
    if not is_safetensors(path):
        raise UserError(f'--weights {weights}: is no {SUFFIX} file; give CONFIG and this file as CHECKPOINT')
    about = read_safetensors(path)[1]
    if 'config' not in about:
        raise CheckpointError(f'{path}: does not say which config it is for; give CONFIG and this file as CHECKPOINT')
    found = [file for file in (ROOT / 'configs').rglob('*.py')
             if file.stem == about['config'] and '_base_' not in file.relative_to(ROOT).parts]
    if len(found) != 1:
        raise CheckpointError(f'{path}: is for a config {about["config"]!r}, which is not in configs/; give CONFIG and '
                              'this file as CHECKPOINT')
    return Network(_as_typed(found[0]), _as_typed(path), path.stem)


def _as_typed(path: Path) -> str:
    """A path as one would give it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
