"""Command-line arguments that several tools share: what has one name means the same in all of them.

CONFIG comes first, then CHECKPOINT. `--out` is a file, `--out-dir` a folder; `--images` are names, `--num` says how
many; `--replace` replaces what a tool would else leave alone.
"""
import argparse
import os
import sys
from typing import NoReturn

from facesr.utils.choices import AMP_MODES, CPU, FLIP
from facesr.utils.errors import EXIT_USER_ERROR
from facesr.utils.terminal import plain


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with a mistake as one line like any other error, and with options' former names.

    Args:
        former (dict[str, str]): Today's name by former name. A former one works for a release, with a line on stderr.
    """

    def __init__(self, *args, former: dict | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.former = former or {}

    def error(self, message: str) -> NoReturn:
        """End with status 2 and the message."""
        self.exit(EXIT_USER_ERROR, f'error: {plain(message)}; see {plain(self.prog)} --help\n')

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's; all other ways to parse come here or to the next one."""
        found, rest = super().parse_known_args(self._in_todays_words(args), namespace)
        for action in self._actions:
            if getattr(found, action.dest, None) == '' != action.default:  # of a variable that is not set, say
                self.error(f'argument {"/".join(action.option_strings) or action.metavar}: is empty')
        return found, rest

    def parse_known_intermixed_args(self, args=None, namespace=None):
        """As argparse's, for options between the positional arguments."""
        return super().parse_known_intermixed_args(self._in_todays_words(args), namespace)

    def _in_todays_words(self, args) -> list:
        words = []
        for word in sys.argv[1:] if args is None else args:
            name, *value = word.split('=', 1)
            if name in self.former:
                note(f'{name} is called {self.former[name]} now; the former name goes with the next release')
                word = '='.join([self.former[name], *value])
            words.append(word)
        return words


def note(text: str) -> None:
    """A line on stderr, of several processes by the first alone."""
    if os.environ.get('LOCAL_RANK', '0') == '0':
        print(f'note: {text}', file=sys.stderr)


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


CONFIG_HELP = 'config file, for example configs/srresnet_ffhq.py'
CHECKPOINT_HELP = 'checkpoint file, for example work_dirs/srresnet_ffhq/latest.pth'


def add_config_arguments(parser: ArgumentParser, data: bool = True) -> None:
    """CONFIG and `add_override_arguments`."""
    parser.add_argument('config', metavar='CONFIG', help=CONFIG_HELP)
    add_override_arguments(parser, data)


def add_network_arguments(parser: ArgumentParser, data: bool = True) -> None:
    """CONFIG and CHECKPOINT, or --weights instead, as `facesr.checkpoint.shipped.named_network` takes them; and what
    `add_override_arguments` adds.
    """
    parser.add_argument('config', metavar='CONFIG', nargs='?', help=CONFIG_HELP)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', nargs='?', help=CHECKPOINT_HELP)
    add_override_arguments(parser, data)
    add_weights_argument(parser)


def add_weights_argument(parser: ArgumentParser, default: str = '') -> None:
    """--weights, with words for what is taken without it and CONFIG and CHECKPOINT."""
    parser.add_argument('--weights', metavar='NAME', help='instead of CONFIG and CHECKPOINT: a name in weights/, for '
                        'example naf_unet_ffhq, or a .safetensors file of tools/export.py'
                        + (f' (default: {default})' if default else ''))


def add_override_arguments(parser: ArgumentParser, data: bool = True) -> None:
    """--cfg-options and, for a tool that reads a config's data, --data-root, as `load_config` takes them."""
    if data:
        parser.add_argument('--data-root', metavar='DIR',
                            help="another folder with the layout of the config's data_root")
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE',
        help='override config keys, for example total_iters=1000 data.train_dataloader.samples_per_gpu=4; '
        'comes after CONFIG')


def add_device_argument(parser: ArgumentParser) -> None:
    """--device, as `facesr.utils.device.choose_device` takes it."""
    parser.add_argument('--device', choices=(CPU, ), help='compute on the CPU, whatever card there is')


def add_inference_arguments(parser: ArgumentParser) -> None:
    """--ema, the self-ensembles and --amp, as `facesr.inference.network.network` takes them, and --device."""
    add_ema_argument(parser)
    ensembles = parser.add_mutually_exclusive_group()
    ensembles.add_argument('--self-ensemble', action='store_true',
                           help='mean over eight flips and transposes, in eight times the time; some competitions '
                           'forbid it')
    ensembles.add_argument('--flip-ensemble', action='store_const', const=FLIP, default=False, dest='self_ensemble',
                           help='mean over the image and its mirror image, in twice the time: for networks that know '
                           'upright faces alone')
    add_amp_argument(parser, 'none', action=_Precision)
    add_device_argument(parser)


def add_ema_argument(parser: ArgumentParser, default: str = '') -> None:
    """--ema; with words for what else decides, also --no-ema, and None for neither."""
    parser.add_argument('--ema', action=argparse.BooleanOptionalAction if default else 'store_true',
                        help="take the moving average of the generator's weights"
                        + (f' (default: {default})' if default else ''))


class _Precision(argparse.Action):
    """None for `--amp none`, where there is no config's that it could be instead of."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.amp = None if values == 'none' else values


def add_amp_argument(parser: ArgumentParser, default: str, action='store') -> None:
    """--amp, with words for its default."""
    parser.add_argument('--amp', choices=(*AMP_MODES, 'none'), action=action,
                        help=f'mixed precision (default: {default})')


def add_seed_argument(parser: ArgumentParser, what: str, default: int | None = 0) -> None:
    """--seed, with words for what it is of; None: the config's."""
    shown = "the config's" if default is None else default
    parser.add_argument('--seed', type=natural_int, metavar='N', default=default, help=f'{what} (default: {shown})')


def add_num_argument(parser: ArgumentParser, what: str, default: int, least: int = 1) -> None:
    """--num, with words for what is counted; `least` is 0 or 1."""
    parser.add_argument('--num', type=positive_int if least else natural_int, metavar='N', default=default,
                        help=f'{what} (default: {default})')


def add_images_argument(parser: ArgumentParser, what: str) -> None:
    """--images: names of validation images, with words for what is done with them."""
    parser.add_argument('--images', nargs='+', metavar='NAME', help=f'{what}, for example 00003.png 00007.png')


def add_replace_argument(parser: ArgumentParser, what: str) -> None:
    """--replace, with words for what."""
    parser.add_argument('--replace', action='store_true', help=f'replace {what}')


class ServedElsewhere(argparse.Action):
    """An argument of MMEditing's tools that is given otherwise here: it is told once, on stderr, and done.

    Args:
        note (str): What it is here.
        kwargs: As of argparse's actions.
    """

    def __init__(self, option_strings, dest: str, note: str, **kwargs):
        super().__init__(option_strings, dest, help=argparse.SUPPRESS, **kwargs)
        self.note = note

    def __call__(self, parser, namespace, values, option_string=None):
        """Keep the value (True where it takes none) and tell."""
        print(f'{option_string}: {self.note}', file=sys.stderr)
        setattr(namespace, self.dest, True if self.nargs == 0 else values)


class NotServed(argparse.Action):
    """An argument of MMEditing's tools that asks for what there is not, but for some values.

    Args:
        counterpart (str): What to give instead.
        fine (Sequence[str]): Values that ask for nothing.
        kwargs: As of argparse's actions.
    """

    def __init__(self, option_strings, dest: str, counterpart: str, fine=(), **kwargs):
        super().__init__(option_strings, dest, help=argparse.SUPPRESS, **kwargs)
        self.counterpart, self.fine = counterpart, fine

    def __call__(self, parser, namespace, values, option_string=None):
        """End with the counterpart."""
        values = [values] if isinstance(values, str) else values
        if not self.fine or any(value not in self.fine for value in values):
            parser.error(f'{" ".join([option_string, *values])}: {self.counterpart}')


class LocalRank(argparse.Action):
    """What `torch.distributed.launch` gives each process as an argument, and `torchrun` in the environment."""

    def __init__(self, option_strings, dest: str, **kwargs):
        super().__init__(option_strings, dest, help=argparse.SUPPRESS, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        """Put it into the environment unless it is there."""
        os.environ.setdefault('LOCAL_RANK', str(natural_int(values)))


def add_mmediting_arguments(parser: ArgumentParser, training: bool) -> None:
    """Arguments of MMEditing's `tools/train.py` (`training`) or `tools/test.py` that are others here.

    For training the namespace gets `load_from` and `deterministic`, and `resume` from `--resume-from`.
    """
    several = 'for several GPUs: torchrun --nproc_per_node=N tools/train.py CONFIG --launcher pytorch'
    parser.add_argument('--local_rank', '--local-rank', action=LocalRank)
    if not training:
        parser.add_argument('--seed', action=ServedElsewhere, note='nothing random is done in testing')
        parser.add_argument('--deterministic', action=ServedElsewhere, nargs=0, note='testing is, on a CPU')
        parser.add_argument('--gpu-collect', action=ServedElsewhere, nargs=0, note='not needed: one process tests')
        parser.add_argument('--tmpdir', action=ServedElsewhere, note='not needed: one process tests')
        parser.add_argument('--launcher', action=NotServed, fine=('none', ), counterpart='one process tests; leave it '
                            'out')
        return
    parser.add_argument('--resume-from', dest='resume', action=ServedElsewhere, note='is --resume here')
    parser.add_argument('--load-from', action=ServedElsewhere, note='is --cfg-options load_from=FILE here')
    parser.add_argument('--deterministic', action=ServedElsewhere, nargs=0,
                        note='is --cfg-options deterministic=True here')
    parser.add_argument('--diff_seed', '--diff-seed', action=ServedElsewhere, nargs=0,
                        note='processes draw differently anyway')
    parser.add_argument('--gpus', action=NotServed, fine=('0', '1'), counterpart=several)
    parser.add_argument('--gpu-ids', '--gpu-id', nargs='+', action=NotServed, fine=('0', ),
                        counterpart=f'choose a GPU with CUDA_VISIBLE_DEVICES=N before python; {several}')
    parser.add_argument('--autoscale-lr', nargs=0, action=NotServed,
                        counterpart='give the rate that you want with --cfg-options optimizers.generator.lr=RATE')
