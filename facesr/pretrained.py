"""Weights that others published and that have to be there already: nothing is downloaded unasked."""
from pathlib import Path

import torch


def hub_path(url: str) -> Path:
    """Where torchvision keeps what it downloads from a URL (TORCH_HOME moves it)."""
    return Path(torch.hub.get_dir()) / 'checkpoints' / url.rpartition('/')[2]
