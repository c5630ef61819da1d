"""Draw LQ samples of a GT image with what was drawn for each, ours beside MMEditing's, and their difference."""
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser, add_config_arguments, add_num_argument, add_seed_argument
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__, former={'--samples': '--num'})
    add_config_arguments(parser)
    parser.add_argument('--image', metavar='FILE', help="GT image (default: the first of the config's training images)")
    parser.add_argument('--beside', metavar='CONFIG', help='another config to show too, without overrides')
    add_num_argument(parser, 'LQ samples', 6)
    add_seed_argument(parser, 'of the first sample; they count up')
    parser.add_argument('--out', metavar='PNG', default='work_dirs/degradation.png',
                        help='write (or replace) the picture (default: %(default)s)')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from _reference import compare

    from facesr.analysis.figures.degradation import plot_degradation
    from facesr.config import load_config, train_dataset_cfg
    from facesr.datasets.checks import require_images
    from facesr.datasets.degrade import require_recipe
    from facesr.utils.files import output_file
    from facesr.utils.images import read_image
    out = output_file(args.out, '.png')
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    recipes = [(args.config, require_recipe(cfg, args.config))]
    if args.beside:
        recipes.append((args.beside, require_recipe(load_config(args.beside), args.beside)))
    dataset = train_dataset_cfg(cfg)
    path = Path(args.image or Path(dataset.gt_folder, require_images(dataset.gt_folder, cfg, recursive=True)[0]))
    gt = read_image(path)
    if not all(recipe.fits(*gt.shape[:2], dataset.scale) for _, recipe in recipes):
        raise UserError(f'{path} is {gt.shape[1]}x{gt.shape[0]}, which the degradation does not make {dataset.scale} '
                        'times smaller; give another --image')
    seeds = range(args.seed, args.seed + args.num)
    plot_degradation(gt, [(name, [compare(gt, recipe, seed) for seed in seeds]) for name, recipe in recipes], out)
    say(f'written: {out} ({path})')


if __name__ == '__main__':
    main()
