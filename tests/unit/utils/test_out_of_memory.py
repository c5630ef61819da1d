"""Running out of memory: in whose words, what is freed, and what to do about it, everywhere."""
import weakref

import facesr.register  # noqa: F401

import numpy as np
import pytest
import torch

from facesr.engine.hooks.eval_hook import SREvalHook
from facesr.evaluation.evaluator import Batch, measure, restore_batch
from facesr.inference import restore
from facesr.utils.memory import OutOfMemory, is_out_of_memory, let_go

FULL = torch.cuda.OutOfMemoryError('CUDA out of memory.')


def no_room(*_):
    raise FULL


@pytest.mark.parametrize('words', [
    'cuDNN error: CUDNN_STATUS_ALLOC_FAILED', 'cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED',
    'cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED',
    'GET was unable to find an engine to execute this computation',
    'FIND was unable to find an engine to execute this computation'])
def test_cudnns_words(words):
    assert is_out_of_memory(RuntimeError(words)) and not is_out_of_memory(ValueError(words))


def test_what_an_error_holds_is_freed():
    kept = []

    def inner():
        held = torch.zeros(3)
        kept.append(weakref.ref(held))
        raise RuntimeError('out of memory')

    def outer():
        try:
            inner()
        except RuntimeError as error:
            raise OutOfMemory('a line') from error

    try:
        outer()
    except OutOfMemory as error:
        assert kept[0]() is not None
        let_go(error)
        assert kept[0]() is None


@pytest.mark.parametrize('count, words', [
    (1, '1 LQ image of 5x4 at a time; use --amp auto or --device cpu'),
    (2, '2 LQ images of 5x4 .*a smaller samples_per_gpu of the dataloader .now 2')])
def test_restoring_and_measuring(count, words):
    batch = Batch(['x.png'] * count, torch.zeros(count, 3, 4, 5, dtype=torch.uint8),
                  torch.zeros(count, 3, 4, 5, dtype=torch.uint8))
    with pytest.raises(OutOfMemory, match=f'x.png: memory does not suffice for {words}'):
        restore_batch(no_room, batch)
    with pytest.raises(OutOfMemory, match=words):
        measure({'PSNR': no_room}, batch, batch.gt)
    with pytest.raises(RuntimeError, match='shape'):
        restore_batch(lambda _: torch.zeros(1).reshape(2), batch)


@pytest.mark.parametrize('batch, remedy', [
    (8, 'use data.val_dataloader.samples_per_gpu=4'), (1, 'use --no-validate, ')])
def test_validation_in_training(batch, remedy):
    hook = SREvalHook.__new__(SREvalHook)
    hook.dataloader = torch.utils.data.DataLoader([0], batch_size=batch)
    for error in (FULL, OutOfMemory('x.png: memory does not suffice for 8 LQ images; use --amp auto')):
        found = hook._as_user_error(error)
        assert isinstance(found, OutOfMemory) and remedy in str(found) and '--amp' not in str(found)


def test_measuring_the_overlap_of_tiles():
    """A smaller tile would not help there."""
    restorer = restore.Restorer(lambda lq: lq, tile=8, measured=no_room)
    with pytest.raises(restore.UserError, match='to measure by how much tiles have to overlap; give --overlap 16'):
        restorer(np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(restore.UserError, match='memory does not suffice; give --tile 4'):
        restore.Restorer(no_room, tile=8, overlap=1)(np.zeros((20, 20, 3), np.uint8))
