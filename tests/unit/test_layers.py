"""Which room of the house may import which, read from the source; imports inside functions count too."""
import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

# Top floor first. `compat` stands beside them: every room may import it. Each may ask `facesr` for its version.
MAY_IMPORT = {
    'register': {'datasets', 'engine', 'models'},  # what registers itself
    'analysis': {'checkpoint', 'config', 'degradation', 'evaluation', 'inference', 'models', 'submission', 'utils'},
    'engine': {'checkpoint', 'config', 'datasets', 'degradation', 'evaluation', 'models', 'utils'},
    'evaluation': {'config', 'datasets', 'inference', 'submission', 'utils'},
    'export': {'checkpoint', 'config', 'models', 'utils'},
    'datasets': {'config', 'degradation', 'utils'},
    'models': {'checkpoint', 'config', 'degradation', 'utils'},
    'inference': {'checkpoint', 'utils'},
    'degradation': {'utils'},
    'checkpoint': {'utils'},
    'submission': {'utils'},
    'config': {'utils'},
    'utils': set(),
    'compat': set(),
}
OVER_ALL = ('tools', 'benchmarks')  # these may import any room, and no room them
# `load_config` imports `facesr.register` by its name, as mmcv's `custom_imports` does.
BY_NAME = {('config', 'register')}
MOST_ROOMS, MOST_FLOORS = 20, 7


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {_module(path): path for path in sorted((ROOT / 'facesr').rglob('*.py'))}


def _room(module: str) -> str:
    return module.split('.')[1] if '.' in module else module


@cache
def _imported(path: Path) -> frozenset:
    """The modules of this project that a file imports, in whatever way."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            full = {f'{node.module}.{alias.name}' for alias in node.names}
            found.update(full & MODULES.keys())
            if full - MODULES.keys():
                found.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in MODULES:
            found.add(node.value)  # by name, as `importlib.import_module` takes it
    return frozenset(found & MODULES.keys() - {'facesr'})


def _arrows() -> dict:
    """The rooms that each room imports."""
    arrows = {_room(module): set() for module in MODULES if module != 'facesr'}
    for module, path in MODULES.items():
        rooms = {_room(other) for other in _imported(path)}
        if module != 'facesr':
            arrows[_room(module)] |= rooms - {_room(module)}
    return arrows


def test_rooms_import_what_they_may():
    assert _arrows().keys() == MAY_IMPORT.keys()
    wrong = [(room, other) for room, others in _arrows().items() for other in others - MAY_IMPORT[room] - {'compat'}]
    assert set(wrong) == BY_NAME


def test_the_package_itself_imports_nothing():
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom))
                   for node in ast.walk(ast.parse(MODULES['facesr'].read_text(encoding='utf-8'))))


def test_nothing_but_what_starts_a_run_imports_the_engine():
    assert {room for room, others in _arrows().items() if 'engine' in others} == {'register'}


def test_no_room_imports_what_is_over_all_of_them():
    for path in MODULES.values():
        names = {name.split('.')[0] for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
                 if isinstance(node, (ast.Import, ast.ImportFrom))
                 for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])}
        assert not names & {*OVER_ALL, 'tests', 'conftest'}, path


def test_files_import_each_other_in_no_circle():
    graph = {module: _imported(path) - {module} for module, path in MODULES.items()}
    graph['facesr.config.load'] -= {'facesr.register'}  # see BY_NAME
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_house_is_small():
    arrows = {room: others - {'register', 'compat'} for room, others in _arrows().items() if room != 'compat'}
    floors = {}
    for room in TopologicalSorter(arrows).static_order():
        floors[room] = 1 + max((floors[other] for other in arrows[room]), default=0)
    assert max(floors.values()) + 1 <= MOST_FLOORS, floors  # and the tools on top
    assert len(MAY_IMPORT) + len(OVER_ALL) <= MOST_ROOMS


@pytest.mark.parametrize('module', MODULES)
def test_what_imports_mmediting_bridges_first(module):
    """Else the order of a script's imports would decide whether MMEditing can be imported at all."""
    parents = [MODULES['.'.join(module.split('.')[:end])] for end in range(2, module.count('.') + 1)]
    bridged = any('facesr.compat.bridged' in _imported(path) for path in parents)
    for node in ast.parse(MODULES[module].read_text(encoding='utf-8')).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
            [node.module] if isinstance(node, ast.ImportFrom) else []
        bridged = bridged or 'facesr.compat.bridged' in names or 'facesr.config' in names
        assert bridged or not {'mmcv', 'mmedit'} & {name.split('.')[0] for name in names}, f'{module}: {names}'


def test_importing_the_package_costs_nothing():
    code = 'import sys; before = set(sys.modules); import facesr; print(*sorted(set(sys.modules) - before))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ['facesr']
