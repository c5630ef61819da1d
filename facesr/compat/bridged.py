"""Importing this applies the bridges; whatever imports mmcv or mmedit imports it first."""
from facesr import compat

compat.apply()
