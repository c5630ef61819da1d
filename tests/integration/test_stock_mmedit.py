"""The same config, weights and images give the same result in MMEditing without `facesr`, bit for bit."""
import json
import sys

import pytest
import torch
from conftest import ROOT
from forked import run_forked
from mmedit.core import build_optimizers
from mmedit.models import build_model
from mmedit.models.restorers import BasicRestorer

from facesr.checkpoint.io import save_checkpoint
from facesr.config import load_config
from facesr.engine.train import train
from facesr.models.build import build_restorer
from facesr.models.restorers.face_restorer import FaceRestorer

# Stock MMEditing, with the least that lets it import: no part of facesr. It reads our dumped
# config and checkpoint, tests as its own tools/test.py does, and takes training steps.
STOCK = '''
import sys, types, importlib.machinery
import numpy as np
if not hasattr(np, 'bool8'):
    np.bool8 = np.bool_
import importlib.util
if importlib.util.find_spec('mmcv._ext') is None:
    class Ext(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith('__'):
                raise AttributeError(name)
            return None
    sys.modules['mmcv._ext'] = Ext('mmcv._ext')
import json, torch
from mmcv import Config
from mmcv.runner import load_checkpoint
from mmedit.apis import set_random_seed, single_gpu_test
from mmedit.core import build_optimizers
from mmedit.datasets import build_dataloader, build_dataset
from mmedit.models import build_model

config, checkpoint, out = sys.argv[1:]
cfg = Config.fromfile(config, import_custom_modules=False)
cfg.model.type = 'BasicRestorer'
pipeline = cfg.data.val.pipeline  # ours keeps images in 8 bits
pipeline[2].pop('to_float32')
pipeline.insert(2, dict(type='RescaleToZeroOne', keys=['lq', 'gt']))
model = build_model(cfg.model, train_cfg=cfg.train_cfg, test_cfg=cfg.test_cfg)
load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
dataset = build_dataset(cfg.data.val)
loader = build_dataloader(dataset, samples_per_gpu=1, workers_per_gpu=0, dist=False, shuffle=False,
                          persistent_workers=False, pin_memory=False)

class Unwrap(torch.nn.Module):  # what MMDataParallel does on a CPU
    def forward(self, meta=None, **data):
        return model(meta=meta.data[0], **data)

wrapped = Unwrap()
model.eval()
results = single_gpu_test(wrapped, loader, save_image=True, save_path=out)
means = {k: float(v) for k, v in dataset.evaluate(results).items()}

set_random_seed(7)
model.train()
optimizer = build_optimizers(model, cfg.optimizers)
lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
losses = [model.train_step(dict(lq=lq, gt=gt), optimizer)['log_vars']['loss'] for _ in range(3)]
torch.save(model.state_dict(), out + '/trained.pth')
print('\\nRESULT ' + json.dumps(dict(means=means, losses=losses)))
assert 'facesr' not in sys.modules
'''


@pytest.mark.slow
@pytest.mark.parametrize('config', ['configs/srresnet_ffhq.py', 'configs/rrdbnet_ffhq.py'])
def test_results_equal_stock_mmedit(config, tiny_config, tiny_root, run_tool, tmp_path):
    torch.manual_seed(1)
    cfg = tiny_config(config)
    model = build_restorer(cfg)
    dumped, checkpoint = tmp_path / 'dumped.py', tmp_path / 'a.pth'
    cfg.dump(str(dumped))
    save_checkpoint(checkpoint, model)
    script = tmp_path / 'stock.py'
    script.write_text(STOCK)
    stock_out, our_out, metrics = tmp_path / 'stock', tmp_path / 'ours', tmp_path / 'm.json'
    done = run_forked([sys.executable, script, dumped, checkpoint, stock_out], tmp_path)
    assert done.returncode == 0, done.stderr
    stock = json.loads(done.stdout.rpartition('RESULT ')[2])

    done = run_tool('test.py', config, checkpoint, '--data-root', tiny_root, '--out-dir', our_out, '--out', metrics)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in our_out.iterdir())
    assert names == sorted(path.name for path in stock_out.glob('*.png')) and names
    for name in names:
        assert (our_out / name).read_bytes() == (stock_out / name).read_bytes()
    mean = json.loads(metrics.read_text())['mean']
    assert mean['PSNR'] == pytest.approx(stock['means']['PSNR'], abs=1e-4)
    assert mean['SSIM'] == pytest.approx(stock['means']['SSIM'], abs=1e-5)

    losses, trained = _train_three_steps(model, cfg)
    assert losses == stock['losses']
    theirs = torch.load(stock_out / 'trained.pth', weights_only=True)
    assert trained.keys() == theirs.keys()
    assert all(torch.equal(trained[key], theirs[key]) for key in trained)


def _train_three_steps(model, cfg):
    from mmedit.apis import set_random_seed
    from mmedit.core import build_optimizers
    set_random_seed(7)
    model.train()
    optimizer = build_optimizers(model, cfg.optimizers)
    batch = dict(lq=torch.rand(2, 3, 8, 8), gt=torch.rand(2, 3, 32, 32))
    losses = [float(model.train_step(batch, optimizer)['log_vars']['loss']) for _ in range(3)]
    return losses, model.state_dict()


def test_our_restorer_is_a_drop_in(tiny_config):
    assert issubclass(FaceRestorer, BasicRestorer)
    cfg = tiny_config()
    stock = build_model(dict(cfg.model, type='BasicRestorer'), train_cfg=cfg.train_cfg, test_cfg=cfg.test_cfg)
    assert type(stock) is BasicRestorer
    assert stock.state_dict().keys() == build_restorer(cfg).state_dict().keys()


def test_a_config_that_names_mmeditings_restorer_gets_ours(tiny_config, tiny_root, tiny_options, tmp_path):
    """In its file or by an option: with the weights, images and losses of `BasicRestorer`."""
    path = tmp_path / 'stock.py'
    path.write_text(f'_base_ = "{ROOT}/configs/srresnet_ffhq.py"\nmodel = dict(type="BasicRestorer")\n')
    small = {'model.generator.num_blocks': 1, 'model.generator.mid_channels': 8}
    for cfg in (load_config(path, {**tiny_options, **small}, str(tiny_root)),
                tiny_config(**small, **{'model.type': 'BasicRestorer'})):
        assert cfg.model.type == 'FaceRestorer'
        torch.manual_seed(0)
        ours = build_restorer(cfg)
        torch.manual_seed(0)
        stock = build_model(dict(cfg.model, type='BasicRestorer'), train_cfg=cfg.train_cfg, test_cfg=cfg.test_cfg)
        assert type(ours) is FaceRestorer and type(stock) is BasicRestorer
        assert all(torch.equal(value, ours.state_dict()[name]) for name, value in stock.state_dict().items())
        lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
        assert torch.equal(ours.forward_dummy(lq), stock.forward_dummy(lq))
        losses = []
        for model in (ours.train(), stock.train()):
            optimizer = build_optimizers(model, cfg.optimizers)
            steps = [model.train_step(dict(lq=lq, gt=gt), optimizer) for _ in range(3)]
            losses.append([float(step['log_vars']['loss']) for step in steps])
        assert losses[0] == losses[1]
        assert all(torch.equal(value, ours.state_dict()[name]) for name, value in stock.state_dict().items())


def test_training_forward_stays_on_the_device(tiny_config):
    """`BasicRestorer` copies lq, gt and output to the CPU; ours hands on the very tensors."""
    model = build_restorer(tiny_config())
    lq, gt = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32)
    results = model(lq, gt)['results']
    assert results['lq'] is lq and results['gt'] is gt
    assert not results['output'].requires_grad


def test_stock_parts_of_a_config_still_train(tiny_config, tmp_path):
    """MMEditing's restorer and mmcv's logger, as in a config from elsewhere."""
    stock = {'model.type': 'BasicRestorer', 'log_config.hooks': [dict(type='TextLoggerHook', by_epoch=False)]}
    train(tiny_config(**stock), 'run')
    train(tiny_config(total_iters=3, **stock), 'run', resume='auto')
    log = ''.join(path.read_text() for path in (tmp_path / 'work').glob('*.log'))
    assert 'Iter [3/3]' in log and 'Iter(val) [3]' in log and (tmp_path / 'work/iter_3.pth').is_file()
