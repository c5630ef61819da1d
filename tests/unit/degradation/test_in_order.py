"""The order in which a batch is degraded on the device, and what is kept of a resize's matrix."""
import facesr.register  # noqa: F401

import cv2
import numpy as np
import pytest
import torch

from facesr.config import load_config
from facesr.datasets.degrade import training_recipe
from facesr.degradation.cpu import INTERPOLATION
from facesr.degradation.device import _matrix, in_order
from facesr.degradation.kernels import full_kernel
from facesr.degradation.plan import Blur, Jpeg, Noise, Resize


@pytest.mark.parametrize('config', ['srresnet_ffhq', 'srresnet_ffhq_second_order'])
def test_each_step_once_in_order_and_few_times_jpegs(config):
    recipe = training_recipe(load_config(f'configs/{config}.py'))
    steps = [recipe.draw(np.random.default_rng([7, i]), 512, 512).steps for i in range(8)]
    done, jpegs = [[] for _ in steps], 0
    for kind, group in in_order(steps):
        jpegs += kind is Jpeg
        if kind is Blur:  # together, as many at a time as have one in that place
            number = group[0][1]
            assert {index for index, _ in group} == {i for i, own in enumerate(steps)
                                                     if len(own) > number and isinstance(own[number], Blur)}
        for index, number in group:
            assert isinstance(steps[index][number], kind) and len(done[index]) == number
            done[index].append(number)
    assert [len(numbers) for numbers in done] == [len(own) for own in steps]
    assert jpegs == 1 if config == 'srresnet_ffhq' else jpegs <= 4


def test_jpegs_wait_for_each_other():
    one, other = (Jpeg(50), Resize(8, 8, 'area')), (Noise('gaussian', 0.1, False, 0), Resize(9, 9, 'area'), Jpeg(60))
    assert [group for kind, group in in_order([one, other]) if kind is Jpeg] == [[(0, 0), (1, 2)]]


@pytest.mark.parametrize('mode', INTERPOLATION)
def test_a_matrix_is_opencvs_to_the_bit(mode):
    for source, target in ((64, 5), (5, 64), (64, 64), (64, 16), (13, 80)):
        units = cv2.resize(np.eye(source, dtype=np.float32), (source, target), interpolation=INTERPOLATION[mode])
        assert (_matrix(source, target, mode, torch.device('cpu')).numpy() == units).all()


def test_a_sinc_kernel_is_mmeditings_and_draws_nothing():
    from mmedit.datasets.pipelines import blur_kernels
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    for size, omega in ((7, 1.1), (21, 3.1), (21, np.pi)):
        ours = full_kernel(Blur('sinc', size, omega=omega))
        assert (np.random.get_state()[1] == before).all()
        theirs = blur_kernels.random_circular_lowpass_kernel([omega, omega], size)
        np.random.seed(3)
        assert (ours == theirs).all()
