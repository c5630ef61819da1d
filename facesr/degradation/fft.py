"""Filtering by FFT, at a price that depends little on the kernel."""
import torch
from scipy.fft import next_fast_len

from facesr.degradation.transfer import upload

# Frequencies that a kernel lets through by less than this are left out; 8-bit images change by less than 0.03.
NEGLIGIBLE = 1e-4


class Correlation:
    """What `cv2.filter2D` computes, of images that have their border already.

    Args:
        kernels (Tensor): (..., kh, kw), float, on the host, broadcast against the images; sums of about 1.
        height (int): Of the filtered images.
        width (int): Of the filtered images.
        device (torch.device): Where the images are. Default: the host.
    """

    def __init__(self, kernels: torch.Tensor, height: int, width: int, device: str | torch.device = 'cpu'):
        self.height, self.width = height, width
        # Of the transform: room for the whole result, so that nothing wraps around, and a product of small primes.
        sides = (height + kernels.shape[-2] - 1, width + kernels.shape[-1] - 1)
        self.rows, self.columns = (next_fast_len(side, real=True) for side in sides)
        response = torch.fft.rfft(kernels, n=self.columns)  # along rows first; along columns only what is kept of it
        # A wide kernel stops high frequencies, so most columns need not be transformed, there or back.
        passing = (response.abs().sum(-2) > NEGLIGIBLE).reshape(-1, response.shape[-1]).any(0)
        self.kept = int(passing.nonzero().max()) + 1
        response = torch.fft.fft(upload(response[..., :self.kept], device), n=self.rows, dim=-2)
        self.response = response.conj_physical()  # else this would be a convolution

    def __call__(self, padded: torch.Tensor) -> torch.Tensor:
        """Images (..., h + kh - 1, w + kw - 1), float, to (..., h, w)."""
        # Two one-dimensional transforms instead of `rfft2`, so that stopped columns are left out in between.
        spectrum = torch.fft.rfft(padded, n=self.columns)[..., :self.kept]
        spectrum = torch.fft.fft(spectrum, n=self.rows, dim=-2)
        spectrum *= self.response
        spectrum = torch.fft.ifft(spectrum, dim=-2)[..., :self.height, :]  # the rest is the border's
        return torch.fft.irfft(spectrum, n=self.columns)[..., :self.width]  # takes what was left out for zero
