"""One training run: what is looked at before, the runner and its hooks, the run itself, the dry run."""
import facesr.compat.bridged  # noqa: F401  (the runner and the hooks are mmcv's kind)
