"""NumPy 2 dropped `np.bool8`, which `mmedit.datasets.pipelines.utils` reads at import.

Can go when MMEditing no longer names it.
"""
import numpy as np


def apply() -> bool:
    """Give NumPy 2 its old alias back."""
    if int(np.__version__.split('.')[0]) < 2 or hasattr(np, 'bool8'):
        return False
    np.bool8 = np.bool_  # type: ignore[attr-defined]
    return True
