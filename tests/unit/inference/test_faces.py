"""Real detection is not run: facexlib's weights are not at hand. Its network is, with random weights."""
import socket
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from facesr.inference import faces
from facesr.inference.faces import TEMPLATE, build_face_finder, crop_face
from facesr.inference.photos import was_written_by_restore
from facesr.inference.restore import LQ_FACE, Job, restore_photos
from facesr.utils.errors import UserError


@pytest.fixture
def face(sample_root):
    """An aligned 512x512 face, RGB."""
    return cv2.imread(str(sample_root / 'val/GT/00000.png'))[..., ::-1].copy()


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A random detector that is sure of everything it sees."""
    from facexlib.detection.retinaface import RetinaFace
    torch.manual_seed(0)
    model = RetinaFace('mobile0.25', device=torch.device('cpu'))
    with torch.no_grad():
        for name, bias in model.named_parameters():
            if name.startswith('ClassHead') and name.endswith('bias'):
                bias.copy_(torch.tensor([-20., 20.]).repeat(len(bias) // 2))
    path = tmp_path_factory.mktemp('weights') / 'random.pth'
    torch.save({f'module.{name}': value for name, value in model.state_dict().items()}, path)
    return path


def fourfold(rgb):
    return rgb.repeat(4, 0).repeat(4, 1)


def difference(a, b):
    return np.abs(a.astype(float) - b).mean()


def moved(image, angle, scale, side=900):
    """An image turned and scaled on a grey canvas, and the template's landmarks there."""
    centre = (image.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), angle, scale)
    matrix[:, 2] += (side - 1) / 2 - centre
    canvas = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_AREA, borderValue=(128, 128, 128))
    return canvas, TEMPLATE @ matrix[:, :2].T + matrix[:, 2]


def test_an_aligned_face_becomes_what_reducing_it_by_area_gives(face):
    crop = crop_face(face, TEMPLATE, LQ_FACE)
    assert crop.shape == (128, 128, 3) and crop.dtype == np.uint8
    assert difference(crop, cv2.resize(face, (128, 128), interpolation=cv2.INTER_AREA)) < 1
    shifted = np.roll(face, 4, axis=1)
    assert difference(crop_face(shifted, TEMPLATE, LQ_FACE), crop) > 2  # a single LQ pixel would be seen


@pytest.mark.parametrize('angle,scale', [(30, 1), (-100, 1.3), (10, 0.6), (0, 0.5)])
def test_faces_are_turned_and_scaled_to_the_template(face, angle, scale):
    canvas, landmarks = moved(face, angle, scale)
    crop = crop_face(canvas, landmarks, LQ_FACE)
    wanted = cv2.resize(face, (128, 128), interpolation=cv2.INTER_AREA)
    assert difference(crop, wanted) < 4
    assert difference(crop, wanted[:, ::-1]) > 12


def test_a_face_at_the_edge_is_filled_up_and_points_without_extent_are_refused(face):
    crop = crop_face(face[100:], TEMPLATE - [0, 100], LQ_FACE)
    assert difference(crop[:20], np.broadcast_to(crop[20], (20, 128, 3))) < 3
    with pytest.raises(UserError, match='could not be aligned'):
        crop_face(face, np.zeros((5, 2)), LQ_FACE)


def test_each_face_is_restored_to_its_own_file(face, tmp_path):
    canvas, landmarks = moved(face, 20, 0.5)
    both = np.hstack([canvas, canvas])
    photos = {'two': both, 'none': np.zeros_like(canvas), 'grey': cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)}
    for name, photo in photos.items():
        Image.fromarray(photo).save(tmp_path / f'{name}.png')

    def find(rgb):
        if not rgb.any():
            return []
        return [landmarks, landmarks + [900, 0]][:rgb.shape[1] // 900]

    jobs = [Job(tmp_path / f'{name}.png', tmp_path / f'out/{name}.png') for name in photos]
    outcome = restore_photos(jobs, fourfold, find)
    assert outcome.written == 3 and outcome.failures == [f'{tmp_path}/none.png: no face was found in it']
    written = {path.name: Image.open(path) for path in (tmp_path / 'out').iterdir()}
    assert sorted(written) == ['grey_face0.png', 'two_face0.png', 'two_face1.png']
    assert all(was_written_by_restore(tmp_path / 'out' / name) and image.size == (512, 512)
               for name, image in written.items())
    assert written['grey_face0.png'].mode == 'L'
    for i in (0, 1):
        assert difference(np.asarray(written[f'two_face{i}.png']), fourfold(crop_face(both, find(both)[i], 128))) == 0


def test_facexlibs_detector_runs_without_network_access(weights, face, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('something was to be downloaded')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    find = build_face_finder(weights)
    found = find(face[:300])
    assert found and all(points.shape == (5, 2) and np.isfinite(points).all() for points in found)
    assert [points.mean(0)[0] for points in found] == sorted(points.mean(0)[0] for points in found)
    assert crop_face(face, found[0], LQ_FACE).shape == (128, 128, 3)


def test_large_photos_are_reduced_for_the_detector_and_landmarks_are_the_photos(monkeypatch, tmp_path):
    seen = []

    class Detector:
        def detect_faces(self, image, confidence):
            seen.append(image.shape)
            box = [0, 0, 9, 9, 1]
            return np.array([[*box, *(TEMPLATE + [800, 0]).ravel()], [*box, *TEMPLATE.ravel()], [*box, *[7] * 10]])

    (tmp_path / 'any.pth').touch()
    monkeypatch.setattr(faces, '_detector', lambda path, device: Detector())
    found = build_face_finder(tmp_path / 'any.pth')(np.zeros((1000, 3200, 3), np.uint8))
    assert seen == [(500, 1600, 3)]
    assert len(found) == 2  # one was smaller than its eyes can be told apart
    assert np.allclose(found, [2 * TEMPLATE, 2 * (TEMPLATE + [800, 0])])  # from left to right


def test_what_is_missing_is_named(monkeypatch, tmp_path, weights):
    with pytest.raises(UserError, match=r'weights of the face detector are not there.*detection_Resnet50_Final\.pth.*'
                       rf'facexlib/releases/download.*into {tmp_path}'):
        faces._installed_weights(tmp_path)
    for name in ('detection_mobilenet0.25_Final.pth', 'detection_Resnet50_Final.pth'):  # the better one first
        (tmp_path / name).touch()
        assert faces._installed_weights(tmp_path) == tmp_path / name
    with pytest.raises(UserError, match=f'{tmp_path}/detection_Resnet50_Final.pth: not a PyTorch checkpoint'):
        build_face_finder(tmp_path / 'detection_Resnet50_Final.pth')
    torch.save({'conv.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    with pytest.raises(UserError, match='other.pth: not the weights of a face detector'):
        build_face_finder(tmp_path / 'other.pth')
    state = torch.load(weights, weights_only=True)
    state.popitem()
    torch.save(state, tmp_path / 'part.pth')
    with pytest.raises(UserError, match='part.pth: damaged weights of a face detector'):
        build_face_finder(tmp_path / 'part.pth')
    monkeypatch.setitem(sys.modules, 'facexlib.detection.retinaface', None)
    with pytest.raises(UserError, match='--crop-faces: facexlib cannot be imported'):
        build_face_finder(weights)
