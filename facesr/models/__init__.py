"""What is trained: backbones, losses, restorers, and building them from a config."""
import facesr.compat.bridged  # noqa: F401  (all of them are MMEditing's kind)
