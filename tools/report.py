"""Write a run as one HTML file: settings, curves, PSNR per image, and sliders between LQ, HQ and GT."""
import argparse
from datetime import datetime
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser, ConfigOptions
from facesr.utils.errors import report_user_errors


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='work dir of a run, for example work_dirs/srresnet_ffhq')
    parser.add_argument('--checkpoint', metavar='FILE', help='default: the best of the run, else its newest')
    parser.add_argument('--config', metavar='FILE', help='default: the one that the run wrote into its work dir')
    parser.add_argument('--data-root', metavar='DIR', help="another folder with the layout of the config's data_root")
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE',
                        help='override config keys, for example data.workers_per_gpu=0')
    parser.add_argument('--ema', action=argparse.BooleanOptionalAction,
                        help='take the moving average of the weights (default: where the best was chosen by it)')
    parser.add_argument('--images', nargs='+', metavar='N|NAME', default=['6'],
                        help='images with a slider: so many from the best to the worst, or by name (default: 6)')
    parser.add_argument('--no-images', action='store_true', help='settings and curves alone; needs no images')
    parser.add_argument('--out', metavar='HTML', help='default: report.html in the work dir')
    args = parser.parse_args()
    if len(args.images) == 1 and args.images[0].isdigit():
        args.images = int(args.images[0])
        if args.images < 1:
            parser.error('--images 0: give at least 1; --no-images leaves out all that needs images')
    return args


@report_user_errors
def main():
    args = parse_args()
    from facesr.analysis.logs import LOG_SUFFIX, read_runs
    from facesr.analysis.report.measure import measure_run
    from facesr.analysis.report.page import render
    from facesr.analysis.work_dir import find_sources
    from facesr.utils.files import output_file, write_atomic
    out = output_file(args.out or Path(args.work_dir) / 'report.html', '.html')
    sources = find_sources(args.work_dir, args.config, args.checkpoint, args.cfg_options, args.data_root, args.ema,
                           images=not args.no_images)
    runs = read_runs([args.work_dir]) if any(sources.work_dir.glob(f'*{LOG_SUFFIX}')) else []
    measured = None if args.no_images else measure_run(sources, args.images)
    page = render(sources, measured, runs[0] if runs else None, f'{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}')
    write_atomic(out, page)
    for note in runs[0].notes() if runs else [f'no *{LOG_SUFFIX} in {args.work_dir}: no curves']:
        print(note)
    print(f'written: {out} ({len(page.encode()) / 2**20:.1f} MiB)')


if __name__ == '__main__':
    main()
