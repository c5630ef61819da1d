"""Memory of a training on a card, computed on a machine without one."""
import facesr.register  # noqa: F401

import pytest
import torch
from conftest import CONFIGS
from cuda_device import CARD_MEMORY

from facesr.config import batch_size, load_config
from facesr.models.training_memory import training_memory


def costs(cfg) -> str:
    """Equal for configs that differ in their schedule or pixel loss alone."""
    return str([cfg.model.generator, cfg.model.get('discriminator'), batch_size(cfg, 'train'), cfg.get('ema'),
                cfg.gt_patch_size, cfg.get('accumulation_steps')])


def shipped() -> list:
    """Configs that cost something else each, but the one whose comment says that it fits no such card."""
    found = {}
    for name in CONFIGS:
        if 'original' not in name:
            found.setdefault(costs(load_config(name)), name)
    return list(found.values())


@pytest.mark.parametrize('name', shipped())
def test_shipped_configs_leave_a_6_gb_card_room(name):
    computed = training_memory(load_config(name))
    assert 0 < computed.total < 5.0 * 1024
    if 'sample' not in name:  # integration/test_cuda_standin.py holds the numbers to what the stand-in for CUDA counts
        assert computed.total == pytest.approx(CARD_MEMORY[name], rel=0.05)


def test_what_makes_it_smaller():
    options = {'gt_patch_size': 64, 'model.generator.num_blocks': 2}

    def of(dtype=None, **more):
        return training_memory(load_config('configs/srresnet_ffhq.py', {**options, **more}), dtype)

    state, plain = torch.random.get_rng_state(), of()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert plain.gradients == plain.weights == plain.optimizer / 2
    assert plain.total == pytest.approx(sum(plain)) and f'{plain.total / 1024:.2f} GiB' in plain.describe()
    assert of(accumulation_steps=2).activations < 0.6 * plain.activations
    assert of(torch.float16).activations < 0.7 * plain.activations
    assert of(ema=0.9).weights == 2 * plain.weights
    as_here = of(**{'model.type': 'BasicRestorer'})  # trains as FaceRestorer
    assert as_here == plain
