"""Time and peak memory of a training step: MMEditing's restorer beside ours, in one run.

    python benchmarks/train_step.py configs/srresnet_ffhq.py --patch 96 --batch 4

Every row is a process of its own, so that peak memory is its own. The processes take turns for `--rounds`
rounds, so that a busy machine slows all of them; the fastest step counts. Batches are random images on the host,
as a loader would give them. Stock is `BasicRestorer` in `MMDataParallel`, as MMEditing trains on one device.
"""
import argparse
import json
from pathlib import Path

import facesr.register  # noqa: F401

import torch
from measuring import default_device, device_name, fastest, take_turns

from facesr.config import load_config
from facesr.models.build import build_restorer
from facesr.utils.cli import positive_int
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.memory import peak_memory
from facesr.utils.precision import amp_dtype

ROOT = Path(__file__).resolve().parent.parent

ROWS = {
    'stock BasicRestorer, fp32': None,
    'ours, fp32': {},
    'ours, fp32, channels_last': dict(channels_last=True),
    'ours, fp32, accumulation_steps=2': dict(accumulation_steps=2),
    'ours, bf16': dict(amp='bf16'),
    'ours, bf16, channels_last': dict(amp='bf16', channels_last=True),
    'ours, fp16': dict(amp='fp16'),
    'ours, fp16, channels_last': dict(amp='fp16', channels_last=True),
}
CUDA_ONLY = ('ours, fp16', 'ours, fp16, channels_last')  # a CPU computes it, but very slowly


def measure(config: str, row: str, patch: int, batch: int, steps: int) -> dict:
    """Seconds of the fastest of `steps` steps after two that warm up, and peak memory in MiB."""
    how, device = ROWS[row], default_device()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    cfg = load_config(config)
    if how is None:
        cfg.model.type = 'BasicRestorer'
    restorer = build_restorer(cfg)
    data = dict(lq=torch.rand(batch, 3, patch // 4, patch // 4), gt=torch.rand(batch, 3, patch, patch))
    if device.type == 'cuda':
        data = {key: value.pin_memory() for key, value in data.items()}
    if how is None:
        from mmcv.parallel import MMDataParallel
        step = MMDataParallel(restorer.to(device), device_ids=[0] if device.type == 'cuda' else None).train_step
    else:
        how = dict(how)
        restorer.prepare_training(device, amp_dtype(how.pop('amp', None), device), **how)

        def step(images, optimizers):
            restorer.train_step({key: value.to(device, non_blocking=True) for key, value in images.items()}, optimizers)

    optimizers = {'generator': torch.optim.Adam(restorer.generator.parameters(), lr=1e-4)}
    before = 0 if device.type == 'cuda' else peak_memory(device)
    seconds = fastest(lambda: step(data, optimizers), steps, 2, device)
    return dict(seconds=seconds, memory=peak_memory(device) - before)


@report_user_errors
def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='?', default=str(ROOT / 'configs/srresnet_ffhq.py'))
    parser.add_argument('--patch', type=positive_int, default=96, help='side of the GT crop (default: 96)')
    parser.add_argument('--batch', type=positive_int, default=4, help='images per step (default: 4)')
    parser.add_argument('--steps', type=positive_int, default=5, help='steps per round (default: 5)')
    parser.add_argument('--rounds', type=positive_int, default=2, help='rounds (default: 2)')
    parser.add_argument('--row', choices=ROWS, help='measure this row alone, in this process, and print JSON')
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(args.config, args.row, args.patch, args.batch, args.steps)))
        return
    cuda = torch.cuda.is_available()
    rows = [row for row in ROWS if cuda or row not in CUDA_ONLY]
    settings = [f'--{name}={getattr(args, name)}' for name in ('patch', 'batch', 'steps')]
    threads = torch.get_num_threads()
    best, refused = take_turns({row: [__file__, args.config, '--row', row, *settings] for row in rows}, args.rounds,
                               threads)
    stock = best[rows[0]]
    if not stock:
        raise UserError(f'the stock row failed: {refused[rows[0]]}')
    print(f'{Path(args.config).stem}, batch {args.batch}, GT {args.patch}x{args.patch}, {device_name(threads)}, '
          f'torch {torch.__version__}\n')
    print(f'{"":36} {"s/step":>9} {"times stock":>12} {"peak MiB":>9} {"times stock":>12}')
    for row in rows:
        if best[row]:
            this = best[row]
            print(f'{row:36} {this["seconds"]:9.4f} {this["seconds"] / stock["seconds"]:12.3f} {this["memory"]:9.0f} '
                  f'{this["memory"] / stock["memory"]:12.3f}')
        else:
            print(f'{row:36} {refused[row]}')
    if not cuda:
        print('\npeak MiB on a CPU: what the process grew by while training')


if __name__ == '__main__':
    main()
