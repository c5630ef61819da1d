"""The one definition of a degradation: MMEditing's configuration, and how numbers are drawn from it."""
import math
from bisect import bisect
from contextlib import contextmanager
from itertools import accumulate

import numpy as np

from facesr.degradation.plan import KINDS, MODES, Blur, Jpeg, Noise, Plan, Quantize, Resize
from facesr.utils.errors import UserError

DOWN, UP, KEEP = 'down', 'up', 'keep'
SHUFFLE = 'DegradationsWithShuffle'
TRIALS = 200  # draws that show whether a recipe is in order; 10 ms


class Recipe:
    """Draws the steps that MMEditing's transforms would apply, with their distributions.

    Args:
        degradation (list[dict]): `RandomBlur`, `RandomResize`, `RandomNoise`, `RandomJPEGCompression`,
            `Quantize` and `DegradationsWithShuffle`, configured as in MMEditing.

    Raises:
        UserError: Another transform, or a parameter that is missing or means nothing.
    """

    def __init__(self, degradation: list):
        self.degradation, self._fits = degradation, {}
        with _mistakes():
            _check(degradation)
        for seed in range(TRIALS):
            self.draw(np.random.default_rng(seed), 512, 512)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Plan:
        """Steps for one image of a size.

        Args:
            rng (np.random.Generator): Decides every number; equal generators give equal steps.
            height (int): Of the GT image.
            width (int): Of the GT image.

        Raises:
            UserError: What is drawn has a parameter that is missing or means nothing.
        """
        steps = []
        with _mistakes():
            size = _draw_all(self.degradation, rng, (height, width), steps)
        return Plan(tuple(steps), size)

    def fits(self, height: int, width: int, scale: int) -> bool:
        """Whether LQ images of GT images of a size are `scale` times smaller, whatever is drawn."""
        key = height, width, scale
        if key not in self._fits:
            draws = (self.draw(np.random.default_rng(seed), height, width) for seed in range(TRIALS))
            self._fits[key] = all(plan.fits(*key) for plan in draws)
        return self._fits[key]


@contextmanager
def _mistakes():
    """What goes wrong with a configuration becomes a `UserError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(f'config key "degradation": {type(error).__name__}: {" ".join(str(error).split())}; see '
                        'MMEditing\'s random_degradations for the parameters') from error


def _check(degradation) -> None:
    if not degradation:
        raise UserError('config key "degradation": is empty; give at least a resize to the LQ size')
    for number, entry in enumerate(_flat(degradation)):
        kind = entry.get('type') if hasattr(entry, 'get') else None
        if kind not in (*DRAWS, SHUFFLE):
            raise UserError(f'config key "degradation": transform {number} is {kind!r}; give one of '
                            f'{", ".join((*DRAWS, SHUFFLE))}')
        if list(entry.get('keys', ['lq'])) != ['lq']:
            raise UserError(f'config key "degradation": transform {number} has keys {list(entry["keys"])}; give ["lq"]')
        _check_params(kind, entry.get('params', {}))


def _flat(entries):
    for entry in entries:
        if isinstance(entry, (list, tuple)):
            yield from _flat(entry)
        else:
            yield entry
            if hasattr(entry, 'get') and entry.get('type') == SHUFFLE:
                yield from _flat(entry['degradations'])


def _check_params(kind: str, params) -> None:
    allowed = dict(kernel_list=KINDS, resize_opt=MODES, noise_type=('gaussian', 'poisson'))
    for key, values in allowed.items():
        wrong = [value for value in params.get(key, ()) if value not in values]
        if wrong:
            raise UserError(f'config key "degradation": {kind}.{key} has {wrong[0]!r}; give some of '
                            f'{", ".join(values)}')
    if kind == 'RandomJPEGCompression' and not 1 <= params['quality'][0] <= params['quality'][1] <= 100:
        raise UserError(f'config key "degradation": RandomJPEGCompression.quality {list(params["quality"])}: give a '
                        'range within 1 to 100')
    if any(size % 2 == 0 for size in params.get('kernel_size', ())):
        raise UserError(f'config key "degradation": RandomBlur.kernel_size {list(params["kernel_size"])}: give odd '
                        'numbers')


def _draw_all(entries, rng, size, steps: list) -> tuple:
    """Append the drawn steps of all entries; returns the image's size after them."""
    for entry in entries:
        if isinstance(entry, (list, tuple)):
            size = _draw_all(entry, rng, size, steps)
        elif entry['type'] == SHUFFLE:
            size = _draw_all(_shuffled(rng, entry), rng, size, steps)
        else:
            params = entry.get('params', {})
            if rng.random() <= params.get('prob', 1):
                step = DRAWS[entry['type']](rng, params, size)
                steps.append(step)
                size = (step.height, step.width) if isinstance(step, Resize) else size
    return size


def _shuffled(rng, entry) -> list:
    """The groups in a random order; those not named by `shuffle_idx` stay where they are."""
    groups = list(entry['degradations'])
    places = entry.get('shuffle_idx')
    places = list(range(len(groups))) if places is None else list(places)
    for place, other in zip(places, rng.permutation(places), strict=True):
        groups[place] = entry['degradations'][other]
    return groups


def _uniform(rng, bounds) -> float:
    return float(bounds[0] + (bounds[1] - bounds[0]) * rng.random())


def _choice(rng, values, probabilities=None):
    if probabilities is None:
        return values[int(rng.integers(len(values)))]
    if len(values) != len(probabilities) or not math.isclose(sum(probabilities), 1, abs_tol=1e-8):
        raise ValueError(f'probabilities {list(probabilities)} of {list(values)} do not add up to 1')
    place = bisect(list(accumulate(probabilities)), rng.random())
    return values[min(place, len(values) - 1)]


def _blur(rng, params, _size) -> Blur:
    kind = _choice(rng, params['kernel_list'], params['kernel_prob'])
    size = _choice(rng, params['kernel_size'])
    sigma_x = _uniform(rng, params.get('sigma_x', (0, 0)))
    sigma_y = _uniform(rng, params.get('sigma_y', (0, 0)))
    angle = _uniform(rng, params.get('rotate_angle', (-math.pi, math.pi)))
    if kind == 'sinc':
        # Real-ESRGAN's bounds, which MMEditing takes when none are given.
        lowest = math.pi / 3 if size < 13 else math.pi / 5
        return Blur(kind, size, omega=_uniform(rng, params.get('omega') or (lowest, math.pi)))
    if min(sigma_x, sigma_y if kind.endswith('aniso') else sigma_x) <= 0:
        raise ValueError(f'{kind} needs sigma_x and sigma_y above 0')
    if not kind.endswith('aniso'):
        sigma_y, angle = sigma_x, 0.
    if kind in ('iso', 'aniso'):
        return Blur(kind, size, sigma_x, sigma_y, angle)
    bounds = params.get('beta_gaussian', (0.5, 4)) if kind.startswith('generalized') else \
        params.get('beta_plateau', (1, 2))
    # MMEditing draws twice: first a bound, then beta between that and 1.
    beta = 1 + (_uniform(rng, bounds) - 1) * float(rng.random())
    return Blur(kind, size, sigma_x, sigma_y, angle, beta)


def _resize(rng, params, size) -> Resize:
    mode = _choice(rng, params['resize_opt'], params['resize_prob'])
    if params.get('target_size') is not None:
        height, width = params['target_size']
        return Resize(int(height), int(width), mode)
    direction = _choice(rng, (UP, DOWN, KEEP), params['resize_mode_prob'])
    scale = params['resize_scale']
    bounds = {UP: (1, scale[1]), DOWN: (scale[0], 1), KEEP: (1, 1)}[direction]
    factor = _uniform(rng, bounds)
    height, width = (side * factor for side in size)
    if params.get('is_size_even', False):
        height, width = 2 * (height // 2), 2 * (width // 2)
    return Resize(max(1, int(height)), max(1, int(width)), mode)


def _noise(rng, params, _size) -> Noise:
    kind = _choice(rng, params['noise_type'], params['noise_prob'])
    if kind == 'gaussian':
        amount = _uniform(rng, params['gaussian_sigma']) / 255
    else:
        amount = _uniform(rng, params['poisson_scale'])
    gray = bool(rng.random() < params[f'{kind}_gray_noise_prob'])
    return Noise(kind, amount, gray, int(rng.integers(2**62)))


def _jpeg(rng, params, _size) -> Jpeg:
    return Jpeg(round(_uniform(rng, params['quality'])))


def _quantize(_rng, _params, _size) -> Quantize:
    return Quantize()


DRAWS = dict(RandomBlur=_blur, RandomResize=_resize, RandomNoise=_noise, RandomJPEGCompression=_jpeg,
             Quantize=_quantize)
