"""Draw training loss and validation PSNR against iterations, from the JSON logs of a work dir."""

import _bootstrap  # noqa: F401

from facesr.cli import ArgumentParser
from facesr.errors import report_user_errors
from facesr.figures import plot_curves
from facesr.files import output_file


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='work dir of a run, for example work_dirs/srresnet_ffhq')
    parser.add_argument('--out', metavar='PNG', help='default: curves.png in the work dir')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    out = args.out or f'{args.work_dir.rstrip("/")}/curves.png'
    plot_curves(args.work_dir, output_file(out, '.png'))
    print(f'written: {out}')


if __name__ == '__main__':
    main()
