"""Which image files a dataset's config reads, paired as MMEditing pairs them."""
from pathlib import Path, PurePosixPath

LOADING = ('LoadImageFromFile', 'LoadCachedImage')


def annotation_files(dataset_cfg) -> list:
    """The annotation files of a dataset's config; several where `ann_file` is a list, none where it has none."""
    files = dataset_cfg.get('ann_file') or []
    return [files] if isinstance(files, (str, Path)) else list(files)


def lq_name(gt_name: str, dataset_cfg) -> str:
    """The LQ image's name in the LQ folder: MMEditing takes the GT's, without its sub-folder, by `filename_tmpl`."""
    gt = PurePosixPath(gt_name)
    return f'{dataset_cfg.get("filename_tmpl", "{}").format(gt.stem)}{gt.suffix}'


def turned(dataset_cfg, key: str) -> bool:
    """Whether the image `key` ('lq' or 'gt') is read as its EXIF orientation says: by flag='color', the default."""
    flags = [transform.get('flag', 'color') for transform in dataset_cfg.get('pipeline', ())
             if transform['type'] in LOADING and transform.get('key', 'gt') == key]
    return flags[:1] in ([], ['color'])


def reads(dataset_cfg, key: str) -> bool:
    """Whether the pipeline of a dataset's config reads the image `key` ('lq' or 'gt') from a file."""
    return any(transform['type'] in LOADING and transform.get('key', 'gt') == key
               for transform in dataset_cfg.get('pipeline', ()))
