import zipfile

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from facesr.analysis.figures.save import save_figure
from facesr.inference.photos import write_photo
from facesr.submission.archive import submission_zip
from facesr.utils.errors import UserError
from facesr.utils.files import as_json, output_file
from facesr.utils.ownership import HTML, KINDS, MARKDOWN

PHOTO = np.zeros((4, 4, 3), np.uint8)


def ours(folder):
    """A file of each kind as our tools write it."""
    for kind in ('png', 'svg'):
        save_figure(Figure((1, 1)), folder / f'x.{kind}')
    (folder / 'x.md').write_text(f'{MARKDOWN}| a |')
    (folder / 'x.html').write_text(f'<html><head><meta {HTML}')
    (folder / 'x.json').write_text(as_json(dict(mean=dict(PSNR=29.0), images=[], conventions={})))
    with submission_zip(folder / 'x.zip', ['a.png'], {'a.png': (4, 4)}) as add:
        add('a.png', cv2.imencode('.png', PHOTO)[1].tobytes())


def theirs(folder):
    """The same names, as users have files."""
    write_photo(folder / 'x.png', Image.fromarray(PHOTO))  # restored, no figure
    (folder / 'x.svg').write_text('<svg/>')
    (folder / 'x.md').write_text(f'# Notes\n{MARKDOWN}')
    (folder / 'x.html').write_text('<html>')
    (folder / 'x.json').write_text('{"mean": [0.5], "std": [0.2], "images": []}')
    with zipfile.ZipFile(folder / 'x.zip', 'w') as archive:
        archive.writestr('thesis.tex', 'x')


@pytest.mark.parametrize('suffix', KINDS)
def test_only_what_a_tool_wrote_is_replaced(tmp_path, suffix):
    path = tmp_path / f'x{suffix}'
    assert output_file(path, suffix) == path
    path.touch()
    assert output_file(path, suffix) == path
    ours(tmp_path)
    assert output_file(path, suffix) == path
    newer = path.read_bytes().replace(b'\x14\x00', b'\xc8\x00') if suffix == '.zip' else b'['
    for write in (theirs, lambda _: path.write_bytes(b'\x89PNG\r\n\x1a\nPK\3\4['), lambda _: path.write_bytes(newer)):
        write(tmp_path)
        before = path.read_bytes()
        with pytest.raises(UserError, match=f'x{suffix}: is there and was not made by this tool, .*; give another'):
            output_file(path, suffix)
        assert path.read_bytes() == before
