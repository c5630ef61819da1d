"""Image files, PSNR and names: what many rooms share."""
import cv2
import numpy as np
import pytest
import torch
from mmedit.datasets import base_sr_dataset

from facesr.evaluation.metrics import psnr
from facesr.utils.errors import did_you_mean, similar
from facesr.utils.images import IMG_EXTENSIONS, encode_image, encode_png, read_image
from facesr.utils.pixels import to_float, to_uint8
from facesr.utils.psnr import mean_squared_error, psnr_of, psnr_of_arrays


def test_extensions_are_mmeditings():
    assert IMG_EXTENSIONS == base_sr_dataset.IMG_EXTENSIONS


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.ppm', '.tif'])
def test_images_are_rgb_and_files_are_as_others_read_them(suffix, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    path = tmp_path / f'a{suffix}'
    path.write_bytes(encode_image(image, suffix))
    assert np.array_equal(read_image(path), image)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], image)
    assert encode_png(image) == encode_image(image, '.png')


def test_squared_errors_are_exact():
    """OpenCV's sum is the square of a root; and planes, images and views are the same numbers."""
    generator = np.random.default_rng(0)
    for shape in ((3, 70, 81), (1, 512, 512), (3, 9, 11)):
        hq, gt = (generator.integers(0, 256, shape, np.uint8) for _ in range(2))
        expected = int(((hq.astype(np.int64) - gt)**2).sum()) / hq.size
        assert mean_squared_error(hq, gt) == expected
        assert psnr(torch.from_numpy(hq)[None], torch.from_numpy(gt)[None]).tolist() == [psnr_of(expected)]
    image, other = (array.transpose(1, 2, 0) for array in (hq, gt))
    assert psnr_of_arrays(image, other) == psnr_of(expected) == psnr_of_arrays(image.copy(), other.copy())
    assert psnr_of_arrays(image, other, 2) == psnr_of(mean_squared_error(hq[:, 2:-2, 2:-2], gt[:, 2:-2, 2:-2]))
    assert psnr_of_arrays(image, image) == float('inf')


def test_8_bits_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels) and to_uint8(levels) is levels
    assert to_float(levels).dtype == torch.float32 and to_float(levels)[-1] == 1
    assert to_uint8(torch.tensor([-1., 2.])).tolist() == [0, 255]


def test_names_that_were_meant():
    assert similar('PSRN', ['SSIM', 'PSNR']) == ['PSNR'] and similar(None, ['SSIM']) == []
    assert did_you_mean('PSRN', ['SSIM', 'PSNR']) == 'did you mean PSNR?'
    assert did_you_mean('x', ['SSIM'], 'no') == 'no'
