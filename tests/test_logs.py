"""JSON logs of runs."""
import json

import pytest

from facesr.errors import UserError
from facesr.logs import read_runs


def write_log(path, *records):
    path.write_text(''.join(f'{record if isinstance(record, str) else json.dumps(record)}\n' for record in records))
    return path


def train(i, loss=.1, **more):
    return dict(mode='train', iter=i, loss=loss, **more)


def test_resumed_logs_are_joined(tmp_path):
    write_log(tmp_path / '1.log.json', dict(env_info=''), train(1, .5), train(2, .4), '{"mode": "tra')
    write_log(tmp_path / '2.log.json', dict(env_info=''), train(2, .3), dict(mode='val', iter=2, PSNR=27.5))
    run, = read_runs([tmp_path])
    assert run.series('train', 'loss') == ([1, 2], [.5, .3])
    assert run.series('val', 'PSNR') == ([2], [27.5])
    assert run.resumes == [2] and run.name == tmp_path.name
    assert run.notes() == [f'1 broken line skipped in {tmp_path}/1.log.json']


def test_a_folder_without_logs_is_named(tmp_path):
    with pytest.raises(UserError, match='no .*log.json in it'):
        read_runs([tmp_path])
