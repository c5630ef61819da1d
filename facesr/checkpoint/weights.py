"""Putting a checkpoint's weights into a model: all of them, or an error and none."""
import re
from functools import cache
from pathlib import Path

from torch import nn

from facesr.checkpoint.foreign import EMA, GENERATOR, restorer_weights
from facesr.utils.cli import note
from facesr.utils.dist import unwrapped
from facesr.utils.errors import CheckpointError
from facesr.utils.terminal import plain

# What serves training alone: a model may have it and a checkpoint not, and the other way round.
TRAINING_ONLY = ('discriminator.', 'perceptual_loss.', 'step_counter')
NOTICE = 'notice'  # in a checkpoint's meta: what whoever uses it is to know
OF_BASICSR = 'of_basicsr'  # in a checkpoint's meta: they are of BasicSR's SRResNet, under MMEditing's names
# The layers of EDSR, RDN and SRResNet whose number and shapes go with the scale.
UPSAMPLING = re.compile(r'generator(_ema)?\.(upsample\d?|upscale)\.')


def load_weights(model: nn.Module, checkpoint: dict, path: str | Path, ema: bool = False,
                 any_scale: bool = False) -> list:
    """Put a checkpoint's weights into a model: all of them, or an error and none.

    What the checkpoint has as a notice is told on stderr, once, and is the model's `notice` from then on, which
    `save_checkpoint` writes: it goes with whatever is made of the weights.

    A moving average in the checkpoint is passed over by a model that has none; a model's own starts
    from the generator where the checkpoint has none. A discriminator (and the weights of MMEditing's perceptual
    loss) in the checkpoint is passed over too by a model that has none; a model's own stays as it is where the
    checkpoint has none at all.

    Args:
        model (nn.Module): The model, wrapped or not.
        checkpoint (dict): From `read_checkpoint`.
        path (str | Path): Where it came from, for the message.
        ema (bool): Take the generator's moving average for the generator. Default: False.
        any_scale (bool): It may be of a generator for another scale, to start training from: then weights of its
            upsampling that do not fit are passed over. Default: False.

    Returns:
        list[str]: The model's weights that were not loaded: those of its upsampling, for another scale.

    Raises:
        CheckpointError: There is no moving average to take, or names or shapes differ; the message counts them
            and gives examples.
    """
    model = unwrapped(model)
    ours = model.state_dict()
    theirs = _in_restorers_names(checkpoint, model, path)
    theirs = _with_matching_parts(_with_matching_ema(theirs, ours, path, ema), ours)
    fresh = []
    if any_scale:
        fresh = [name for name, value in ours.items() if UPSAMPLING.match(name)
                 and (name not in theirs or theirs[name].shape != value.shape)]
        theirs = {name: value for name, value in theirs.items() if name in ours or not UPSAMPLING.match(name)}
        theirs.update({name: ours[name] for name in fresh})
    wrong = {
        'missing': sorted(ours.keys() - theirs.keys()),
        'not in the model': sorted(theirs.keys() - ours.keys()),
        'of another shape': [
            f'{name} {tuple(theirs[name].shape)}, here {tuple(ours[name].shape)}' for name in ours
            if name in theirs and theirs[name].shape != ours[name].shape
        ]
    }
    if any(wrong.values()):
        found = '; '.join(f'{len(names)} {what} ({names[0]})' for what, names in wrong.items() if names)
        origin = checkpoint['meta'].get('exp_name')
        made_by = f', it was made with {origin}' if origin else ''
        raise CheckpointError(f'{path} does not fit this config: weights {found}{made_by}; '
                              'give the config and the checkpoint that belong together')
    model.load_state_dict(theirs)
    if checkpoint['meta'].get(NOTICE):
        model.notice = checkpoint['meta'][NOTICE]
        tell_notice(checkpoint, path)
    return fresh


def tell_notice(checkpoint: dict, path: str | Path) -> None:
    """Tell on stderr what a checkpoint from `read_checkpoint` has as a notice, once."""
    if checkpoint['meta'].get(NOTICE):
        _tell(plain(f'{Path(path).name}: {checkpoint["meta"][NOTICE]}'))


def notice_of(*texts: str | None) -> dict:
    """The entry of `meta` that says what the notices of all sources say; none where there are none."""
    said = ' '.join(dict.fromkeys(filter(None, texts)))
    return {NOTICE: said} if said else {}


@cache
def _tell(notice: str) -> None:
    """Once in a process, however often the weights are loaded."""
    note(notice)


def is_of_basicsr(checkpoint: dict) -> bool:
    """Whether weights are of BasicSR's SRResNet: they fit MMEditing's by shape, and under our names by name, but not
    what it computes.
    """
    return bool(checkpoint['meta'].get(OF_BASICSR)) or restorer_weights(checkpoint['state_dict'])[1]


def generator_weights(checkpoint: dict, path: str | Path, ema: bool = False) -> dict:
    """A checkpoint's generator alone, or its moving average, under the generator's own names.

    Args:
        checkpoint (dict): From `read_checkpoint`.
        path (str | Path): Where it came from, for the message.
        ema (bool): Take the moving average. Default: False.

    Raises:
        CheckpointError: It has none.
    """
    weights = _with_matching_ema(restorer_weights(checkpoint['state_dict'])[0], {}, path, ema)
    generator = {name[len(GENERATOR):]: value for name, value in weights.items() if name.startswith(GENERATOR)}
    if not generator:
        raise CheckpointError(f'{path}: has no weights of a generator; give a checkpoint of a training run')
    return generator


def _in_restorers_names(checkpoint: dict, model, path) -> dict:
    if not hasattr(model, 'generator'):
        return checkpoint['state_dict']
    if is_of_basicsr(checkpoint) and not getattr(model.generator, 'of_basicsr', False):
        raise CheckpointError(f"{path}: is of BasicSR's SRResNet, which has an activation after each upsampling that "
                              "MMEditing's has not; use --cfg-options model.generator.type=BasicSRResNet")
    return restorer_weights(checkpoint['state_dict'])[0]


def _with_matching_ema(theirs: dict, ours: dict, path, take_ema: bool) -> dict:
    average = {name[len(EMA):]: value for name, value in theirs.items() if name.startswith(EMA)}
    if take_ema and not average:
        raise CheckpointError(f'{path}: has no moving average of the weights; leave --ema out, or train with '
                              '--cfg-options ema=0.999')
    theirs = {name: value for name, value in theirs.items() if not name.startswith(EMA)}
    generator = {name[len(GENERATOR):]: value for name, value in theirs.items() if name.startswith(GENERATOR)}
    if take_ema:
        theirs.update({GENERATOR + name: value for name, value in average.items()})
    if any(name.startswith(EMA) for name in ours):
        theirs.update({EMA + name: value for name, value in (average or generator).items()})
    return theirs


def _with_matching_parts(theirs: dict, ours: dict) -> dict:
    for part in TRAINING_ONLY:
        own = {name: value for name, value in ours.items() if name.startswith(part)}
        if not own:
            theirs = {name: value for name, value in theirs.items() if not name.startswith(part)}
        elif not any(name.startswith(part) for name in theirs):
            theirs = {**theirs, **own}
    return theirs
