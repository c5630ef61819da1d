"""What was drawn for one image: the steps of a degradation, with every number in them.

The same steps are applied by `facesr.degradation.cpu` and `.device`. They are plain values, so
they travel from a loading process to the device, and into a manifest.
"""
import math
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Blur:
    """Filter with a kernel of MMEditing's `blur_kernels`; sigmas in pixels, angle in radians."""
    kind: str  # one of KINDS
    size: int  # of the square kernel, odd
    sigma_x: float = 0.
    sigma_y: float = 0.
    angle: float = 0.
    beta: float = 1.  # shape of generalized Gaussian and plateau kernels
    omega: float = math.pi  # cutoff of a sinc kernel, radians per pixel

    def __str__(self):
        if self.kind == 'sinc':
            return f'sinc {self.size}×{self.size} ω {self.omega:.2f}'
        name = f'{self.kind} {self.size}×{self.size}'
        beta = f' β {self.beta:.2f}' if self.kind.startswith(('generalized', 'plateau')) else ''
        if self.kind.endswith('aniso'):
            return f'{name} σ {self.sigma_x:.2f}, {self.sigma_y:.2f} at {math.degrees(self.angle):.0f}°{beta}'
        return f'{name} σ {self.sigma_x:.2f}{beta}'


@dataclass(frozen=True)
class Resize:
    """Resize to (height, width) with OpenCV's `mode`: bilinear, area, bicubic or lanczos."""
    height: int
    width: int
    mode: str

    def __str__(self):
        return f'{self.mode} to {self.width}×{self.height}'


@dataclass(frozen=True)
class Noise:
    """Add noise: Gaussian with sigma `amount`, or `amount` times the Poisson noise of the image's own levels.

    Sigma is for images in [0, 1]. `gray`: the same for the three channels. `seed` decides the field.
    """
    kind: str  # gaussian or poisson
    amount: float
    gray: bool
    seed: int

    def __str__(self):
        gray = ' grey' if self.gray else ''
        return f'noise σ {self.amount * 255:.1f}/255{gray}' if self.kind == 'gaussian' else \
            f'Poisson ×{self.amount:.2f}{gray}'


@dataclass(frozen=True)
class Jpeg:
    """Through a JPEG file (4:2:0) of `quality`, with red and blue in each other's place.

    `RandomJPEGCompression` hands RGB images to OpenCV, which takes them for BGR; so the reference does it.
    """
    quality: int

    def __str__(self):
        return f'JPEG {self.quality}'


@dataclass(frozen=True)
class Quantize:
    """Round to 8 bits and clip."""

    def __str__(self):
        return '8 bits'


KINDS = ('iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso', 'sinc')
MODES = ('bilinear', 'area', 'bicubic', 'lanczos')


@dataclass(frozen=True)
class Plan:
    """What is to be done to one image.

    Attributes:
        steps (tuple): Of the degradation, in order.
        size (tuple[int, int]): Height and width of the LQ image.
        crop (tuple[int, int, int] | None): Top, left and side of the LQ patch to keep, in LQ pixels.
    """
    steps: tuple
    size: tuple
    crop: tuple | None = None

    def fits(self, height: int, width: int, scale: int) -> bool:
        """Whether the LQ image is `scale` times smaller than a GT image of a size."""
        return (self.size[0] * scale, self.size[1] * scale) == (height, width)

    def describe(self) -> list:
        """The steps in words."""
        return [str(step) for step in self.steps]

    def as_dicts(self) -> list:
        """The steps as plain dicts, for a JSON file."""
        return [dict(type=type(step).__name__, **asdict(step)) for step in self.steps]

    def cropped(self, crop: tuple | None) -> 'Plan':
        """The same steps with another crop."""
        return replace(self, crop=crop)
