"""mmcv reads YAML with a loader that runs what tags ask for (`!!python/object/apply:os.system`).

Can go when mmcv reads YAML safely.
"""
import yaml


def apply() -> bool:
    """Let mmcv's handler of .yml and .yaml files take PyYAML's safe loader, which refuses tags."""
    from mmcv.fileio.handlers import yaml_handler  # only now: `notices` comes before mmcv
    safe = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    changed, yaml_handler.Loader = yaml_handler.Loader is not safe, safe
    return changed
