"""Draw training loss and validation PSNR against iterations, from the JSON logs of one run or several."""
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser, natural_int
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__, former={'--out': '--out-dir'})
    parser.add_argument('logs', nargs='+', metavar='LOG_OR_WORKDIR',
                        help='work dir of a run, all of whose logs are joined, or one JSON log; several are overlaid')
    parser.add_argument('--out-dir', metavar='DIR',
                        help='write (or replace) loss.png, loss.svg, psnr.png and psnr.svg there (default, of one work '
                        'dir: its curves/)')
    parser.add_argument('--smooth', type=natural_int, metavar='N',
                        help='iterations that the moving average of the loss spans; 0 for none (default: a 25th of '
                        'each panel)')
    return parser.parse_args()


def out_folder(args) -> Path:
    for path in map(Path, args.logs):
        if path.suffix in ('.pth', '.py'):
            raise UserError(f'{path}: is no JSON log; give the work dir of the run, as {path.parent}, or its *.log.json'
                            if path.suffix != '.py' else
                            f'{path}: is a config; give the work dir of a run, as work_dirs/{path.stem}')
    if args.out_dir is None and (len(args.logs) > 1 or Path(args.logs[0]).is_file()):
        raise UserError('give --out-dir, a folder for the curves; only those of one work dir have their place in it')
    out = Path(args.out_dir or Path(args.logs[0]) / 'curves')
    if out.suffix in ('.png', '.svg') or out.is_file():
        raise UserError(f'--out-dir {out}: give a folder, for loss.png, loss.svg, psnr.png and psnr.svg')
    return out


@report_user_errors
def main():
    args = parse_args()
    from facesr.analysis.figures.curves import plot_curves
    from facesr.analysis.logs import read_runs
    out = out_folder(args)
    runs = read_runs(args.logs)
    for run in runs:
        for note in run.notes():
            say(note)
    for path in plot_curves(runs, out, args.smooth):
        say(f'written: {path}')


if __name__ == '__main__':
    main()
