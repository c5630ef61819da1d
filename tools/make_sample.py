"""Write the embedded sample (a few public-domain portraits in FFHQ's layout) under data/sample."""

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser
from facesr.utils.errors import report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__, former={'--out': '--out-dir'})
    parser.add_argument('--out-dir', metavar='DIR', help="default: the sample config's data_root, data/sample")
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.datasets.sample import make_sample
    for folder, count in make_sample(args.out_dir).items():
        say(f'{folder}: {count} images')


if __name__ == '__main__':
    main()
