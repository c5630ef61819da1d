"""Mix a GAN's generator with the PSNR-trained one that it started from: (1 - alpha) x PSNR + alpha x GAN, per weight.

The result is a checkpoint of the generator alone, for every tool, with the config of either. No training is needed.
"""
import argparse

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser, add_ema_argument
from facesr.utils.errors import report_user_errors
from facesr.utils.terminal import say


def share(text: str) -> float:
    """An argument's type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number from 0 to 1')
    return value


def parse_args():
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('psnr', metavar='PSNR_CKPT', help='checkpoint of the network trained for PSNR, for example '
                        'work_dirs/rrdbnet_ffhq/latest.pth')
    parser.add_argument('gan', metavar='GAN_CKPT', help='checkpoint of the GAN, for example '
                        'work_dirs/esrgan_ffhq/latest.pth')
    parser.add_argument('--alpha', type=share, default=0.8, help='share of the GAN, from 0 to 1 (default: 0.8)')
    add_ema_argument(parser)
    parser.add_argument('--out', metavar='FILE', required=True, help='the .pth file; never replaces another one')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.checkpoint.interpolation import interpolate
    path = interpolate(args.psnr, args.gan, args.alpha, args.out, args.ema)
    say(f'written: {path} ({1 - args.alpha:g} x {args.psnr} + {args.alpha:g} x {args.gan})')


if __name__ == '__main__':
    main()
