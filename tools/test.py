"""Measure a checkpoint on the validation pairs, or restore the test images and zip them for handing in."""
import os
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.choices import SPLITS
from facesr.utils.cli import (
    ArgumentParser,
    add_inference_arguments,
    add_mmediting_arguments,
    add_network_arguments,
)
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__, former={'--save-path': '--out-dir'})
    add_network_arguments(parser)
    add_inference_arguments(parser)
    parser.add_argument('--split', choices=SPLITS, default='val', help='val has GT, test has none (default: val)')
    parser.add_argument(
        '--out-dir', metavar='DIR', help='write (or replace) the HQ images there, as PNGs named like the LQ')
    parser.add_argument('--zip', metavar='FILE', help='write (or replace) the hand-in zip, the HQ images alone, verify '
                        'it, and write submission.json beside it: what it was made of')
    parser.add_argument('--out', metavar='FILE', help='write (or replace) mean and per-image metrics, as JSON (val)')
    add_mmediting_arguments(parser, training=False)
    return parser.parse_args()


def check_outputs(args):
    """Everything that can be wrong with them, before anything is computed."""
    from facesr.submission.archive import RECORD, require_no_other_record
    from facesr.utils.files import output_file
    if args.split == 'test' and args.out:
        raise UserError('--out: the test split has no GT to measure; use it with --split val')
    if args.split == 'test' and not (args.out_dir or args.zip):
        raise UserError('--split test: nothing would be kept; give --out-dir DIR, --zip FILE or both')
    if args.out and args.out.endswith(('.pkl', '.pickle', '.yaml')):
        raise UserError(f'--out {args.out}: metrics are written as JSON, which every program reads; give '
                        f'{Path(args.out).stem}.json')
    for path, suffix in ((args.zip, '.zip'), (args.out, '.json')):
        if path:
            output_file(path, suffix)
    if args.zip and args.out and Path(args.out).resolve() == Path(args.zip).resolve().with_name(RECORD):
        raise UserError(f'--out {args.out}: is where the record of the zip goes; give another name')
    if args.zip:
        require_no_other_record(args.zip)


def tell_of_others(folder, report):
    """Images that were in the folder before would be handed in too."""
    from facesr.utils.images import IMG_EXTENSIONS
    others = sorted(name for name in os.listdir(folder) if name.endswith(IMG_EXTENSIONS) and name not in report.sizes)
    if others:
        say(f'{folder}: has {len(others)} other images too ({others[0]}); for handing in, give an empty folder')


def tell_of_zip(report, split):
    sizes = sorted({f'{width}x{height}' for height, width in report.sizes.values()})
    say(f'verified: {report.images} RGB PNGs named like the LQ images, {", ".join(sizes)}, nothing else')
    if split == 'val':
        say('these are validation images; the competition wants --split test')


@report_user_errors
def main():
    args = parse_args()
    check_outputs(args)
    from facesr.checkpoint.io import newest_of
    from facesr.checkpoint.shipped import named_network
    from facesr.checkpoint.weights import NOTICE, notice_of
    from facesr.config import load_config
    from facesr.datasets.checks import data_folders
    from facesr.evaluation.metrics import build_metrics
    from facesr.evaluation.test import format_split, load_split, refuse_folder_of_inputs, run_test, write_metrics
    from facesr.inference.network import network
    from facesr.models.build import check_budget, count_discriminator, load_model
    from facesr.submission.archive import write_record
    from facesr.utils.device import choose_device
    choose_device(args.device)
    args.config, args.checkpoint, _ = named_network(args.config, args.checkpoint, args.weights)
    args.checkpoint = newest_of(args.checkpoint)
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    if args.out_dir:
        refuse_folder_of_inputs(args.out_dir, data_folders(cfg).values())
    loader = load_split(cfg, args.split)
    model = load_model(cfg, args.checkpoint, args.ema)
    parameters = check_budget(model.generator, cfg, count_discriminator(model)) if args.zip else None
    say(f'{args.split}: {len(loader.dataset)} images on {next(model.parameters()).device}')

    how = dict(self_ensemble=args.self_ensemble, amp=args.amp)
    measured = args.split == 'val'
    metrics, border = (build_metrics(cfg.test_cfg), cfg.test_cfg.get('crop_border', 0)) if measured else (None, 0)
    report = run_test(network(model, **how), loader, metrics, args.out_dir, args.zip, border)
    if report.results:
        say(*format_split(report, border).split('\n'))
    about = dict(config=args.config, cfg_options=args.cfg_options or {}, data_root=cfg.get('data_root'),
                 split=args.split, ema=args.ema, **how)
    written = [args.out_dir, args.zip, args.out]
    if args.out:
        write_metrics(args.out, report, args.checkpoint, border, **about)
    if args.zip:
        tell_of_zip(report, args.split)
        written.append(write_record(args.zip, args.checkpoint, **about, images=report.images, parameters=parameters,
                                    budget=cfg.get('budget'), **notice_of(getattr(model, NOTICE, None))))
    if args.out_dir:
        tell_of_others(args.out_dir, report)
    for path in filter(None, written):
        say(f'written: {path}')


if __name__ == '__main__':
    main()
