import io
import json
import math
import os
import stat
import struct
import tracemalloc
import zipfile
import zlib

import cv2
import numpy as np
import pytest
from mmedit.core import psnr
from PIL import Image

from facesr.evaluation.evaluator import bicubic
from facesr.submission.archive import hq_names
from facesr.submission.predictions import PredictionError, open_predictions
from facesr.submission.scoring import check_names, format_score, gt_paths, score, verify_zip, write_score
from facesr.utils.errors import UserError

NAMES = ['00000.png', '00001.png', '00002.png']


def encode(image, suffix='.png') -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def face(seed=0, height=24, width=20):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def gt(tmp_path):
    """Three GT images by the name of their HQ image."""
    folder = tmp_path / 'GT'
    folder.mkdir()
    for i, name in enumerate(NAMES):
        (folder / name).write_bytes(encode(face(i)))
    return {name: folder / name for name in NAMES}


@pytest.fixture
def predictions(tmp_path):
    """A folder with an HQ image for each."""
    folder = tmp_path / 'HQ'
    folder.mkdir()
    for i, name in enumerate(NAMES):
        (folder / name).write_bytes(encode(face(i + 10)))
    return folder


def make_zip(path, files: dict):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def good_files():
    return {name: encode(face(i + 10)) for i, name in enumerate(NAMES)}


def complaint(path, names=NAMES, size=(24, 20)) -> str:
    with pytest.raises(UserError) as caught:
        verify_zip(path, names, size)
    assert '\n' not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def reference(hq_path, gt_path) -> float:
    """PSNR in float64, which MMEditing's, in float32, equals to 1e-5 dB."""
    hq, gt = cv2.imread(str(hq_path)), cv2.imread(str(gt_path))
    exact = 10 * np.log10(255**2 / ((hq.astype(float) - gt)**2).mean())
    assert psnr(hq, gt) == pytest.approx(exact, abs=1e-5)
    return exact


def test_score_is_mmedits_psnr_in_float64(gt, predictions, tmp_path):
    expected = [reference(predictions / name, path) for name, path in gt.items()]
    archive = make_zip(tmp_path / 'x.zip', good_files())
    for path in (predictions, archive):
        result = score(path, gt)
        assert [image.name for image in result.images] == NAMES
        assert [image.psnr for image in result.images] == pytest.approx(expected, abs=1e-10)
        assert result.psnr == pytest.approx(np.mean(expected), abs=1e-10)
    errors = [(face(i + 10).astype(int) - face(i))**2 for i in range(3)]
    assert [image.mse for image in result.images] == [error.sum() / error.size for error in errors]  # exactly


def test_score_of_bicubic_faces(sample_root, tmp_path):
    for path in sorted((sample_root / 'val/LQ').iterdir()):
        cv2.imwrite(str(tmp_path / f'{path.stem}.png'), bicubic(cv2.imread(str(path))))
    paths = gt_paths(sample_root / 'val/GT')
    text = format_score(score(tmp_path, dict(zip(hq_names(paths), paths, strict=True))))
    expected = [reference(tmp_path / path.name, path) for path in paths]
    assert f'PSNR: {np.mean(expected):.10f} dB' in text
    assert f'worst: {paths[int(np.argmin(expected))].name} {min(expected):.4f}' in text
    assert f'best: {paths[int(np.argmax(expected))].name} {max(expected):.4f}' in text


def test_equal_images_are_infinite_and_said_so(gt, predictions, tmp_path):
    (predictions / NAMES[1]).write_bytes(encode(face(1)))
    result = score(predictions, gt)
    assert result.psnr == math.inf and result.images[1] == (NAMES[1], 0, math.inf)
    rest = (result.images[0].psnr + result.images[2].psnr) / 2
    assert 'PSNR: inf dB' in format_score(result) and f'PSNR of the others: {rest:.10f} dB' in format_score(result)
    assert f'equal to GT, so that the mean is infinite: {NAMES[1]}' in format_score(result)
    write_score(tmp_path / 'score.json', result, gt='GT')
    content = json.loads((tmp_path / 'score.json').read_text(), parse_constant=pytest.fail)
    assert content['gt'] == 'GT' and content['mean'] == {'PSNR': None}
    assert content['images'][1] == dict(name=NAMES[1], MSE=0, PSNR=None)
    assert content['images'][0]['PSNR'] == result.images[0].psnr
    assert 'all 3 images' in format_score(score(gt[NAMES[0]].parent, gt))


def test_everything_wrong_in_a_folder_is_named(gt, predictions):
    (predictions / NAMES[0]).rename(predictions / '00000.PNG')
    (predictions / NAMES[1]).write_bytes(encode(face(1, 12, 20)))
    (predictions / NAMES[2]).unlink()
    (predictions / 'inner').mkdir()
    (predictions / '.DS_Store').touch()
    (predictions / 'notes\n.txt').touch()
    (predictions / 'nowhere.png').symlink_to('none')
    with pytest.raises(PredictionError) as caught:
        score(predictions, gt)
    assert sorted(caught.value.problems.lines()) == [
        "extra (1): 'notes\\n.txt'", f'missing (1): {NAMES[2]}',
        'not at the top level (1): inner/', 'unreadable, no file, or a link to none (1): nowhere.png',
        f'wrong size, 20x12 instead of 20x24 (1): {NAMES[1]}', f'wrongly named (1): 00000.PNG instead of {NAMES[0]}'
    ]
    assert len(caught.value.problems) == 6


def test_a_submission_inside_one_folder_is_scored_and_told(gt, predictions, tmp_path):
    """A zip that is handed in has none."""
    files = {f'my hq/{name}': data for name, data in good_files().items()}
    whole, outer = make_zip(tmp_path / 'x.zip', dict({'my hq/': b''}, **files)), tmp_path / 'outer'
    outer.mkdir()
    predictions.rename(outer / 'my hq')
    expected = score(outer / 'my hq', gt)
    assert 'inside' not in format_score(expected)
    for path in (make_zip(tmp_path / 'y.zip', files), whole, outer):
        result = score(path, gt)
        assert result[:2] == expected[:2]
        assert format_score(result).endswith('\ntaken from inside my hq/, as by the organiser; a zip to hand in has '
                                             'no folder')
    assert 'not at the top level (4)' in complaint(whole)
    for name, said in (('a.png', 'not at the top level (3)'), ('other/a.png', 'not at the top level (4)'),
                       ('my hq/a.png', 'extra (1): a.png'), ('my hq/in/a.png', 'not at the top level (1): in/a.png'),
                       ('my hq/in/', 'not at the top level (1): in/'), ('../a.png', 'unsafe path (1): ../a.png'),
                       ('my hq/../a.png', 'unsafe path (1): my hq/../a.png'), ('my hq\\a.png', 'unsafe path (1)')):
        with pytest.raises(PredictionError) as caught:
            score(make_zip(tmp_path / 'z.zip', {**files, name: b''}), gt)
        assert said in str(caught.value)
    (outer / 'b').mkdir()
    with pytest.raises(PredictionError, match=r'not at the top level \(2\): b/, my hq/'):
        score(outer, gt)
    (outer / 'b').rename(outer / 'my hq/b')
    with pytest.raises(PredictionError, match=r'not at the top level \(1\): b/$'):
        score(outer, gt)


def test_many_names_are_counted():
    wanted = [f'{i:05}.png' for i in range(400)]
    assert check_names([], wanted).lines() == [f'missing (400): {", ".join(wanted[:10])} and 390 more']
    assert len(check_names([], wanted)) == 400
    assert check_names([], wanted[:20]).lines() == [f'missing (20): {", ".join(wanted[:20])}']


def test_names():
    assert check_names(NAMES, NAMES).lines() == []
    assert check_names(['a.png', 'b.jpg', 'B.png'], ['a.png', 'b.png']).lines() == [
        'wrongly named (1): B.png instead of b.png', 'extra (1): b.jpg']


def test_gt_of_other_formats(predictions, tmp_path):
    folder = tmp_path / 'other'
    folder.mkdir()
    for i, suffix in enumerate(('.jpg', '.bmp', '.png')):
        (folder / f'0000{i}{suffix}').write_bytes(encode(face(i), suffix))
    paths = gt_paths(folder)
    result = score(predictions, dict(zip(hq_names(paths), paths, strict=True)))
    expected = [reference(predictions / name, path) for name, path in zip(NAMES, paths, strict=True)]
    assert [image.psnr for image in result.images] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize('data', [b'', b'no image', encode(face())[:-200], encode(face()[..., 0]),
                                  encode(face()[..., 0], '.jpg'), encode(face().astype(np.uint16))])
def test_wrong_gt_is_named(gt, predictions, data):
    gt[NAMES[1]].write_bytes(data)
    with pytest.raises(UserError, match=NAMES[1]) as caught:
        score(predictions, gt)
    assert not isinstance(caught.value, PredictionError)


def test_what_macos_puts_into_a_zip(gt, predictions, tmp_path):
    """The organiser's script passes over it, but for a folder beside it, which it then does not enter."""
    finder = {f'__MACOSX/._{name}': b'x' for name in NAMES}
    flat = make_zip(tmp_path / 'flat.zip', {**good_files(), **finder, '__MACOSX/': b'', '.DS_Store': b'x'})
    result, expected = score(flat, gt), score(predictions, gt)
    assert result[:2] == expected[:2] and 'passed over' not in format_score(expected)
    assert format_score(result).endswith("passed over, as by the organiser: 5 of macOS's own files (__MACOSX/, "
                                         '.DS_Store)')
    assert "macOS's own, not images (5)" in complaint(flat)  # a zip of ours has none
    inner = {f'hq/{name}': data for name, data in good_files().items()}
    inside = score(make_zip(tmp_path / 'in.zip', {**inner, 'hq/.DS_Store': b'x'}), gt)
    assert inside.inside == 'hq' and inside.passed_over == 1 and inside.psnr == expected.psnr
    for name in ('__MACOSX/._hq', '.DS_Store'):
        with pytest.raises(PredictionError) as caught:
            score(make_zip(tmp_path / 'beside.zip', {**inner, name: b'x'}), gt)
        line, = caught.value.problems.lines()
        assert "the organiser's script finds no images" in line and 'zip -d FILE' in line and line.endswith(name)
    (predictions / '.DS_Store').touch()
    (predictions / '__MACOSX').mkdir()
    assert score(predictions, gt).passed_over == 2


def test_gt_folder(tmp_path):
    with pytest.raises(UserError, match='no such folder'):
        gt_paths(tmp_path / 'none')
    with pytest.raises(UserError, match='has no images'):
        gt_paths(tmp_path)


def pillow(mode, **save) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (20, 24)).save(buffer, 'PNG', **save)
    return buffer.getvalue()


@pytest.mark.parametrize(('data', 'said'), [
    (pillow('L'), 'not 8-bit RGB, 8-bit greyscale (1)'), (pillow('RGBA'), 'not 8-bit RGB, 8-bit RGBA (1)'),
    (pillow('P'), '-bit palette (1)'), (pillow('LA'), '8-bit greyscale with alpha (1)'),
    (pillow('1'), 'not 8-bit RGB, 1-bit greyscale (1)'), (encode(face().astype(np.uint16)), '16-bit RGB (1)'),
    (encode(face(), '.jpg'), 'not a PNG (1)'), (b'', 'not a PNG (1)'), (encode(face())[:30], 'not a PNG (1)'),
    (encode(face())[:500], 'unreadable'), (encode(face(0, 20, 24)), 'wrong size, 24x20 instead of 20x24 (1)')])
def test_images_that_are_refused(tmp_path, data, said):
    path = make_zip(tmp_path / 'x.zip', {**good_files(), NAMES[1]: data})
    message = complaint(path)
    assert said in message and NAMES[1] in message
    assert NAMES[0] not in message


def test_one_flipped_bit_in_the_pixels_is_seen(tmp_path):
    data = bytearray(encode(face()))
    data[len(data) // 2] ^= 1
    assert 'unreadable' in complaint(make_zip(tmp_path / 'x.zip', {**good_files(), NAMES[2]: bytes(data)}))


def test_good_zips_are_taken(tmp_path):
    path = make_zip(tmp_path / 'x.zip', good_files())
    verify_zip(path, NAMES)
    verify_zip(path, NAMES, (24, 20))
    verify_zip(path, NAMES, dict.fromkeys(NAMES, (24, 20)))
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in good_files().items():
            archive.writestr(name, data)
    verify_zip(path, NAMES, (24, 20))


def test_what_is_no_zip(tmp_path):
    whole = make_zip(tmp_path / 'x.zip', good_files()).read_bytes()
    for data in (b'', b'PK\5\6', b'no zip', whole[:-10], whole[:200]):
        (tmp_path / 'y.zip').write_bytes(data)
        assert 'not a zip, or a damaged one' in complaint(tmp_path / 'y.zip')
    assert 'is a folder' in complaint(tmp_path)
    assert 'no such folder or zip' in complaint(tmp_path / 'none.zip')


@pytest.mark.parametrize(('name', 'said'), [
    ('../00003.png', 'unsafe path'), ('/etc/00003.png', 'unsafe path'), ('C:/00003.png', 'unsafe path'),
    ('a/../../b.png', 'unsafe path'), ('..\\00003.png', 'unsafe path'), ('hq/00003.png', 'not at the top level'),
    ('hq/', 'not at the top level'), ('__MACOSX/._00000.png', "macOS's own"), ('._00000.png', "macOS's own"),
    ('.DS_Store', "macOS's own"), ('x.zip', 'extra'), ('\x1b[2J.png', "extra (1): '\\x1b[2J.png'"), ('ü.png', 'extra')])
def test_entries_that_do_not_belong_there(tmp_path, monkeypatch, name, said):
    (tmp_path / 'a/b').mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'a/b')
    path = make_zip(tmp_path / 'a/b/x.zip', {**good_files(), name: encode(face())})
    message = complaint(path)
    assert said in message and message.isprintable()
    assert NAMES[0] not in message.replace('._00000.png', '')
    assert sorted(tmp_path.rglob('*')) == [tmp_path / 'a', tmp_path / 'a/b', path]  # nothing was written


def test_links_and_devices_are_refused(tmp_path):
    for kind, said in ((stat.S_IFLNK, 'unsafe path, a link'), (stat.S_IFCHR, 'unsafe path, a special file')):
        with zipfile.ZipFile(make_zip(tmp_path / 'x.zip', good_files()), 'a') as archive:
            info = zipfile.ZipInfo('link.png')
            info.create_system, info.external_attr = 3, (kind | 0o777) << 16
            archive.writestr(info, '/etc/passwd')
        assert f'{said} (1): link.png' in complaint(tmp_path / 'x.zip')


def test_a_name_that_is_there_twice(tmp_path):
    path = make_zip(tmp_path / 'x.zip', good_files())
    with zipfile.ZipFile(path, 'a') as archive, pytest.warns(UserWarning, match='Duplicate'):
        archive.writestr(NAMES[0], encode(face(5)))
    assert f'more than once (1): {NAMES[0]}' in complaint(path)


def patch(path, offset: int, value: bytes, entry: int = 0):
    """Overwrite bytes in a record of a zip's central directory."""
    data = bytearray(path.read_bytes())
    start = -1
    for _ in range(entry + 1):
        start = data.index(b'PK\1\2', start + 1)
    data[start + offset:start + offset + len(value)] = value
    path.write_bytes(data)


def test_encrypted_and_oddly_compressed_entries(tmp_path):
    path = make_zip(tmp_path / 'x.zip', good_files())
    patch(path, 8, b'\1\0')
    assert f'encrypted (1): {NAMES[0]}' in complaint(path)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_BZIP2) as archive:
        for name, data in good_files().items():
            archive.writestr(name, data)
    assert 'another method than deflate (3)' in complaint(path)
    path = make_zip(tmp_path / 'x.zip', good_files())
    patch(path, 46, b'x')  # the directory's name is not that of the file's own header
    assert 'extra (1): x0000.png' in complaint(path)
    path = make_zip(tmp_path / 'x.zip', {**good_files(), '00003.png': b''})
    patch(path, 50, b'\0', 3)  # 0000\0.png: C programs see another name
    assert 'unsafe path (1)' in complaint(path)


def bomb(path, size: int, declared=None):
    """A zip whose first image is a PNG header and `size` zeros; `declared` is what its directory says instead."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for i, (name, data) in enumerate(good_files().items()):
            if i:
                archive.writestr(name, data)
                continue
            with archive.open(name, 'w') as file:
                file.write(data[:33])
                for _ in range(size // 2**20):
                    file.write(bytes(2**20))
    if declared is not None:
        patch(path, 24, struct.pack('<I', declared))
    return path


@pytest.mark.parametrize(('declared', 'said'), [(None, 'file too large'), (1000, 'unreadable')])
def test_bombs_are_not_unpacked(tmp_path, declared, said):
    path = bomb(tmp_path / 'x.zip', 200 * 2**20, declared)
    tracemalloc.start()
    try:
        message = complaint(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert said in message and NAMES[0] in message and NAMES[1] not in message


def test_png_bombs_are_not_decoded(tmp_path):
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    huge = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 50_000, 50_000, 8, 2, 0, 0, 0)) + chunk(
        b'IDAT', zlib.compress(bytes(10**6))) + chunk(b'IEND', b'')
    path = make_zip(tmp_path / 'x.zip', {**good_files(), NAMES[0]: huge})
    assert f'wrong size, 50000x50000 instead of 20x24 (1): {NAMES[0]}' in complaint(path)
    assert f'wrong size, 50000x50000 (1): {NAMES[0]}' in complaint(path, size=None)


def test_directories_are_bounded(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {**good_files(), **{f'{i}.txt': b'' for i in range(2000)}})
    assert 'has 2,003 files, where 3 images are expected' in complaint(path)
    path = make_zip(tmp_path / 'x.zip', {f'{i:0200}.txt': b'' for i in range(2500)})
    assert 'a directory of more than 515,072 bytes' in complaint(path)


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_zips_end_with_one_line(tmp_path, method):
    path, rng, refused = tmp_path / 'x.zip', np.random.default_rng(0), 0
    with zipfile.ZipFile(path, 'w', method) as archive:
        for name, data in good_files().items():
            archive.writestr(name, data)
    whole = path.read_bytes()
    directory = whole.index(b'PK\1\2')
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(directory, len(data))] = rng.integers(256)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            verify_zip(path, NAMES, (24, 20))
        except UserError as error:
            assert str(error).isprintable()
            refused += 1
    assert refused > 200


def test_predictions_are_read_as_rgb(predictions):
    with open_predictions(predictions) as images:
        assert images.names == NAMES
        np.testing.assert_array_equal(images.read(NAMES[0]), face(10)[..., ::-1])


def test_tool(run_tool, gt, predictions, tmp_path):
    out = tmp_path / 'score.json'
    done = run_tool('score.py', predictions, tmp_path / 'GT', '--out', out)
    assert done.returncode == 0, done.stderr
    result = score(predictions, gt)
    assert done.stdout.startswith(f'PSNR: {result.psnr:.10f} dB')
    assert json.loads(out.read_text())['mean']['PSNR'] == result.psnr

    before = out.read_bytes()
    os.remove(predictions / NAMES[1])
    done = run_tool('score.py', predictions, tmp_path / 'GT', '--out', out)
    assert (done.returncode, done.stdout) == (2, f'missing (1): {NAMES[1]}\n')
    assert done.stderr == f'error: {predictions}: 1 problem(s), listed above; not scored\n'
    assert out.read_bytes() == before
