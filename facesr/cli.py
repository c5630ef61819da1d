"""Command-line arguments that several tools share."""
import argparse

from mmcv import DictAction


class ConfigOptions(DictAction):
    """mmcv's `KEY=VALUE` parser, with a wrong argument as a usage error instead of a traceback."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse the arguments into a dict by dotted key."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError, SyntaxError, IndexError):
            parser.error(f'{option_string}: cannot read {" ".join(values)!r}; write KEY=VALUE, lists as KEY=[1,2]')


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, --data-root and --cfg-options, as `facesr.config.load_config` takes them."""
    parser.add_argument('config', help='config file, for example configs/srresnet_ffhq.py')
    parser.add_argument('--data-root', metavar='DIR', help="another folder with the layout of the config's data_root")
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE',
        help='override config keys, for example total_iters=1000 data.train_dataloader.samples_per_gpu=4')
