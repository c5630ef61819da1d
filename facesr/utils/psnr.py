"""PSNR, the figure of the competition: one formula, and mean squared errors without rounding."""
import math

import cv2
import numpy as np


def psnr_of(mse: float) -> float:
    """PSNR in dB of 8-bit images with a mean squared error: 10 log10(255^2 / MSE); inf if it is 0."""
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def mean_squared_error(hq: np.ndarray, gt: np.ndarray) -> float:
    """Of two arrays of one shape and type, in [0, 255]: planes (c, h, w), or images (h, w, 3).

    Exact for 8 bits, up to the division: sums of squares are whole numbers there, far below 2**53.
    """
    row = hq.shape[-1] * (hq.shape[-2] if hq.shape[-1] == 3 else 1)
    squares = cv2.norm(hq.reshape(-1, row), gt.reshape(-1, row), cv2.NORM_L2SQR)  # the square of a root: rounded
    return (round(squares) if hq.dtype == np.uint8 else squares) / hq.size


def psnr_of_arrays(hq: np.ndarray, gt: np.ndarray, crop_border: int = 0) -> float:
    """PSNR in dB of two uint8 images (h, w, 3) with colours in the same order, without `crop_border` pixels a side."""
    inside = slice(crop_border, -crop_border or None)
    return psnr_of(mean_squared_error(hq[inside, inside], gt[inside, inside]))
