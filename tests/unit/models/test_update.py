"""Every way to compute a step leads to the weights of the plain way."""
import contextlib

import pytest
import torch
from conftest import SMALL_NAF
from mmedit.core import build_optimizers

from facesr.engine.preflight import check_choices
from facesr.models.build import build_restorer
from facesr.models.restorers import optimizer_step
from facesr.models.restorers.face_restorer import FaceRestorer
from facesr.models.restorers.optimizer_step import PATIENCE, TrainingDiverged
from facesr.utils import precision
from facesr.utils.errors import UserError
from facesr.utils.precision import amp_dtype

CPU = torch.device('cpu')
SMALL = {'model.generator.num_blocks': 2, 'model.generator.mid_channels': 16, 'optimizers.generator.type': 'SGD',
         'optimizers.generator.betas': None, 'optimizers.generator.lr': 1.0}
NETS = {'srresnet': (None, SMALL), 'naf_unet': ('configs/naf_unet_ffhq.py', {
    **SMALL_NAF, 'optimizers.generator.type': 'SGD', 'optimizers.generator.lr': 0.01})}


def batches(count=4, size=4):
    generator = torch.Generator().manual_seed(3)
    return [dict(lq=torch.rand(size, 3, 8, 8, generator=generator), gt=torch.rand(size, 3, 32, 32, generator=generator))
            for _ in range(count)]


@pytest.fixture
def trained(tiny_config):
    """Trains four steps in some way; returns how far the weights moved, all in one vector."""

    def run(net='srresnet', **how):
        torch.manual_seed(0)
        config, options = NETS[net]
        cfg = tiny_config(config, **options)
        cfg.optimizers.generator.pop('betas', None)  # SGD: a step is as long as the gradient, so errors show
        model = build_restorer(cfg)
        model.prepare_training(CPU, **how)
        start = vector(model)
        optimizer = build_optimizers(model, cfg.optimizers)
        for batch in batches():
            model.train_step(batch, optimizer)
        return vector(model) - start

    return run


def vector(model) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in model.generator.parameters()])


def difference(a, b) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize('net', NETS)
@pytest.mark.parametrize('how, tolerance', [
    (dict(channels_last=True), 1e-4),
    (dict(accumulation_steps=2), 1e-5),
    (dict(accumulation_steps=3), 1e-5),  # chunks of 2, 1 and 1
    (dict(accumulation_steps=9), 1e-5),  # more than there are images
    (dict(grad_clip=1e6), 0),
    (dict(compile=dict(backend='aot_eager')), 1e-5),
    (dict(dtype=torch.bfloat16), 0.05),
    (dict(dtype=torch.float16), 0.01),
], ids=str)
def test_agrees_with_the_plain_way(how, tolerance, net, trained):
    if 'dtype' in how:
        try:
            amp_dtype({torch.bfloat16: 'bf16', torch.float16: 'fp16'}[how['dtype']], CPU)
        except UserError as error:
            pytest.skip(str(error))
    plain, other = trained(net), trained(net, **how)
    assert plain.norm() > 0.01
    assert difference(other, plain) <= tolerance
    if 'dtype' in how:
        assert difference(other, plain) > 1e-6  # it was another precision indeed


def test_clipping_shortens_the_gradient(trained):
    # Four SGD steps at rate 1 with gradients of norm 0.001 move the weights by 0.004 at most.
    assert trained(grad_clip=0.001).norm() <= 0.0041 < trained().norm()


def test_precision_by_device(monkeypatch):
    assert amp_dtype(None, CPU) is None and amp_dtype('none', CPU) is None and amp_dtype('auto', CPU) is None
    with pytest.raises(UserError, match='"amp" is \'fp8\': give None, \'auto\''):
        amp_dtype('fp8', CPU)
    cuda = torch.device('cuda', 0)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda _: 'an old card')
    for capability, auto, bf16 in [((8, 6), torch.bfloat16, True), ((7, 5), torch.float16, False),
                                   ((6, 1), None, False)]:
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _, found=capability: found)
        assert amp_dtype('auto', cuda) is auto and amp_dtype('fp16', cuda) is torch.float16
        refused = pytest.raises(UserError, match='an old card does not compute in bf16')
        with contextlib.nullcontext() if bf16 else refused:
            assert amp_dtype('bf16', cuda) is torch.bfloat16


def test_a_cpu_that_cannot_is_named(monkeypatch):
    def unsupported(*_, **__):
        raise RuntimeError('no such kernel')

    monkeypatch.setattr(precision.torch, 'autocast', unsupported)
    with pytest.raises(UserError, match='this CPU does not train in bf16 .no such kernel.; use amp=None'):
        amp_dtype('bf16', CPU)


def test_fp16_brings_a_scaler_that_grows_and_shrinks(tiny_config):
    model = build_restorer(tiny_config(**SMALL))
    model.prepare_training(CPU, torch.float16)
    before = model.update.scaler.get_scale()
    optimizer = {'generator': torch.optim.SGD(model.generator.parameters(), lr=0.1)}
    model.train_step(batches(1)[0], optimizer)
    weights = model.generator.conv_last.weight.detach().clone()
    model.generator.conv_last.weight.register_hook(lambda gradient: gradient * torch.inf)
    model.train_step(batches(1)[0], optimizer)
    assert model.update.scaler.get_scale() == before / 2
    assert torch.equal(model.generator.conv_last.weight, weights)  # the step was left out


def test_losses_stay_tensors_and_nothing_is_read_back(tiny_config, monkeypatch):
    model = build_restorer(tiny_config(**SMALL))
    optimizer = {'generator': torch.optim.SGD(model.generator.parameters(), lr=0.1)}
    read = []
    for name in ('item', 'cpu', 'tolist', 'numpy', '__bool__', '__float__'):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda *args, name=name, real=real: (read.append(name), real(*args))[1])
    outputs = model.train_step(batches(1)[0], optimizer)
    assert read == ['tolist']  # whether the loss is finite
    assert outputs['log_vars'].keys() == {'loss_pix', 'loss'} and torch.is_tensor(outputs['log_vars']['loss'])


def test_fp16_that_overflows_for_ever_stops(tiny_config):
    model = build_restorer(tiny_config(**SMALL))
    model.prepare_training(CPU, torch.float16)
    optimizer = {'generator': torch.optim.SGD(model.generator.parameters(), lr=0.1)}
    model.generator.conv_last.weight.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(TrainingDiverged, match='overflow fp16 at any scale.*amp=bf16'):
        for _ in range(40):
            model.train_step(batches(1)[0], optimizer)


@pytest.mark.parametrize('bad', [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_changes_nothing(bad, tiny_config):
    model = build_restorer(tiny_config(**SMALL))
    optimizer = {'generator': torch.optim.Adam(model.generator.parameters())}
    good, broken = batches(2)
    broken['gt'][0, 0, 0, 0] = bad
    model.train_step(good, optimizer)
    before = vector(model)
    for _ in range(PATIENCE - 1):
        assert model.train_step(broken, optimizer)['log_vars'] == {}
    assert torch.equal(vector(model), before)
    model.train_step(good, optimizer)  # in between a good one: the count starts anew
    for _ in range(PATIENCE - 1):
        model.train_step(broken, optimizer)
    with pytest.raises(TrainingDiverged, match='10 times in a row.*--resume and a lower optimizers.generator.lr'):
        model.train_step(broken, optimizer)


def test_ema_follows_its_formula(tiny_config):
    model = build_restorer(tiny_config(**SMALL))
    model.add_ema()
    start = model.generator.conv_last.weight.detach().clone()
    with torch.no_grad():
        model.generator.conv_last.weight.add_(1)
    model.update_ema(0.75)
    assert torch.allclose(model.generator_ema.conv_last.weight, start + 0.25)
    assert not any(p.requires_grad for p in model.generator_ema.parameters())


def test_the_flag_is_true_for_finite_values():
    assert optimizer_step._OnTheirWay(torch.tensor(1.0).isfinite()).read() == [True]
    assert optimizer_step._OnTheirWay(torch.tensor(torch.nan).isfinite()).read() == [False]


@pytest.mark.parametrize('options, message', [
    ({'compile': 'yes'}, '"compile" is \'yes\''), ({'grad_clip': -1}, '"grad_clip" is -1'),
    ({'channels_last': 1}, '"channels_last" is 1'), ({'on_data_error': 'go'}, '"on_data_error" is \'go\''),
    ({'model.type': 'ESRGAN', 'amp': 'bf16'}, '"amp": ESRGAN cannot; use model.type=FaceRestorer'),
])
def test_choices_that_mean_nothing_are_refused(options, message, tiny_config):
    with pytest.raises(UserError, match=message):
        check_choices(tiny_config(**options))


def test_the_restorer_trains_unprepared(tiny_config):
    """As `BasicRestorer` in MMEditing's own tools, which know nothing of `prepare_training`."""
    model = build_restorer(tiny_config(**SMALL))
    assert isinstance(model, FaceRestorer)
    model.train_step(batches(1)[0], {'generator': torch.optim.SGD(model.generator.parameters(), lr=0.1)})
