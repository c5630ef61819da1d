"""Registration is explicit: by `load_config`, or by MMEditing's own `custom_imports`."""
import sys

import pytest
from conftest import ROOT
from forked import run_forked
from mmcv import Config

from facesr.config import config_text, load_config
from facesr.utils.errors import UserError

# MMEditing's own way from a config to a model, a dataset and hooks, in a process that never names facesr.
STOCK = '''
import sys
from mmcv import Config
cfg = Config.fromfile(sys.argv[1])
from mmcv.runner import HOOKS, RUNNERS
from mmedit.datasets.registry import DATASETS, PIPELINES
from mmedit.models import build_model
cfg.model.generator.update(num_blocks=1, mid_channels=8)
assert type(build_model(cfg.model, train_cfg=cfg.train_cfg, test_cfg=cfg.test_cfg)).__name__ == 'FaceRestorer'
assert 'SRFolderLQDataset' in DATASETS and 'Degrade' in PIPELINES and 'SREvalHook' in HOOKS
assert 'SRIterBasedRunner' in RUNNERS
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the user's; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text=''):
        (tmp_path / f'{name}.py').write_text(text)
        return name

    return write


def config(tmp_path, lines):
    path = tmp_path / 'own.py'
    path.write_text(f'_base_ = "{ROOT}/configs/srresnet_ffhq.py"\n{lines}\n')
    return path


def test_mmediting_finds_our_classes_by_custom_imports(tmp_path):
    (tmp_path / 'stock.py').write_text(STOCK)
    done = run_forked([sys.executable, tmp_path / 'stock.py', 'configs/srresnet_ffhq.py'], PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_a_users_own_modules_are_imported_beside_ours(module, tmp_path):
    name = module('of_the_user')
    cfg = load_config(config(tmp_path, f'custom_imports = dict(imports=["{name}"])'))
    assert cfg.custom_imports.imports == ['facesr.register', name]
    assert name in sys.modules
    dumped = tmp_path / 'dumped.py'
    dumped.write_text(config_text(cfg))
    assert Config.fromfile(str(dumped)).custom_imports.imports == ['facesr.register', name]
    assert load_config(config(tmp_path, f'custom_imports = dict(imports="{module("another")}")')
                       ).custom_imports.imports == ['facesr.register', 'another']
    assert load_config(config(tmp_path, 'custom_imports = None')).custom_imports.imports == ['facesr.register']


def test_by_cfg_options(module):
    name = module('by_option')
    cfg = load_config('configs/srresnet_ffhq.py', {'custom_imports.imports': [name]})
    assert cfg.custom_imports.imports == ['facesr.register', name] and name in sys.modules


@pytest.mark.parametrize('text, reason', [(None, 'ModuleNotFoundError: No module'), ('1 / 0', 'ZeroDivisionError')])
def test_a_module_that_cannot_be_imported_is_one_line(text, reason, module, tmp_path):
    name = module('broken', text) if text else 'not_there'
    with pytest.raises(UserError, match=f'config key "custom_imports": {name} cannot be imported \\({reason}'):
        load_config(config(tmp_path, f'custom_imports = dict(imports=["{name}"])'))


def test_it_may_be_allowed_to_fail(tmp_path):
    customs = 'custom_imports = dict(imports=["not_there"], allow_failed_imports=True)'
    with pytest.warns(UserWarning, match='not_there cannot be imported'):
        load_config(config(tmp_path, customs))
