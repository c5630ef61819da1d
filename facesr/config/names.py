"""What a config file says, looked at without executing it."""
import ast
import re
from pathlib import Path

NEWER = ('optim_wrapper', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'default_hooks', 'param_scheduler',
         'val_evaluator', 'test_evaluator', 'val_cfg', 'default_scope', 'experiment_name', 'model_wrapper_cfg')


def names_read(path) -> set:
    """The names that a config file, or one that it builds on, reads to make its other values."""
    path = Path(path)
    text = _text(path)
    names = set(re.findall(r'\{\{\s*_base_\.(\w+)', text))
    tree = _tree(path, text)
    if tree is None:
        return names
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return names.union(*(names_read(path.parent / base) for base in _bases(tree)))


def newer_names(path) -> list:
    """The top-level names of MMEditing 1.x and MMagic that a config file itself sets."""
    path = Path(path)
    tree = _tree(path, _text(path))
    assigned = {target.id for node in (tree.body if tree else ()) if isinstance(node, ast.Assign)
                for target in node.targets if isinstance(target, ast.Name)}
    return [name for name in NEWER if name in assigned]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError):  # mmcv's reader says what is wrong with it
        return ''


def _tree(path: Path, text: str):
    try:
        return ast.parse(text) if path.suffix == '.py' else None
    except (SyntaxError, ValueError):
        return None


def _bases(tree) -> list:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(target, 'id', '') == '_base_' for target in node.targets):
            try:
                bases = ast.literal_eval(node.value)
            except ValueError:
                return []
            return [bases] if isinstance(bases, str) else list(bases)
    return []
