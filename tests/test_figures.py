import json

import pytest
from PIL import Image

from facesr.errors import UserError
from facesr.figures import plot_curves, read_logs


def write_log(path, *records):
    path.write_text(''.join(f'{record if isinstance(record, str) else json.dumps(record)}\n' for record in records))


def train_record(i, loss):
    return dict(mode='train', iter=i, loss=loss)


def test_resumed_logs_are_joined(tmp_path):
    write_log(tmp_path / '1.log.json', dict(env_info=''), train_record(1, .5), train_record(2, .4), '{"mode": "tra')
    write_log(tmp_path / '2.log.json', dict(env_info=''), train_record(2, .3), dict(mode='val', iter=2, PSNR=27.5))
    records = read_logs(tmp_path)
    assert [(r['iter'], r['loss']) for r in records['train']] == [(1, .5), (2, .3)]
    assert [(r['iter'], r['PSNR']) for r in records['val']] == [(2, 27.5)]


@pytest.mark.parametrize('validated', [True, False])
def test_curves_are_a_picture(tmp_path, validated):
    records = [train_record(i, 1 / i) for i in range(1, 5)] + [dict(mode='val', iter=4, PSNR=27.0)] * validated
    write_log(tmp_path / '1.log.json', *records)
    plot_curves(tmp_path, tmp_path / 'curves.png')
    with Image.open(tmp_path / 'curves.png') as image:
        assert image.format == 'PNG' and image.width > 500


def test_a_folder_without_logs_is_named(tmp_path):
    with pytest.raises(UserError, match='no .*log.json with training records'):
        plot_curves(tmp_path, tmp_path / 'curves.png')
