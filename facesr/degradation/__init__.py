"""Blind degradation: one recipe (MMEditing's configuration), drawn once, applied on the host or the device."""
from facesr.degradation.cpu import degrade
from facesr.degradation.recipe import Recipe
from facesr.degradation.reference import NoiseRecord, degrade_by_mmedit
from facesr.degradation.steps import Plan

__all__ = ['NoiseRecord', 'Plan', 'Recipe', 'degrade', 'degrade_by_mmedit']
