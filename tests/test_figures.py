"""Curves and pictures."""
from PIL import Image
from test_logs import train, write_log

from facesr.figures import plot_curves
from facesr.logs import read_runs


def test_curves_are_pictures(tmp_path):
    write_log(tmp_path / '1.log.json', *[train(i, 1 / i) for i in range(1, 5)], dict(mode='val', iter=4, PSNR=27.0))
    files = plot_curves(read_runs([tmp_path]), tmp_path / 'curves')
    assert [path.name for path in files] == ['loss.png', 'loss.svg', 'psnr.png', 'psnr.svg']
    for path in files[::2]:
        with Image.open(path) as image:
            assert image.format == 'PNG' and image.width > 500
