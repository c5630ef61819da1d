"""benchmarks/models.py, on small networks and images, with its rows in this process."""
import argparse
import json
import sys

import measuring
import models
import pytest
import torch
from conftest import ROOT
from mmedit.models import build_backbone
from torch import nn

SMALL = 'generator=dict(mid_channels=8, num_blocks=1)'


@pytest.fixture(autouse=True)
def _small_images(monkeypatch):
    monkeypatch.setattr(models, 'SIDE', 16)


@pytest.fixture
def config(tmp_path):
    """Writes a config over a shipped one; returns its path."""

    def write(name, base='configs/srresnet_ffhq.py', text=''):
        path = tmp_path / f'{name}.py'
        path.write_text(f'_base_ = {str(ROOT / base)!r}\n{text}\n')
        return path

    return write


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the benchmark with its rows in this process; returns what it prints."""

    def in_process(commands, rounds, threads):
        found, failed = {row: {} for row in commands}, {}
        for row, command in commands.items():
            monkeypatch.setattr(sys, 'argv', command)
            try:
                models.main()
            except SystemExit:
                failed[row] = 'its error'
            for line in capsys.readouterr().out.splitlines():
                found[row].update(json.loads(line))
        return found, failed

    def call(*arguments):
        monkeypatch.setattr(models, 'take_turns', in_process)
        monkeypatch.setattr(sys, 'argv', ['models.py', *map(str, arguments), '--steps', '1', '--batch', '1'])
        models.main()
        return capsys.readouterr().out

    return call


def test_the_table(config, run, tmp_path):
    small, same = config('small', text=f'model = dict({SMALL})\nema = 0.5'), config('same', text='total_iters = 7')
    broken = config('broken', text="model = dict(generator=dict(type='Nothing'))")
    out = run(small, broken, same, '--patch', '32', '--out', tmp_path / 'models.json')
    header, reference, *lines = out.splitlines()
    assert header.split()[:4] == ['parameters', 'of', 'cap', 'GMACs']
    assert reference.split()[:5] == ['srresnet_ffhq', '1,812,995', '99.6%', '0.72', '1.00']
    assert reference.endswith(' 3534') and all(len(line) <= 120 for line in out.splitlines())
    assert lines[1].split() == ['broken', *['-'] * 13]
    assert 'broken: failed: its error' in lines and 'srresnet_ffhq: also same' in lines
    found = json.loads((tmp_path / 'models.json').read_text())
    first, row, failed = found['rows']
    assert first['also'] == ['same']
    assert first['ratios'] | dict(peak=1.0) == dict.fromkeys(models.COLUMNS, 1.0)  # this process may not have grown
    assert row['ratios']['saved'] == row['saved'] / first['saved'] < 1 and row['image'] > 0 and row['iteration'] > 0
    assert row['share'] == row['parameters'] / 1821085 and failed['failed'] == 'its error'

    markdown = run(same, '--patch', '32', '--markdown').splitlines()
    assert markdown[0].startswith('|  | parameters |') and markdown[2].startswith('| srresnet_ffhq | 1,812,995 |')


def test_a_discriminator_trains_too_and_a_perceptual_loss_only_with_its_weights(config, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    path = config('gan', 'configs/esrgan_ffhq.py', 'model = dict(generator=dict(num_blocks=1), '
                  'discriminator=dict(mid_channels=2))')
    facts = {}
    for some in models.measure(path, argparse.Namespace(patch=128, batch=2, steps=1)):
        facts.update(some)
    assert facts['discriminator'] > 0 and facts['iteration'] > 0 and facts['image'] > 0
    said, = models.remarks([dict(facts, config='gan', also=[], failed=None)])
    assert 'of the discriminator; trained without the perceptual loss' in said
    assert facts['card'] > 0


def test_configs_that_cost_the_same_are_one_row(config):
    groups = models.grouped(sorted((ROOT / 'configs').glob('*.py')))
    assert next(iter(groups)) == models.REFERENCE
    also = [path.stem for path in groups[models.REFERENCE]]
    assert {'srresnet_ffhq_one_cycle', 'srresnet_ffhq_restarts', 'srresnet_ffhq_second_order'} <= set(also)
    assert all(path.stem not in also for path in groups)
    other = [config('loss', text="model = dict(pixel_loss=dict(type='MSELoss'))"), config('ema', text='ema = 0.9'),
             config('sgd', text="optimizers = dict(generator=dict(_delete_=True, type='SGD', lr=1))")]
    assert list(models.grouped(other)) == [models.REFERENCE, *other]


def test_what_is_kept_for_the_backward_pass():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    values = 3 + 8 + 3  # the input, the ReLU's output, which is the next one's input too, and the loss's difference
    assert measuring.saved_bytes(net, torch.rand(1, 3, 10, 10)) == 4 * 100 * values
    generator = build_backbone(dict(type='MSRResNetCA', in_channels=3, out_channels=3, mid_channels=8, num_blocks=2,
                                    reduction=4))
    paper = measuring.without_memory(generator)
    assert all(value.is_meta for value in paper.parameters()) and not any(p.is_meta for p in generator.parameters())
    counts = [measuring.saved_bytes(one, torch.rand(1, 3, 12, 12, device=device))
              for one, device in ((generator, 'cpu'), (paper, 'meta'))]
    assert counts[0] == counts[1] > 0


def test_rows_take_turns(tmp_path):
    log = tmp_path / 'log'
    code = (f'import json, os, sys; open({str(log)!r}, "a").write(sys.argv[1]); n = os.path.getsize({str(log)!r}); '
            'print("chatter"); ')
    told = code + 'print(json.dumps(dict(seconds=9 - n)))'
    commands = {'a': ['-c', told, 'a'], 'b': ['-c', f'{told}; sys.exit("error: no more")', 'b'],
                'c': ['-c', f'{code}os.kill(os.getpid(), 9)', 'c']}
    found, failed = measuring.take_turns(commands, 2, 1)
    assert log.read_text() == 'abca'  # what failed is not run again
    assert found == {'a': {'seconds': 5}, 'b': {'seconds': 7}, 'c': {}}
    assert failed == {'b': 'no more', 'c': 'killed by signal 9; out of memory?'}


@pytest.mark.parametrize('arguments, message', [
    (['configs/none.py'], 'configs/none.py: no such config'),
    (['--out', 'models.txt'], 'models.txt: give the name of a .json file to write'),
    (['--steps', '0'], "'0' is not a whole number of at least 1"),
])
def test_mistakes_are_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['models.py', *arguments])
    with pytest.raises(SystemExit) as ended:
        models.main()
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and message in errors and len(errors.splitlines()) == 1
