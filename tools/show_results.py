"""Draw LQ | bicubic | HQ | GT with an enlarged part and PSNR: the best, the median and the worst validation image."""
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.choices import ENSEMBLES
from facesr.utils.cli import (
    ArgumentParser,
    add_images_argument,
    add_inference_arguments,
    add_network_arguments,
    natural_int,
)
from facesr.utils.errors import report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__)
    add_network_arguments(parser)
    add_inference_arguments(parser)
    add_images_argument(parser, 'show these and restore no others')
    parser.add_argument('--crop', nargs=3, type=natural_int, metavar=('X', 'Y', 'SIZE'),
                        help='the square to enlarge, in GT pixels: left, top, side (default: where there is most '
                        "detail in each image's middle)")
    parser.add_argument('--out', metavar='PNG', required=True, help='write (or replace) the picture')
    return parser.parse_args()


def title(args, rows) -> str:
    how = ('moving average' if args.ema else None, ENSEMBLES[args.self_ensemble], args.amp)
    used = ', '.join(text for text in how if text)
    return (f'{args.config}, {Path(args.checkpoint).name}{f" ({used})" if used else ""}: mean PSNR of {rows.images} '
            f'image{"s" * (rows.images > 1)} {rows.mean:.2f} dB, bicubic {rows.bicubic_mean:.2f} dB')


@report_user_errors
def main():
    args = parse_args()
    from facesr.analysis.examples import best_median_worst, named
    from facesr.analysis.figures.results import plot_comparison
    from facesr.checkpoint.shipped import named_network
    from facesr.config import load_config
    from facesr.evaluation.test import load_split
    from facesr.inference.network import network
    from facesr.models.build import load_model
    from facesr.utils.device import choose_device
    from facesr.utils.files import output_file
    choose_device(args.device)
    out = output_file(args.out, '.png')
    args.config, args.checkpoint, _ = named_network(args.config, args.checkpoint, args.weights)
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    loader = load_split(cfg, 'val')
    model = load_model(cfg, args.checkpoint, args.ema)
    net, border = network(model, self_ensemble=args.self_ensemble, amp=args.amp), cfg.test_cfg.get('crop_border', 0)
    rows = named(net, loader, args.images, border) if args.images else best_median_worst(net, loader, border)
    plot_comparison(rows.rows, title(args, rows), out, args.crop)
    for row in rows.rows:
        say(f'{row.label}: {row.psnr:.4f} dB, bicubic {row.bicubic_psnr:.4f} dB')
    say(f'mean of {rows.images}: {rows.mean:.4f} dB, bicubic {rows.bicubic_mean:.4f} dB')
    say(f'written: {out}')


if __name__ == '__main__':
    main()
