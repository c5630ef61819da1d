"""facesr: what MMEditing 0.16 lacks for blind face super-resolution.

Importing it bridges the old libraries to today's stack (`facesr.compat`) and registers this
project's classes in MMEditing's registries, so that configs reach them by name.
"""
from facesr import compat

compat.apply()

from facesr import datasets, hooks, models, runner  # noqa: E402, F401  (they register themselves)

__version__ = '0.1.0'
