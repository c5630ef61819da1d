from facesr.config.keys import check_keys
from facesr.config.load import (
    batch_size,
    config_text,
    filled_in,
    load_config,
    notices,
    require_recipe,
    train_dataset_cfg,
    train_dataset_cfgs,
    training_recipe,
)

__all__ = ['batch_size', 'check_keys', 'config_text', 'filled_in', 'load_config', 'notices', 'require_recipe',
           'train_dataset_cfg', 'train_dataset_cfgs', 'training_recipe']
