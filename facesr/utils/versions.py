"""Which versions compute the figures."""
import importlib
import platform

import facesr


def version(package: str) -> str:
    """What a package calls its version; it is imported for that.

    Args:
        package (str): As it is imported: 'cv2', 'mmcv'.
    """
    import facesr.compat.bridged  # noqa: F401  (for mmcv and mmedit)
    return importlib.import_module(package).__version__


def versions() -> dict[str, str]:
    """Of this project, Python and the libraries that results depend on, by name."""
    libraries = dict(torch='torch', mmedit='mmedit', mmcv='mmcv', numpy='numpy', opencv='cv2')
    return dict(facesr=facesr.__version__, python=platform.python_version(),
                **{name: version(package) for name, package in libraries.items()})
