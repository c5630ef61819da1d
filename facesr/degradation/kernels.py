"""Blur kernels: MMEditing's, and the parts of them that matter."""
import cv2
import numpy as np
from mmedit.datasets.pipelines import blur_kernels
from scipy.special import j1

from facesr.degradation.plan import Blur

# How much of a kernel's mass may be cut off at its rim: an image in [0, 255] changes by less than 0.06.
NEGLIGIBLE = 2e-4


def full_kernel(blur: Blur) -> np.ndarray:
    """The kernel as MMEditing makes it from these numbers: (size, size), float64, sum 1."""
    if blur.kind == 'sinc':
        return _sinc(blur)
    arguments = (blur.size, blur.sigma_x, blur.sigma_y, blur.angle)
    isotropic = not blur.kind.endswith('aniso')
    if blur.kind.startswith('generalized'):
        return blur_kernels.bivariate_generalized_gaussian(*arguments, blur.beta, is_isotropic=isotropic)
    if blur.kind.startswith('plateau'):
        return blur_kernels.bivariate_plateau(*arguments, blur.beta, is_isotropic=isotropic)
    return blur_kernels.bivariate_gaussian(*arguments, is_isotropic=isotropic)


def _sinc(blur: Blur) -> np.ndarray:
    """A disc's inverse Fourier transform. MMEditing's function for it draws from NumPy's global generator, even where
    there is nothing to choose, which a thread must not do.
    """
    offsets = np.arange(blur.size) - (blur.size - 1) / 2
    radius = np.sqrt(offsets[:, None]**2 + offsets**2)
    radius[blur.size // 2, blur.size // 2] = 1  # any other than 0
    kernel = blur.omega * j1(blur.omega * radius) / (2 * np.pi * radius)
    kernel[blur.size // 2, blur.size // 2] = blur.omega**2 / (4 * np.pi)
    return kernel / np.sum(kernel)


def profile(blur: Blur) -> np.ndarray:
    """An isotropic Gaussian is this times its transpose: (taps,), float64, without its negligible ends."""
    return trimmed(cv2.getGaussianKernel(blur.size, blur.sigma_x))[:, 0]


def trimmed(kernel: np.ndarray) -> np.ndarray:
    """The kernel without rows and columns at its rim that hold next to nothing; the sum stays."""
    rows, columns = (_margin(np.abs(kernel).sum(axis)) for axis in (1, 0))
    core = kernel[rows:kernel.shape[0] - rows, columns:kernel.shape[1] - columns]
    return core * (kernel.sum() / core.sum())


def _margin(mass: np.ndarray) -> int:
    """How many elements at each end may go."""
    outside = np.cumsum(mass[:len(mass) // 2] + mass[::-1][:len(mass) // 2])
    return int((outside < NEGLIGIBLE / 2 * mass.sum()).sum())
