"""The degradation on the host: MMEditing's result in a fraction of its time.

What saves it: isotropic kernels are applied in two passes, small ones directly, others by a float32 FFT of the
smallest size; kernels lose their empty rim; noise is drawn in float32; nothing is copied to be rounded.
"""
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch

from facesr.degradation.fft import Correlation
from facesr.degradation.kernels import full_kernel, profile, trimmed
from facesr.degradation.noise import noise_field
from facesr.degradation.plan import Blur, Jpeg, Noise, Quantize, Resize

INTERPOLATION = dict(bilinear=cv2.INTER_LINEAR, area=cv2.INTER_AREA, bicubic=cv2.INTER_CUBIC,
                     lanczos=cv2.INTER_LANCZOS4)
DIRECT = 100  # taps from which an FFT is cheaper than filter2D (which has one too, of a larger size than ours)


def degrade(image: np.ndarray, steps: Sequence, noise: Callable = noise_field) -> np.ndarray:
    """Apply drawn steps to an image.

    Args:
        image (ndarray): (h, w, 3), uint8, RGB. It is left as it is.
        steps (Sequence): Of a `Plan`.
        noise (Callable): Makes the noise fields (see `noise_field`).

    Returns:
        ndarray: (h', w', 3), float32, RGB in [0, 1] (beyond it where the last step leaves more).
    """
    apply: dict[type, Callable] = {Blur: _blur, Resize: _resize, Jpeg: through_jpeg, Quantize: _quantize,
                                   Noise: partial(_add_noise, noise)}
    for step in steps:
        image = apply[type(step)](image, step)
    return _float(image) * np.float32(1 / 255)


def _float(image: np.ndarray) -> np.ndarray:
    """In float32, which steps may change in place: the image that `degrade` was given is 8-bit."""
    return image if image.dtype == np.float32 else image.astype(np.float32)


def _blur(image: np.ndarray, blur: Blur) -> np.ndarray:
    if blur.kind == 'iso':
        taps = profile(blur)
        return cv2.sepFilter2D(image, cv2.CV_32F, taps, taps)
    kernel = trimmed(full_kernel(blur))
    if kernel.size < DIRECT:
        return cv2.filter2D(_float(image), cv2.CV_32F, kernel)  # of 8 bits it would be by DFT from 50 taps on
    return _fft_blur(image, kernel)


def _fft_blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    rows, columns = (side // 2 for side in kernel.shape)
    padded = cv2.copyMakeBorder(image, rows, rows, columns, columns, cv2.BORDER_REFLECT_101)
    correlate = Correlation(torch.from_numpy(kernel).float(), *image.shape[:2])
    # Plane by plane, for the sake of the cache.
    return cv2.merge([correlate(torch.from_numpy(plane).float()).numpy() for plane in cv2.split(padded)])


def _resize(image: np.ndarray, resize: Resize) -> np.ndarray:
    # In float32: OpenCV's bilinear resize of 8-bit images is darker by 1/8 of a level.
    return cv2.resize(_float(image), (resize.width, resize.height), interpolation=INTERPOLATION[resize.mode])


def _add_noise(noise, image: np.ndarray, step: Noise) -> np.ndarray:
    values = torch.from_numpy(_float(image))
    return values.add_(noise(step, values)).numpy()


def through_jpeg(image: np.ndarray, jpeg: Jpeg) -> np.ndarray:
    """An image (h, w, 3) in [0, 255] as it comes out of a JPEG file: uint8.

    OpenCV rounds and clips. That it takes our RGB for BGR is the reference's quirk (see `Jpeg`).
    """
    _, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, jpeg.quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def _quantize(image: np.ndarray, _step: Quantize) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    torch.from_numpy(image).round_().clamp_(0, 255)
    return image
