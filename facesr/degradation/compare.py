"""The fast degradation and MMEditing's beside each other, for the same draws."""
from typing import NamedTuple

import numpy as np

from facesr.degradation.cpu import degrade
from facesr.degradation.plan import Plan
from facesr.degradation.recipe import Recipe
from facesr.degradation.reference import NoiseRecord, degrade_by_mmedit


class Compared(NamedTuple):
    """Two LQ images (h, w, 3) of one GT image and plan, float32, RGB in [0, 1]."""
    plan: Plan
    ours: np.ndarray
    reference: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """Of each value, absolute, in units of 1/255."""
        return np.abs(self.ours - self.reference) * 255


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
