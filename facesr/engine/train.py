"""Training a config: what `tools/train.py` does."""
import logging
import sys
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import mmedit
import torch
from mmcv.utils import collect_env
from mmedit.apis import set_random_seed
from mmedit.core import MMEditVisualizationHook, build_optimizers
from mmedit.utils import get_root_logger
from torch import nn

import facesr
from facesr.checkpoint.io import newest_of, read_checkpoint
from facesr.checkpoint.naming import LATEST, find_latest, numbered_checkpoints, point_latest_to
from facesr.checkpoint.weights import load_weights
from facesr.config import DEVICE, Config, averages, filled_in, notices
from facesr.config.mmediting import AVERAGING
from facesr.datasets.batch_stream import BatchStream, OnOwnStream
from facesr.datasets.checks import check_pairs, check_training_data
from facesr.datasets.loader import build_eval_loader, build_train_loader
from facesr.datasets.seeded_samples import SeededSamples
from facesr.engine.hooks.checkpoint_hook import SRCheckpointHook
from facesr.engine.hooks.ema_hook import GeneratorEMAHook
from facesr.engine.hooks.eval_hook import SREvalHook
from facesr.engine.hooks.text_logger import log_to_file
from facesr.engine.preflight import PLAIN_STEP, check_choices, check_discriminator, check_schedule, longer
from facesr.engine.record import HarmlessText, LogFile, number_log, record_config, tell_changes, write_and_keep
from facesr.engine.runner import VALIDATION_DUE, SRIterBasedRunner
from facesr.engine.settings import settings_of
from facesr.evaluation.metrics import check_metrics, least_side
from facesr.models.build import build_restorer, check_budget, check_scale, count_discriminator, count_parameters
from facesr.utils import dist
from facesr.utils.choices import RESUME_AUTO, RESUME_LATEST
from facesr.utils.device import explain_cpu
from facesr.utils.errors import CheckpointError, DamagedCheckpoint, UserError, mistakes_in
from facesr.utils.files import remove_leftovers
from facesr.utils.lock import WorkDirLock
from facesr.utils.memory import enough_memory, format_peak, limit_memory, peak_memory
from facesr.utils.precision import amp_dtype
from facesr.utils.terminal import say

PICTURES = MMEditVisualizationHook.__name__
LATE_IMPORTS = dict(PaviLoggerHook='pavi')  # what mmcv's hooks import only when training has begun
# Within an iteration: the window is logged, then validated, then saved with the best score of its own iteration.
# The average comes before all hooks of the user's: one of them may fail, and a checkpoint is written then.
EMA_PRIORITY, LOG_PRIORITY, EVAL_PRIORITY, CHECKPOINT_PRIORITY = 5, 70, 80, 90
DAMAGED = '.damaged'  # what a checkpoint's name ends with once it was found to be so


def train(cfg: Config, name: str, resume: str | None = None, validate: bool = True) -> None:
    """Train, validate and keep checkpoints in `cfg.work_dir`.

    Args:
        cfg (Config): From `load_config`.
        name (str): The experiment's name in logs and checkpoints (the config's file name).
        resume (str | None): A checkpoint to continue from, 'latest' for the work dir's newest, or 'auto' for the
            newest if there is one, else from the start. Default: None, the config's `resume_from`.
        validate (bool): Validate at the config's interval. Default: True.

    Raises:
        Stopped: A signal asked for it; everything is saved.
        UserError: Another training has the work dir, config, data, budget, schedule or checkpoint are not in order (no
            file was written then), or training came to an end that it says how to avoid.
    """
    work_dir = Path(cfg.work_dir)
    if work_dir.exists() and not work_dir.is_dir():
        raise UserError(f'--work-dir {work_dir}: is a file; give a folder')
    with _alone_in(work_dir) as lock:
        _train(cfg, name, resume, validate, work_dir, lock)


def _train(cfg: Config, name: str, resume, validate: bool, work_dir: Path, lock: WorkDirLock) -> None:
    resume, damaged = _find_resume(resume or cfg.get('resume_from'), work_dir)
    model, parameters = prepare(cfg, validate, load=not resume)
    with mistakes_in('log_level'):
        logger = get_root_logger(log_level=cfg.log_level)
    if not any(isinstance(known, HarmlessText) for known in logger.filters):
        logger.addFilter(HarmlessText())
    runner = build_runner(model, cfg, logger, validate, cfg.work_dir)
    if resume:
        runner.resume(resume)
        _refuse_to_mix_branches(resume, runner.iter, work_dir, damaged)
    if not any(isinstance(hook, SREvalHook) for hook in runner.hooks):
        runner.meta['hook_msgs'].pop(VALIDATION_DUE, None)  # nobody would make up for it
    if runner.iter >= cfg.total_iters and not runner.meta['hook_msgs'].get(VALIDATION_DUE):
        _tidy_up(work_dir, damaged, logger)
        logger.info(f'nothing left to do: iteration {runner.iter} of {cfg.total_iters} in {resume}; to train longer, '
                    f'for example: --resume --cfg-options {longer(cfg, 2 * runner.iter)}')
        return
    stream = build_stream(cfg, runner.position, _reporter(logger), model)

    # No file was written up to here, and everything that a user can get wrong has been looked at (but whether the
    # cache can be written).
    runner.meta.update({'exp_name': name, 'mmedit Version': mmedit.__version__, 'seed': cfg.seed,
                        'parameters': parameters, 'env_info': _env_info()})
    dist.highest(0)  # all have read what is renamed now
    if dist.rank() == 0:
        _start_log(cfg, name, runner)
        _tidy_up(work_dir, damaged, logger)
        def settle():
            lock.renew()
            record_config(cfg, name, work_dir)

        runner.settle = settle
    if resume:
        logger.info(f'resumed from {resume} at iteration {runner.iter}')
    tell_changes(runner, settings_of(cfg, stream.loader.dataset.paths, _validation_images(runner)))
    for line in notices(cfg):
        logger.info(line)
    if cfg.budget is not None and parameters + count_discriminator(model) > cfg.budget:
        logger.warning(f"over the competition's cap of {cfg.budget:,} parameters, which this config does not set: it "
                       'trains, but is not to be handed in')
    try:
        _register_pictures(runner, cfg)
        fill_cache(stream.loader.dataset, logger)
        runner.run(stream)
    except UserError as error:
        log_to_file(logger, str(error))  # the tool shows it as its last line
        raise
    _say_goodbye(runner, cfg)


def prepare(cfg: Config, validate: bool = True, load: bool = True) -> tuple:
    """Look at everything that can be wrong and build the model, ready to train on its device.

    Args:
        cfg (Config): From `load_config`.
        validate (bool): Look at the validation images too. Default: True.
        load (bool): Start from `load_from` if the config names one. Default: True.

    Returns:
        tuple: The restorer and its generator's number of parameters.

    Raises:
        UserError: Config, data, budget or schedule are not in order.
    """
    _check(cfg, validate)
    device = dist.device()
    dtype = amp_dtype(cfg.get('amp'), device)
    limit_memory(cfg.get('memory_limit_gb'), device)
    deterministic = cfg.get('deterministic', False)
    set_random_seed(cfg.seed, deterministic)
    model = build_restorer(cfg)
    # A cap that is only a default is told, not enforced.
    parameters = count_parameters(model.generator) if 'budget' in filled_in(cfg) else check_budget(
        model.generator, cfg, count_discriminator(model))
    check_scale(model.generator, cfg)
    if averages(cfg) and getattr(model, 'generator_ema', None) is None:  # MMEditing's RealESRGAN has one by itself
        model.add_ema()
    if cfg.get('load_from') and load:
        if not Path(cfg.load_from).exists() and cfg.get('load_hint'):
            raise UserError(f'config key "load_from": {cfg.load_from} is not there; {cfg.load_hint}')
        fresh = load_weights(model, read_checkpoint(cfg.load_from), cfg.load_from, any_scale=True)
        if fresh:
            notices(cfg).append(f'load_from: {cfg.load_from} is of another scale; {len(fresh)} weights of the '
                                f'upsampling ({fresh[0]}, ...) start anew')
    if device.type == 'cuda':
        torch.backends.cudnn.benchmark = cfg.get('cudnn_benchmark', False) and not deterministic
    if hasattr(model, 'prepare_training'):
        with enough_memory(f'memory of {device} does not suffice for the weights; free it, or use --device cpu'):
            model.prepare_training(device, dtype, cfg.get('channels_last', False), cfg.get('compile', False),
                                   cfg.get('accumulation_steps', 1), cfg.get('grad_clip'))
    elif hasattr(getattr(model, 'perceptual_loss', None), 'load'):
        model.perceptual_loss.load(device)
    if not hasattr(model, 'prepare_training') and dist.world_size() > 1:
        raise UserError(f'config key "model.type": {cfg.model.type} trains in one process only; use FaceRestorer')
    # What ranks draw from here on differs; the weights they began with do not.
    set_random_seed(cfg.seed + dist.rank(), deterministic)
    return model.to(device), parameters


@contextmanager
def _alone_in(work_dir: Path):
    """The lock of the work dir, which the first rank has for all."""
    lock, problem = WorkDirLock(work_dir, lambda text: say(text, file=sys.stderr)), None
    if dist.rank() == 0:
        try:
            lock.__enter__()
        except (UserError, OSError) as error:
            problem = error
    problem = next(filter(None, dist.gather(problem)), None)
    if problem:
        raise problem
    try:
        yield lock
    finally:
        lock.__exit__()


def _find_resume(resume, work_dir: Path) -> tuple:
    """The checkpoint to go on from, or None, and newer ones that are damaged (with the reason)."""
    latest = find_latest(work_dir)
    if resume in (RESUME_AUTO, RESUME_LATEST):
        newest, damaged = _newest_whole(work_dir)
        if newest is None and resume == RESUME_LATEST:
            if damaged:
                raise CheckpointError(damaged[0][1])
            raise CheckpointError(f'--resume: no checkpoint in {work_dir} yet; leave --resume out to start, '
                                  'or name one: --resume CKPT')
        return newest, damaged
    if resume is None and latest is not None:
        raise UserError(f'{work_dir} already has {latest.resolve().name}; go on with --resume, or start anew with '
                        'another --work-dir')
    return resume and newest_of(resume), []


def _newest_whole(work_dir: Path) -> tuple:
    """The newest checkpoint of a work dir that is whole, or None, and those before it, each with what is wrong."""
    damaged, candidates = [], [path for _, _, path in reversed(numbered_checkpoints(work_dir))]
    for path in candidates or [work_dir / LATEST]:
        if path.is_file():
            try:
                read_checkpoint(path)
            except DamagedCheckpoint as error:
                damaged.append((path, str(error)))
                continue
            except CheckpointError:
                pass  # as it is told when it is resumed from
            return path, damaged
    return None, damaged


def _tidy_up(work_dir: Path, damaged: list, logger: logging.Logger) -> None:
    """Put damaged checkpoints out of the way, and let `latest.pth` lead to the newest."""
    if dist.rank() > 0:
        return
    for path, reason in damaged:
        aside, again = path.with_name(path.name + DAMAGED), 0
        while aside.exists():
            again += 1
            aside = path.with_name(f'{path.name}{DAMAGED}{again}')
        path.rename(aside)
        logger.warning(f'{reason}; it is called {aside.name} from now on, and training goes on without it')
    latest = work_dir / LATEST
    newest = newest_of(latest)
    if newest != latest:
        point_latest_to(newest)
        logger.warning(f'{latest} did not lead to the newest checkpoint; now it does, to {newest.name}')


def _validation_images(runner: SRIterBasedRunner) -> list:
    """The files that a runner validates on; none where it does not."""
    return [info[key] for hook in runner.hooks if isinstance(hook, SREvalHook)
            for info in hook.dataloader.dataset.data_infos for key in ('lq_path', 'gt_path') if key in info]


def _refuse_to_mix_branches(resume, iteration: int, work_dir: Path, damaged: list) -> None:
    """Else the next --resume would go on from the newer ones, and this branch be forgotten; and those of another run
    would be replaced one after the other.
    """
    aside = {path for path, _ in damaged}
    for number, _, newest in [found for found in numbered_checkpoints(work_dir) if found[2] not in aside][-1:]:
        if number > iteration:
            raise UserError(f'--resume {resume}: is at iteration {iteration}, but {work_dir} has {newest.name}; go on '
                            'from the older one in another folder, with --work-dir')
        if Path(resume).resolve().parent != work_dir.resolve():
            raise UserError(f'--resume {resume}: {work_dir} has checkpoints of its own ({newest.name}), which would be '
                            'replaced; give another --work-dir, or, if it is of the same run, copy it there first')


def _reporter(logger: logging.Logger):
    """Warnings that concern one rank: the loggers of all but the first are mute."""
    if dist.rank() == 0:
        return logger.warning
    return lambda text: say(f'[rank {dist.rank()}] {text}', file=sys.stderr)


def _check(cfg: Config, validate: bool) -> None:
    check_choices(cfg)
    check_discriminator(cfg)
    check_metrics(cfg)
    check_schedule(cfg)
    check_training_data(cfg)
    if validate and cfg.get('evaluation'):
        check_pairs('val', cfg, least_side(cfg.get('test_cfg')))


def build_runner(model: nn.Module, cfg: Config, logger: logging.Logger, validate: bool = True,
                 work_dir: str | None = None) -> SRIterBasedRunner:
    """A runner with the config's optimizers and hooks.

    Args:
        model (BasicRestorer): From `prepare`.
        cfg (Config): From `load_config`.
        logger (logging.Logger): Where its messages go.
        validate (bool): Whether it validates. Default: True.
        work_dir (str | None): Where it writes; without one nothing is written, and it cannot `run`.
    """
    with mistakes_in('optimizers'):
        optimizers = build_optimizers(model, cfg.optimizers)
    runner = SRIterBasedRunner(
        model,
        optimizer=optimizers,
        work_dir=work_dir,
        logger=logger,
        meta=dict(hook_msgs={}),
        max_iters=cfg.total_iters,
        cfg=cfg)
    _register_hooks(runner, cfg, validate)
    return runner


def build_stream(cfg: Config, position: int = 0, report=print, model=None) -> BatchStream:
    """The config's training batches from a position in the order of samples on.

    Args:
        cfg (Config): From `load_config`.
        position (int): Samples used so far, by all processes together. Default: 0.
        report (Callable[[str], None]): Told about skipped images and workers started again.
        model (FaceRestorer | None): If it is on a CUDA device that is to degrade the images, it does so a batch ahead.
            Default: None.
    """
    skip = cfg.get('on_data_error', 'stop') == 'skip'
    device = dist.device()
    ahead = model is not None and device.type == 'cuda' and cfg.get('degrade_on') == DEVICE
    return BatchStream(partial(build_train_loader, cfg.data, cfg.seed, skip_unreadable=skip), position, skip, report,
                       OnOwnStream(model.degrade, device) if ahead else None)


def fill_cache(samples: SeededSamples, logger: logging.Logger) -> None:
    """Put all training images into the cache that the config's `cache_images` asks for, if it does.

    Of several processes one on each machine does it; the others wait.

    Raises:
        UserError: It cannot be written; on every rank.
    """
    problem = None
    for load in samples.caches:
        if dist.local_rank() == 0:
            try:
                load.cached.fill(samples.paths, load.decode, logger.info)
            except (UserError, OSError) as error:
                problem = f'{error.filename}: {error.strerror}' if isinstance(error, OSError) else str(error)
    problem = next(filter(None, dist.gather(problem, patient=True)), None)
    if problem:
        raise UserError(problem)


def _start_log(cfg: Config, name: str, runner: SRIterBasedRunner) -> None:
    work_dir = Path(runner.work_dir)
    remove_leftovers(work_dir, '*.pth')
    record_config(cfg, name, work_dir)
    number_log(runner)
    write_and_keep(work_dir / 'environment.txt', f'{runner.meta["env_info"]}\n')
    _log_to(work_dir / f'{runner.timestamp}.log', runner.logger)
    cap = f'{cfg.budget:,}' if cfg.get('budget') else 'none'
    processes = f'{dist.world_size()} processes, each ' if dist.world_size() > 1 else ''
    precision = str(amp_dtype(cfg.get('amp'), runner.device) or torch.float32).removeprefix('torch.')
    more = f' and {count:,} discriminator' if (count := count_discriminator(runner.model)) else ''
    runner.logger.info(f'{name}: {runner.meta["parameters"]:,} generator{more} parameters (cap: {cap}), '
                       f'seed {cfg.seed}, {precision}, {processes}on {_device_name()}')
    told = dict(PLAIN_STEP, memory_limit_gb=None)
    del told['amp']  # the precision is in the line above
    chosen = [f'{key}={cfg[key]}' for key, plain in told.items() if cfg.get(key, plain) != plain]
    if chosen:
        runner.logger.info(f'with {", ".join(chosen)}')


def _log_to(path: Path, logger: logging.Logger) -> None:
    """Write the log to this file too, and no longer to that of an earlier run in this process."""
    for handler in [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(LogFile(path))


def _env_info() -> str:
    # mmcv's report; MMEditing's own would take this repository's git commit for MMEditing's.
    info = dict(collect_env(), MMEditing=mmedit.__version__, facesr=facesr.__version__)
    return '\n'.join(f'{key}: {value}' for key, value in info.items())


def _device_name() -> str:
    if dist.device().type == 'cuda':
        return f'CUDA ({torch.cuda.get_device_name(dist.device())})'
    return f'the CPU ({torch.get_num_threads()} threads; {explain_cpu()})'


def _say_goodbye(runner: SRIterBasedRunner, cfg: Config) -> None:
    messages, peak = runner.meta['hook_msgs'], peak_memory(runner.device)
    parts = [f'done: {cfg.total_iters} iterations, in {cfg.work_dir}']
    if messages.get('best_ckpt'):
        parts.append(f'best checkpoint: {messages["best_ckpt"]}')
    if peak is not None:
        parts.append(f'peak memory: {format_peak(peak, runner.device)}')
    parts += [f'{name}: {number}' for name, number in messages.get('counts', {}).items()]
    runner.logger.info('; '.join(parts))


def _register_hooks(runner, cfg: Config, validate: bool) -> None:
    if cfg.get('lr_config'):
        with mistakes_in('lr_config'):
            runner.register_lr_hook(dict(cfg.lr_config))
    if cfg.get('ema') is not None:
        with mistakes_in('ema'):
            runner.register_hook(GeneratorEMAHook(cfg.ema), priority=EMA_PRIORITY)
    with mistakes_in('log_config'):
        for hook in cfg.log_config.hooks:
            package = LATE_IMPORTS.get(hook['type'])
            if package and not find_spec(package):
                raise ImportError(f'{hook["type"]} needs the package {package}, which is not installed')
            how = dict(dict(interval=cfg.log_config.interval), **hook, priority=LOG_PRIORITY)
            if isinstance(how['interval'], int):
                how['interval'] = min(how['interval'], cfg.total_iters)  # a shorter run is logged at its end
                runner.log_buffer.length = max(runner.log_buffer.length, how['interval'])
            runner.register_hook_from_cfg(how)
    if validate and cfg.get('evaluation'):
        loader = build_eval_loader(cfg.data, 'val')
        with mistakes_in('evaluation'):
            runner.register_hook(SREvalHook(loader, **cfg.evaluation), priority=EVAL_PRIORITY)
    with mistakes_in('checkpoint_config'):
        runner.register_hook(SRCheckpointHook(**cfg.checkpoint_config), priority=CHECKPOINT_PRIORITY)
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == PICTURES:
            continue
        with mistakes_in('custom_hooks'):
            hook = dict(dict(priority=EMA_PRIORITY) if hook['type'] in AVERAGING else {}, **hook)
            runner.register_hook_from_cfg(hook)


def _register_pictures(runner, cfg: Config) -> None:
    """MMEditing's hook that writes pictures while training, of `visual_config` in the work dir; it makes its folder at
    once.
    """
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == PICTURES:
            with mistakes_in('custom_hooks'):
                runner.register_hook_from_cfg(hook)
    if cfg.get('visual_config'):
        with mistakes_in('visual_config'):
            folder = Path(runner.work_dir) / cfg.visual_config.get('output_dir', 'visuals')
            runner.register_hook_from_cfg(dict(cfg.visual_config, output_dir=str(folder)))
    if any(isinstance(hook, MMEditVisualizationHook) for hook in runner.hooks):
        runner.model.keep_results = True
