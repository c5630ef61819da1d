"""The degradation as a transform of MMEditing's pipelines."""
import facesr.compat.bridged  # noqa: F401

import numpy as np
from mmedit.datasets.registry import PIPELINES

from facesr.config import DEVICE, LOADER, PLAN, Config, train_dataset_cfgs
from facesr.degradation.cpu import degrade
from facesr.degradation.recipe import Recipe
from facesr.utils.errors import UserError


@PIPELINES.register_module()
class Degrade:
    """Makes `lq` from an 8-bit `gt`, and crops both; or draws how, for the device to do it.

    Required keys are "gt" (uint8, RGB, (h, w, 3)) and "scale"; added are "lq" (float32, RGB in [0, 1]) with
    `on='loader'`, or "plan" (`facesr.degradation.plan.Plan`) with `on='device'`, where "gt" stays whole. What is drawn
    depends on NumPy's global state alone, as with MMEditing's transforms, and not on `on`.

    Args:
        degradation (list[dict]): MMEditing's random degradations (see `Recipe`).
        gt_patch_size (int | None): Side of the GT patch to keep. Default: None, the whole image.
        on (str): 'loader' or 'device'. Default: 'loader'.
    """

    def __init__(self, degradation: list, gt_patch_size: int | None = None, on: str = LOADER):
        if on not in (LOADER, DEVICE):
            raise ValueError(f'on={on!r}: give "{LOADER}" or "{DEVICE}"')
        self.recipe = Recipe(degradation)
        self.gt_patch_size, self.on = gt_patch_size, on

    def __call__(self, results):
        """Draw a plan, and follow it unless that is the device's part.

        Raises:
            UserError: The recipe or the pipeline is not in order (which is no fault of the image).
        """
        gt, scale = results['gt'], results['scale']
        if gt.dtype != np.uint8:
            raise UserError('config key "data.train.pipeline": Degrade takes 8-bit images; leave out RescaleToZeroOne '
                            'before it')
        rng = np.random.default_rng(np.random.randint(2**31, size=4))
        height, width = gt.shape[:2]
        plan = self.recipe.draw(rng, height, width)
        if not plan.fits(height, width, scale):
            raise UserError(f'config key "degradation": makes {plan.size[1]}x{plan.size[0]} of a GT image of '
                            f'{width}x{height}, which is not {scale} times smaller; end it with a '
                            'RandomResize to the LQ size, without "prob"')
        if self.gt_patch_size:
            plan = plan.cropped(self._draw_crop(rng, gt.shape, scale))
        if self.on == DEVICE:
            results[PLAN] = plan
            return results
        lq = degrade(gt, plan.steps)
        if plan.crop:
            top, left, side = plan.crop
            lq = lq[top:top + side, left:left + side]
            gt = gt[scale * top:scale * (top + side), scale * left:scale * (left + side)]
        results.update(lq=lq, gt=gt)
        return results

    def _draw_crop(self, rng, shape, scale: int) -> tuple:
        side = self.gt_patch_size // scale
        top, left = (int(rng.integers(length // scale - side + 1)) for length in shape[:2])
        return top, left, side

    def __repr__(self):
        return f'{type(self).__name__}(gt_patch_size={self.gt_patch_size}, on={self.on!r})'


def training_recipe(cfg: Config) -> Recipe | None:
    """The `Recipe` of the training pipeline's degradation, or None if it has no `Degrade`."""
    return next(filter(None, map(recipe_of, train_dataset_cfgs(cfg))), None)


def recipe_of(dataset_cfg):
    """The `Recipe` of the degradation in the pipeline of a dataset's config, or None if it has no `Degrade`."""
    degradation = [transform.degradation for transform in dataset_cfg.get('pipeline', ())
                   if transform['type'] == 'Degrade']
    return Recipe(degradation[0]) if degradation else None


def require_recipe(cfg: Config, name: str) -> Recipe:
    """As `training_recipe`, of a config called `name`.

    Raises:
        UserError: It has none.
    """
    recipe = training_recipe(cfg)
    if recipe is None:
        raise UserError(f'{name}: its training pipeline has no Degrade; give a config that has')
    return recipe
