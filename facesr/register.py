"""Bridges MMEditing and mmcv to today's stack, and registers this project's classes in their registries.

Named by `custom_imports` in `configs/_base_/runtime/default.py`, which is MMEditing's own way of adding classes, and
imported by `facesr.config.load_config`. Scripts that use MMEditing's registries without either import it themselves.
"""
import facesr.compat.bridged  # noqa: F401

import facesr.datasets.cache
import facesr.datasets.degrade
import facesr.datasets.folder_lq
import facesr.engine.hooks.checkpoint_hook
import facesr.engine.hooks.ema_hook
import facesr.engine.hooks.eval_hook
import facesr.engine.hooks.tensorboard_logger
import facesr.engine.hooks.text_logger
import facesr.engine.muon
import facesr.engine.runner
import facesr.models.backbones.basicsr_resnet
import facesr.models.backbones.naf_unet
import facesr.models.backbones.spandrel_net
import facesr.models.backbones.srresnet_ca
import facesr.models.losses.perceptual
import facesr.models.losses.pixel
import facesr.models.restorers.face_esrgan
import facesr.models.restorers.face_restorer  # noqa: F401
