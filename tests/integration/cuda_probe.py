"""What test_cuda_standin.py has done in one process on a CUDA device, real or the stand-in; prints a line of JSON.

    cuda_probe.py kinds | waits | degrade | faults | metrics | small_memory | memory MIB CONFIG[:fp16]...
    cuda_probe.py disturbed WHAT ITERATION TRAIN_ARGUMENT... | torchrun PROCESSES SCRIPT ARGUMENT...
"""
import gc
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / 'tools'))

import facesr.register  # noqa: E402, F401

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed.run  # noqa: E402
from mmedit.core import build_optimizers  # noqa: E402

from facesr.config import batch_size, load_config  # noqa: E402
from facesr.datasets import batch_stream  # noqa: E402
from facesr.datasets.batch_stream import BatchStream, OnOwnStream, to_device  # noqa: E402
from facesr.datasets.degrade import training_recipe  # noqa: E402
from facesr.degradation import fft, noise  # noqa: E402
from facesr.degradation.device import BatchDegradation, in_order  # noqa: E402
from facesr.evaluation.metrics import METRICS  # noqa: E402
from facesr.models.build import build_restorer  # noqa: E402
from facesr.models.restorers import optimizer_step  # noqa: E402
from facesr.models.restorers.face_restorer import FaceRestorer  # noqa: E402
from facesr.models.training_memory import training_memory  # noqa: E402
from facesr.utils.memory import limit_memory, peak_allocated, peak_memory  # noqa: E402
from facesr.utils.pixels import to_float  # noqa: E402

CPU, CUDA = torch.device('cpu'), torch.device('cuda', 0)
STANDIN = bool(os.environ.get('FAKE_CUDA'))
SMALL = {'model.generator.mid_channels': 8, 'model.generator.num_blocks': 1, 'gt_patch_size': 32}
SRRESNET, ESRGAN = ('configs/srresnet_ffhq.py', SMALL), ('configs/esrgan_ffhq.py', {
    'model.generator.mid_channels': 4, 'model.generator.num_blocks': 1, 'model.generator.growth_channels': 2,
    'model.discriminator.mid_channels': 2, 'model.perceptual_loss': None, 'load_from': None})
SAFMN = ('configs/safmn_ffhq.py', {'model.generator.dim': 8, 'model.generator.n_blocks': 1, 'gt_patch_size': 32,
                                   'accumulation_steps': 1})
NAF_UNET = ('configs/naf_unet_ffhq.py', {'model.generator.mid_channels': [8, 12], 'model.generator.num_blocks': [1, 1],
                                         'model.generator.num_up_blocks': [1], 'gt_patch_size': 32})
KINDS = {
    'plain': (SRRESNET, {}), 'fp16': (SRRESNET, dict(dtype=torch.float16)),
    'bf16': (SRRESNET, dict(dtype=torch.bfloat16)), 'channels_last': (SRRESNET, dict(channels_last=True)),
    'accumulation': (SRRESNET, dict(accumulation_steps=2)), 'clip': (SRRESNET, dict(grad_clip=0.01)),
    'fp16_clip': (SRRESNET, dict(dtype=torch.float16, grad_clip=0.01)), 'ema': (SRRESNET, dict(ema=0.9)),
    'esrgan': (ESRGAN, {}), 'esrgan_fp16': (ESRGAN, dict(dtype=torch.float16)), 'safmn': (SAFMN, {}),
    'naf_unet': (NAF_UNET, dict(channels_last=True)), 'device': (SRRESNET, dict(degrade=True)),
}


def built(kind: str, device):
    """Model, optimizers, and whether there is a moving average."""
    (path, options), how = KINDS[kind]
    cfg, how = load_config(path, options), dict(how)
    ema = how.pop('ema', None)
    how.pop('degrade', None)
    torch.manual_seed(0)
    model = build_restorer(cfg)
    if ema:
        model.add_ema()
    model.prepare_training(device, **how)
    return model.train(), build_optimizers(model, cfg.optimizers), ema, cfg


def batches(kind: str, cfg, count: int) -> list:
    """On the host; pinned where they go to CUDA, as the loader does it."""
    generator = torch.Generator().manual_seed(1)
    side, found = cfg.gt_patch_size, []
    for number in range(count):
        gt = (torch.rand(4, 3, side // 4, side // 4, generator=generator) * 255).round().to(torch.uint8)
        gt = gt.repeat_interleave(4, -1).repeat_interleave(4, -2)
        if 'degrade' in KINDS[kind][1]:
            recipe = training_recipe(load_config('configs/srresnet_ffhq.py', {
                'degradation.2.params.gaussian_sigma': [0, 0], 'degradation.4.params.target_size': (side, side),
                'degradation.6.params.target_size': (side // 4, side // 4)}))  # noise differs between devices
            plans = [recipe.draw(np.random.default_rng([number, i]), side, side) for i in range(4)]
            found.append(dict(gt=gt.pin_memory(), meta=[dict(plan=plan) for plan in plans]))
        else:
            lq = torch.nn.functional.avg_pool2d(gt.float() / 255, 4)
            found.append(dict(lq=lq.pin_memory(), gt=gt.pin_memory()))
    return found


class Loader:
    """A loader as `BatchStream` takes it."""

    def __init__(self, content):
        self._content, self.batch_size, self.num_workers = content, 4, 0

    def __iter__(self):
        return iter(self._content)

    def __len__(self):
        return len(self._content)


def stream_of(content, model=None) -> BatchStream:
    """As training has it: with a model, which degrades a batch ahead."""
    return BatchStream(lambda _: Loader(content), prepare=OnOwnStream(model.degrade, CUDA) if model else None)


def trained(kind: str, device, steps: int = 3) -> tuple:
    """Losses of each step, the weights at the end, and the metrics of what the network makes of its last batch."""
    model, optimizers, ema, cfg = built(kind, device)
    content = batches(kind, cfg, steps + 1)
    stream = stream_of(content, model if device == CUDA and 'degrade' in KINDS[kind][1] else None)
    logged = []
    for _ in range(steps):
        logged.append(model.train_step(to_device(stream.next(), device), optimizers)['log_vars'])
        if ema:
            model.update_ema(ema)
    losses = [{name: float(value) for name, value in step.items()} for step in logged]
    with torch.no_grad():
        lq = torch.nn.functional.avg_pool2d(content[-1]['gt'].float() / 255, 4).to(device)
        hq = model.generator(lq).clamp(0, 1).mul(255).round().to(torch.uint8)
    metrics = {name: METRICS[name].build()(hq, content[-1]['gt'].to(device)).mean().item() for name in ('PSNR', 'SSIM')}
    weights = torch.cat([value.detach().cpu().float().flatten() for value in model.state_dict().values()])
    return losses, weights, metrics


def computes(dtype) -> bool:
    """Whether the device does in this type."""
    return dtype is not torch.bfloat16 or torch.cuda.get_device_capability() >= (8, 0)


def kinds() -> dict:
    """How far CUDA is from the CPU, by kind of training."""
    found = {}
    for kind, (_, how) in KINDS.items():
        if not computes(how.get('dtype')):
            continue
        (losses, weights, metrics), (ours, moved, measured) = trained(kind, CPU), trained(kind, CUDA)
        found[kind] = dict(
            weights=(weights - moved).abs().max().item(), scale=weights.abs().max().item(), steps=len(ours),
            losses=max(abs(a[name] - b[name]) for a, b in zip(losses, ours, strict=True) for name in a),
            names=all(a.keys() == b.keys() and a for a, b in zip(losses, ours, strict=True)),
            metrics=max(abs(metrics[name] - measured[name]) for name in metrics))
    return found


def counts() -> int:
    """Waits for the device so far, of any kind; 0 on a real one, which does not count."""
    if not STANDIN:
        return 0
    import fakecuda
    return sum(map(fakecuda.count, ('cudaEventSynchronize', 'cudaStreamSynchronize', 'cudaDeviceSynchronize')))


def waits() -> dict:
    """Waits in three iterations of each kind; torch raises at any that is not an event's."""
    found = {}
    for kind, (_, how) in KINDS.items():
        if not computes(how.get('dtype')):
            continue
        model, optimizers, ema, cfg = built(kind, CUDA)
        stream = stream_of(batches(kind, cfg, 7), model if 'degrade' in how else None)
        for number in range(5):
            if number == 2:  # the first ones may wait
                before = counts()
                torch.cuda.set_sync_debug_mode('error')
            model.train_step(to_device(stream.next(), CUDA), optimizers)
            if ema:
                model.update_ema(ema)
        torch.cuda.set_sync_debug_mode('default')
        found[kind] = counts() - before
    return found


def degrade() -> dict:
    """A batch ahead against the same at once, and the waits for a batch; 512x512 GT, as the recipes are made for."""
    found = {}
    for name in ('srresnet_ffhq', 'srresnet_ffhq_second_order'):
        recipe, content = training_recipe(load_config(f'configs/{name}.py')), []
        generator = torch.Generator().manual_seed(1)
        for number in range(2):
            gt = (torch.rand(4, 3, 64, 64, generator=generator) * 255).to(torch.uint8)
            gt = gt.repeat_interleave(8, -1).repeat_interleave(8, -2).contiguous().pin_memory()
            plans = [recipe.draw(np.random.default_rng([number, i]), 512, 512) for i in range(4)]
            content.append(dict(gt=gt, meta=[dict(plan=plan) for plan in plans]))
        model = built('plain', CUDA)[0]
        torch.cuda.set_sync_debug_mode('error')
        before, stream = counts(), stream_of(content, model)
        ahead = [to_device(stream.next(), CUDA) for _ in content]
        torch.cuda.set_sync_debug_mode('default')
        waited = counts() - before
        jpegs = sum(sum(kind.__name__ == 'Jpeg' for kind, _ in in_order([meta['plan'].steps for meta in it['meta']]))
                    for it in content)
        at_once = [BatchDegradation()(to_device(it, CUDA)['gt'], [meta['plan'] for meta in it['meta']])
                   for it in content]
        same = all(torch.equal(a['lq'], lq) and torch.equal(a['gt'], gt)
                   for a, (lq, gt) in zip(ahead, at_once, strict=True))
        found[name] = dict(same=same, waits=waited, jpegs=jpegs, batches=len(content))
    return found


def allocated(cfg, dtype=None, steps: int = 2) -> dict:
    """MiB of a training step as torch's allocator counts them; the first one lacks Adam's averages, which is little."""
    torch.backends.cudnn.benchmark = cfg.get('cudnn_benchmark', False)
    perceptual = dict(cfg.model).get('perceptual_loss')
    torch.cuda.reset_peak_memory_stats()
    model = build_restorer(cfg)
    if perceptual:
        model.perceptual_loss.load = model.perceptual_loss.load_nothing
    model.prepare_training(CUDA, dtype, cfg.get('channels_last', False),
                           accumulation_steps=cfg.get('accumulation_steps', 1))
    optimizers, n, side = build_optimizers(model, cfg.optimizers), batch_size(cfg, 'train'), cfg.gt_patch_size
    model.train()
    batch = dict(lq=torch.zeros(n, 3, side // 4, side // 4, device=CUDA), gt=torch.zeros(n, 3, side, side, device=CUDA))
    for number in range(steps):
        if number:
            torch.cuda.reset_peak_memory_stats()
        model.train_step(batch, optimizers)
    found = dict(allocated=peak_allocated(CUDA), reserved=peak_memory(CUDA))
    del model, optimizers, batch
    gc.collect()  # the next one needs the room
    torch.cuda.empty_cache()
    return found


def small_memory() -> dict:
    """By precision, of a small training, and as it is computed."""
    options = {'gt_patch_size': 64, 'model.generator.num_blocks': 4, 'data.train_dataloader.samples_per_gpu': 2}
    cfg = load_config('configs/srresnet_ffhq.py', options)
    return {str(dtype): dict(allocated(cfg, dtype), computed=training_memory(cfg, dtype).total)
            for dtype in (None, torch.float16)}


def memory(limit: str, *runs) -> dict:
    """By config, of its own training's first step; one that does not fit into so many MiB raises."""
    limit_memory(int(limit) / 1024, CUDA)
    found = {}
    for run in runs:
        path, _, precision = run.partition(':')
        found[run] = allocated(load_config(path), torch.float16 if precision == 'fp16' else None, steps=1)
    return found


def take_all_memory() -> None:
    """Until there is none left."""
    taken, size = [], 2**26
    while True:
        try:
            taken.append(torch.empty(size, dtype=torch.uint8, device=CUDA))
        except torch.cuda.OutOfMemoryError:
            size //= 2
            if size < 512:
                raise


def disturbed(what: str, third: str, *arguments) -> None:
    """A training in whose forward pass of some iteration something happens."""
    happens = {'shortage': take_all_memory, 'kill': lambda: os.kill(os.getpid(), signal.SIGKILL)}[what]
    calls, forward = [], FaceRestorer.forward_train

    def disturbed_forward(self, lq, gt):
        calls.append(1)
        if len(calls) == int(third):
            happens()
        return forward(self, lq, gt)

    FaceRestorer.forward_train = disturbed_forward
    sys.argv = ['train.py', *arguments]
    runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')


def torchrun(count: str, script: str, *arguments) -> None:
    """A tool in so many processes; they are forks, so the imports are done."""
    if STANDIN:  # which has no NCCL
        torch.distributed.is_nccl_available = lambda: False
    torch.accelerator.is_available = lambda: False  # asked for by torchrun itself, whose forks had no CUDA then
    torch.distributed.run.main(['--standalone', f'--nproc_per_node={count}', '--start-method=fork', '--run-path',
                                str(ROOT / script), *arguments])


def metrics() -> dict:
    """How far metrics on CUDA are from those on the CPU."""
    generator = torch.Generator().manual_seed(0)
    hq, gt = (torch.randint(0, 256, (3, 3, 64, 80), dtype=torch.uint8, generator=generator) for _ in range(2))
    hq[1] = gt[1].clip(0, 250)
    found = {}
    for name in ('PSNR', 'SSIM', 'PSNR_Y', 'SSIM_Y'):
        compute = METRICS[name].build()
        found[name] = (compute(hq, gt) - compute(hq.to(CUDA), gt.to(CUDA)).cpu()).abs().max().item()
    return found


class HostGenerators:
    """torch, as a module that would make all its generators on the host."""

    def __getattr__(self, name):
        return (lambda _: torch.Generator('cpu')) if name == 'Generator' else getattr(torch, name)


def curious(self, *args) -> dict:
    found = train_step(self, *args)
    found['log_vars']['loss'].item()
    return found


train_step = FaceRestorer.train_step
FAULTS = {
    'kernel on the host': ('device', fft, 'upload', lambda tensor, _: tensor),
    'generator of the host': ('device', noise, 'torch', HostGenerators()),
    'images on the host': ('plain', batch_stream, '_images_to', lambda _, images: to_float(images)),
    'flag without waiting': ('plain', optimizer_step._OnTheirWay, 'wait', lambda self: None),
    'hidden item': ('plain', FaceRestorer, 'train_step', curious),
}


def faults() -> dict:
    """What each mistake in the code leads to; None if to nothing."""
    found = {}
    for name, (kind, where, what, instead) in FAULTS.items():
        with mock.patch.object(where, what, instead):
            found[name] = _consequence(kind)
        torch.cuda.set_sync_debug_mode('default')
    return found


def _consequence(kind: str):
    try:
        model, optimizers, _, cfg = built(kind, CUDA)
        stream = stream_of(batches(kind, cfg, 4), model if kind == 'device' else None)
        for number in range(3):
            if number == 1:
                torch.cuda.set_sync_debug_mode('error')
            if not model.train_step(to_device(stream.next(), CUDA), optimizers)['log_vars']:
                return 'a good step was skipped'
    except RuntimeError as error:
        return str(error)
    return None


if __name__ == '__main__':
    job, *rest = sys.argv[1:]
    result = globals()[job](*rest)
    if result is not None:
        print(json.dumps(result))
