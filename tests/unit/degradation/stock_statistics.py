"""Statistics of the LQ images that MMEditing's own transforms make, which are slow; test_degradation.py compares with
the file that this script writes beside itself:

    python tests/unit/degradation/stock_statistics.py

Run it again when a recipe, the sample or the statistics change.
"""
import json
import tempfile
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np

from facesr.config import load_config
from facesr.datasets.sample import make_sample
from facesr.utils.random import seeded

FILE = Path(__file__).with_suffix('.json')
COURSE, SECOND_ORDER = 'configs/srresnet_ffhq.py', 'configs/srresnet_ffhq_second_order.py'
COUNTS = {COURSE: 500, SECOND_ORDER: 150}
STATISTICS = {
    'noise': lambda lq, _: float(np.median(np.abs(cv2.Laplacian(lq.mean(axis=2), cv2.CV_64F)))),
    'sharpness': lambda lq, _: float(cv2.Laplacian(cv2.GaussianBlur(lq.mean(axis=2), (5, 5), 1), cv2.CV_64F).var()),
    'PSNR': lambda lq, small: float(-10 * np.log10(((lq - small)**2).mean())),
    'colour noise': lambda lq, _: float((lq[..., 0] - lq[..., 2] - cv2.blur(lq[..., 0] - lq[..., 2], (5, 5))).std()),
}


def read_faces(root) -> list:
    """The sample's GT images: (512, 512, 3), uint8, RGB."""
    paths = [path for split in ('train', 'val') for path in sorted((root / split / 'GT').iterdir())]
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]


def statistics(make, faces, count) -> dict:
    """Values of each statistic over `count` LQ images."""
    small = [cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA) / 255. for image in faces]
    images = (np.float64(make(number, faces[number % len(faces)])) for number in range(count))
    rows = [[of(lq, small[number % len(faces)]) for of in STATISTICS.values()] for number, lq in enumerate(images)]
    return dict(zip(STATISTICS, zip(*rows, strict=True), strict=True))


def stock_statistics(config, faces, count) -> dict:
    """Those of the first `count` images that MMEditing's transforms make."""
    from mmedit.datasets.pipelines import Compose
    stock = Compose(deepcopy(list(load_config(config).degradation)))
    with seeded(0):
        return statistics(lambda _, image: stock(dict(lq=np.float32(image) / 255))['lq'], faces, count)


def main():
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        make_sample(Path(folder))
        faces = read_faces(Path(folder))
    made = {config: {name: [float(f'{value:.7g}') for value in values]
                     for name, values in stock_statistics(config, faces, count).items()}
            for config, count in COUNTS.items()}
    FILE.write_text(json.dumps(made).replace('], ', '],\n') + '\n')  # a line for each list


if __name__ == '__main__':
    main()
