import errno
import shutil
import struct
import warnings
from collections import Counter
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import SMALL, SMALL_OPTIONS
from PIL import Image, ImageCms

from facesr.checkpoint.shipped import named_network
from facesr.config import load_config
from facesr.evaluation.evaluator import restore
from facesr.evaluation.test import load_split
from facesr.inference.network import network
from facesr.inference.photos import SOFTWARE, as_output, read_photo, was_written_by_restore, write_photo
from facesr.inference.restore import Job, Restorer, find_images, plan, restore_photos
from facesr.models.build import build_restorer, load_model
from facesr.utils.choices import FOR_PHOTOS
from facesr.utils.errors import UserError

CONFIG = 'configs/srresnet_ffhq.py'
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RGB[..., 0]


def fourfold(rgb):
    return rgb.repeat(4, 0).repeat(4, 1)


def saved(folder, image, name='x.png', **more):
    path = folder / name
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **more)
    return path


def restored(path):
    """The file's output, with `fourfold` for a network."""
    photo = read_photo(path)
    return as_output(photo, fourfold(photo.rgb)), photo


# The tool


def test_a_folder_as_a_user_restores_it(run_tool, checkpoint, tiny_root, tiny_config, tmp_path):
    """Pixels equal what tools/test.py writes; a broken image keeps the others from nothing."""
    inputs, out = tmp_path / 'photos', tmp_path / 'out'
    inputs.mkdir()
    (inputs / 'notes.txt').write_text('not an image')
    (inputs / 'broken.png').write_bytes((tiny_root / 'val/LQ/00000.png').read_bytes()[:300])
    large = cv2.resize(cv2.imread(str(tiny_root / 'val/GT/00000.png')), (60, 40))
    cv2.imwrite(str(inputs / 'Large photo.jpg'), large)
    done = run_tool('restore.py', CONFIG, checkpoint, tiny_root / 'val/LQ', inputs, '--out-dir', out, '--tile', '48',
                    '--cfg-options', *SMALL_OPTIONS)
    assert done.returncode == 2
    assert done.stderr == (f'error: {inputs}/broken.png: unreadable image (image file is truncated); remove or replace '
                           'it (1 of 4 images were not restored)\n'), done.stderr
    assert 'images: 4, on cpu; other files in the folders: 1' in done.stdout
    assert 'tiles of at most 48 pixels' in done.stdout and f'written: 3 PNG files in {out}' in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ['00000.png', '00001.png', 'Large photo.png']

    cfg = tiny_config()
    net = network(load_model(cfg, checkpoint))
    for image in restore(net, load_split(cfg, 'val')):
        assert np.array_equal(cv2.imread(str(out / image.lq_path.split('/')[-1]))[..., ::-1], image.hq)
    whole = Restorer(net, 0)(cv2.imread(str(inputs / 'Large photo.jpg'))[..., ::-1])
    assert np.abs(cv2.imread(str(out / 'Large photo.png'))[..., ::-1].astype(int) - whole).max() <= 1


def test_mistakes_are_one_line_before_anything_is_computed(refused, checkpoint, tiny_root, tmp_path):
    mine = saved(tmp_path, RGB, '00000.png')
    message = refused('restore.py', CONFIG, checkpoint, tiny_root / 'val/LQ', '--out-dir', tmp_path, '--cfg-options',
                      *SMALL_OPTIONS)
    assert 'was not made by this tool' in message and str(mine) in message
    assert np.array_equal(np.asarray(Image.open(mine)), RGB) and len(list(tmp_path.iterdir())) == 1


def test_crop_faces_without_weights_says_where_to_get_them(refused, checkpoint, tiny_root, tmp_path):
    message = refused('restore.py', CONFIG, checkpoint, tiny_root / 'val/LQ', '--out-dir', tmp_path / 'out',
                      '--crop-faces', '--face-weights', tmp_path / 'none.pth', '--cfg-options', *SMALL_OPTIONS)
    assert f'{tmp_path}/none.pth: no such file' in message and 'detection_Resnet50_Final.pth' in message
    assert 'https://github.com/xinntao/facexlib/releases' in message and not (tmp_path / 'out').exists()


# Reading and writing photos


@pytest.mark.parametrize('array,mode', [(RGB, 'RGB'), (GREY, 'L'), (np.dstack([RGB, GREY]), 'RGBA'),
                                        (np.dstack([GREY, GREY]), 'LA')])
def test_colours_transparency_and_grey_are_kept(tmp_path, array, mode):
    output, photo = restored(saved(tmp_path, array))
    assert output.mode == mode and output.size == (36, 24) and not photo.notes
    colours = array[..., :3] if array.shape[-1] > 2 and array.ndim == 3 else array
    colours = colours[..., 0] if mode == 'LA' else colours
    assert np.array_equal(np.asarray(output.convert('L' if 'L' in mode else 'RGB')), fourfold(colours))
    if 'A' in mode:
        alpha = Image.fromarray(GREY).resize((36, 24), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(output.getchannel('A')), np.asarray(alpha))


@pytest.mark.parametrize('suffix', ['.bmp', '.ppm', '.tif', '.webp', '.tga', '.png'])
def test_formats_without_loss_give_the_same_pixels(tmp_path, suffix):
    path = saved(tmp_path, RGB, f'x{suffix}', **(dict(lossless=True) if suffix == '.webp' else {}))
    assert np.array_equal(read_photo(path).rgb, RGB)


def test_palettes_black_and_white_and_cmyk_become_rgb_or_grey(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    output, _ = restored(saved(tmp_path, palette))
    assert output.mode == 'RGB' and np.array_equal(np.asarray(output), fourfold(np.asarray(palette.convert('RGB'))))
    output, _ = restored(saved(tmp_path, palette, 't.png', transparency=3))
    hole = np.asarray(palette) == 3
    assert output.mode == 'RGBA' and hole.any() and (np.asarray(output.getchannel('A'))[2::4, 2::4][hole] < 128).all()
    assert restored(saved(tmp_path, Image.fromarray(GREY > 100), 'b.png'))[0].mode == 'L'
    cmyk = Image.fromarray(RGB).convert('CMYK')
    output, _ = restored(saved(tmp_path, cmyk, 'c.tif'))
    assert output.mode == 'RGB' and np.array_equal(np.asarray(output), fourfold(RGB))


def turned(image, orientation):
    """An image as EXIF's orientation wants it shown."""
    return {1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1], 5: image.swapaxes(0, 1),
            6: np.rot90(image, -1), 7: image[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(image)}[orientation]


@pytest.mark.parametrize('channels, suffix', [*product([1, 3, 4], ['png', 'tif']), (1, 'pgm'), (3, 'ppm')])
def test_16_bits_become_8_as_bright_as_they_were(tmp_path, channels, suffix):
    values = np.linspace(0, 65535, 54 * channels).round().astype(np.uint16).reshape(6, 9, channels)
    cv2.imwrite(str(tmp_path / f'x.{suffix}'), values)  # BGR(A)
    output, photo = restored(tmp_path / f'x.{suffix}')
    expected = (values / 257).round().astype(np.uint8)
    expected = expected[..., [2, 1, 0][:channels]] if channels > 1 else expected
    assert output.mode == {1: 'L', 3: 'RGB', 4: 'RGBA'}[channels] and '16-bit' in photo.notes[0]
    assert np.array_equal(photo.rgb, np.broadcast_to(expected, (6, 9, 3)))
    if channels == 4:
        assert np.array_equal(np.asarray(photo.alpha), (values[..., 3] / 257).round())


def deep_tiff(path, values, orientation=1, extra=None, photometric=2):
    """A TIFF of uint16 (h, w, c), which neither Pillow nor OpenCV writes with an orientation."""
    height, width, channels = values.shape
    entries = {256: width, 257: height, 259: 1, 262: photometric, 273: 8, 274: orientation, 277: channels, 278: height,
               279: values.nbytes, **({} if extra is None else {338: extra})}
    data = values.astype('<u2').tobytes()
    bits = struct.pack(f'<{channels}H', *[16] * channels)
    table = [struct.pack('<HHII', tag, 4, 1, value) for tag, value in entries.items()]
    table.append(struct.pack('<HHII', 258, 3, channels, 8 + len(data)))
    table.sort(key=lambda entry: struct.unpack('<H', entry[:2]))
    path.write_bytes(b'II*\0' + struct.pack('<I', 8 + len(data + bits)) + data + bits + struct.pack('<H', len(table))
                     + b''.join(table) + bytes(4))
    return path


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_16_bit_tiff_is_turned_once(tmp_path, orientation):
    photo = read_photo(deep_tiff(tmp_path / 'x.tif', np.uint16(RGB) * 257, orientation))
    assert np.array_equal(photo.rgb, turned(RGB, orientation)) and '16-bit' in photo.notes[0]


@pytest.mark.parametrize('extra, alpha, colour', [(0, None, 100), (1, 128, 199), (2, 128, 100)])
def test_the_alpha_of_a_16_bit_tiff_is_what_the_file_says(tmp_path, extra, alpha, colour):
    values = np.full((4, 5, 4), 100 * 257, np.uint16)
    values[..., 3] = 128 * 257
    photo = read_photo(deep_tiff(tmp_path / 'x.tif', values, extra=extra))
    assert abs(int(photo.rgb[0, 0, 0]) - colour) <= 1 and '16-bit' in photo.notes[0]
    assert alpha is photo.alpha or photo.alpha.getpixel((0, 0)) == alpha


def test_16_bit_cmyk_is_read_in_silence(tmp_path, capfd):
    photo = read_photo(deep_tiff(tmp_path / 'x.tif', np.zeros((4, 5, 4), np.uint16), photometric=5))
    assert (photo.rgb == 255).all() and '16-bit' in photo.notes[0] and not capfd.readouterr().err


@pytest.mark.parametrize('suffix', ['dds', 'bmp'])
def test_what_else_pillow_reads_has_no_16_bits(tmp_path, suffix):
    photo = read_photo(saved(tmp_path, RGB, f'x.{suffix}'))
    assert np.array_equal(photo.rgb, RGB) and not photo.notes


def test_values_whose_white_is_unknown_are_refused(tmp_path):
    path = saved(tmp_path, GREY.astype(np.float32), 'x.tif')
    with pytest.raises(UserError, match='x.tif: has values of 32 bits'):
        read_photo(path)


@pytest.mark.parametrize('depth', [8, 16])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation_is_carried_out(tmp_path, orientation, depth):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = turned(RGB, orientation)
    array = RGB if depth == 8 else GREY.astype(np.uint16) * 257
    photo = read_photo(saved(tmp_path, array, exif=exif))
    assert np.array_equal(photo.rgb, upright if depth == 8 else np.broadcast_to(upright[..., :1], upright.shape))
    write_photo(tmp_path / 'out.png', as_output(photo, photo.rgb))
    assert not Image.open(tmp_path / 'out.png').getexif()  # else a viewer would turn it once more


def test_the_first_of_several_frames_is_restored(tmp_path):
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    photo = read_photo(saved(tmp_path, first, 'x.tif', save_all=True, append_images=[second]))
    assert np.array_equal(photo.rgb, RGB) and 'several frames' in photo.notes[0]


def test_icc_profiles_are_kept_where_they_fit(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    photo = read_photo(saved(tmp_path, RGB, icc_profile=profile))
    write_photo(tmp_path / 'out.png', as_output(photo, RGB), photo.icc_profile)
    assert Image.open(tmp_path / 'out.png').info['icc_profile'] == profile and not photo.notes
    photo = read_photo(saved(tmp_path, GREY, icc_profile=profile))  # of another colour space than the image
    assert photo.icc_profile is None and 'ICC profile' in photo.notes[0]


@pytest.mark.parametrize('limit', [RGB.size // 3 - 1, 10])  # Pillow warns above the limit, and refuses above twice it
def test_images_that_are_too_large_for_pillow_are_one_line(tmp_path, monkeypatch, limit):
    path = saved(tmp_path, RGB)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.raises(UserError, match='x.png: .*exceeds limit|x.png: has more than'):
            read_photo(path)


def test_our_own_outputs_are_known_again_even_when_they_are_large(tmp_path, monkeypatch):
    write_photo(tmp_path / 'ours.png', Image.fromarray(RGB))
    theirs = saved(tmp_path, RGB, 'theirs.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    assert was_written_by_restore(tmp_path / 'ours.png')
    assert not was_written_by_restore(theirs) and not was_written_by_restore(tmp_path)
    (tmp_path / 'text.png').write_text(SOFTWARE)
    assert not was_written_by_restore(tmp_path / 'text.png')


def test_what_a_kill_left_of_an_output_is_removed(tmp_path):
    for name in ('.x.png.abc123.tmp', '.y.png.abc123.tmp'):
        (tmp_path / name).touch()
    write_photo(tmp_path / 'x.png', Image.fromarray(RGB))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.y.png.abc123.tmp', 'x.png']


# Inputs and outputs


def test_inputs_are_files_and_what_lies_in_folders(tmp_path):
    for name in ('b.JPG', 'a.webp', '.hidden.png', 'notes.txt', 'sub/c.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    single = tmp_path / 'notes.txt'
    assert find_images([single, tmp_path]) == ([single, tmp_path / 'a.webp', tmp_path / 'b.JPG'], 1)
    for bad, message in ((tmp_path / 'none', 'no such file or folder'), (tmp_path / 'empty', 'no images in it')):
        (tmp_path / 'empty').mkdir(exist_ok=True)
        with pytest.raises(UserError, match=f'{bad}: {message}'):
            find_images([bad])


@pytest.mark.parametrize('name', ['x.safetensors', 'x.PTH', 'x.onnx'])
def test_a_network_is_no_image(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f'{name}: is a network, not an image; give --weights'):
        find_images([saved(tmp_path, RGB), tmp_path / name])


def test_outputs_that_would_clash_are_refused(tmp_path):
    for folder in ('a', 'b', 'out'):
        (tmp_path / folder).mkdir()
    x, same, other = saved(tmp_path, RGB, 'a/x.png'), tmp_path / 'a/../a/x.png', saved(tmp_path, RGB, 'b/X.jpg')
    for images, out, message in (([x, same], 'out', 'is named twice'), ([x, other], 'out', 'would both become'),
                                 ([x], 'a', 'is an input'), ([x], 'a/x.png', 'is a file')):
        with pytest.raises(UserError, match=message):
            plan(images, tmp_path / out)
    saved(tmp_path, RGB, 'out/x.png')
    with pytest.raises(UserError, match='out/x.png: is there and was not made by this tool'):
        plan([x], tmp_path / 'out')
    job = Job(x, tmp_path / 'out/x.png')
    assert plan([x], tmp_path / 'out', faces=True) == [job] and plan([x], tmp_path / 'out', skip_existing=True) == []
    write_photo(job.output, Image.fromarray(RGB))
    assert plan([x], tmp_path / 'out') == [job]  # ours may be replaced
    saved(tmp_path, RGB, 'out/x_face3.png')
    assert plan([x], tmp_path / 'out') == [job]
    with pytest.raises(UserError, match='x_face3.png: is there'):
        plan([x], tmp_path / 'out', faces=True)


# Restoring


def test_one_bad_image_among_many_is_named_and_passed_over(tmp_path):
    names = [f'{i}.png' for i in range(6)]
    for name in names:
        saved(tmp_path, RGB, name)
    (tmp_path / '2.png').write_bytes(b'nothing')
    (tmp_path / '4.png').unlink()
    jobs = [Job(tmp_path / name, tmp_path / 'out' / name) for name in names]
    outcome = restore_photos(jobs, fourfold)
    assert outcome.written == 4 and outcome.notes == Counter()
    assert [failure.split(':')[0] for failure in outcome.failures] == [str(tmp_path / f'{i}.png') for i in (2, 4)]
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['0.png', '1.png', '3.png', '5.png']


@pytest.mark.parametrize('finder', [None, lambda rgb: []])
def test_one_output_that_cannot_be_written_never_costs_the_others(tmp_path, monkeypatch, finder):
    names = ['a', 'n' * 253, 'full', 'z']  # with .png the second is longer than names may be
    jobs = [Job(saved(tmp_path, RGB, f'{name}.p', format='PNG'), tmp_path / 'out' / f'{name}.png') for name in names]
    images = find_images([job.source for job in jobs])[0]
    if finder:
        monkeypatch.setattr('facesr.inference.restore._faces', lambda job, photo, _: [
            (job.face_output(i), photo) for i in range(2)])

    def write(path, *image):
        if 'full' in path.name:
            raise OSError(errno.ENOSPC, 'No space left on device', str(path))
        write_photo(path, *image)

    monkeypatch.setattr('facesr.inference.restore.write_photo', write)
    outcome = restore_photos(plan(images, tmp_path / 'out'), fourfold, finder)
    long, full = outcome.failures
    assert long.startswith(f'{images[1]}: ') and long.endswith('(File name too long); give the image a shorter name')
    assert full.startswith(f'{images[2]}: ') and full.endswith('(No space left on device); free disk space')
    faces = ('_face0', '_face1') if finder else ('', )
    assert outcome.written == 2 * len(faces)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [f'{name}{face}.png' for name in 'az'
                                                                          for face in faces]


def test_folders_are_walked(tmp_path, monkeypatch):
    for name in ('a.png', 'x/a.jpg', 'x/y/b.png', 'x/notes.txt', '.hidden/c.png', 'out/x/a.png', '../e.png'):
        (tmp_path / 'in' / name).parent.mkdir(parents=True, exist_ok=True)
        saved(tmp_path / 'in', RGB, name) if name[-3:] != 'txt' else (tmp_path / 'in' / name).touch()
    (tmp_path / 'in/x/loop').symlink_to(tmp_path / 'in', target_is_directory=True)
    monkeypatch.chdir(tmp_path / 'in')
    for root in (tmp_path / 'in', '.'):
        out = tmp_path / 'in/out'
        images, others = find_images([root, '../e.png'], recursive=True, out='out')
        below = [Path(root, name) for name in ('a.png', 'x/a.jpg', 'x/y/b.png')]
        assert images == [*below, Path('../e.png')] and others == 1
        with pytest.raises(UserError, match='out/x/a.png: is there and was not made by this tool'):
            plan(images, out, walked=[root, '../e.png'])
        jobs = plan(images, tmp_path / 'new', walked=[root, '../e.png'])
        names = [str(job.output.relative_to(tmp_path / 'new')) for job in jobs]
        assert names == ['a.png', 'x/a.png', 'x/y/b.png', 'e.png']
    with pytest.raises(UserError, match='would both become'):
        plan(images, tmp_path / 'new')
    with pytest.raises(UserError, match='is named twice'):
        plan(find_images(['.', 'x'], recursive=True, out='out')[0], tmp_path / 'new', walked=['.', 'x'])
    saved(tmp_path, RGB, 'x', format='PNG')
    with pytest.raises(UserError, match=f'{tmp_path}/x: is a file'):
        plan(images, tmp_path, walked=['.'])
    (tmp_path / 'empty/sub').mkdir(parents=True)
    with pytest.raises(UserError, match='empty: no images in it$'):
        find_images([tmp_path / 'empty'], recursive=True)


def test_a_folder_that_may_not_be_written_to_is_named_before(tmp_path, monkeypatch):
    monkeypatch.setattr('os.access', lambda path, mode: False)
    with pytest.raises(PermissionError) as error:
        plan([saved(tmp_path, RGB)], tmp_path / 'out/sub')
    assert error.value.filename == str(tmp_path)


def test_the_tool_walks_folders(run_tool, checkpoint, tiny_root, tmp_path):
    shutil.copytree(tiny_root / 'val/LQ', tmp_path / 'photos/deep/er')
    done = run_tool('restore.py', CONFIG, checkpoint, tmp_path / 'photos', '--recursive', '--out-dir', tmp_path / 'out',
                    '--cfg-options', *SMALL_OPTIONS)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted((tmp_path / 'out/deep/er').iterdir())] == ['00000.png', '00001.png']


def test_an_interruption_leaves_only_whole_files(tmp_path):
    noise = RNG.integers(0, 256, (200, 200, 3), np.uint8)
    jobs = [Job(saved(tmp_path, noise, f'{i}.png'), tmp_path / f'out/{i}.png') for i in range(4)]
    calls = []

    def interrupted(rgb):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fourfold(rgb)

    with pytest.raises(KeyboardInterrupt):
        restore_photos(jobs, interrupted)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['0.png', '1.png']
    for path in (tmp_path / 'out').iterdir():
        assert np.array_equal(np.asarray(Image.open(path)), fourfold(noise))


def test_outputs_that_cannot_be_written_stop_it(tmp_path):
    (tmp_path / 'out').touch()
    with pytest.raises(OSError) as error:
        restore_photos([Job(saved(tmp_path, RGB), tmp_path / 'out/x.png')] * 9, fourfold)
    assert error.value.filename == str(tmp_path / 'out/x.png')


@pytest.mark.parametrize('config', [CONFIG, 'configs/rrdbnet_ffhq.py'])
@pytest.mark.parametrize('height,width', [(1, 1), (3, 2), (1, 50)])
def test_tiny_images_work(tiny_config, config, height, width):
    net = network(build_restorer(tiny_config(config, **SMALL)), self_ensemble=True)
    image = RNG.integers(0, 256, (height, width, 3), np.uint8)
    assert Restorer(net, 16, 4)(image).shape == (4 * height, 4 * width, 3)


def test_the_overlap_is_measured_once_and_only_for_large_images():
    seen = []

    def net(lq):
        seen.append(tuple(lq.shape[-2:]))
        return lq

    restorer = Restorer(net, 20)
    assert np.array_equal(restorer(RGB), RGB) and seen == [(6, 9)]
    large = RGB.repeat(4, 0)
    assert np.array_equal(restorer(large), large) and restorer.overlap == 0
    measured = len(seen)
    restorer(large)
    assert len(seen) == measured + 2


def test_a_network_that_looks_at_all_of_an_image_has_tiles_that_fade(capsys):
    def pooled(lq):
        return lq.mean((-2, -1), keepdim=True) + torch.zeros_like(lq)

    image = np.linspace(0, 255, 400).astype(np.uint8)[:, None, None].repeat(50, 1).repeat(3, 2)
    restorer = Restorer(pooled, 200)
    assert np.abs(np.diff(restorer(image).astype(int), axis=0)).max() <= 2 and restorer.overlap == 50
    assert '--tile 0' in capsys.readouterr().out
    assert np.ptp(Restorer(pooled, 0)(image)) == 0


@pytest.mark.parametrize('error', [torch.cuda.OutOfMemoryError('CUDA out of memory'), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])
@pytest.mark.parametrize('tile,overlap,advice', [(0, None, '--tile 12'), (20, 2, '--tile 10')])
def test_out_of_memory_gives_advice(tmp_path, error, tile, overlap, advice):
    def net(lq):
        raise error

    job = Job(saved(tmp_path, RGB.repeat(4, 0)), tmp_path / 'out/x.png')
    with pytest.raises(UserError, match=f'x.png: .*memory.* give {advice}$'):
        restore_photos([job], Restorer(net, tile, overlap))


def test_other_errors_are_not_hidden_and_nan_is_named(tmp_path):
    job = Job(saved(tmp_path, RGB), tmp_path / 'out/x.png')
    with pytest.raises(UserError, match='x.png: the network gives NaN'):
        restore_photos([job], Restorer(lambda lq: lq / 0))
    with pytest.raises(RuntimeError, match='size'):
        restore_photos([job], Restorer(lambda lq: lq.view(1)))


@pytest.mark.parametrize('how, named', [([], FOR_PHOTOS), (['--weights', 'naf_unet_ffhq'], 'naf_unet_ffhq')])
def test_a_photo_needs_no_config(run_tool, sample_root, tmp_path, how, named):
    photo = sorted((sample_root / 'test/LQ').iterdir())[0]
    done = run_tool('restore.py', photo, *how, '--out-dir', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    config, checkpoint, _ = named_network(None, None, named)
    expected = Restorer(network(load_model(load_config(config), checkpoint)))(read_photo(photo).rgb)
    assert np.array_equal(read_photo(tmp_path / 'out' / f'{photo.stem}.png').rgb, expected)


def test_config_without_checkpoint_and_input_is_refused(refused, sample_root, tmp_path):
    for some in ([], ['a.pth']):
        assert 'after CONFIG come CHECKPOINT and at least one INPUT' in refused(
            'restore.py', 'configs/naf_unet_ffhq.py', *some, '--out-dir', tmp_path)
    assert 'goes with a CHECKPOINT' in refused('restore.py', 'C.py', 'a.pth', sample_root, '--weights', 'naf_unet_ffhq',
                                               '--out-dir', tmp_path)
