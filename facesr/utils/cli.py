"""Command-line arguments that several tools share."""
import argparse
from typing import NoReturn

from facesr.utils.choices import AMP_MODES
from facesr.utils.errors import EXIT_USER_ERROR


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with a mistake as one line like any other error."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and the message."""
        self.exit(EXIT_USER_ERROR, f'error: {message}; see {self.prog} --help\n')


def positive_int(text: str) -> int:
    """An argument's type: a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 1')
    return int(text)


def natural_int(text: str) -> int:
    """An argument's type: a whole number of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 0')
    return int(text)


class ConfigOptions(argparse.Action):
    """`KEY=VALUE` arguments as mmcv's `DictAction` reads them, a wrong one as a usage error instead of a traceback.

    mmcv is imported when there are such arguments, and not for `--help`.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse the arguments into a dict by dotted key."""
        import facesr.compat.bridged  # noqa: F401

        from mmcv import DictAction
        try:
            DictAction(self.option_strings, self.dest, nargs=self.nargs)(parser, namespace, values, option_string)
        except (ValueError, AssertionError, SyntaxError, IndexError):
            parser.error(f'{option_string}: cannot read {" ".join(values)!r}; write KEY=VALUE, lists as KEY=[1,2]')


def add_config_arguments(parser: ArgumentParser) -> None:
    """CONFIG, --data-root and --cfg-options, as `facesr.config.load_config` takes them."""
    parser.add_argument('config', help='config file, for example configs/srresnet_ffhq.py')
    parser.add_argument('--data-root', metavar='DIR', help="another folder with the layout of the config's data_root")
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE',
        help='override config keys, for example total_iters=1000 data.train_dataloader.samples_per_gpu=4; '
        'comes after CONFIG')


def add_inference_arguments(parser: ArgumentParser) -> None:
    """--ema, --self-ensemble and --amp, as `facesr.inference.network.network` takes them."""
    parser.add_argument('--ema', action='store_true', help="take the moving average of the generator's weights")
    parser.add_argument('--self-ensemble', action='store_true',
                        help='mean over eight flips and transposes, in eight times the time; some competitions '
                        'forbid it')
    parser.add_argument('--amp', choices=AMP_MODES, help='mixed precision (default: full)')
