"""Make a fixed set of LQ images, for validating on GT images of one's own."""

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser, ConfigOptions, natural_int
from facesr.utils.errors import report_user_errors


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('gt_folder', help='GT images, in a lossless format')
    parser.add_argument('lq_folder', help='where to write; an interrupted call is taken up again')
    parser.add_argument('--config', default='configs/srresnet_ffhq.py', help='whose degradation (default: %(default)s)')
    parser.add_argument('--seed', type=natural_int, default=0, help='of what is drawn for each name (default: 0)')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE',
                        help='override config keys; comes last')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.config import load_config, train_dataset_cfg
    from facesr.datasets.degrade import require_recipe
    from facesr.datasets.lq_set import MANIFEST, make_lq_set
    cfg = load_config(args.config, args.cfg_options)
    recipe = require_recipe(cfg, args.config)
    written, there = make_lq_set(args.gt_folder, args.lq_folder, recipe, train_dataset_cfg(cfg).scale, args.seed)
    print(f'{args.lq_folder}: {written} LQ images written, {there} were there; parameters: {MANIFEST}')


if __name__ == '__main__':
    main()
