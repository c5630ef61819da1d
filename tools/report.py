"""Write a run as one HTML file: settings, curves, PSNR per image, and sliders between LQ, HQ and GT."""
from datetime import datetime
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.cli import (
    ArgumentParser,
    add_device_argument,
    add_ema_argument,
    add_images_argument,
    add_num_argument,
    add_override_arguments,
    note,
)
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='work dir of a run, for example work_dirs/srresnet_ffhq')
    parser.add_argument('--checkpoint', metavar='FILE', help='default: the best of the run, else its newest')
    parser.add_argument('--config', metavar='CONFIG', help='default: the one that the run wrote into its work dir')
    add_override_arguments(parser)
    add_ema_argument(parser, 'where the best was chosen by it')
    add_num_argument(parser, 'images with a slider, from the best over the median to the worst', 6)
    add_images_argument(parser, 'images with a slider, by name')
    parser.add_argument('--no-images', action='store_true', help='settings and curves alone; needs no images')
    parser.add_argument('--out', metavar='HTML',
                        help='write (or replace) the page (default: report.html in the work dir)')
    add_device_argument(parser)
    args = parser.parse_args()
    if args.images and len(args.images) == 1 and args.images[0] in map(str, range(1000)):  # as in the release before
        note('--images N is called --num N now; the former name goes with the next release')
        args.num, args.images = int(args.images[0]), None
        if args.num < 1:
            parser.error('--images 0: give at least 1; --no-images leaves out all that needs images')
    return args


@report_user_errors
def main():
    args = parse_args()
    from facesr.analysis.logs import read_runs
    from facesr.analysis.report.measure import measure_run
    from facesr.analysis.report.page import render
    from facesr.analysis.work_dir import find_sources
    from facesr.utils.device import choose_device
    from facesr.utils.files import output_file, write_atomic
    choose_device(args.device)
    out = output_file(args.out or Path(args.work_dir) / 'report.html', '.html')
    sources = find_sources(args.work_dir, args.config, args.checkpoint, args.cfg_options, args.data_root, args.ema,
                           images=not args.no_images)
    try:
        runs, why = read_runs([args.work_dir]), ''
    except UserError as error:  # there is no log, or nothing in it
        runs, why = [], str(error)
    measured = None if args.no_images else measure_run(sources, args.images or args.num)
    page = render(sources, measured, runs[0] if runs else None, f'{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}')
    write_atomic(out, page)
    for line in runs[0].notes() if runs else [f'no curves: {why}']:
        say(line)
    say(f'written: {out} ({len(page.encode()) / 2**20:.1f} MiB)')


if __name__ == '__main__':
    main()
