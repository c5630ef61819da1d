"""Images per second and peak memory of listing a large training folder: ours beside decoding each image.

    python benchmarks/annotation.py --images 4000 70000

The folders are made of hard links to a few files (of `--gt`, else of the embedded sample), so all are in the page
cache: warm. Each row is a process of its own; memory is what it grew by. Stock is `mmcv.imread` of every image for its
shape (here of `--decoded` of them): MMEditing has no tool for it.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import facesr.register  # noqa: F401

import torch

from facesr.datasets.annotation import scan_folder, write_annotation
from facesr.datasets.sample import make_sample
from facesr.utils.errors import report_user_errors
from facesr.utils.images import list_images
from facesr.utils.memory import peak_memory

ROOT = Path(__file__).resolve().parent.parent


def make_folder(source: Path, folder: Path, images: int) -> None:
    """`images` hard links to a copy of the source's files."""
    files = []
    for name in list_images(source):
        files.append(folder.parent / f'{folder.name}_{name}')
        files[-1].write_bytes((source / name).read_bytes())
    folder.mkdir()
    for number in range(images):
        os.link(files[number % len(files)], folder / f'{number:05d}.png')


def measure(folder: Path, decoded: int) -> dict:
    """Images per second, and MiB that the process grew by."""
    device = torch.device('cpu')
    before, start = peak_memory(device), time.perf_counter()
    if decoded:
        import mmcv  # after facesr, which has bridged it
        names = list_images(folder)[:decoded]
        lines = [f'{name} {mmcv.imread(str(folder / name)).shape}' for name in names]
    else:
        lines = scan_folder(folder)
        write_annotation(lines, folder.parent / f'{folder.name}.txt', force=True)
    seconds = time.perf_counter() - start
    return dict(rate=len(lines) / seconds, memory=peak_memory(device) - before)


def in_a_process(folder: Path, decoded: int = 0) -> dict:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, '--folder', str(folder), '--decoded', str(decoded)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


@report_user_errors
def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, nargs='+', default=[4000, 70000], help='default: 4000 70000')
    parser.add_argument('--gt', type=Path, metavar='FOLDER', help='PNG images to link to')
    parser.add_argument('--decoded', type=int, default=400, help='images for the stock row (default: 400)')
    parser.add_argument('--folder', type=Path, help='measure this folder alone, in this process, and print JSON')
    args = parser.parse_args()
    if args.folder:
        print(json.dumps(measure(args.folder, args.decoded)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        source = args.gt
        if source is None:
            make_sample(temporary)
            source = Path(temporary) / 'train/GT'
        rows = {}
        for images in args.images:
            folder = Path(temporary) / f'links_{images}'
            make_folder(source, folder, images)
            in_a_process(folder)  # reads them into the page cache
            rows[f'tools/make_annotation.py, {images:,} images'] = in_a_process(folder)
        stock = in_a_process(folder, args.decoded)
    print(f'{"":44} {"images/s":>9} {"times stock":>12} {"grew by MiB":>12}')
    for name, row in {f'mmcv.imread, {args.decoded} images': stock, **rows}.items():
        print(f'{name:44} {row["rate"]:9,.0f} {row["rate"] / stock["rate"]:12.1f} {row["memory"]:12.0f}')


if __name__ == '__main__':
    main()
