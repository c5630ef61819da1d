"""Write a checkpoint's network for other programs: ONNX, safetensors, or a checkpoint to publish.

The network takes lq, RGB in [0, 1], float32, (n, 3, h, w) of any n, h and w, and gives hq, larger by the scale and
not clipped. The file is run and compared with the checkpoint before it appears; it never replaces another one.
"""
import argparse
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.choices import EXPORT_FORMATS, OPSET
from facesr.utils.cli import ArgumentParser, add_ema_argument, add_network_arguments
from facesr.utils.errors import report_user_errors
from facesr.utils.terminal import say

HELP = f'''onnx: opset {OPSET}, one file; safetensors: the generator's weights under its own names, for
spandrel too; pth: a checkpoint without optimizer and random states, always published'''


def parse_args():
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_network_arguments(parser, data=False)
    parser.add_argument('--format', choices=EXPORT_FORMATS, help=HELP)
    parser.add_argument(
        '--publish', action='store_true', help="add the first 8 digits of the file's SHA-256 to its name, as MMEditing "
        'does; without --format: --format pth')
    add_ema_argument(parser)
    parser.add_argument('--half', action='store_true', help='store weights as float16 (safetensors)')
    parser.add_argument('--note', nargs='+', action='extend', type=note, default=[], metavar='KEY=VALUE',
                        help='what else the file is to say about itself, for example "training_set=240 faces"')
    parser.add_argument(
        '--out', metavar='FILE', help='default: beside the checkpoint, with its name; published, with the name of '
        'CONFIG; of --weights: in the current folder')
    args = parser.parse_args()
    if not args.format and not args.publish:
        parser.error(f'give --format ({", ".join(EXPORT_FORMATS)}) or --publish')
    keys = [key for key, _ in args.note]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        parser.error(f'--note {twice}=...: is given twice')
    return args


def note(text: str) -> tuple:
    """An argument's type: what a file says about itself, and its key."""
    key, there, value = text.partition('=')
    if not (key and there):
        raise argparse.ArgumentTypeError(f'{text!r} is not KEY=VALUE')
    return key, value


@report_user_errors
def main():
    args = parse_args()
    from facesr.checkpoint.shipped import named_network
    from facesr.config import load_config
    from facesr.export.exporter import export_checkpoint, format_export
    from facesr.export.formats import FORMATS
    config, checkpoint, name = named_network(args.config, args.checkpoint, args.weights)
    cfg = load_config(config, args.cfg_options)
    kind = args.format or 'pth'
    stem = Path(config).stem if args.publish or kind == 'pth' else name
    out = args.out or (name and f'{stem}{FORMATS[kind].suffix}')
    done = export_checkpoint(cfg, checkpoint, kind, args.ema, args.publish, out,
                             args.half, dict(args.note))
    say(f'written: {format_export(done)}')


if __name__ == '__main__':
    main()
