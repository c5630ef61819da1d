"""Degradations by MMEditing's own transforms, under the noise of ours: for show_degradation.py and the tests.

MMEditing draws its noise where it adds it, so NumPy's functions are replaced for that moment. Nothing that trains or
restores does so.
"""
from contextlib import contextmanager
from unittest import mock

import facesr.compat.bridged  # noqa: F401

import numpy as np
import torch
from mmedit.datasets.pipelines import Quantize as StockQuantize
from mmedit.datasets.pipelines import RandomBlur, RandomJPEGCompression, RandomNoise, RandomResize

from facesr.analysis.figures.degradation import Compared
from facesr.degradation.cpu import degrade
from facesr.degradation.kernels import full_kernel
from facesr.degradation.noise import noise_field
from facesr.degradation.plan import Blur, Jpeg, Noise, Resize
from facesr.degradation.recipe import Recipe


class NoiseRecord:
    """Makes noise fields and keeps them; `replay` gives the same again, to compare ways under one noise."""

    def __init__(self):
        self.fields = []

    def __call__(self, step, image):
        """As `noise_field`."""
        field = noise_field(step, image)
        self.fields.append(field.cpu())
        return field

    def replay(self):
        """A source of noise that gives the recorded fields in their order."""
        fields = iter(self.fields)
        return lambda _step, image: next(fields).to(image.device)


class _FixedBlur(RandomBlur):

    def __init__(self, blur: Blur):
        super().__init__(params={}, keys=['lq'])
        self.blur = blur

    def get_kernel(self, num_kernels):
        return [full_kernel(self.blur)] * num_kernels


def degrade_by_mmedit(image: np.ndarray, steps, noise) -> np.ndarray:
    """As `facesr.degradation.cpu.degrade`, with MMEditing's transforms.

    Args:
        image (ndarray): (h, w, 3), uint8, RGB.
        steps (Sequence): Of a `Plan`.
        noise (Callable): Gives the noise fields, as `NoiseRecord.replay` does.
    """
    results = dict(lq=image.astype(np.float32) / 255)
    for step in steps:
        with _given(noise, step, results['lq']):
            results = _transform(step)(results)
    return results['lq']


def _transform(step):
    keys = ['lq']
    if isinstance(step, Blur):
        return _FixedBlur(step)
    if isinstance(step, Resize):
        return RandomResize(dict(target_size=(step.height, step.width), resize_opt=[step.mode], resize_prob=[1]), keys)
    if isinstance(step, Noise):
        params = dict(noise_type=[step.kind], noise_prob=[1], gaussian_sigma=[step.amount * 255] * 2,
                      poisson_scale=[step.amount] * 2)
        gray = {f'{kind}_gray_noise_prob': int(step.gray) for kind in ('gaussian', 'poisson')}
        return RandomNoise(dict(params, **gray), keys)
    if isinstance(step, Jpeg):
        return RandomJPEGCompression(dict(quality=[step.quality] * 2), keys)
    return StockQuantize(keys)


class _Counts:
    """Stands for photon counts that come out as the given field once MMEditing has divided them."""

    def __init__(self, rates, field):
        self.rates, self.field = rates, field

    def __truediv__(self, photons):
        return self.rates / photons + self.field


@contextmanager
def _given(noise, step, image):
    """Let NumPy draw the field that the step is to add."""
    if not isinstance(step, Noise):
        yield
        return
    field = noise(step, torch.from_numpy(np.float32(image)) * 255).numpy() / (255 * (step.amount or 1))
    with mock.patch('numpy.random.randn', lambda *shape: np.broadcast_to(field, shape)), \
            mock.patch('numpy.random.poisson', lambda rates: _Counts(rates, field)):
        yield


def compare(image: np.ndarray, recipe: Recipe, seed: int) -> Compared:
    """Degrade an image in both ways, under one noise.

    Args:
        image (ndarray): (h, w, 3), uint8, RGB.
        recipe (Recipe): What to draw from.
        seed (int): Of the draws.
    """
    plan, noise = recipe.draw(np.random.default_rng(seed), *image.shape[:2]), NoiseRecord()
    ours = degrade(image, plan.steps, noise)
    return Compared(plan, ours, degrade_by_mmedit(image, plan.steps, noise.replay()))
