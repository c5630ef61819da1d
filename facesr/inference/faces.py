"""Finding faces in photos and cutting them out as the network expects them: aligned, as FFHQ's are.

Of facexlib only the detector is used (RetinaFace), with weights from a file. Making its `FaceRestoreHelper` downloads
weights, also some that cropping does not need.
"""
import importlib
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from facesr.checkpoint.io import read_checkpoint
from facesr.utils.errors import CheckpointError, UserError

RELEASE = 'https://github.com/xinntao/facexlib/releases/download/v0.1.0'
# facexlib's names of RetinaFace's backbones, their files in its release, and a weight that only one has.
DETECTORS = {
    'resnet50': ('detection_Resnet50_Final.pth', 'body.layer1.0.conv1.weight'),
    'mobile0.25': ('detection_mobilenet0.25_Final.pth', 'body.stage1.0.0.weight')
}
# Eyes, nose and corners of the mouth (x, y) in FFHQ's 512x512 images, as facexlib aligns faces for networks trained on
# them (facexlib.utils.face_restoration_helper).
TEMPLATE = np.array([[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043],
                     [313.08905, 371.15118]])
TEMPLATE_SIDE = 512
CONFIDENCE = 0.97  # of a detection, as in facexlib
DETECTION_SIDE = 1600  # the longer side at most, of what the detector sees: memory
SMALLEST = 5  # pixels between the eyes


def build_face_finder(weights: str | Path | None = None, device: torch.device | None = None) -> Callable:
    """What finds the faces of an image: uint8, RGB (h, w, 3) -> landmarks, a list of (5, 2) arrays, (x, y) in pixels.

    Faces come from left to right. Nothing is downloaded.

    Args:
        weights (str | Path | None): facexlib's weights of RetinaFace; None: from facexlib's own folder.
        device (torch.device | None): Default: the CPU.

    Raises:
        UserError: facexlib or the weights are missing, or are not what they should be.
    """
    package = _facexlib()
    path = Path(weights) if weights else _installed_weights(Path(package.__file__).parent / 'weights')
    if not path.is_file():
        raise UserError(f'{path}: no such file; --face-weights takes {_file_names()} from {RELEASE}')
    detector = _detector(path, device or torch.device('cpu'))

    def find(image: np.ndarray) -> list:
        scale = min(1.0, DETECTION_SIDE / max(image.shape[:2]))
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        with torch.no_grad():
            found = detector.detect_faces(cv2.cvtColor(smaller, cv2.COLOR_RGB2BGR), CONFIDENCE)
        landmarks = [face[5:15].reshape(5, 2) / scale for face in found]
        usable = [points for points in landmarks if np.hypot(*(points[0] - points[1])) >= SMALLEST]
        return sorted(usable, key=lambda points: tuple(points.mean(0)))

    return find


def crop_face(image: np.ndarray, landmarks: np.ndarray, side: int) -> np.ndarray:
    """A face turned, moved and scaled to where FFHQ's faces are; beyond the image its border is repeated.

    What is larger than `side` is reduced by area, as LQ images are made.

    Args:
        image (ndarray): (h, w, 3), uint8.
        landmarks (ndarray): (5, 2), (x, y) of left eye, right eye, nose and the mouth's corners, in pixels.
        side (int): Of the crop.

    Returns:
        ndarray: (side, side, 3), uint8.

    Raises:
        UserError: The landmarks lie in one point.
    """
    template = (TEMPLATE + 0.5) * (side / TEMPLATE_SIDE) - 0.5  # pixel centres are at whole numbers
    matrix = cv2.estimateAffinePartial2D(np.float64(landmarks), template, method=cv2.LMEDS)[0]
    if matrix is None:
        raise UserError('a face could not be aligned')
    # Computed so many times larger that no pixel of the image is passed over.
    times = max(1, math.ceil(1 / np.hypot(*matrix[:, 0])))
    matrix = times * matrix + [[0, 0, (times - 1) / 2]]
    crop = cv2.warpAffine(image, matrix, (side * times, side * times), flags=cv2.INTER_CUBIC,
                          borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)


def _facexlib():
    try:
        importlib.import_module('facexlib.detection.retinaface')
        return importlib.import_module('facexlib')
    except ImportError as error:
        raise UserError(f'--crop-faces: facexlib cannot be imported ({error}); install it with: pip install facexlib') \
            from error


def _installed_weights(folder: Path) -> Path:
    for name, _ in DETECTORS.values():
        if (folder / name).is_file():
            return folder / name
    raise UserError(f'--crop-faces: the weights of the face detector are not there, and nothing is downloaded unasked; '
                    f'get {_file_names()} from {RELEASE} and put it into {folder}, or name it with --face-weights FILE')


def _file_names() -> str:
    return ' or '.join(name for name, _ in DETECTORS.values())


def _detector(path: Path, device: torch.device):
    """facexlib's RetinaFace with a file's weights; which one, the weights tell."""
    from facexlib.detection.retinaface import RetinaFace
    state = read_checkpoint(path)['state_dict']
    for name, (_, weight) in DETECTORS.items():
        if weight in state:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # it calls torchvision in an old way
                model = RetinaFace(name, device=device)
            try:
                model.load_state_dict(state)
            except RuntimeError as error:
                reason = ' '.join(str(error).split())[:200]
                raise CheckpointError(f'{path}: damaged weights of a face detector ({reason})') from error
            return model.eval()
    raise CheckpointError(f'{path}: not the weights of a face detector; --face-weights takes {_file_names()} from '
                          f'{RELEASE}')
