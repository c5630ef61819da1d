"""Draw LQ | bicubic | HQ | GT rows of the first validation pairs, with their PSNR."""
from itertools import islice

import _bootstrap  # noqa: F401

from facesr.cli import ArgumentParser, add_config_arguments, positive_int
from facesr.config import load_config
from facesr.errors import report_user_errors
from facesr.evaluation import restore
from facesr.figures import plot_comparison
from facesr.files import output_file
from facesr.inference import network
from facesr.testing import load_model, load_split


def parse_args():
    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file, for example work_dirs/srresnet_ffhq/latest.pth')
    parser.add_argument('--images', type=positive_int, metavar='N', default=3, help='how many rows (default: 3)')
    parser.add_argument('--out', metavar='PNG', required=True, help='the picture')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    out = output_file(args.out, '.png')
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    loader = load_split(cfg, 'val')
    model = load_model(cfg, args.checkpoint)
    plot_comparison(list(islice(restore(network(model), loader), args.images)), out)
    print(f'written: {out}')


if __name__ == '__main__':
    main()
