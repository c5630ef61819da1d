"""The perceptual loss, with VGG weights that are read safely and only where a run trains with it."""
from pathlib import Path

import torch
from mmedit.models.registry import LOSSES
from torch import nn
from torchvision.models import vgg

from facesr.utils.errors import UserError
from facesr.utils.files import hub_path

CRITERIA = dict(l1=nn.functional.l1_loss, mse=nn.functional.mse_loss)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the images that VGG was trained on


@LOSSES.register_module()
class VGGPerceptualLoss(nn.Module):
    """Distance between a frozen VGG's features of two images.

    Equal to MMEditing's `PerceptualLoss` with `style_weight=0`. Against it: weights are read by
    `load` (so a restorer that only restores needs none), safely and with nothing downloaded; they are no part of the
    `state_dict`, so checkpoints are without them; features are compared in float32 under autocast too.

    Args:
        layer_weights (dict[str, float]): Weight of each layer, by its number in torchvision's `features`.
        vgg_type (str): torchvision's name. Default: 'vgg19'.
        use_input_norm (bool): Normalise RGB in [0, 1] as VGG was trained. Default: True.
        perceptual_weight (float): Factor of the loss. Default: 1.
        criterion (str): 'l1' or 'mse'. Default: 'l1'.
        pretrained (str | None): File of the weights, torchvision's or its `features` alone. Default: None, where
            torchvision itself would keep it.
        norm_img (bool): Take images for such in [-1, 1], as MMEditing does by default. Default: False.

    Source: Johnson et al., "Perceptual losses for real-time style transfer and super-resolution", ECCV 2016; before the
    activation, as here by layer '34', by Wang et al., "ESRGAN", ECCVW 2018.
    """

    def __init__(self, layer_weights, vgg_type='vgg19', use_input_norm=True, perceptual_weight=1.0, criterion='l1',
                 pretrained=None, norm_img=False):
        super().__init__()
        if vgg_type not in vgg.__all__ or f'{vgg_type.upper()}_Weights' not in vgg.__all__:
            raise ValueError(f'perceptual_loss.vgg_type is {vgg_type!r}: give vgg11, vgg13, vgg16 or vgg19, or one of '
                             'them with _bn')
        if criterion not in CRITERIA:
            raise ValueError(f'perceptual_loss.criterion is {criterion!r}: give one of {", ".join(CRITERIA)}')
        with torch.device('meta'):  # neither memory nor random numbers, of which training has its own
            layers = getattr(vgg, vgg_type)().features
        numbers = [str(number) for number in range(len(layers))]
        self.layer_weights = {str(number): weight for number, weight in layer_weights.items()}
        unknown = [number for number in self.layer_weights if number not in numbers]
        if unknown or not self.layer_weights:
            raise ValueError(f'perceptual_loss.layer_weights are {self.layer_weights}: {vgg_type} has layers 0 to '
                             f'{numbers[-1]}')
        self.vgg_type, self.use_input_norm, self.pretrained = vgg_type, use_input_norm, pretrained
        self.norm_img = norm_img
        self.perceptual_weight, self._compare = perceptual_weight, CRITERIA[criterion]
        deepest = max(map(int, self.layer_weights))
        self._keep(layers[:deepest + 1].eval().requires_grad_(False))

    def load(self, device: torch.device, memory_format: torch.memory_format = torch.preserve_format) -> None:
        """Read the weights and put them on the device that images will be on.

        Raises:
            UserError: They are not there, damaged, or another network's.
        """
        from facesr.checkpoint.io import read_checkpoint  # which imports this package
        url = getattr(vgg, f'{self.vgg_type.upper()}_Weights').DEFAULT.url
        path = hub_path(url) if self.pretrained is None else Path(self.pretrained)
        without = '--cfg-options model.perceptual_loss=None trains without'
        if self.pretrained is None and not path.is_file():
            raise UserError(f"the perceptual loss needs {self.vgg_type}'s weights: download {url} to {path}, or give a "
                            f'file with --cfg-options model.perceptual_loss.pretrained=FILE; {without}')
        found = read_checkpoint(path)['state_dict']
        layers = self.layers.to_empty(device='cpu')
        for name, ours in layers.state_dict().items():
            if name.endswith('num_batches_tracked'):  # older files lack it, and nothing uses it
                continue
            theirs = found.get(f'features.{name}')
            if theirs is None or theirs.shape != ours.shape or not bool(theirs.isfinite().all()):
                wrong = 'is missing' if theirs is None else 'has another shape' if theirs.shape != ours.shape else \
                    'is NaN or infinite'
                raise UserError(f"{path}: not {self.vgg_type}'s weights (features.{name} {wrong}); download {url} and "
                                f'give it with --cfg-options model.perceptual_loss.pretrained=FILE; {without}')
            ours.copy_(theirs)
        self._place(layers.to(device, memory_format=memory_format), device)

    def load_nothing(self, device: torch.device, memory_format=torch.preserve_format) -> None:
        """As `load`, without a file: weights that are no numbers in particular, for computing what they take."""
        self._place(self.layers.to_empty(device=device).to(memory_format=memory_format), device)

    def _place(self, layers, device: torch.device) -> None:
        self._keep(layers)
        self._mean, self._std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))

    def forward(self, x: torch.Tensor, gt: torch.Tensor) -> tuple:
        """The loss of images (n, 3, h, w), RGB in [0, 1]; `gt` gets no gradient.

        Returns:
            tuple[Tensor, None]: A scalar, and None where MMEditing's has the style loss.
        """
        with torch.no_grad():
            expected = self._features(gt)
        features = self._features(x)
        loss = sum(weight * self._compare(features[number], expected[number])
                   for number, weight in self.layer_weights.items())
        return self.perceptual_weight * loss, None

    def _features(self, images) -> dict:
        if self.norm_img:
            images = (images + 1) / 2
        if self.use_input_norm:
            images = (images - self._mean) / self._std
        found = {}
        for number, layer in self.layers.named_children():
            images = layer(images)
            if number in self.layer_weights:
                found[number] = images.float().clone()  # the next activation works in place
        return found

    def _keep(self, layers) -> None:
        # Not as a submodule: the weights are in no checkpoint.
        object.__setattr__(self, 'layers', layers)
