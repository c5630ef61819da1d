"""Compare checkpoints, and images made before, on the same validation pairs; bicubic and bilinear are always there.

ENTRY is one of

  CHECKPOINT      with its config beside it, as training leaves it
  CONFIG:CHECKPOINT
  WORK_DIR        the best checkpoint of a run
  FOLDER, ZIP     HQ images, as tools/test.py --out-dir and --zip write them

Behind a checkpoint or work dir, :ema takes the moving average of the weights, :x8 the self-ensemble, :x2 that of the
image and its mirror image alone; LABEL= before an entry names it. The first entry is the reference: the others'
differences are to it.

  tools/compare.py work_dirs/srresnet_ffhq work_dirs/srresnet_ffhq:ema old=hand_in/HQ --out comparison.json
"""
import argparse

import _bootstrap  # noqa: F401

from facesr.utils.cli import (
    ArgumentParser,
    add_device_argument,
    add_num_argument,
    add_override_arguments,
    add_seed_argument,
)
from facesr.utils.errors import report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                            former={'--images': '--num'})
    parser.add_argument('entries', nargs='+', metavar='ENTRY', help='[LABEL=][CONFIG:]PATH[:ema][:x8|:x2]')
    parser.add_argument('--config', metavar='CONFIG',
                        help='whose validation pairs to take (default: those of the first checkpoint), and the config '
                        'of checkpoints that have none beside them')
    add_override_arguments(parser)
    add_num_argument(parser, 'how many of the images that differ most to list', 5, least=0)
    add_seed_argument(parser, 'of the bootstrap')
    parser.add_argument('--out', action='append', metavar='FILE', default=[], help='write (or replace) a .json, with '
                        'each image, or a .md; may be given twice')
    add_device_argument(parser)
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.analysis.comparison.compare import compare
    from facesr.analysis.comparison.contestants import parse_entry
    from facesr.analysis.comparison.format import as_text, check_output, write_comparison
    from facesr.config import load_config
    from facesr.utils.device import choose_device
    choose_device(args.device)
    for path in args.out:
        check_output(path)
    entries = [parse_entry(text) for text in args.entries]
    config = load_config(args.config, args.cfg_options, args.data_root) if args.config else None
    comparison = compare(entries, config, args.config, args.cfg_options, args.data_root, args.seed)
    say(*as_text(comparison, args.num).split('\n'))
    for path in args.out:
        write_comparison(path, comparison, args.num)
        say(f'written: {path}')


if __name__ == '__main__':
    main()
