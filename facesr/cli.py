"""Command-line arguments that several tools share."""
import argparse

from mmcv import DictAction


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, --data-root and --cfg-options, as `facesr.config.load_config` takes them."""
    parser.add_argument('config', help='config file, for example configs/srresnet_ffhq.py')
    parser.add_argument('--data-root', metavar='DIR', help="another folder with the layout of the config's data_root")
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override config keys, for example total_iters=1000 data.train_dataloader.samples_per_gpu=4')
