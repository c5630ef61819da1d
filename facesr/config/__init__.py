import facesr.compat.bridged  # noqa: F401

from facesr.config.keys import check_keys
from facesr.config.load import (
    CACHE_FOLDER,
    DEVICE,
    LOADER,
    PLAN,
    RECORDED,
    REGISTER,
    Config,
    batch_size,
    config_text,
    filled_in,
    load_config,
    notices,
    recorded_as,
    train_dataset_cfg,
    train_dataset_cfgs,
    training_pipelines,
)
from facesr.config.mmediting import averages

__all__ = [
    'CACHE_FOLDER', 'Config', 'DEVICE', 'LOADER', 'PLAN', 'RECORDED', 'REGISTER', 'averages', 'batch_size',
    'check_keys', 'config_text', 'filled_in', 'load_config', 'notices', 'recorded_as', 'train_dataset_cfg',
    'train_dataset_cfgs', 'training_pipelines'
]
