"""Make a fixed set of LQ images, for validating on GT images of one's own."""
import argparse

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser, add_config_arguments, add_seed_argument, note
from facesr.utils.errors import report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser, data=False)
    parser.add_argument('gt_folder', metavar='GT_FOLDER', help='GT images, in a lossless format')
    parser.add_argument('--out-dir', metavar='DIR', help='where to write; an interrupted call is taken up again')
    parser.add_argument('--config', dest='former_config', help=argparse.SUPPRESS)
    add_seed_argument(parser, 'of what is drawn for each name')
    args = parser.parse_args()
    if args.out_dir and args.former_config:
        parser.error('--config: give CONFIG as the first argument')
    if not args.out_dir:
        if args.config.endswith(('.py', '.json', '.yaml', '.yml')):
            parser.error('give --out-dir, the folder for the LQ images')
        note('GT_FOLDER LQ_FOLDER --config CONFIG is CONFIG GT_FOLDER --out-dir LQ_FOLDER now; the former way goes '
             'with the next release')
        former = args.former_config or 'configs/srresnet_ffhq.py'
        args.config, args.gt_folder, args.out_dir = former, args.config, args.gt_folder
    return args


@report_user_errors
def main():
    args = parse_args()
    from facesr.config import load_config, train_dataset_cfg
    from facesr.datasets.degrade import require_recipe
    from facesr.datasets.lq_set import MANIFEST, make_lq_set
    cfg = load_config(args.config, args.cfg_options)
    recipe = require_recipe(cfg, args.config)
    written, there = make_lq_set(args.gt_folder, args.out_dir, recipe, train_dataset_cfg(cfg).scale, args.seed)
    say(f'{args.out_dir}: {written} LQ images written, {there} were there; parameters: {MANIFEST}')


if __name__ == '__main__':
    main()
