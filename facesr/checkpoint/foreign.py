"""Checkpoints of other programs: BasicSR's, MMagic's (MMEngine's), mmcv's averages and a generator's bare weights."""
import pickle
import re
from collections import OrderedDict
from types import SimpleNamespace

import torch

GENERATOR, EMA = 'generator.', 'generator_ema.'  # what the names of weights start with, as in MMEditing
# BasicSR's MSRResNet has other names than MMEditing's (and an activation more); its RRDBNet has the same.
SRRESNET = ((r'\.body\.(\d+)\.(conv\d)\.', r'.trunk_net.\1.\2.'), (r'\.upconv(\d)\.', r'.upsample\1.upsample_conv.'))
LEFT_OUT = 'data_preprocessor.'  # MMagic's, whose images are in [0, 255]
INERT = ('mmengine', 'mmagic', 'mmedit', 'numpy')  # packages of what stands beside the weights
PLAIN = {(module, name) for module in ('builtins', '__builtin__')  # Python 2's name, in pickles of protocol 2
         for name in ('getattr', 'set', 'slice', 'int', 'float', 'list', 'dict')} | {
    ('collections', 'deque'), ('collections', 'defaultdict'), ('_codecs', 'encode')}


def plain_checkpoint(checkpoint: dict) -> dict:
    """A checkpoint as mmcv names its parts: of BasicSR's `params` and `params_ema`, generator and moving average."""
    found = {prefix: checkpoint[key] for key, prefix in (('params', GENERATOR), ('params_ema', EMA))
             if isinstance(checkpoint.get(key), dict)}
    if not found or 'state_dict' in checkpoint:
        return checkpoint
    found.setdefault(GENERATOR, found.get(EMA))
    return dict(state_dict={prefix + re.sub(r'^module\.', '', str(name)): value for prefix, weights in found.items()
                            for name, value in weights.items()})


def restorer_weights(weights: dict) -> tuple:
    """Weights under a restorer's names, whether they are its own or those of a generator alone.

    mmcv's `EMAHook` keeps its averages as buffers beside the weights: they become `generator_ema`.

    Returns:
        tuple[dict, bool]: The weights, and whether they are those of BasicSR's SRResNet.
    """
    weights = {name: value for name, value in weights.items() if not name.startswith(LEFT_OUT)}
    if not any(name.startswith((GENERATOR, EMA)) for name in weights):
        weights = {GENERATOR + name: value for name, value in weights.items()}
    averages = {EMA + name[len(GENERATOR):]: f'ema_{name.replace(".", "_")}' for name in weights
                if name.startswith(GENERATOR)}
    taken = {name: weights[buffer] for name, buffer in averages.items() if buffer in weights}
    weights = {**{name: value for name, value in weights.items() if not name.startswith('ema_')}, **taken}
    of_basicsr = {f'{GENERATOR}body.0.conv1.weight', f'{GENERATOR}upconv1.weight'} <= weights.keys()
    return {_in_our_words(name): value for name, value in weights.items()} if of_basicsr else weights, of_basicsr


def _in_our_words(name: str) -> str:
    """MMEditing's name of a weight of BasicSR's SRResNet."""
    for pattern, ours in SRRESNET:
        name = re.sub(pattern, ours, name)
    return name


def read_mmengine(path, map_location) -> dict:
    """The weights of a checkpoint of MMEngine's, whose `message_hub` safe loading refuses; nothing in it is executed.

    What stands beside the weights becomes objects that do nothing, and is left out.

    Raises:
        pickle.UnpicklingError: It names something that is neither a tensor nor MMEngine's or NumPy's.
    """
    # torch's old format begins with pickles that torch reads by `load`, not by the `Unpickler`.
    reader = SimpleNamespace(Unpickler=_WeightsAlone, load=lambda *args, **how: _WeightsAlone(*args, **how).load(),
                             __name__='pickle')
    found = torch.load(path, map_location=map_location, weights_only=False, pickle_module=reader)
    if not isinstance(found, dict) or 'message_hub' not in found:
        raise pickle.UnpicklingError('no message_hub')
    weights = found.get('state_dict')
    if not isinstance(weights, dict) or not all(torch.is_tensor(value) for value in weights.values()):
        raise pickle.UnpicklingError('no state_dict')
    return dict(state_dict=dict(weights))


class _Inert:
    """Stands for an object of a class that is not to be run: takes whatever its pickle gives it, and does nothing."""

    def __new__(cls, *_args, **_kwargs):
        """Take any arguments."""
        return object.__new__(cls)

    def __init__(self, *_args, **_kwargs):
        pass

    def __call__(self, *_args, **_kwargs):
        return _Inert()

    def __setstate__(self, _state):
        pass

    def __setitem__(self, _key, _value):
        pass

    def __hash__(self):
        return 0

    def append(self, _value) -> None:
        """Nothing."""

    def extend(self, _values) -> None:
        """Nothing."""

    add = append


class _WeightsAlone(pickle.Unpickler):
    """Makes tensors and plain values, `_Inert` of MMEngine's and NumPy's classes, and nothing of any other name."""
    TENSORS = {
        ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
        ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
        ('collections', 'OrderedDict'): OrderedDict,
    }

    def find_class(self, module, name):
        """What a pickle's name stands for."""
        if (module, name) in self.TENSORS:
            return self.TENSORS[module, name]
        if module.split('.')[0] in INERT or (module, name) in PLAIN:
            return _Inert
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f'names {module}.{name}')
