"""What each config costs: parameters, operations, time and memory, beside SRResNet-20.

    python benchmarks/models.py --out work_dirs/models.json

Every row is a process of its own, so that peak memory is its own. The processes take turns for `--rounds` rounds, so
that a busy machine slows all of them; the fastest counts. Configs that cost the same are one row. Iterations are with
the discriminator and the moving average of configs that have one, but not in parts (`accumulation_steps`), on random
images that are on the device beforehand. What fails in a row is said below the table, which has the rest of it.
"""
import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import facesr.register  # noqa: F401

import torch
from measuring import default_device, device_name, fastest, saved_bytes, take_turns, without_memory

from facesr.config import batch_size, load_config, train_dataset_cfg
from facesr.engine.preflight import PLAIN_STEP
from facesr.inference.network import network
from facesr.models.build import build_restorer, count_discriminator, count_macs, count_parameters
from facesr.models.training_memory import training_memory  # noqa: E402
from facesr.utils.cli import ArgumentParser, positive_int
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.files import as_json, output_file, write_atomic
from facesr.utils.memory import MIB, peak_memory
from facesr.utils.precision import amp_dtype
from facesr.utils.tables import NONE, markdown_table, text_table

ROOT = Path(__file__).resolve().parent.parent

REFERENCE = ROOT / 'configs/srresnet_ffhq.py'
SIDE = 128  # of an LQ image
COLUMNS = {'macs': ('GMACs', 1e9, '.2f'), 'image': ('s/image', 1, '.4f'), 'iteration': ('s/it', 1, '.4f'),
           'peak': ('peak MiB', 1, '.0f'), 'saved': ('saved MiB', MIB, '.0f')}  # name, unit and format by key
NOTE = 'note'  # begins the keys of what has to be said of a row


def measure(config: str, args) -> Iterator[dict]:
    """What a config costs, as it becomes known: see `caption`.

    Raises:
        UserError: It cannot be built.
    """
    from mmedit.core import build_optimizers  # only once facesr is imported, which makes it run here
    cfg, device = load_config(config), default_device()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    restorer = build_restorer(cfg)
    yield dict(parameters=count_parameters(restorer.generator), discriminator=count_discriminator(restorer))
    paper = without_memory(restorer.generator).eval()
    lq = torch.rand(1, 3, SIDE, SIDE, device='meta')
    yield dict(macs=count_macs(paper, lq), saved=saved_bytes(paper, lq))
    card = training_memory(cfg, amp_dtype(cfg.get('amp'), device))
    yield dict(card=card.total) if card else {}

    optimizers = build_optimizers(restorer, cfg.optimizers)
    perceptual = getattr(restorer, 'perceptual_loss', None)
    if hasattr(perceptual, 'load'):
        try:
            perceptual.load(device)
        except UserError:
            restorer.perceptual_loss = None
            yield {f'{NOTE} perceptual': 'trained without the perceptual loss, whose VGG weights are not here'}
    if cfg.get('ema') is not None:
        restorer.add_ema()
    restorer.to(device)
    if hasattr(restorer, 'prepare_training'):
        restorer.prepare_training(device, amp_dtype(cfg.get('amp'), device), cfg.get('channels_last', False),
                                  cfg.get('compile', False), grad_clip=cfg.get('grad_clip'))
    scale = train_dataset_cfg(cfg).get('scale', 4)
    gt = torch.rand(args.batch, 3, args.patch, args.patch, device=device)
    images = dict(gt=gt, lq=torch.nn.functional.avg_pool2d(gt, scale))

    def iterate():
        restorer.train_step(images, optimizers)
        if cfg.get('ema') is not None:
            restorer.update_ema(cfg.ema)

    before = 0 if device.type == 'cuda' else peak_memory(device)
    seconds = fastest(iterate, args.steps, 2, device)
    yield dict(iteration=seconds, peak=peak_memory(device) - before)

    net, lq = network(restorer), torch.rand(1, 3, SIDE, SIDE, device=device)
    yield dict(image=fastest(lambda: net(lq), args.steps, 1, device))


def trains_as(cfg) -> str:
    """What decides about a config's cost; equal for configs that differ in their schedule, say."""
    optimizers = cfg.optimizers if 'type' not in cfg.optimizers else {'': cfg.optimizers}
    step = {key: cfg.get(key, plain) for key, plain in PLAIN_STEP.items()}
    return str([cfg.model, cfg.get('train_cfg'), [{**one, 'lr': None} for one in optimizers.values()], step,
                batch_size(cfg, 'train'), cfg.get('gt_patch_size')])


def grouped(paths: list) -> dict:
    """Configs that cost the same, by the first of them; the reference is the first of all.

    Raises:
        UserError: A config is missing or wrong.
    """
    groups = {}
    for path in dict.fromkeys([REFERENCE, *(Path(path).resolve() for path in paths)]):
        groups.setdefault(trains_as(load_config(path)), []).append(path)
    return {group[0]: group[1:] for group in groups.values()}


def results_of(groups: dict, found: dict, failed: dict) -> list:
    """What is known of each row, with its ratios to the first."""
    first, cap, rows = found[REFERENCE], load_config(REFERENCE).budget, []
    for path, also in groups.items():
        this = found[path]
        row = dict(config=path.stem, also=[other.stem for other in also], failed=failed.get(path), **this)
        if 'parameters' in this:
            row['share'] = (this['parameters'] + this['discriminator']) / cap
        row['ratios'] = {key: this[key] / first[key] for key in COLUMNS if key in this and first.get(key)}
        rows.append(row)
    return rows


def table_of(rows: list) -> tuple:
    """Header and cells."""
    header = ['', 'parameters', 'of cap']
    for name, _, _ in COLUMNS.values():
        header += [name, 'x']
    lines = []
    for row in rows:
        known = 'parameters' in row
        line = [row['config'], f'{row["parameters"] + row["discriminator"]:,}' if known else NONE,
                f'{row["share"]:.1%}' if known else NONE]
        for key, (_, unit, how) in COLUMNS.items():
            line += [format(row[key] / unit, how) if key in row else NONE,
                     format(row['ratios'][key], '.2f') if key in row['ratios'] else NONE]
        lines.append([*line, format(row['card'], '.0f') if row.get('card') else NONE])
    return [*header, 'card MiB'], lines


def remarks(rows: list) -> list:
    """What has to be said of single rows, a line each."""
    lines = [f'{row["config"]}: also {", ".join(row["also"])}' for row in rows if row['also']]
    for row in rows:
        discriminator = row.get('discriminator')
        said = [f'{row["parameters"]:,} + {discriminator:,} of the discriminator'] if discriminator else []
        said += [text for key, text in row.items() if key.startswith(NOTE)]
        said += [f'failed: {row["failed"]}'] if row['failed'] else []
        lines += [f'{row["config"]}: {"; ".join(said)}'] if said else []
    return lines


def caption(args) -> list:
    """What the columns are and where they were measured, a line each."""
    where = 'what the allocator took' if torch.cuda.is_available() else 'what the process grew by'
    return [
        f'{device_name(args.threads)} ({os.cpu_count()} cores), torch {torch.__version__}; x: times {REFERENCE.stem}',
        f'GMACs (as torch counts) and s/image: the generator alone, an LQ image of {SIDE}x{SIDE}, full precision',
        f's/it, peak MiB ({where}): a training iteration, batch {args.batch} at once, GT {args.patch}x{args.patch}',
        f'saved MiB: what generator and an L1 loss keep of an LQ image of {SIDE}x{SIDE} for the backward pass; counted',
        "card MiB: of a CUDA card at the config's own batch, patch and parts; computed, as --dry-run does"
    ]


def parse_args():
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='default: all of configs/*.py')
    parser.add_argument('--patch', type=positive_int, default=128,
                        help="side of the GT crop (default: 128, as ESRGAN's discriminator takes no other)")
    parser.add_argument('--batch', type=positive_int, default=4, help='images per iteration (default: 4)')
    parser.add_argument('--steps', type=positive_int, default=3, help='iterations and images per round (default: 3)')
    parser.add_argument('--rounds', type=positive_int, default=2, help='rounds (default: 2)')
    parser.add_argument('--threads', type=positive_int, default=torch.get_num_threads(),
                        help='that torch computes with on a CPU (default: %(default)s)')
    parser.add_argument('--markdown', action='store_true', help='print the table as Markdown')
    parser.add_argument('--out', metavar='FILE.json', help='write the numbers here too')
    parser.add_argument('--row', action='store_true', help='measure one CONFIG alone, in this process; prints JSON')
    return parser.parse_args()


@report_user_errors
def main():
    """Print the table."""
    args = parse_args()
    if args.row:
        for facts in measure(args.configs[0], args):
            print(json.dumps(facts), flush=True)
        return
    out = args.out and output_file(args.out, '.json')
    groups = grouped(args.configs or sorted((ROOT / 'configs').glob('*.py')))
    settings = [f'--{name}={getattr(args, name)}' for name in ('patch', 'batch', 'steps')]
    found, failed = take_turns({path: [__file__, str(path), '--row', *settings] for path in groups}, args.rounds,
                               args.threads)
    rows = results_of(groups, found, failed)
    table = markdown_table if args.markdown else text_table
    notes = [*remarks(rows), *caption(args)]
    print(table(*table_of(rows)), '', *(f'* {line}' if args.markdown else line for line in notes), sep='\n')
    if out:
        about = dict(device=device_name(args.threads), torch=torch.__version__, patch=args.patch, batch=args.batch)
        write_atomic(out, as_json(dict(about, reference=REFERENCE.stem, caption=caption(args), rows=rows)))


if __name__ == '__main__':
    main()
