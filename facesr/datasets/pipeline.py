"""MMEditing's pipeline of transforms, whose failures say where they are from."""
from torch.utils.data import ConcatDataset, Dataset

from facesr.utils.errors import UserError


class NamedPipeline:
    """As MMEditing's `Compose`; what goes wrong within names the config's key, the transform and the image.

    Args:
        transforms (list[Callable]): From one dict to the next.
        key (str): Of the pipeline in the config.
        passing (tuple[type]): Exceptions that are let through. Default: none.
    """

    def __init__(self, transforms: list, key: str, passing: tuple = ()):
        self.transforms, self.key, self.passing = transforms, key, passing

    def __call__(self, data: dict) -> dict:
        """What the transforms make of a sample.

        Raises:
            UserError: One cannot.
        """
        path = data.get('gt_path') or data.get('lq_path')
        for transform in self.transforms:
            try:
                data = transform(data)
            except (UserError, *self.passing):
                raise
            except Exception as error:  # a config may name any transform, in any order
                raise UserError(f'config key "{self.key}": {type(transform).__name__} cannot do its work on {path} '
                                f'({type(error).__name__}: {" ".join(str(error).split())})') from error
        return data


def name_failures(dataset: Dataset, split: str, passing: tuple = ()) -> None:
    """Let a dataset's failures be named, in all of its parts."""
    for part in parts(dataset):
        if hasattr(getattr(part, 'pipeline', None), 'transforms'):  # a dataset of a user's need not have it
            part.pipeline = NamedPipeline(part.pipeline.transforms, f'data.{split}.pipeline', passing)


def transforms_of(dataset: Dataset) -> list:
    """The transforms of all parts of a dataset."""
    return [transform for part in parts(dataset) for transform in getattr(getattr(part, 'pipeline', None),
                                                                          'transforms', ())]


def parts(dataset: Dataset) -> list:
    """The datasets that have images, inside those that repeat or join others."""
    if isinstance(dataset, ConcatDataset):
        return [part for inner in dataset.datasets for part in parts(inner)]
    return parts(dataset.dataset) if hasattr(dataset, 'dataset') else [dataset]
