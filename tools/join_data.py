"""Join data roots to one, by symbolic links, so that every tool's --data-root takes their images together."""

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser
from facesr.utils.errors import report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__, former={'--out': '--out-dir'})
    parser.add_argument('roots', nargs='+', metavar='DATA_ROOT', help='in the layout of data/README.md, or part of it')
    parser.add_argument('--out-dir', required=True, metavar='DIR', help='the data root to make, or to add to')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.datasets.join import join_data
    counts = join_data(args.roots, args.out_dir)
    say(f'{args.out_dir}: {", ".join(f"{count} images in {folder}" for folder, count in counts.items())}')


if __name__ == '__main__':
    main()
