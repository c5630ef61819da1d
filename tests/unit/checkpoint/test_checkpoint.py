import numpy as np
import pytest
import torch
from mmcv.runner import load_checkpoint as mmcv_load_checkpoint
from mmcv.utils import digit_version
from torch import nn

from facesr.checkpoint.io import read_checkpoint, save_checkpoint
from facesr.checkpoint.naming import find_latest, point_latest_to
from facesr.checkpoint.weights import load_weights
from facesr.utils import files
from facesr.utils.errors import CheckpointError


class Surprise:
    """Unpickling it would run code."""

    def __reduce__(self):
        return print, ('code was executed',)


def net(width=2):
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 3, 1))


def test_round_trip_and_mmcv_reads_it(tmp_path):
    model, path = net(), tmp_path / 'a.pth'
    optimizer = {'generator': torch.optim.Adam(model.parameters())}
    save_checkpoint(path, model, optimizer, dict(iter=3, hook_msgs=dict(best_score=1.5)))
    checkpoint = read_checkpoint(path)
    assert checkpoint['meta']['iter'] == 3 and checkpoint['meta']['hook_msgs'] == dict(best_score=1.5)
    assert checkpoint['optimizer'].keys() == {'generator'}
    for load in (lambda other: load_weights(other, checkpoint, path), lambda other: mmcv_load_checkpoint(
            other, str(path), strict=True)):
        other = net()
        load(other)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_pickled_code_is_refused_and_not_run(tmp_path, capfd):
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict=net().state_dict(), meta=Surprise()), path)
    with pytest.raises(CheckpointError, match='evil.pth: refused, because reading it would execute pickled code'):
        read_checkpoint(path)
    assert 'code was executed' not in capfd.readouterr().out


@pytest.mark.parametrize('score', [np.float64(28.5), np.float32(28.5)])
def test_numpy_scores_of_stock_checkpoints_are_read(tmp_path, score):
    path = tmp_path / 'stock.pth'
    torch.save(dict(state_dict=net().state_dict(), meta=dict(hook_msgs=dict(best_score=score))), path)
    if digit_version(torch.__version__) < digit_version('2.6'):
        pytest.skip('torch < 2.6 cannot allow NumPy scalars')
    assert read_checkpoint(path)['meta']['hook_msgs']['best_score'] == 28.5


@pytest.mark.parametrize('content', [b'', b'not a checkpoint at all', b'some text', b'G123', b'PK\x03\x04broken'])
def test_a_file_that_is_no_checkpoint(tmp_path, content):
    (tmp_path / 'x.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match='x.pth: not a PyTorch checkpoint, or a damaged one'):
        read_checkpoint(tmp_path / 'x.pth')


def test_a_truncated_checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    save_checkpoint(path, net())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match='damaged'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [[1, 2], dict(state_dict=3), dict(state_dict=dict(a='b'))])
def test_a_file_without_weights(tmp_path, content):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='x.pth: has no state_dict'):
        read_checkpoint(tmp_path / 'x.pth')


def test_a_missing_file_names_its_neighbours(tmp_path):
    save_checkpoint(tmp_path / 'iter_5.pth', net())
    with pytest.raises(CheckpointError, match='no such checkpoint; .* has iter_5.pth'):
        read_checkpoint(tmp_path / 'iter_6.pth')


def test_bare_and_wrapped_state_dicts_fit(tmp_path):
    model = net()
    torch.save({f'module.{name}': value for name, value in model.state_dict().items()}, tmp_path / 'bare.pth')
    load_weights(net(), read_checkpoint(tmp_path / 'bare.pth'), 'bare.pth')


def test_a_mismatch_is_counted_and_loads_nothing(tmp_path):
    path, model = tmp_path / 'wide.pth', net()
    save_checkpoint(path, nn.Sequential(nn.Conv2d(3, 9, 1), nn.Conv2d(9, 3, 1), nn.Conv2d(3, 3, 1)),
                    meta=dict(exp_name='wide_net'))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, read_checkpoint(path), path)
    message = str(caught.value)
    assert '2 not in the model (2.bias)' in message and '3 of another shape (0.weight' in message
    assert 'made with wide_net' in message and '\n' not in message
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    save_checkpoint(path, net())
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(files.os, 'fsync', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint(path, net())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_latest(tmp_path):
    assert find_latest(tmp_path / 'none') is None
    for name in ('latest.pth', 'iter_9.pth', 'iter_10.pth', 'best_PSNR_iter_10.pth', 'best_PSNR_iter_11.pth'):
        save_checkpoint(tmp_path / name, net())
    for newest in ('best_PSNR_iter_11.pth', 'iter_10.pth', 'best_PSNR_iter_10.pth', 'iter_9.pth', 'latest.pth'):
        assert find_latest(tmp_path).name == newest
        (tmp_path / newest).unlink()


def test_latest_link_moves(tmp_path):
    for name in ('iter_1.pth', 'iter_2.pth'):
        save_checkpoint(tmp_path / name, net())
        point_latest_to(tmp_path / name)
        assert (tmp_path / 'latest.pth').resolve().name == name


def test_latest_is_a_copy_where_links_fail(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / 'iter_1.pth', net())
    monkeypatch.setattr('platform.system', lambda: 'Windows')
    point_latest_to(tmp_path / 'iter_1.pth')
    assert not (tmp_path / 'latest.pth').is_symlink()
    assert (tmp_path / 'latest.pth').read_bytes() == (tmp_path / 'iter_1.pth').read_bytes()
