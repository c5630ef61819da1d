from facesr.hooks.checkpoint import SRCheckpointHook
from facesr.hooks.ema import GeneratorEMAHook
from facesr.hooks.evaluation import SREvalHook
from facesr.hooks.tensorboard import SRTensorboardLoggerHook
from facesr.hooks.text import SRTextLoggerHook

__all__ = ['GeneratorEMAHook', 'SRCheckpointHook', 'SREvalHook', 'SRTensorboardLoggerHook', 'SRTextLoggerHook']
