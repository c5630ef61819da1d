"""Blind degradation: one recipe (MMEditing's configuration), drawn once, applied on the host or the device."""
import facesr.compat.bridged  # noqa: F401  (kernels are MMEditing's)
