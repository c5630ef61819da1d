"""Checkpoints that are not what was written, or are made to harm."""
import errno
import random
import zipfile

import pytest
import torch
from faults import flat

from facesr.checkpoint.integrity import check_ranks
from facesr.checkpoint.io import is_whole, newest_of, read_checkpoint, save_checkpoint
from facesr.utils.errors import CheckpointError, DamagedCheckpoint, UserError
from facesr.utils.files import HOST


def net(value=1.0):
    model = torch.nn.Conv2d(3, 3, 3)
    torch.nn.init.constant_(model.weight, value)
    return model


@pytest.fixture
def saved(tmp_path):
    path, model = tmp_path / 'iter_3.pth', net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3, 3, 3)).sum().backward()
    optimizer.step()
    save_checkpoint(path, model, dict(generator=optimizer), dict(iter=3))
    return path


def test_a_flipped_bit_is_noticed_or_changes_nothing(saved):
    whole, before, moments = saved.read_bytes(), read_checkpoint(saved), random.Random(0)
    noticed = 0
    for _ in range(400):
        bit = moments.randrange(8 * len(whole))
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        saved.write_bytes(data)
        try:
            assert flat(read_checkpoint(saved)) == flat(before)
        except CheckpointError:
            noticed += 1
    assert noticed > 200


def test_damage_is_told_from_what_is_not_ours(saved):
    data = saved.read_bytes()
    for damaged in (b'', data[:100], data[:-100], bytes(len(data))):
        saved.write_bytes(damaged)
        assert not is_whole(saved)
        with pytest.raises(DamagedCheckpoint, match='not a PyTorch checkpoint, or a damaged one'):
            read_checkpoint(saved)


@pytest.mark.parametrize(('place', 'error', 'message'), [
    ('facesr.checkpoint.integrity._read_all', OSError(errno.EIO, 'Input/output error'), 'cannot be read .Input/output'),
    ('torch.load', MemoryError(), 'memory does not suffice'),
    ('torch.load', RuntimeError("DefaultCPUAllocator: can't allocate memory"), 'memory does not suffice'),
    ('facesr.checkpoint.io.check_shape', RuntimeError("DefaultCPUAllocator: can't allocate memory"), 'memory does not'),
])
def test_a_disk_or_memory_that_fails_is_no_damage(saved, monkeypatch, place, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(place, fail)
    with pytest.raises(UserError, match=f'iter_3.pth: {message}') as found:
        read_checkpoint(saved)
    assert not isinstance(found.value, DamagedCheckpoint)


def test_parts_that_would_expand_are_refused(saved):
    with zipfile.ZipFile(saved) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(saved, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match='a part is compressed'):
        read_checkpoint(saved)


WEIGHT = torch.ones(2)
WEIGHTS = dict(w=WEIGHT)
GROUPS = dict(state={}, param_groups=[dict(params=[0])])


@pytest.mark.parametrize(('content', 'what'), [
    (dict(state_dict=WEIGHTS, meta='x'), 'meta'),
    (dict(state_dict=WEIGHTS, meta={1: 2}), 'meta'),
    (dict(state_dict=WEIGHTS, meta=dict(iter=-1)), 'meta.iter" is \'-1\''),
    (dict(state_dict=WEIGHTS, meta=dict(iter=1.5)), 'meta.iter'),
    (dict(state_dict=WEIGHTS, meta=dict(iter='3')), 'meta.iter'),
    (dict(state_dict=WEIGHTS, meta=dict(iter=True)), 'meta.iter'),
    (dict(state_dict=WEIGHTS, meta=dict(iter=2**60)), 'meta.iter'),
    (dict(state_dict=WEIGHTS, meta=dict(epoch=[1])), 'meta.epoch'),
    (dict(state_dict=WEIGHTS, meta=dict(seed='x')), 'meta.seed'),
    (dict(state_dict=WEIGHTS, meta=dict(exp_name=[1])), 'meta.exp_name'),
    (dict(state_dict=WEIGHTS, meta=dict(exp_name='x' * 10**6)), 'meta.exp_name'),
    (dict(state_dict=WEIGHTS, meta=dict(hook_msgs=[1])), 'meta.hook_msgs'),
    (dict(state_dict=WEIGHTS, meta=dict(hook_msgs=dict(best_score='high'))), 'meta.hook_msgs'),
    (dict(state_dict=WEIGHTS, meta=dict(hook_msgs=dict(best_score=float('nan')))), 'meta.hook_msgs'),
    (dict(state_dict=WEIGHTS, meta=dict(hook_msgs=dict(best_ckpt=3))), 'meta.hook_msgs'),
    (dict(state_dict=WEIGHTS, meta=dict(hook_msgs=dict(counts=dict(a='b')))), 'meta.hook_msgs'),
    (dict(state_dict=WEIGHTS, meta=dict(settings=[1])), 'meta.settings'),
    (dict(state_dict=WEIGHTS, optimizer=[1]), 'optimizer'),
    (dict(state_dict=WEIGHTS, optimizer=dict(generator=3)), 'optimizer'),
    (dict(state_dict=WEIGHTS, optimizer=dict(generator=dict(GROUPS, state=[1]))), 'optimizer'),
    (dict(state_dict=WEIGHTS, optimizer=dict(generator=dict(GROUPS, state={0: dict(step='x')}))), 'optimizer'),
    (dict(state_dict=WEIGHTS, optimizer=dict(state={}, param_groups=3)), 'optimizer'),
    (dict(state_dict=WEIGHTS, update=3), 'update'),
    (dict(state_dict=WEIGHTS, update=dict(scaler=None, skipped_in_a_row='x')), 'update'),
    (dict(state_dict=WEIGHTS, update=dict(scaler=dict(scale='x'), skipped_in_a_row=0)), 'update'),
    (dict(state_dict=WEIGHTS, samples=-5), 'samples'),
    (dict(state_dict=WEIGHTS, samples=2.5), 'samples'),
    (dict(state_dict=WEIGHTS, ranks=dict(a=1)), 'ranks'),
    (dict(state_dict=dict(w=WEIGHT * torch.nan)), r'weights are NaN or infinite \(w\)'),
    (dict(state_dict=dict(w=WEIGHT * torch.inf)), r'weights are NaN or infinite \(w\)'),
    (dict(state_dict=dict(w=WEIGHT.to_sparse())), 'tensors of another kind'),
    (dict(state_dict=dict(w=WEIGHT.to(torch.complex64))), 'tensors of another kind'),
    (dict(state_dict=dict(w=WEIGHT[:1].expand(2**40))), 'larger than what the file has'),
    (dict(state_dict={3: WEIGHT}), None),
])
def test_what_training_cannot_have_written_is_refused_in_one_line(content, what, tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(content, path)
    if what is None:
        read_checkpoint(path)
        return
    with pytest.raises(CheckpointError, match=what) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f'{path}: ') and '\n' not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize('ranks', [[1], [dict(log_window=3, random={})], [dict(log_window=dict(values=[], counts={}))],
                                   [dict(log_window=dict(values=dict(a=['x']), counts={}), random={})]])
def test_what_no_run_can_go_on_from(ranks):
    with pytest.raises(CheckpointError, match='x.pth: its entry "ranks" is not what training writes'):
        check_ranks(dict(ranks=ranks), 'x.pth')


def test_many_tensors_of_one_storage(tmp_path):
    large = torch.ones(2**20)
    torch.save(dict(state_dict={f'w{i}': large for i in range(50)}), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='larger than what the file has'):
        read_checkpoint(tmp_path / 'x.pth')
    torch.save(dict(state_dict=dict(w=large, tied=large)), tmp_path / 'x.pth')
    read_checkpoint(tmp_path / 'x.pth')


def test_nesting_without_end(tmp_path):
    deep = []
    for _ in range(100):
        deep = [deep]
    torch.save(dict(state_dict=WEIGHTS, meta=dict(x=deep)), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='nested'):
        read_checkpoint(tmp_path / 'x.pth')


def test_latest_is_the_newest_that_is_whole(tmp_path):
    for i in (1, 2, 3):
        save_checkpoint(tmp_path / f'iter_{i}.pth', net(i), None, dict(iter=i))
    latest = tmp_path / 'latest.pth'
    latest.symlink_to('iter_1.pth')  # a kill came between writing iter_2.pth and the link
    assert newest_of(latest).name == 'iter_3.pth' and read_checkpoint(latest)['meta']['iter'] == 3
    (tmp_path / 'iter_3.pth').write_bytes((tmp_path / 'iter_3.pth').read_bytes()[:-50])
    assert newest_of(latest).name == 'iter_2.pth'
    latest.unlink()
    latest.symlink_to('iter_0.pth')  # which is gone
    assert read_checkpoint(latest)['meta']['iter'] == 2
    latest.unlink()
    save_checkpoint(latest, net(5), None, dict(iter=5))  # a copy, newer than all others
    assert newest_of(latest) == latest and read_checkpoint(latest)['meta']['iter'] == 5
    save_checkpoint(latest, net(1), None, dict(iter=1))
    assert newest_of(latest).name == 'iter_2.pth'
    assert newest_of(tmp_path / 'iter_1.pth').name == 'iter_1.pth'


def test_what_dead_processes_left_is_removed_and_what_living_ones_write_is_not(tmp_path):
    from facesr.utils import files
    living = [tmp_path / f'.x.pth.{host}-{pid}.abcd.tmp' for host, pid in ((HOST, 1), ('0' * 6, 4194304 + 7))]
    dead = tmp_path / f'.y.png.{HOST}-{4194304 + 7}.abcd.tmp'  # beyond the largest process id of Linux
    for path in (*living, dead):
        path.touch()
    files.write_atomic(tmp_path / 'z.txt', 'x')
    assert sorted(tmp_path.iterdir()) == sorted([*living, tmp_path / 'z.txt'])
    files.write_atomic(tmp_path / ('n' * 250), 'x')  # a name with hardly any room for more
    assert (tmp_path / ('n' * 250)).read_text() == 'x'
