"""Data roots joined to one, without a copy: what `tools/join_data.py` does."""
from collections import Counter
from pathlib import Path

from facesr.utils.errors import UserError
from facesr.utils.images import list_images

FOLDERS = ('train/GT', 'val/GT', 'val/LQ', 'test/LQ')  # as in data/README.md


def join_data(roots, out) -> dict:
    """Make a data root whose images are symbolic links to those of others.

    A call again adds what has come to the others.

    Args:
        roots (list[str | Path]): Folders in the layout of data/README.md; each may lack some of it.
        out (str | Path): The folder to make.

    Returns:
        dict[str, int]: Number of images by folder of the layout, where there are any.

    Raises:
        UserError: Two images have the same name, there are none, or `out` has something else in it. Nothing is
            written then.
    """
    targets, out = {}, Path(out)
    for root in roots:
        if not Path(root).is_dir():
            raise UserError(f'{root}: no such folder; give one in the layout of data/README.md')
        for folder in FOLDERS:
            source = Path(root, folder).resolve()
            for name in list_images(source) if source.is_dir() else ():
                link = Path(folder, name)
                if link in targets:
                    raise UserError(f'{source / name}: {targets[link]} has the same name; rename one of them')
                targets[link] = source / name
    if not targets:
        raise UserError(f'{roots[0]}: has no images in {", ".join(FOLDERS)}')
    if out.exists() and not out.is_dir():
        raise UserError(f'{out}: is a file; give a folder')
    there = [path.relative_to(out) for path in sorted(out.rglob('*')) if path.is_symlink() or not path.is_dir()]
    there = [link for link in there if not any(part.startswith('.') for part in link.parts)]  # a cache is no matter
    for link in there:
        if not (out / link).is_symlink() or (out / link).readlink() != targets.get(link):
            raise UserError(f'{out / link}: is no link to an image of these folders; give another --out-dir, or remove '
                            'it')
    for link in targets.keys() - set(there):
        (out / link).parent.mkdir(parents=True, exist_ok=True)
        (out / link).symlink_to(targets[link])
    return dict(Counter(str(link.parent) for link in targets))
