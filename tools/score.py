"""Score HQ images, a folder or a zip, as the organiser does: mean RGB PSNR, and everything that he would refuse."""

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('predictions', metavar='PRED', help='folder or zip of the HQ images: 8-bit RGB PNGs, named '
                        'like the GT images with .png, and nothing else')
    parser.add_argument('gt', metavar='GT', help='folder of the GT images')
    parser.add_argument('--out', metavar='FILE', help='write (or replace) the mean, MSE and PSNR per image, as JSON')
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.submission.archive import hq_names
    from facesr.submission.predictions import PredictionError
    from facesr.submission.scoring import format_score, gt_paths, score, write_score
    from facesr.utils.files import output_file
    if args.out:
        output_file(args.out, '.json')
    paths = gt_paths(args.gt)
    try:
        result = score(args.predictions, dict(zip(hq_names(paths), paths, strict=True)))
    except PredictionError as error:
        say(*error.problems.lines())
        raise UserError(f'{args.predictions}: {len(error.problems)} problem(s), listed above; not scored') from None
    say(*format_score(result).split('\n'))
    if args.out:
        write_score(args.out, result, predictions=args.predictions, gt=args.gt)
        say(f'written: {args.out}')


if __name__ == '__main__':
    main()
