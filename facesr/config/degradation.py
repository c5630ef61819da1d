"""MMEditing's degradation in a training pipeline, recognised as what `Degrade` does in less time."""
from mmcv import ConfigDict

KINDS = ('RandomBlur', 'RandomResize', 'RandomNoise', 'RandomJPEGCompression', 'Quantize', 'DegradationsWithShuffle')
LEAVES_8_BITS = ('Flip', 'RandomRotation', 'ColorJitter', 'RandomTransposeHW', 'Crop', 'ModCrop', 'FixedCrop',
                 'RandomResizedCrop')


def recognise(pipeline: list) -> tuple:
    """Put `Degrade` in the place of MMEditing's degradation, where that is the same.

    The transforms that it replaces become its `degradation` word for word, so what is drawn from is what it was.
    What comes before and after stays: the GT images are as random and in the same range as before.

    Args:
        pipeline (list[dict]): Of a training set.

    Returns:
        tuple[list, str]: The pipeline with `Degrade`, and ''; or the same pipeline and why it is left as it is; that
            is '' too where there is nothing to replace.
    """
    start = next((place for place, transform in enumerate(pipeline) if transform['type'] == 'CopyValues'
                  and list(transform.get('src_keys', ())) == ['gt'] and list(transform.get('dst_keys', ())) == ['lq']),
                 None)
    if start is None:
        return pipeline, ''
    end = start + 1
    while end < len(pipeline) and pipeline[end]['type'] in KINDS:
        end += 1
    steps = pipeline[start + 1:end]
    if not steps:
        return pipeline, ''
    why = _difference(pipeline[:start], steps, pipeline[end:])
    if why:
        return pipeline, why
    before, rescale = pipeline[:start - 1], pipeline[start - 1]
    return [*before, ConfigDict(type='Degrade', degradation=list(steps)), rescale, *pipeline[end:]], ''


def _difference(before, steps, after) -> str:
    """What would not be the same, in words; '' for nothing."""
    if not before or before[-1]['type'] != 'RescaleToZeroOne' or list(before[-1].get('keys', ())) != ['gt']:
        return 'RescaleToZeroOne of "gt" is not right before CopyValues'
    load, *others = before[:-1] or [{}]
    if load.get('type') not in ('LoadImageFromFile', 'LoadCachedImage') or load.get('key', 'gt') != 'gt':
        return 'it does not begin with LoadImageFromFile of "gt"'
    if load.get('channel_order', 'bgr') != 'rgb':
        return 'images are loaded as BGR, of which RandomJPEGCompression makes another JPEG than of RGB'
    if load.get('flag', 'color') != 'color' or load.get('convert_to'):
        return 'images are not loaded with flag="color"'
    strange = [transform['type'] for transform in others if transform['type'] not in LEAVES_8_BITS]
    if strange:
        return f'{strange[0]} comes before it'
    for step in steps:
        if list(step.get('keys', ())) != ['lq']:
            return f'{step["type"]} does not work on "lq" alone'
    if any(transform['type'] in KINDS for transform in after):
        return 'the degradation goes on after another transform'
    return ''
