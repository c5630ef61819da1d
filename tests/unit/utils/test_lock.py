"""One training per work dir."""
import json
import os
import subprocess

import pytest

from facesr.utils import lock as module
from facesr.utils.errors import UserError
from facesr.utils.lock import WorkDirLock


def test_the_second_comer_is_refused_until_the_first_is_gone(lock_holder, tmp_path):
    folder = tmp_path / 'work'
    process = lock_holder(folder)
    about = json.loads((folder / '.lock').read_text())
    with pytest.raises(UserError, match='another training is using it') as caught, WorkDirLock(folder):
        pass
    assert str(process.pid) in str(caught.value) and about['host'] in str(caught.value)
    assert about['since'] in str(caught.value) and str(caught.value).startswith(f'{folder}: ')
    assert (folder / '.lock').is_file()  # it is still the other's
    process.kill()
    process.wait()
    with WorkDirLock(folder):
        assert json.loads((folder / '.lock').read_text())['pid'] == os.getpid()
    assert list(folder.iterdir()) == []


def test_it_is_held_until_the_last_who_inherited_it_has_ended(tmp_path):
    with WorkDirLock(tmp_path / 'work', inherited=True) as lock:
        heir = subprocess.Popen(['sleep', '60'], pass_fds=[lock.fileno()])
        (tmp_path / 'work/left').touch()
        os.link(tmp_path / 'work/.lock', tmp_path / 'name')
    os.rename(tmp_path / 'name', tmp_path / 'work/.lock')  # as a holder who is killed leaves it
    try:
        with pytest.raises(UserError, match='or give another --out-dir'), \
                WorkDirLock(tmp_path / 'work', option='--out-dir', inherited=True):
            pass
    finally:
        heir.kill()
        heir.wait()
    with WorkDirLock(tmp_path / 'work', inherited=True):
        pass


def test_nothing_is_left_where_nothing_was_written(tmp_path):
    with WorkDirLock(tmp_path / 'a/b'):
        assert (tmp_path / 'a/b/.lock').is_file()
    assert list(tmp_path.iterdir()) == []
    with WorkDirLock(tmp_path / 'a/b'):
        (tmp_path / 'a/b/iter_1.pth').touch()
    assert [path.name for path in (tmp_path / 'a/b').iterdir()] == ['iter_1.pth']


def test_a_folder_that_was_moved_is_locked_anew(tmp_path):
    with WorkDirLock(tmp_path / 'work') as lock:
        (tmp_path / 'work').rename(tmp_path / 'moved')
        lock.renew()
        assert (tmp_path / 'work/.lock').is_file()
    assert not (tmp_path / 'work/.lock').exists()


def test_a_drive_that_cannot_lock_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, 'No locks available')

    monkeypatch.setattr(module.fcntl, 'lockf', refuse)
    told = []
    with WorkDirLock(tmp_path, told.append):
        pass
    assert len(told) == 1 and 'cannot lock (No locks available)' in told[0]


def test_a_holder_that_says_nothing(lock_holder, tmp_path):
    folder = tmp_path / 'work'
    lock_holder(folder)
    (folder / '.lock').write_text('{"host": "\x1b[2J"}')
    with pytest.raises(UserError, match='does not say who it is'), WorkDirLock(folder):
        pass
