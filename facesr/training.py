"""Training a config: what `tools/train.py` does."""
import inspect
import logging
from pathlib import Path

import mmedit
import torch
from mmcv import Config
from mmcv.parallel import MMDataParallel
from mmcv.runner import CheckpointHook, IterTimerHook
from mmcv.utils import collect_env
from mmedit.apis import set_random_seed
from mmedit.core import build_optimizers
from mmedit.models import build_model
from mmedit.utils import get_root_logger

import facesr
from facesr.checkpoint import CheckpointError, find_latest, load_weights, read_checkpoint
from facesr.checks import check_budget, check_metrics, check_numbers, check_pairs, check_schedule, check_training_data
from facesr.datasets.loader import build_eval_loader, build_train_loader
from facesr.errors import UserError, mistakes_in
from facesr.files import write_atomic
from facesr.hooks import SREvalHook
from facesr.runner import SRIterBasedRunner

RESUME_LATEST = 'latest'
# After validation (LOW, 70), so that a checkpoint knows the best score of its own iteration.
CHECKPOINT_PRIORITY = 80


def train(cfg: Config, name: str, resume=None, validate: bool = True) -> None:
    """Train, validate and keep checkpoints in `cfg.work_dir`.

    Args:
        cfg (Config): From `load_config`.
        name (str): The experiment's name in logs and checkpoints (the config's file name).
        resume (str | None): A checkpoint to continue from, or 'latest' for the work dir's newest.
        validate (bool): Validate at the config's interval. Default: True.

    Raises:
        UserError: Config, data, budget, schedule or checkpoint are not in order; no file was written then.
    """
    work_dir = Path(cfg.work_dir)
    resume = _find_resume(resume, work_dir)
    _check(cfg, validate)
    set_random_seed(cfg.seed)
    model = build_restorer(cfg)
    parameters = check_budget(model.generator, cfg)
    if cfg.get('load_from') and not resume:
        load_weights(model, read_checkpoint(cfg.load_from), cfg.load_from)

    with mistakes_in('log_level'):
        logger = get_root_logger(log_level=cfg.log_level)
    runner = _build_runner(model, cfg, logger, validate)
    if resume:
        runner.resume(resume)
    if runner.iter >= cfg.total_iters:
        logger.info(f'nothing left to do: iteration {runner.iter} of {cfg.total_iters} in {resume}')
        return
    loader = build_train_loader(cfg.data, cfg.seed, start_iter=runner.iter)

    # No file was written up to here, and everything that a user can get wrong has been looked at.
    runner.meta.update({'exp_name': name, 'mmedit Version': mmedit.__version__, 'seed': cfg.seed,
                        'parameters': parameters, 'env_info': _env_info()})
    _start_log(cfg, name, runner)
    if resume:
        logger.info(f'resumed from {resume} at iteration {runner.iter}')
    try:
        runner.run([loader], cfg.workflow)
    except KeyboardInterrupt:
        latest = find_latest(work_dir)
        logger.info(f'stopped after iteration {runner.iter}; ' + (
            f'go on from {latest.name} with --resume' if latest else 'no checkpoint yet'))
        raise
    best = runner.meta['hook_msgs'].get('best_ckpt')
    logger.info(f'done: {cfg.total_iters} iterations, in {work_dir}' + (f'; best checkpoint: {best}' if best else ''))


def build_restorer(cfg: Config):
    """The config's restorer (a `BasicRestorer`), on the CPU.

    Raises:
        UserError: A name or an argument in `cfg.model` is wrong.
    """
    if cfg.model.get('pretrained'):  # mmcv would unpickle it, and load what happens to fit
        raise UserError('config key "model.pretrained": use load_from, which reads weights safely and entirely')
    with mistakes_in('model'):
        return build_model(cfg.model, train_cfg=cfg.get('train_cfg'), test_cfg=cfg.get('test_cfg'))


def _find_resume(resume, work_dir: Path):
    if work_dir.exists() and not work_dir.is_dir():
        raise UserError(f'--work-dir {work_dir}: is a file; give a folder')
    latest = find_latest(work_dir)
    if resume == RESUME_LATEST:
        if latest is None:
            raise CheckpointError(f'--resume: no checkpoint in {work_dir} yet; leave --resume out to start, '
                                  'or name one: --resume CKPT')
        return latest
    if resume is None and latest is not None:
        raise UserError(f'{work_dir} already has {latest.resolve().name}; go on with --resume, or start anew with '
                        'another --work-dir')
    return resume


def _check(cfg: Config, validate: bool) -> None:
    check_numbers(cfg)
    check_metrics(cfg)
    check_schedule(cfg)
    check_training_data(cfg)
    if validate and cfg.get('evaluation'):
        check_pairs(cfg.data.val, cfg)


def _build_runner(model, cfg: Config, logger: logging.Logger, validate: bool) -> SRIterBasedRunner:
    with mistakes_in('optimizers'):
        optimizers = build_optimizers(model, cfg.optimizers)
    runner = SRIterBasedRunner(
        _to_device(model, cfg),
        optimizer=optimizers,
        work_dir=cfg.work_dir,
        logger=logger,
        meta=dict(hook_msgs={}),
        max_iters=cfg.total_iters)
    _register_hooks(runner, cfg, validate)
    return runner


def _start_log(cfg: Config, name: str, runner: SRIterBasedRunner) -> None:
    work_dir = Path(runner.work_dir)
    cfg.dump(str(work_dir / f'{name}.py'))
    write_atomic(work_dir / 'environment.txt', f'{runner.meta["env_info"]}\n')
    _log_to(work_dir / f'{runner.timestamp}.log', runner.logger)
    cap = f'{cfg.budget:,}' if cfg.get('budget') else 'none'
    runner.logger.info(f'{name}: {runner.meta["parameters"]:,} generator parameters (cap: {cap}), seed {cfg.seed}, '
                       f'on {_device_name()}')


def _log_to(path: Path, logger: logging.Logger) -> None:
    """Write the log to this file too, and no longer to that of an earlier run in this process."""
    for handler in [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter('%(asctime)s - %(name)s - %(levelname)s - %(message)s'))
    logger.addHandler(handler)


def _env_info() -> str:
    # mmcv's report; MMEditing's own would take this repository's git commit for MMEditing's.
    info = dict(collect_env(), MMEditing=mmedit.__version__, facesr=facesr.__version__)
    return '\n'.join(f'{key}: {value}' for key, value in info.items())


def _to_device(model, cfg: Config) -> MMDataParallel:
    if not torch.cuda.is_available():
        return MMDataParallel(model)
    torch.backends.cudnn.benchmark = cfg.get('cudnn_benchmark', False)
    return MMDataParallel(model.cuda(0), device_ids=[0])


def _device_name() -> str:
    if torch.cuda.is_available():
        return f'CUDA ({torch.cuda.get_device_name(0)})'
    return f'the CPU ({torch.get_num_threads()} threads; no CUDA device found)'


def _register_hooks(runner, cfg: Config, validate: bool) -> None:
    with mistakes_in('lr_config'):
        runner.register_lr_hook(dict(cfg.lr_config))
    runner.register_hook(IterTimerHook(), priority='LOW')
    if validate and cfg.get('evaluation'):
        loader = build_eval_loader(cfg.data, 'val')
        with mistakes_in('evaluation'):
            runner.register_hook(SREvalHook(loader, **cfg.evaluation), priority='LOW')
    with mistakes_in('checkpoint_config'):
        # CheckpointHook takes any argument, and would fail on a wrong one only when it saves.
        unknown = cfg.checkpoint_config.keys() - inspect.signature(CheckpointHook).parameters.keys()
        if unknown:
            raise TypeError(f'CheckpointHook takes no {", ".join(sorted(unknown))}')
        runner.register_hook(CheckpointHook(**cfg.checkpoint_config), priority=CHECKPOINT_PRIORITY)
    with mistakes_in('log_config'):
        runner.register_logger_hooks(cfg.log_config)
    for hook in cfg.get('custom_hooks') or []:
        with mistakes_in('custom_hooks'):
            runner.register_hook_from_cfg(hook)
