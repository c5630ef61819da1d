from mmedit.models.registry import MODELS

from facesr.models.esrgan import FaceESRGAN
from facesr.models.losses import FrequencyL1Loss, PSNRLoss, SumLoss
from facesr.models.perceptual import VGGPerceptualLoss
from facesr.models.restorer import FaceRestorer
from facesr.models.spandrel_net import SpandrelNet
from facesr.models.srresnet_ca import MSRResNetCA

__all__ = ['FaceESRGAN', 'FaceRestorer', 'FrequencyL1Loss', 'MSRResNetCA', 'PSNRLoss', 'SpandrelNet', 'SumLoss',
           'VGGPerceptualLoss', 'is_ours']


def is_ours(type_name: str) -> bool:
    """Whether a config's `model.type` is a `FaceRestorer`, which knows all ways to compute a step."""
    kind = MODELS.get(type_name)
    return isinstance(kind, type) and issubclass(kind, FaceRestorer)
