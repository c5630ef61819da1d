"""What a race is made of: its entries, what each costs, the configs of their runs, and that all of it fits together."""
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import facesr.register  # noqa: F401

import torch
from measuring import without_memory
from mmcv import DictAction

from facesr.config import batch_size, config_text, load_config, train_dataset_cfg
from facesr.datasets.annotation import read_annotation, scan_folder, write_annotation
from facesr.engine.dry_run import dry_run
from facesr.engine.preflight import check_discriminator, check_schedule
from facesr.evaluation.metrics import build_metrics
from facesr.models.build import build_restorer, check_scale, count_macs, count_parameters
from facesr.utils.errors import UserError, mistakes_in
from facesr.utils.files import write_atomic

UNITS = dict(iterations='iterations', faces='faces', macs='T multiply-adds', cpu_hours='CPU hours')  # by cost
SETTINGS = ('data_root', 'cost', 'points', 'patch', 'batch', 'amp')  # equal for all runs of a race
SIDE = 128  # of an LQ image, for its multiply-adds
AVERAGE = ' (EMA)'  # behind a label: of the row of its moving average
CACHE, ANNOTATION = 'cache', 'train.txt'
PROBE = 1000  # iterations of a config that is only looked at


class Length(NamedTuple):
    """How long runs are: so much of a cost, which is a key of `UNITS`."""
    cost: str
    amount: float

    @property
    def text(self) -> str:
        """The amount, as short as it goes."""
        return f'{self.amount:.12g}'

    def __str__(self):
        return f'{self.text} {UNITS[self.cost]}'


class Recipe(NamedTuple):
    """What an entry is made of; multiply-adds are of an LQ image of 128x128, and of one as it is trained on."""
    parameters: int
    macs: int
    patch_macs: int
    batch: int
    patch: int


class Entry(NamedTuple):
    """What runs: a label, a config's path and overrides by dotted key."""
    label: str
    config: str
    options: dict


class Trial(NamedTuple):
    """An entry at a length, and where its runs are."""
    entry: Entry
    recipe: Recipe
    length: Length
    iterations: int
    folder: Path

    @property
    def config(self) -> Path:
        """The config of its runs."""
        return self.folder.with_name(f'{self.folder.name}.py')


def parse_entry(text: str) -> Entry:
    """Read `LABEL=CONFIG [KEY=VALUE ...]`.

    Raises:
        UserError: It is something else.
    """
    try:
        first, *overrides = shlex.split(text)
        label, config = first.split('=', 1)
        options = dict(override.split('=', 1) for override in overrides)
        options = {key: DictAction._parse_iterable(value) for key, value in options.items()}
    except (ValueError, SyntaxError, AssertionError) as error:
        raise UserError(f'{text!r}: write LABEL=CONFIG, or "LABEL=CONFIG KEY=VALUE ..."') from error
    if not re.fullmatch(r'[\w.+-]*\w[\w.+-]*', label) or label == CACHE:
        raise UserError(f'{text!r}: a label is made of letters, digits and . _ + -, as it names a folder beside '
                        f'"{CACHE}"')
    return Entry(label, config, options)


def race_config(entry: Entry, iterations: int, args):
    """An entry's config for a run; iterations in its schedule shrink alike.

    Raises:
        UserError: The config or an override is wrong.
    """
    cfg = load_config(entry.config, entry.options)
    interval = -(-iterations // args.points)
    options = {
        'seed': 0,  # each run has its own
        'total_iters': iterations, 'evaluation.interval': interval, 'checkpoint_config.interval': max(1, interval // 5),
        'checkpoint_config.max_keep_ckpts': 1, 'log_config.interval': max(1, interval // 5),
        'data.workers_per_gpu': 0,  # a process has its own core
        'data.train.ann_file': str(args.out_dir / ANNOTATION), 'cache_images': str(args.out_dir / CACHE)
    }
    recipe = {'gt_patch_size': args.patch, 'data.train_dataloader.samples_per_gpu': args.batch, 'amp': args.amp}
    if args.cost == 'iterations':
        options.update(recipe)
    same_for_all = options.keys() & entry.options.keys()
    if same_for_all:
        raise UserError(f'{entry.label}: {min(same_for_all)} is the same for all entries; leave it out (--iterations, '
                        '--patch, --batch, --amp, --points and --seeds are for that)')
    defaults = {key: value for key, value in recipe.items() if value is not None}
    with mistakes_in('lr_config'):
        schedule = _short_schedule(cfg, iterations)
    options = {**defaults, **entry.options, **schedule, **options}
    cfg = load_config(entry.config, options, args.data_root)
    if 'PSNR' not in build_metrics(cfg.get('test_cfg')):
        raise UserError(f'{entry.label}: test_cfg.metrics lacks PSNR, which is what is compared')
    check_discriminator(cfg)
    check_schedule(cfg)
    return cfg


def _short_schedule(cfg, iterations: int) -> dict:
    """Overrides that end a config's schedule after so many iterations."""
    factor, schedule = iterations / cfg.total_iters, cfg.get('lr_config') or {}
    short = {key: [max(1, round(value * factor)) for value in schedule[key]]
             for key in ('step', 'periods') if isinstance(schedule.get(key), (list, tuple))}
    short.update((key, max(1, round(schedule[key] * factor))) for key in ('step', 'total_steps', 'start')
                 if isinstance(schedule.get(key), int))
    if 'periods' in short:
        short['periods'][-1] += max(0, iterations - sum(short['periods']))  # lost by rounding
    if schedule.get('warmup_iters'):
        short['warmup_iters'] = max(1, round(schedule['warmup_iters'] * factor))
    return {f'lr_config.{key}': value for key, value in short.items()}


def recipe_of(entry: Entry, args) -> Recipe:
    """What an entry is made of; multiply-adds are counted on torch's meta device.

    Raises:
        UserError: Its config is wrong.
    """
    cfg = race_config(entry, PROBE, args)
    generator, patch = build_restorer(cfg).generator, cfg.get('gt_patch_size')
    if not patch:
        raise UserError(f'{entry.label}: gt_patch_size is {patch}; give the side of a training crop')
    check_scale(generator, cfg)
    paper, scale = without_memory(generator).eval(), train_dataset_cfg(cfg).scale
    macs, patch_macs = (count_macs(paper, torch.rand(1, 3, side, side, device='meta')) for side in
                        (SIDE, patch // scale))
    return Recipe(count_parameters(generator), macs, patch_macs, batch_size(cfg, 'train'), patch)


def prepare(entries: list, args) -> tuple:
    """Look at everything that can be wrong before anything is written.

    Returns:
        tuple: A `Recipe` by label, and the training images' infos.

    Raises:
        UserError: An entry is wrong, or the folder has a race with other settings.
    """
    _check_earlier(entries, args)
    recipes = {entry.label: recipe_of(entry, args) for entry in entries}
    if len(recipes) < len(entries):
        raise UserError('two entries have the same label; give each its own')
    unknown = [label for label in args.only or () if label not in recipes]
    if unknown:
        raise UserError(f'--only {unknown[0]}: no entry has this label')
    infos = scan_folder(Path(train_dataset_cfg(race_config(entries[0], PROBE, args)).gt_folder))
    listed = args.out_dir / ANNOTATION
    if listed.exists() and read_annotation(listed) != infos:
        raise UserError(f'{args.data_root}: has other training images than when this race began; give another '
                        '--out-dir')
    for entry in entries:
        if not list(_finished(entry, args)):
            _require_trainable(entry, infos, args)
    if args.cost == 'cpu_hours':  # what an iteration takes may not be known yet
        for entry in entries:
            require_same(entry, *calibration_config(entry, args), args)
    else:
        for trial in trials_of(entries, recipes, args):
            _text_of(trial, args)
    return recipes, infos


def _require_trainable(entry: Entry, infos: list, args) -> None:
    """Take a step as an entry's runs do, and validate: what is wrong shows before hours were spent on others."""
    cfg = race_config(entry, PROBE, args)
    with TemporaryDirectory(prefix='race_') as folder:
        cfg.data.train.ann_file = str(Path(folder, ANNOTATION))
        write_annotation(infos, cfg.data.train.ann_file)
        try:
            dry_run(cfg)
        except UserError as error:
            raise UserError(f'{entry.label}: {error}') from error


def _finished(entry: Entry, args) -> Iterator[Path]:
    """The results of an entry's runs."""
    return (args.out_dir / entry.label).glob('*/seed_*.json')


def trials_of(entries: list, recipes: dict, args) -> list:
    """Each entry at each length, the shortest first.

    Raises:
        UserError: A length is less than an iteration.
    """
    trials = []
    for length in args.lengths:
        for entry in entries:
            recipe = recipes[entry.label]
            each = _cost_of_iteration(entry, recipe, args)
            iterations = round(length.amount / each)
            if iterations < 1:
                raise UserError(f'{entry.label}: {length} are less than an iteration ({each:.3g})')
            trials.append(Trial(entry, recipe, length, iterations,
                                args.out_dir / entry.label / f'{length.cost}_{length.text}'))
    return trials


def _cost_of_iteration(entry: Entry, recipe: Recipe, args) -> float:
    if args.cost == 'cpu_hours':
        return json.loads(calibration_of(entry, args).read_text())['seconds'] / 3600
    return dict(iterations=1, faces=recipe.batch, macs=recipe.batch * recipe.patch_macs / 1e12)[args.cost]


def write_configs(trials: list, args) -> None:
    """Write what the runs need into `args.out_dir`.

    Raises:
        UserError: An entry was another one before.
    """
    texts = {trial.config: _text_of(trial, args) for trial in trials}
    for path, text in texts.items():
        write_atomic(path, text)


def _text_of(trial: Trial, args) -> str:
    text = config_text(race_config(trial.entry, trial.iterations, args))
    require_same(trial.entry, trial.config, text, args)
    return text


def require_same(entry: Entry, config: Path, text: str, args) -> bool:
    """Whether the config of an entry's runs, or of its calibration, is there already.

    Raises:
        UserError: It is another one, and something was trained with it.
    """
    same = config.exists() and config.read_text() == text
    if config.exists() and not same:
        trained = [*_finished(entry, args), *(args.out_dir / entry.label).glob('*/seed_*/*.pth')]
        if trained:
            raise UserError(f'{config}: the entry {entry.label} was another one when it was trained '
                            f'({trained[0].name}); give it another label')
    return same


def settings_of(args) -> dict:
    """What has to be equal for all runs, as `race.json` has it."""
    return {key: str(getattr(args, key)) for key in SETTINGS}


def _check_earlier(entries: list, args) -> None:
    """That what is in the folder is this race."""
    if not args.out_dir.exists():
        return
    if not args.out_dir.is_dir():
        raise UserError(f'--out-dir {args.out_dir}: is a file; give a folder')
    earlier = args.out_dir / 'race.json'
    if not earlier.exists():
        if any(args.out_dir.iterdir()):
            raise UserError(f'{args.out_dir}: has something else in it; give another --out-dir')
        return
    found = earlier_results(args)
    for key, value in settings_of(args).items():
        if found['settings'][key] != value:
            raise UserError(f'{args.out_dir}: has a race with {key}={found["settings"][key]}; give another --out-dir, '
                            'or the same settings to go on')
    for row in found['results']:
        length = Length(args.cost, row['length'])
        if length not in args.seeds:
            raise UserError(f'{args.out_dir}: has a race with {args.cost}={length.text}; give another --out-dir, or it '
                            'too')
    shown = {row['label'].removesuffix(AVERAGE) for row in found['results']}
    missing = [entry['label'] for entry in found['entries']
               if entry['label'] in shown - {new.label for new in entries}]
    for row in found['results']:
        seeds = 1 + max(map(int, row['final']), default=0)
        if seeds > args.seeds[Length(args.cost, row['length'])]:
            missing.append(f'{seeds} seeds' + f' of {row["length"]:g} {args.cost}' * (len(args.lengths) > 1))
    if missing:
        raise UserError(f'{args.out_dir}: its results also have {", ".join(dict.fromkeys(missing))}; give them too, or '
                        'another --out-dir')


def earlier_results(args) -> dict:
    """What is in `race.json`; nothing has been spent where there is none.

    Raises:
        UserError: It is none of ours, or damaged, or an earlier version's.
    """
    path = args.out_dir / 'race.json'
    if not path.exists():
        return dict(cpu_hours=0)
    try:
        found = json.loads(path.read_text())
        settings = set(found['settings'])
        if not ({'data_root', 'points'} <= settings and {'entries', 'results', 'cpu_hours'} <= set(found)):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path}: not the results of a race, or damaged; give another --out-dir') from error
    if not set(SETTINGS) <= settings:
        raise UserError(f'{path}: is of an earlier race.py, which kept other files; give another --out-dir')
    return found


def calibration_config(entry: Entry, args) -> tuple:
    """The config that an entry is calibrated with: where it is kept, and its text."""
    return args.out_dir / entry.label / 'calibration.py', config_text(race_config(entry, PROBE, args))


def calibration_of(entry: Entry, args) -> Path:
    """Where the CPU seconds of an entry's iteration are kept."""
    return args.out_dir / entry.label / 'calibration.json'
