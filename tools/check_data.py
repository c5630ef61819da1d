"""Look at all images that a config points at: missing, broken, mismatched, or in two splits at once."""

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser, add_config_arguments, add_num_argument
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__, former={'--show': '--num'})
    add_config_arguments(parser)
    add_num_argument(parser, 'problems to print', 50)
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.config import load_config
    from facesr.datasets.checks import check_data
    report = check_data(load_config(args.config, args.cfg_options, args.data_root))
    for problem in report.problems[:args.num]:
        say(problem)
    if len(report.problems) > args.num:
        say(f'... and {len(report.problems) - args.num} more; --num {len(report.problems)} prints all')
    images = ', '.join(f'{count} {kind}' for kind, count in report.images.items())
    say(f'readable images: {images or "none"}')
    if report.problems:
        raise UserError(f'{len(report.problems)} problem(s) in the data of {args.config}, listed above')
    say('no problem found')


if __name__ == '__main__':
    main()
