"""ESRGAN: the steps are MMEditing's, and a run of two stages goes through everything that other runs go through."""
import json
import re
import sys

import pytest
import torch
from conftest import ROOT, SMALL
from forked import run_ranks
from mmedit.core import build_optimizers
from mmedit.models.builder import build_loss, build_model
from mmedit.models.losses import PerceptualLoss
from torchvision.models import vgg

from facesr.checkpoint.interpolation import interpolate
from facesr.checkpoint.io import read_checkpoint, save_checkpoint
from facesr.checkpoint.weights import load_weights
from facesr.config import load_config
from facesr.engine.dry_run import dry_run
from facesr.engine.preflight import advice
from facesr.engine.train import prepare, train
from facesr.export.exporter import export_checkpoint
from facesr.models.build import build_restorer, check_budget, count_discriminator, count_parameters, load_model
from facesr.models.restorers.face_esrgan import FaceESRGAN
from facesr.models.restorers.optimizer_step import PATIENCE, TrainingDiverged
from facesr.utils.errors import CheckpointError, UserError

CPU = torch.device('cpu')
CONFIG, PSNR_CONFIG = 'configs/esrgan_ffhq.py', 'configs/rrdbnet_ffhq.py'
NET = {**SMALL, 'model.generator.growth_channels': 4}
GAN = {**NET, 'model.discriminator.mid_channels': 4, 'gt_patch_size': 128, 'load_from': None}
TINY = {**GAN, 'model.perceptual_loss': None}
VGG = dict(type='VGGPerceptualLoss', vgg_type='vgg11', layer_weights={'3': 0.5, '8': 1.0})  # conv2, conv4


def batch(seed=3, size=2):
    generator = torch.Generator().manual_seed(seed)
    return dict(lq=torch.rand(size, 3, 32, 32, generator=generator),
                gt=torch.rand(size, 3, 128, 128, generator=generator))


def weights_of(*networks) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for net in networks for p in net.parameters()])


@pytest.fixture
def vgg_file(tmp_path):
    """Random weights of VGG-11's first layers, named as torchvision's."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layers = vgg.make_layers(vgg.cfgs['A'][:6], batch_norm=False)
    path = tmp_path / 'vgg11-random.pth'
    torch.save({f'features.{name}': value for name, value in layers.state_dict().items()}, path)
    return path


def perceptual(vgg_file):
    """Overrides the config's loss by one with random weights."""
    return dict(VGG, pretrained=str(vgg_file), _delete_=True)


@pytest.fixture
def built(tiny_config):
    """Builds the restorer and its optimizers (SGD, a step of which is as long as the gradient)."""

    def build(prepared=None, **more):
        torch.manual_seed(0)
        cfg = tiny_config(CONFIG, **{**TINY, **more})
        model = build_restorer(cfg)
        model.prepare_training(CPU, **prepared or {})
        cfg.optimizers = {name: dict(type='SGD', lr=0.1) for name in ('generator', 'discriminator')}
        return model, build_optimizers(model, cfg.optimizers)

    return build


def test_counts_are_the_reports():
    cfg = load_config(CONFIG)
    model = build_restorer(cfg)
    assert isinstance(model, FaceESRGAN)
    assert (count_parameters(model.generator), count_discriminator(model)) == (636_947, 1_061_417)
    assert count_parameters(model) == 1_698_364 <= cfg.budget == 1_821_085
    assert check_budget(model.generator, cfg, count_discriminator(model)) == 636_947
    rates = {name: (optimizer.type, optimizer.lr) for name, optimizer in cfg.optimizers.items()}
    assert rates == dict(generator=('Adam', 1e-4), discriminator=('Adam', 1e-4))
    assert cfg.lr_config.step == [50000, 100000, 200000, 300000] and cfg.total_iters == 400_000


def test_the_cap_counts_the_discriminator_too(tiny_config):
    cfg = tiny_config(CONFIG, **{'gt_patch_size': 128, 'model.generator.num_blocks': 20})
    message = r'generator \(\d+,\d+\) and discriminator \(1,061,417\) have 1,8\d\d,\d+ parameters, \d+,\d+ over'
    with pytest.raises(UserError, match=message):
        prepare(cfg)


@pytest.mark.parametrize('how', [
    {}, {'train_cfg': dict(disc_steps=2, disc_init_steps=1)}, {'perceptual': True}, {'model.pixel_loss': None}
], ids=str)
def test_steps_are_mmeditings(how, built, vgg_file):
    """Some steps lead to the weights that MMEditing's own class has after them, and the losses are the same."""
    options = dict(how)
    if options.pop('perceptual', False):
        options['model.perceptual_loss'] = perceptual(vgg_file)
    steps = 3 if 'train_cfg' in how else 2
    ours, our_optimizers = built(**options)
    cfg = load_config(CONFIG, {**TINY, **options, 'model.perceptual_loss': None})
    cfg.model.type = 'ESRGAN'  # here: as a config's it would become FaceESRGAN
    theirs = build_model(cfg.model, train_cfg=cfg.train_cfg, test_cfg=cfg.test_cfg)
    theirs.perceptual_loss = _mmeditings(vgg_file) if 'perceptual' in how else None
    load_weights(theirs, dict(state_dict=ours.state_dict(), meta={}), 'ours')
    start = weights_of(ours.generator, ours.discriminator)
    their_optimizers = build_optimizers(
        theirs, {name: dict(type='SGD', lr=0.1) for name in ('generator', 'discriminator')})
    for step in range(steps):
        log = ours.train_step(batch(step), our_optimizers)['log_vars']
        expected = theirs.train_step(batch(step), their_optimizers)['log_vars']
        total = log.pop('loss', None)
        assert {name: float(value) for name, value in log.items()} == pytest.approx(expected, rel=1e-4, abs=1e-6)
        if total is not None:
            parts = [value for name, value in log.items() if name not in ('loss_d_real', 'loss_d_fake')]
            assert float(total) == pytest.approx(float(sum(parts)))
    for name in ('generator', 'discriminator'):
        moved, difference = (weights_of(getattr(ours, name)) - other for other in (
            start[:count_parameters(ours.generator)] if name == 'generator' else
            start[count_parameters(ours.generator):], weights_of(getattr(theirs, name))))
        assert moved.norm() > 1e-4 and difference.norm() < 1e-3 * moved.norm()


def _mmeditings(vgg_file):
    """MMEditing's perceptual loss with the weights in a file; it reads whole VGGs alone, from an unsafe loader."""
    loss = PerceptualLoss.__new__(PerceptualLoss)
    torch.nn.Module.__init__(loss)
    ours = build_loss(dict(VGG, pretrained=str(vgg_file)))
    ours.load(CPU)

    class Features(torch.nn.Module):
        mean, std = ours._mean, ours._std

        def forward(self, x):
            x, found = (x - self.mean) / self.std, {}
            for name, layer in ours.layers.named_children():
                x = layer(x)
                if name in ours.layer_weights:
                    found[name] = x.clone()
            return found

    loss.norm_img, loss.perceptual_weight, loss.style_weight = False, 1.0, 0
    loss.layer_weights, loss.vgg, loss.criterion = ours.layer_weights, Features(), torch.nn.L1Loss()
    return loss


@pytest.mark.parametrize('how', [
    dict(channels_last=True), dict(compile=dict(backend='aot_eager')), dict(grad_clip=1e6), dict(dtype=torch.bfloat16),
], ids=str)
def test_every_way_to_compute_a_step_leads_to_the_same_weights(how, built, vgg_file):
    moved = []
    for prepared in ({}, how):
        model, optimizers = built(prepared, **{'model.perceptual_loss': perceptual(vgg_file)})
        start = weights_of(model.generator, model.discriminator)
        model.train_step(batch(), optimizers)
        moved.append(weights_of(model.generator, model.discriminator) - start)
    plain, other = moved
    assert (other - plain).norm() <= (0.2 if 'dtype' in how else 1e-3) * plain.norm()


def test_accumulated_chunks_are_batches_to_the_discriminator(built):
    """One image at a time: D's means and batch norm see that image alone, the gradient is the chunks' mean."""
    model, optimizers = built(dict(accumulation_steps=2))
    log = model.train_step(batch(), optimizers)['log_vars']
    alone, _ = built()
    alone.discriminator.requires_grad_(False)
    each = [alone.forward_train(*(value[i:i + 1] for value in batch().values()))['losses'] for i in range(2)]
    for name in ('loss_pix', 'loss_gan'):
        assert float(log[name]) == pytest.approx(sum(losses[name].item() for losses in each) / 2, rel=1e-5)


def test_losses_stay_tensors_and_nothing_is_read_back(built, monkeypatch):
    model, optimizers = built()
    read = []
    for name in ('item', 'cpu', 'tolist', 'numpy', '__bool__', '__float__'):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda *args, name=name, real=real: (read.append(name), real(*args))[1])
    log = model.train_step(batch(), optimizers)['log_vars']
    assert read == ['tolist'] * 2  # whether the losses are finite
    assert list(log) == ['loss_pix', 'loss_gan', 'loss', 'loss_d_real', 'loss_d_fake']
    assert all(torch.is_tensor(value) and not value.requires_grad for value in log.values())


def test_a_loss_that_is_not_finite_changes_neither_network(built, tmp_path):
    model, optimizers = built()
    model.train_step(batch(), optimizers)
    before, broken = {name: value.clone() for name, value in model.state_dict().items()}, batch()
    broken['gt'][0, 0, 0, 0] = torch.nan
    for _ in range(PATIENCE - 1):
        assert model.train_step(broken, optimizers)['log_vars'] == {}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # batch norm's too
    save_checkpoint(tmp_path / 'a.pth', model)  # refuses what is not finite
    state = model.update.state_dict()
    assert state['generator']['skipped_in_a_row'] == PATIENCE - 1 and state['steps'] == PATIENCE
    with pytest.raises(TrainingDiverged, match='a lower optimizers.generator.lr'):
        model.train_step(broken, optimizers)


def test_the_discriminators_own_trouble_is_named(built):
    model, optimizers = built(train_cfg=dict(disc_init_steps=100))
    broken = batch()
    broken['gt'][0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingDiverged, match='a lower optimizers.discriminator.lr'):
        for _ in range(PATIENCE):
            model.train_step(broken, optimizers)


def test_saving_between_the_two_steps_is_known_to_be_wrong(built, monkeypatch):
    """As when memory runs out then: the generator is one step ahead."""
    model, optimizers = built()
    stepping = []

    def told(owner, name, what):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kwargs: (
            stepping.append((what, model.update.stepping)), real(*args, **kwargs))[1])

    told(model.gan_loss, 'forward', 'loss')
    told(model.update.generator, 'finish', 'generator')
    told(model.update.discriminator, 'finish', 'discriminator')
    model.train_step(batch(), optimizers)
    assert stepping == [('loss', False)] * 4 + [('generator', False), ('discriminator', True)]
    assert not model.update.stepping


def test_the_perceptual_loss_is_frozen_and_reaches_the_image(vgg_file):
    loss = build_loss(dict(VGG, pretrained=str(vgg_file)))
    loss.load(CPU)
    image, gt = torch.rand(2, 1, 3, 32, 32)
    value, style = loss(image.requires_grad_(), gt.requires_grad_())
    value.backward()
    assert style is None and value > 0 and bool((image.grad != 0).any()) and gt.grad is None
    assert not list(loss.parameters()) and not loss.state_dict()
    assert not any(p.requires_grad for p in loss.layers.parameters())
    assert loss(gt, gt)[0].item() == 0
    with torch.autocast('cpu', torch.bfloat16):
        assert loss(image, gt)[0].dtype == torch.float32


@pytest.mark.parametrize('change, message', [
    (lambda weights: weights.pop('features.3.bias'), r'not vgg11\'s weights \(features.3.bias is missing\)'),
    (lambda weights: weights.update({'features.0.weight': torch.zeros(1)}), 'features.0.weight has another shape'),
    (lambda weights: weights['features.8.bias'].fill_(torch.nan), r'NaN or infinite \(features.8.bias\)'),
])
def test_wrong_vgg_weights_are_refused(change, message, vgg_file):
    weights = torch.load(vgg_file, weights_only=True)
    change(weights)
    torch.save(weights, vgg_file)
    with pytest.raises(UserError, match=message):
        build_loss(dict(VGG, pretrained=str(vgg_file))).load(CPU)


def test_a_damaged_vgg_file_is_one_line(vgg_file):
    vgg_file.write_bytes(vgg_file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match='vgg11-random.pth: not a PyTorch checkpoint, or a damaged one'):
        build_loss(dict(VGG, pretrained=str(vgg_file))).load(CPU)


@pytest.mark.parametrize('options, message', [
    (dict(vgg_type='vgg12'), 'vgg_type is \'vgg12\''), (dict(criterion='l3'), 'criterion is \'l3\''),
    (dict(layer_weights={'21': 1}), 'vgg11 has layers 0 to 20'),
])
def test_settings_that_mean_nothing_are_refused(options, message, tiny_config):
    with pytest.raises(UserError, match=f'config key "model": .*{message}'):
        build_restorer(tiny_config(CONFIG, **{**GAN, 'model.perceptual_loss': {**VGG, **options, '_delete_': True}}))


def test_missing_vgg_weights_are_one_line_and_nothing_is_written(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    cfg = tiny_config(CONFIG, **GAN)
    with pytest.raises(UserError) as caught:
        train(cfg, 'run')
    for part in ('https://download.pytorch.org/models/vgg19-dcbb9e9d.pth', str(tmp_path / 'hub/checkpoints'),
                 'model.perceptual_loss.pretrained=FILE', '--cfg-options model.perceptual_loss=None trains without'):
        assert part in str(caught.value)
    assert not (tmp_path / 'work').exists()
    build_restorer(cfg)  # for a test or an export


def test_vgg_in_torchvisions_cache_is_found(vgg_file, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    (tmp_path / 'hub/checkpoints').mkdir(parents=True)
    vgg_file.rename(tmp_path / 'hub/checkpoints' / vgg.VGG11_Weights.DEFAULT.url.rpartition('/')[2])
    build_loss(VGG).load(CPU)


@pytest.mark.parametrize('size', [64, None])
def test_a_wrong_patch_size_is_one_line(size, tiny_config):
    with pytest.raises(UserError, match=f'"gt_patch_size" is {size}: the discriminator ModifiedVGG takes patches of '
                       '128x128 alone; use'):
        prepare(tiny_config(CONFIG, **{**TINY, 'gt_patch_size': size}))


def test_an_optimizer_is_missing(tiny_config):
    cfg = tiny_config(CONFIG, **TINY)
    del cfg.optimizers['discriminator']
    with pytest.raises(UserError, match='"optimizers": has none for the discriminator'):
        prepare(cfg)


def test_advice_against_running_out_of_memory_is_possible():
    assert advice(load_config(CONFIG), CPU) == ('use --cfg-options with one of: accumulation_steps=2 (almost the '
                                                'same training, about 2 times less), '
                                                'data.train_dataloader.samples_per_gpu=8')


def test_a_missing_first_stage_says_what_to_train(tiny_config):
    with pytest.raises(UserError, match='work_dirs/none.pth is not there; train configs/rrdbnet_ffhq.py first, or'):
        prepare(tiny_config(CONFIG, **{**TINY, 'load_from': 'work_dirs/none.pth'}))


def test_checkpoints_of_mmediting_fit(tiny_config, tmp_path):
    """Theirs have the perceptual loss's weights as well."""
    model = build_restorer(tiny_config(CONFIG, **TINY))
    extra = {'perceptual_loss.vgg.vgg_layers.0.weight': torch.zeros(2), 'perceptual_loss.vgg.mean': torch.zeros(1)}
    load_weights(model, dict(state_dict={**model.state_dict(), **extra}, meta={}), 'theirs')
    broken = {name: value for name, value in model.state_dict().items() if name != 'discriminator.linear2.bias'}
    with pytest.raises(CheckpointError, match='1 missing .discriminator.linear2.bias'):
        load_weights(model, dict(state_dict=broken, meta={}), 'part of a discriminator')


def records(work_dir):
    return [json.loads(line) for log in sorted(work_dir.glob('*.log.json')) for line in log.read_text().splitlines()]


def test_two_stages_end_to_end(tiny_config, tmp_path, vgg_file):
    """PSNR, then GAN with all losses; a resume; test, export and interpolation with either config."""
    psnr, work, straight = tmp_path / 'psnr', tmp_path / 'gan', tmp_path / 'straight'
    train(tiny_config(PSNR_CONFIG, **NET, work_dir=str(psnr)), 'rrdbnet_ffhq')

    def config(folder, iterations=2):
        return tiny_config(CONFIG, **{
            **GAN, 'load_from': str(psnr / 'latest.pth'), 'ema': 0.5, 'data.train_dataloader.samples_per_gpu': 2,
            'model.perceptual_loss': perceptual(vgg_file), 'train_cfg.disc_steps': 2, 'work_dir': str(folder),
            'total_iters': iterations})

    started = prepare(config(work))[0]
    first = read_checkpoint(psnr / 'latest.pth')['state_dict']
    assert all(torch.equal(value, first[f'generator.{name}']) for net in (started.generator, started.generator_ema)
               for name, value in net.state_dict().items())

    train(config(work), 'esrgan_ffhq')
    with pytest.raises(CheckpointError, match='not the state of a training run: start from it with .*load_from'):
        train(config(tmp_path / 'x'), 'x', resume=str(psnr / 'latest.pth'))
    train(config(work, 3), 'esrgan_ffhq', resume='latest')
    train(config(straight, 3), 'esrgan_ffhq')
    resumed, whole = (read_checkpoint(folder / 'latest.pth') for folder in (work, straight))
    assert resumed['state_dict'].keys() == whole['state_dict'].keys()
    assert not any('perceptual' in name for name in whole['state_dict'])
    for name, value in whole['state_dict'].items():
        assert torch.equal(resumed['state_dict'][name], value), name
    for name in ('generator', 'discriminator'):
        states = (end['optimizer'][name]['state'].values() for end in (resumed, whole))
        for ours, theirs in zip(*states, strict=True):
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert resumed['update'] == whole['update'] and whole['update']['steps'] == 3
    assert any(bool((value != first[name]).any()) for name, value in whole['state_dict'].items() if name in first)

    logged = [record for record in records(straight) if record.get('mode') == 'train']
    assert [{'loss_perceptual', 'loss_gan', 'loss'} <= record.keys() for record in logged] == [True, False, True]
    assert all({'loss_d_real', 'loss_d_fake'} <= record.keys() for record in logged)
    assert set(logged[0]['lr']) == {'generator', 'discriminator'}
    log = next(straight.glob('*.log')).read_text()
    assert re.search(r'generator and [\d,]+ discriminator parameters \(cap: 1,821,085\)', log)
    assert any('PSNR_ema' in record for record in records(straight))

    mixed = tmp_path / 'mixed.pth'
    interpolate(psnr / 'latest.pth', work / 'latest.pth', 0.5, mixed)
    cfgs = load_config(CONFIG, {**NET, 'model.discriminator.mid_channels': 4}), load_config(PSNR_CONFIG, NET)
    for cfg in cfgs:
        for checkpoint in (work / 'latest.pth', mixed):
            model = load_model(cfg, checkpoint)
            assert torch.equal(model.generator.conv_last.weight,
                               read_checkpoint(checkpoint)['state_dict']['generator.conv_last.weight'])
    exported = export_checkpoint(cfgs[0], mixed, 'safetensors').path
    assert torch.equal(load_model(cfgs[0], exported).generator.conv_last.weight, model.generator.conv_last.weight)
    published = export_checkpoint(cfgs[0], work / 'latest.pth', 'pth').path
    assert all(name.startswith('generator.') for name in read_checkpoint(published)['state_dict'])


@pytest.mark.parametrize('more', [dict(amp='bf16', channels_last=True, accumulation_steps=2),
                                  dict(degrade_on='device')], ids=str)
def test_other_ways_to_train(more, tiny_config, tmp_path):
    try:
        train(tiny_config(CONFIG, **TINY, **more, **{'data.train_dataloader.samples_per_gpu': 2}), 'run')
    except UserError as error:
        if 'does not train in bf16' in str(error):
            pytest.skip(str(error))
        raise
    assert all('loss_gan' in r for r in records(tmp_path / 'work') if r.get('mode') == 'train')


PROBE = '''
import sys
sys.path[:0] = [{root!r}, {root!r} + '/tools']
import torch
from facesr.engine import train as training
from facesr.utils import dist
goodbye = training._say_goodbye
def at_the_end(runner, cfg):
    model = runner.model
    torch.save(dict(weights=[p.detach() for p in model.parameters()],
                    gradients=[p.grad for p in model.parameters()]), f'{out}/rank{{dist.rank()}}.pth')
    goodbye(runner, cfg)
training._say_goodbye = at_the_end
import train
train.main()
'''


@pytest.mark.slow
def test_two_processes_keep_both_networks_equal(tiny_root, tmp_path):
    script = tmp_path / 'probe.py'
    script.write_text(PROBE.format(root=str(ROOT), out=str(tmp_path)))
    options = [f'{key}={value}' for key, value in TINY.items()]
    run_ranks([sys.executable, script, CONFIG, '--data-root', tiny_root, '--work-dir', tmp_path / 'work', '--launcher',
               'pytorch', '--cfg-options', *options, f'data.train.ann_file={tiny_root}/train.txt', 'total_iters=3',
               'data.workers_per_gpu=0', 'data.train_dataloader.samples_per_gpu=2', 'accumulation_steps=2',
               'train_cfg.disc_steps=2'], 2, tmp_path / 'stderr')
    ranks = [torch.load(tmp_path / f'rank{rank}.pth', weights_only=True) for rank in range(2)]
    for kind in ('weights', 'gradients'):
        assert all(torch.equal(*pair) for pair in zip(ranks[0][kind], ranks[1][kind], strict=True)), kind
    checkpoint = read_checkpoint(tmp_path / 'work/latest.pth')
    assert checkpoint['update']['steps'] == 3 and len(checkpoint['ranks']) == 2


def test_pictures_while_training(tiny_config, tmp_path):
    hook = dict(type='MMEditVisualizationHook', output_dir=str(tmp_path / 'shown'), interval=1, rerange=False,
                res_name_list=['gt', 'output'], bgr2rgb=False)
    cfg = tiny_config(CONFIG, **TINY, custom_hooks=[hook])
    dry_run(cfg, validate=False)  # makes no folder either
    assert not (tmp_path / 'shown').exists()
    train(cfg, 'run', validate=False)
    assert (tmp_path / 'shown/iter_2.png').is_file()
