"""Write the annotation file that lists the training images, or check one against a folder."""
import shlex

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser, add_replace_argument, positive_int
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__, former={'--force': '--replace'})
    parser.add_argument('gt_folder', nargs='?', default='data/FFHQ/train/GT', help='default: %(default)s')
    parser.add_argument('ann_file', nargs='?', default='annotations/ffhq_train.txt', help='default: %(default)s')
    parser.add_argument('--scale', type=positive_int, default=4, help='must divide every size (default: 4)')
    parser.add_argument('--recursive', action='store_true', help='the images in sub-folders too, as sub/name.png')
    add_replace_argument(parser, 'an annotation file with other contents')
    parser.add_argument('--check', metavar='ANN_FILE', help='compare this file with GT_FOLDER; write nothing')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.datasets.annotation import differences, not_rgb, read_annotation, scan_folder, write_annotation
    if args.check:
        annotated = read_annotation(args.check)
        found = differences(annotated, scan_folder(args.gt_folder, args.scale, args.recursive))
        if found:
            say(*found)
            how = ['--replace'] + args.recursive * ['--recursive'] + (args.scale != 4) * [f'--scale={args.scale}']
            raise UserError(f'{args.check}: {len(found)} difference(s) from {args.gt_folder}; make it anew with python '
                            f'tools/make_annotation.py {shlex.join([args.gt_folder, args.check, *how])}')
        say(f'{args.check}: {len(annotated)} images, agrees with {args.gt_folder}')
        return

    infos = scan_folder(args.gt_folder, args.scale, args.recursive)
    for info in not_rgb(infos):
        say(f'note: {info.name} has {info.channels} channels; it is converted to RGB when loaded')
    written = write_annotation(infos, args.ann_file, args.replace)
    say(f'{args.ann_file}: {len(infos)} images, {"written" if written else "already up to date"}')


if __name__ == '__main__':
    main()
