"""What a run left in its work dir: config, checkpoint and logs."""
import re
from pathlib import Path
from typing import NamedTuple

from facesr.analysis.logs import find_logs
from facesr.checkpoint.io import read_checkpoint
from facesr.checkpoint.naming import find_latest, numbered_checkpoints
from facesr.config import RECORDED, Config, load_config
from facesr.evaluation.metrics import EMA_SUFFIX
from facesr.utils.errors import UserError
from facesr.utils.log_files import first_record


class Sources(NamedTuple):
    """Where the figures of a run come from.

    Attributes:
        work_dir (Path): The run's folder.
        config (Path): Its config.
        cfg (Config): The config as `load_config` gives it.
        checkpoint (Path | None): What is measured; None for a report without images.
        meta (dict): The checkpoint's `meta`; empty without one.
        ema (bool): Whether the moving average of the generator's weights is measured.
        chosen (str): Why it is this checkpoint, in words.
    """
    work_dir: Path
    config: Path
    cfg: Config
    checkpoint: Path | None
    meta: dict
    ema: bool
    chosen: str


def find_sources(work_dir: str | Path, config: str | Path | None = None, checkpoint: str | Path | None = None,
                 options: dict | None = None, data_root: str | None = None, ema: bool | None = None,
                 images: bool = True) -> Sources:
    """Find config and checkpoint of a run and read them.

    Args:
        work_dir (str | Path): The run's folder.
        config (str | Path | None): Default: the one that the run wrote there.
        checkpoint (str | Path | None): Default: the best of `evaluation.save_best`, else the newest.
        options (dict | None): Overrides, as `load_config` takes them.
        data_root (str | None): As `load_config` takes it.
        ema (bool | None): Measure the moving average. Default: where it is what the best checkpoint was chosen by.
        images (bool): Whether a checkpoint is needed. Default: True.

    Raises:
        UserError: Something is missing, or there are several configs.
    """
    work_dir = Path(work_dir)
    if work_dir.is_file() and work_dir.suffix == '.py':
        raise UserError(f'{work_dir}: is a config; give the work dir of a run, as work_dirs/{work_dir.stem}')
    if work_dir.is_file():
        raise UserError(f'{work_dir}: is a file; give the work dir of a run, as {work_dir.parent}')
    if not work_dir.is_dir():
        raise UserError(f'{work_dir}: no such folder; give the work dir of a run, as work_dirs/srresnet_ffhq')
    found, chosen = (Path(checkpoint), 'given') if checkpoint else _find_checkpoint(work_dir)
    if images and found is None:
        raise UserError(f'{work_dir}: no checkpoint in it; give one with --checkpoint, or --no-images for settings and '
                        'curves alone')
    meta = read_checkpoint(found)['meta'] if images else {}
    recorded = config is None
    config = Path(config) if config else _find_config(work_dir, str(meta.get('exp_name') or _logged_name(work_dir)))
    cfg = load_config(config, options, data_root, recorded)
    if ema is None:
        best_by = (cfg.get('evaluation') or {}).get('save_best') or ''
        ema = bool(images) and best_by.endswith(EMA_SUFFIX) and found.name.startswith(f'best_{best_by}_')
    return Sources(work_dir, config, cfg, found if images else None, meta, ema, chosen)


def _find_checkpoint(work_dir: Path) -> tuple:
    """The newest `best_*_iter_*.pth`, else the newest of all: the path or None, and which it is."""
    best = [path for _, plain, path in numbered_checkpoints(work_dir) if not plain]
    if best:
        metric = re.match(r'best_(.+)_iter_', best[-1].name)[1]
        return best[-1], f'the best {metric} of the run'
    return find_latest(work_dir), 'the newest of the run'


def _find_config(work_dir: Path, name: str) -> Path:
    """The config that the run wrote: the only one, or the one called as the checkpoint says."""
    configs = sorted({*work_dir.glob('*.py'), *(path.with_name(f'{path.name.removesuffix(RECORDED)}.py')
                                                for path in work_dir.glob(f'*{RECORDED}'))})
    named = [path for path in configs if path.stem == name.removesuffix('.py')]
    if len(configs) == 1 or named:
        return (named or configs)[0]
    found = f'has {", ".join(path.name for path in configs)}' if configs else 'no config in it'
    raise UserError(f'{work_dir}: {found}; give the config of the run with --config')


def _logged_name(work_dir: Path) -> str:
    """What the newest log says the run is called; nothing where it does not."""
    logs = find_logs(work_dir)
    name = first_record(logs[-1]).get('exp_name') if logs else None
    return name if isinstance(name, str) else ''
