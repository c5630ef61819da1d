"""Train a config, on CUDA if there is a device, else on the CPU."""
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.choices import LAUNCHERS, RESUME_AUTO, RESUME_LATEST
from facesr.utils.cli import (
    ArgumentParser,
    add_amp_argument,
    add_config_arguments,
    add_device_argument,
    add_mmediting_arguments,
    add_seed_argument,
)
from facesr.utils.errors import report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument('--work-dir', metavar='DIR', help='logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument(
        '--resume', nargs='?', const=RESUME_LATEST, metavar='CKPT',
        help=f"continue a run: from CKPT, or from the work dir's latest checkpoint; {RESUME_AUTO}: from the latest if "
        'there is one, else start')
    add_seed_argument(parser, 'random seed', None)
    add_amp_argument(parser, "the config's")
    add_device_argument(parser)
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    parser.add_argument(
        '--dry-run', action='store_true', help='one step and one validation image, a summary, and nothing written')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='pytorch: several processes, by torchrun')
    add_mmediting_arguments(parser, training=True)
    return parser.parse_args()


@report_user_errors
def main():
    args = parse_args()
    from facesr.config import load_config
    from facesr.engine.dry_run import dry_run, format_dry_run
    from facesr.engine.train import train
    from facesr.utils.device import choose_device
    from facesr.utils.dist import launched, rank
    choose_device(args.device)
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    if args.seed is not None:
        cfg.seed = args.seed
    if args.amp:
        cfg.amp = args.amp
    if args.load_from:
        cfg.load_from = args.load_from
    if args.deterministic:
        cfg.deterministic = True
    launcher = cfg.get('launcher', 'none') if args.launcher == 'none' else args.launcher
    with launched(launcher):
        if args.dry_run:
            found = dry_run(cfg, validate=not args.no_validate)
            if rank() == 0:
                say(*format_dry_run(found, cfg).split('\n'))
        else:
            train(cfg, Path(args.config).stem, args.resume, validate=not args.no_validate)


if __name__ == '__main__':
    main()
