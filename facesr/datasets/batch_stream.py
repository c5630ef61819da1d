"""Training batches one after the other, with what can go wrong on the way."""
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import facesr.compat.bridged  # noqa: F401

import torch
from mmcv.parallel import DataContainer
from torch.utils.data import DataLoader

from facesr.datasets.seeded_samples import SKIPPED
from facesr.utils import dist
from facesr.utils.errors import UserError, from_worker
from facesr.utils.pixels import to_float

RESTARTS = 3  # of the workers, without a batch between them
READY = 'ready'  # where a batch that was made on a stream of its own has the event to wait for


class WorkerDied(UserError):
    """A process that loads images is gone."""


class BatchStream:
    """An endless loader's batches on the host, and the position in the order of samples.

    Args:
        build (Callable[[int], DataLoader]): Makes a loader that starts at a position (samples used so far
            by all processes together).
        position (int): Where to start.
        restart (bool): Start workers again that died, where they were, instead of raising. Default: False.
        report (Callable[[str], None]): Told about skipped images and workers started again.
        prepare (Callable[[dict], dict] | None): What a thread makes of each batch while the one before it is worked
            with (`OnOwnStream`). Default: None.

    Attributes:
        position (int): Samples used by all processes together, those of the last batch included.
        counts (Counter): `skipped_images` and `worker_restarts` so far.
    """

    def __init__(self, build: Callable, position: int = 0, restart: bool = False, report: Callable = print,
                 prepare: Callable | None = None):
        self._build, self.position, self._restart, self._report = build, position, restart, report
        self._prepare = prepare
        self.counts = Counter()
        self.loader: DataLoader = build(position)
        self._batches: Iterator | None = None

    def __len__(self):
        """Batches in one pass over the data, as mmcv's hooks ask for it."""
        return len(self.loader)

    def next(self) -> dict:
        """The next batch: tensors, and `meta` as a list of dicts.

        Raises:
            UnreadableImage: An image cannot be used, and such are not skipped.
            WorkerDied: A worker is gone, and is not to be started again, or died again and again.
        """
        for attempt in range(RESTARTS + 1):
            try:
                batch = next(self._iterator())
                break
            except UserError as error:
                raise from_worker(error) from error
            except (RuntimeError, OSError, EOFError) as error:
                if not is_worker_death(error):
                    raise
                self._restart_or_raise(error, attempt)
        self.position += self.loader.batch_size * dist.world_size()
        for path in (path for meta in batch.get('meta', []) for path in meta.pop(SKIPPED, [])):
            self.counts['skipped_images'] += 1
            self._report(f'{path}: this training image cannot be used; another is taken '
                         f'({self.counts["skipped_images"]} times so far)')
        return batch

    def _iterator(self):
        if self._batches is None:
            self._batches = map(_unpacked, iter(self.loader))
            _no_error_from_signals()
            if self._prepare:
                self._batches = _prepared(self._batches, self._prepare)
        return self._batches

    def _restart_or_raise(self, error: Exception, attempt: int) -> None:
        reason = ' '.join(str(error).split()) or type(error).__name__
        advice = 'if it was killed for memory, lower data.workers_per_gpu'
        if not self._restart or attempt == RESTARTS:
            raise WorkerDied(f'data.workers_per_gpu: a loading process died ({reason}); {advice}; to have such '
                             'processes started again use --cfg-options on_data_error=skip') from error
        self.counts['worker_restarts'] += 1
        self._report(f'a loading process died ({reason}); started again ({self.counts["worker_restarts"]} times so '
                     f'far); {advice}')
        self._batches = None
        self.loader = self._build(self.position)


def is_worker_death(error: BaseException) -> bool:
    """Whether a loader says that one of its processes (or its pinning thread) is gone.

    One that goes while a batch is handed over breaks the connection the batch came on.
    """
    if isinstance(error, (ConnectionError, EOFError)):
        return not str(error).startswith('Caught ')  # in a process that lives
    gone = ('DataLoader worker (pid', 'Pin memory')
    return isinstance(error, RuntimeError) and any(who in str(error) for who in gone)


class OnOwnStream:
    """Works on batches on a CUDA device, in a stream beside the one that trains, which never waits for the host there.

    Args:
        work (Callable[[dict], dict]): From a batch on the device to its images.
        device (torch.device): A CUDA device.
    """

    def __init__(self, work: Callable, device: torch.device):
        self._work, self._device, self._stream = work, device, torch.cuda.Stream(device)

    def __call__(self, batch: dict) -> dict:
        """The batch with the images that were made of it, for `to_device`."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            images = self._work(to_device(batch, self._device))
            ready = torch.cuda.Event()
            ready.record()
        return {**batch, **images, READY: ready}


def _unpacked(batch: dict) -> dict:
    return {key: value.data[0] if isinstance(value, DataContainer) else value for key, value in batch.items()}


def _prepared(batches: Iterator, prepare: Callable) -> Iterator:
    """What a thread makes of each batch; the next one's is begun before this one is handed out.

    Batches are taken from the loader here: where that has no processes, samples are drawn from global generators. What
    goes wrong with a batch is raised when it is its turn.
    """
    with ThreadPoolExecutor(1) as pool:
        following = _begun(pool, batches, prepare)
        while True:
            this, following = following, _begun(pool, batches, prepare)
            yield this.result()


def _begun(pool: ThreadPoolExecutor, batches: Iterator, prepare: Callable) -> Future:
    try:
        return pool.submit(prepare, next(batches))
    except Exception as error:
        failed = Future()
        failed.set_exception(error)
        return failed


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on a device; from pinned memory the copy does not wait.

    8-bit images travel as such, a quarter of the bytes, and become [0, 1] there. The device waits for what another
    stream of its own makes.
    """
    if READY in batch:
        stream = torch.cuda.current_stream(device)
        stream.wait_event(batch[READY])
        for value in filter(torch.is_tensor, batch.values()):
            if value.is_cuda:
                value.record_stream(stream)  # else its memory would be used again while this stream reads it
    return {key: _images_to(device, value) if torch.is_tensor(value) else value for key, value in batch.items()}


def _images_to(device: torch.device, images: torch.Tensor) -> torch.Tensor:
    return to_float(images.to(device, non_blocking=True))


def _no_error_from_signals() -> None:
    """torch would raise from the signal of a worker's death, wherever training is at that moment, in the
    middle of an optimizer step too. Waiting for the next batch finds out as well.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, 'SIGCHLD'):
        handler = signal.getsignal(signal.SIGCHLD)
        if getattr(handler, '__module__', None) == 'torch.utils.data._utils.signal_handling':
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
