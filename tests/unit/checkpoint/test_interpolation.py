import argparse

import pytest
import torch

from facesr.checkpoint import weights
from facesr.checkpoint.interpolation import interpolate
from facesr.checkpoint.io import read_checkpoint
from facesr.utils.errors import CheckpointError, UserError
from facesr.utils.files import file_sha256


def checkpoint(path, ema=False, shape=(2, 3), **meta):
    """With a generator of two weights and a counter, and a discriminator; returns the generator."""
    torch.manual_seed(len(path.name))
    state = {'a.weight': torch.randn(shape), 'a.bias': torch.randn(2), 'a.steps': torch.tensor(len(path.name))}
    names = {'generator.': state, 'discriminator.': {'x': torch.randn(1)}}
    if ema:
        names['generator_ema.'] = {name: value * 2 for name, value in state.items()}
    torch.save(dict(meta=meta, optimizer={}, state_dict={
        prefix + name: value for prefix, weights in names.items() for name, value in weights.items()}), path)
    return state


@pytest.fixture
def pair(tmp_path):
    paths = tmp_path / 'psnr.pth', tmp_path / 'gan_.pth'
    weights = [checkpoint(path, ema=True, exp_name=path.stem, env_info='a machine') for path in paths]
    return paths, weights


@pytest.mark.parametrize('alpha', [0, 0.25, 1])
@pytest.mark.parametrize('ema', [False, True])
def test_weights_are_between(alpha, ema, pair, tmp_path):
    paths, (psnr, gan) = pair
    made = read_checkpoint(interpolate(*paths, alpha, tmp_path / 'new/out.pth', ema))
    assert made['state_dict'].keys() == {'generator.a.weight', 'generator.a.bias', 'generator.a.steps'}
    for name in ('a.weight', 'a.bias'):
        expected = (1 + ema) * ((1 - alpha) * psnr[name] + alpha * gan[name])
        assert torch.allclose(made['state_dict'][f'generator.{name}'], expected, atol=1e-6)
        if alpha in (0, 1):
            assert torch.equal(made['state_dict'][f'generator.{name}'], expected)
    assert made['state_dict']['generator.a.steps'] == (1 + ema) * gan['a.steps']
    about = made['meta'].pop('interpolation')
    assert about['alpha'] == alpha and about['gan_sha256'] == file_sha256(paths[1]) and about['psnr'] == 'psnr.pth'
    assert about['weights'] == ('moving average' if ema else 'trained')
    assert made['meta'].keys() == {'exp_name', 'mmcv_version'} and made['meta']['exp_name'] == 'gan_'


@pytest.mark.parametrize('ends, made', [(('Be good', None), 'Be good'), ((None, 'Be good'), 'Be good'),
                                        (('Be good', 'Be good'), 'Be good'), (('Be', 'good'), 'Be good')])
def test_the_notices_of_both_go_with_it(ends, made, tmp_path, capsys):
    paths = [tmp_path / name for name in ('psnr.pth', 'gan_.pth')]
    for path, notice in zip(paths, ends, strict=True):
        checkpoint(path, **dict(notice=notice) if notice else {})
    weights._tell.cache_clear()
    assert read_checkpoint(interpolate(*paths, 0.5, tmp_path / 'out.pth'))['meta']['notice'] == made
    assert capsys.readouterr().err.count('note: ') == sum(map(bool, ends))


def test_another_file_is_never_replaced(pair, tmp_path):
    paths, _ = pair
    out = interpolate(*paths, 0.5, tmp_path / 'out.pth')
    before = out.read_bytes()
    assert interpolate(*paths, 0.5, out).read_bytes() == before  # the same again
    for taken in (out, paths[1]):
        before = taken.read_bytes()
        with pytest.raises(CheckpointError, match=f'{taken.name}: is there already and has other content'):
            interpolate(*paths, 0.6, taken)
        assert taken.read_bytes() == before
    with pytest.raises(UserError, match='give the name of a .pth file'):
        interpolate(*paths, 0.5, tmp_path / 'out.safetensors')


def test_what_does_not_go_together_is_refused(pair, tmp_path):
    paths, (psnr, _) = pair
    checkpoint(tmp_path / 'wide.pth', shape=(4, 3))
    with pytest.raises(CheckpointError, match='are of different generators .1 weights, as a.weight, differ'):
        interpolate(paths[0], tmp_path / 'wide.pth', 0.5, tmp_path / 'out.pth')
    with pytest.raises(CheckpointError, match='wide.pth: has no moving average'):
        interpolate(paths[0], tmp_path / 'wide.pth', 0.5, tmp_path / 'out.pth', ema=True)
    torch.save(dict(state_dict={'x': torch.zeros(1)}), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='x.pth and .*: are of different generators'):
        interpolate(tmp_path / 'x.pth', paths[1], 0.5, tmp_path / 'out.pth')
    torch.save({'generator.a.weight': psnr['a.weight'] * torch.nan}, tmp_path / 'nan.pth')
    with pytest.raises(CheckpointError, match='nan.pth: weights are NaN or infinite'):
        interpolate(tmp_path / 'nan.pth', paths[1], 0.5, tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


def test_the_tool(pair, tmp_path, run_tool, monkeypatch):
    paths, _ = pair
    done = run_tool('interpolate.py', *paths, '--alpha', 0.25, '--out', tmp_path / 'out.pth')
    assert done.returncode == 0 and 'written: ' in done.stdout and '0.75 x ' in done.stdout, done.stderr
    monkeypatch.syspath_prepend('tools')
    from interpolate import share
    for wrong in ('nan', '1.1', '-0.1', 'x'):
        with pytest.raises(argparse.ArgumentTypeError, match='is not a number from 0 to 1'):
            share(wrong)
