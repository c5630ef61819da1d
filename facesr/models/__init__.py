from facesr.models.losses import FrequencyL1Loss, PSNRLoss, SumLoss
from facesr.models.restorer import FaceRestorer
from facesr.models.srresnet_ca import MSRResNetCA

__all__ = ['FaceRestorer', 'FrequencyL1Loss', 'MSRResNetCA', 'PSNRLoss', 'SumLoss']
