import pytest
import torch
from mmedit.models.builder import build_loss

from facesr.engine.train import prepare, train
from facesr.evaluation.metrics import psnr
from facesr.utils.errors import UserError

SUM = dict(type='SumLoss', losses=[dict(type='L1Loss'), dict(type='FrequencyL1Loss', loss_weight=0.1)])
LOSSES = [dict(type='L1Loss'), dict(type='CharbonnierLoss', eps=1e-6), dict(type='MSELoss'), dict(type='PSNRLoss'),
          dict(type='FrequencyL1Loss'), SUM]


def images(*shape):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss['type'])
def test_gradients(loss):
    """Analytic against numerical ones, in float64; random images keep away from the kinks of absolute values."""
    pred, target = images(2, 3, 5, 6)
    assert torch.autograd.gradcheck(build_loss(loss), (pred.requires_grad_(), target), atol=1e-6)


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss['type'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_equal_images_have_a_finite_gradient(loss, dtype):
    pred = torch.full((1, 3, 8, 8), 0.5, dtype=dtype, requires_grad=True)
    value = build_loss(loss)(pred, pred.detach().clone())
    value.backward()
    assert bool(value.isfinite()) and bool(pred.grad.isfinite().all())


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss['type'])
def test_the_loss_of_a_batch_is_the_mean_over_its_images(loss):
    """Accumulation and several processes rely on that."""
    pred, target = images(4, 3, 8, 8)
    loss = build_loss(loss)
    parts = [loss(pred[i:i + 1], target[i:i + 1]) for i in range(4)]
    assert float(loss(pred, target)) == pytest.approx(float(sum(parts)) / 4)


def test_psnr_loss_is_the_psnr():
    hq, gt = (torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(i)) for i in range(2))
    loss = build_loss(dict(type='PSNRLoss', loss_weight=0.5))(hq.double() / 255, gt.double() / 255)
    assert float(loss) == pytest.approx(-0.5 * float(psnr(hq.byte(), gt.byte()).mean()), abs=1e-5)
    assert float(build_loss(dict(type='PSNRLoss'))(gt / 255., gt / 255.)) == pytest.approx(-80)


def test_frequency_loss_is_that_of_the_transforms():
    pred, target = images(2, 3, 8, 10)
    difference = torch.fft.rfft2(pred, norm='ortho') - torch.fft.rfft2(target, norm='ortho')
    expected = (difference.real.abs() + difference.imag.abs()).mean() / 2
    assert float(build_loss(dict(type='FrequencyL1Loss', loss_weight=3))(pred, target)) == pytest.approx(
        3 * float(expected))


def test_a_sum_is_a_sum():
    pred, target = images(2, 3, 8, 8)
    l1, frequency = (float(build_loss(loss)(pred, target)) for loss in SUM['losses'])
    assert float(build_loss(dict(SUM, loss_weight=2))(pred, target)) == pytest.approx(2 * (l1 + frequency))


@pytest.mark.parametrize('loss', LOSSES[1:], ids=lambda loss: loss['type'])
def test_a_config_trains_with_it(loss, tiny_config, tmp_path):
    train(tiny_config(**{'model.pixel_loss': loss, 'evaluation': None}), 'run')  # merged with the base's L1
    assert (tmp_path / 'work/iter_2.pth').is_file()


@pytest.mark.parametrize('loss, message', [
    (dict(type='SumLoss', losses=[], _delete_=True), 'losses is empty'),
    (dict(type='PSNRLos'), "model.pixel_loss.type\" is 'PSNRLos': did you mean PSNRLoss?"),
    (dict(type='Charbonnier'), 'did you mean CharbonnierLoss?'),
    (dict(type='PSNRLoss', weight=2, _delete_=True), 'weight'),
])
def test_mistakes_are_one_line(loss, message, tiny_config):
    with pytest.raises(UserError, match=message):
        prepare(tiny_config(**{'model.pixel_loss': loss}))
