from copy import deepcopy

import pytest
import torch
from mmedit.core import build_optimizers
from torch import nn

from facesr.engine.muon import LIKE_ADAM, MuonAdam, is_matrix, orthogonalized


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
                         nn.Conv2d(8, 3, 3, padding=1))


def train(net, optimizer, steps=3):
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        loss = (net(images) - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize('shape', [(6, 6), (4, 30), (30, 4)])
def test_orthogonalized_matrices_keep_their_directions(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalized(matrices)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    in_these_directions = u.mT @ found @ vh.mT
    values = in_these_directions.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.3 and values.max() < 1.3
    assert (in_these_directions - values.diag_embed()).abs().max() < 1e-3


def test_which_parameters_are_matrices():
    net = network()
    assert [is_matrix(weight) for weight in net.parameters()] == [True, False, False, False, True, False]
    assert not is_matrix(nn.Parameter(torch.zeros(1, 8, 16, 16)))  # a map of positions
    assert [(len(group['params']), group['muon']) for group in MuonAdam(net.parameters()).param_groups] == \
        [(2, True), (4, False)]


def test_the_first_step_has_adams_size():
    net = network()
    before = net[3].weight.detach().clone()
    train(net, MuonAdam(net.parameters(), lr=0.01), steps=1)
    step = net[3].weight.detach() - before
    assert step.square().mean().sqrt() == pytest.approx(0.01 * LIKE_ADAM, rel=0.3)


def test_what_is_no_matrix_is_trained_as_by_adam():
    """Also where others are Muon's: the gradients of one step are the same."""
    ours, theirs = network(), network()
    train(ours, MuonAdam(ours.parameters(), lr=0.01), steps=1)
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=0.01), steps=1)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other) is not is_matrix(mine)


def test_it_trains_and_goes_on_bit_for_bit():
    net = network()
    optimizer = MuonAdam(net.parameters(), lr=0.01)
    first = train(net, optimizer, 1)
    assert train(net, optimizer, 20) < first / 2
    other = deepcopy(net)
    going_on = MuonAdam(other.parameters(), lr=0.5)
    going_on.load_state_dict(deepcopy(optimizer.state_dict()))
    train(net, optimizer)
    train(other, going_on)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(net.parameters(), other.parameters(), strict=True))


def test_a_config_names_it():
    model = nn.ModuleDict(dict(generator=network()))
    optimizer = build_optimizers(model, dict(generator=dict(type='MuonAdam', lr=1e-3, momentum=0.9)))['generator']
    assert isinstance(optimizer, MuonAdam) and {group['momentum'] for group in optimizer.param_groups} == {0.9}


@pytest.mark.parametrize('how, message', [(dict(lr=-1), 'lr is -1'), (dict(momentum=1), 'momentum is 1'),
                                          (dict(betas=(0.9, 1.0)), 'beta2 is 1.0'),
                                          (dict(betas=[0.9]), 'give two numbers')])
def test_numbers_out_of_range_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        MuonAdam(network().parameters(), **how)
