"""mmcv's iteration-based runner: checkpoints that are safe, a resume that is exact, stops that lose nothing."""
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmcv.runner import RUNNERS, IterBasedRunner

from facesr.checkpoint.integrity import check_ranks
from facesr.checkpoint.io import read_checkpoint, save_checkpoint
from facesr.checkpoint.naming import point_latest_to
from facesr.checkpoint.weights import load_weights
from facesr.config import Config, batch_size
from facesr.datasets.batch_stream import BatchStream, to_device
from facesr.engine.log_buffer import LazyLogBuffer
from facesr.engine.preflight import advice
from facesr.engine.settings import SEED
from facesr.utils import dist
from facesr.utils.errors import CheckpointError, OneRankError, UserError
from facesr.utils.files import remedy
from facesr.utils.memory import OutOfMemory, is_out_of_memory, let_go
from facesr.utils.random import random_state, restore_random_state
from facesr.utils.signals import Stopped, StopSignals

GO_ON, STOP, FAIL = range(3)  # what a rank wants to do next; the highest decides
VALIDATION_DUE = 'validation_due'  # among the hooks' messages
ECHO = 2.0  # seconds
LONGEST = 300  # letters of what another program says in a line of ours
SHAPED = {'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'momentum_buffer'}  # in optimizers: of a weight's shape
TRACEBACK = 'FACESR_TRACEBACK=1 shows where it comes from'


@RUNNERS.register_module()
class SRIterBasedRunner(IterBasedRunner):
    """`IterBasedRunner` for restorers like `FaceRestorer`, on a CPU, a GPU or as one of several processes.

    Against mmcv 1.7.2: checkpoints are written atomically, hold all that a run consists of (random
    states, gradient scaler, position in the data, the current logging window) and are read without
    executing pickled code; a full disk does not end training; signals (see `StopSignals`) end it after the
    iteration, with everything saved, and so does any failure that left the weights sound; losses are read from the
    device only for the log.

    Args:
        cfg (Config): For the batch size, the seed, and the advice when memory runs out.
        kwargs: `IterBasedRunner`'s arguments.

    Attributes:
        stream (BatchStream): Set before `run`.
        settle (Callable[[], None]): Called when the work dir was gone and has been made anew.
        settings (dict): What the checkpoint that was resumed from says it was trained with (see `settings_of`).
    """

    _iter: int  # mmcv's
    _inner_iter: int

    def __init__(self, *args, cfg: Config, **kwargs):
        super().__init__(*args, **kwargs)
        self.cfg, self.settings = cfg, {}
        self.stream: BatchStream | None = None
        self.settle: Callable = lambda: None
        self.log_buffer = LazyLogBuffer()
        self.device = next(self.model.parameters()).device
        self.saved_iter: int | None = None  # of the newest checkpoint that this process wrote or resumed from
        self.position = 0
        self.counts = Counter()  # what went wrong before a resume, and updates skipped
        self._stepped = self._computing = False
        self._save_error: Exception | None = None  # of the last checkpoint, if it could not be written
        self._signals = StopSignals(ECHO if dist.world_size() > 1 else 0)
        self._mark = self._untimed = 0.0

    @property
    def done(self) -> int:
        """Updates done, also within the hooks of an iteration (where mmcv's `iter` lags behind by one)."""
        return self._iter + self._stepped

    @property
    def stop_requested(self) -> str | None:
        """The signal that asked for a stop, or None."""
        return self._signals.requested

    def get_hook_info(self) -> str:
        """The hooks in the order they run, in one line (mmcv lists them per stage, over a page)."""
        return ', '.join(type(hook).__name__ for hook in self.hooks)

    def run(self, stream: BatchStream) -> None:
        """Train to `max_iters`.

        Args:
            stream (BatchStream): Where batches come from.

        Raises:
            Stopped: After a signal; a checkpoint is written.
            UserError: Something failed; what was done is saved as far as it is sound.
        """
        self.stream, self.mode = stream, 'train'
        self.start_iter, self.start_time = self.iter, time.monotonic()
        self.logger.info(f'hooks: {self.get_hook_info()}')
        with self._signals:
            try:
                self.call_hook('before_run')
                window = self.log_buffer.state_dict()
                self.call_hook('before_epoch')  # mmcv's loggers forget the window, which a resume has brought
                self.log_buffer.load_state_dict(window)
                self._start_clock()
                while self.iter < self.max_iters:
                    self.train(stream)
            except UserError:
                raise
            except Exception as error:  # of a transform or hook of the user's, say
                raise self._failed(error) from error
            finally:
                self.call_hook('after_run')
        if self.meta['hook_msgs'].get(VALIDATION_DUE):  # the stop came after the last iteration
            self._stop()
        if not self.save_now():
            raise UserError(f'{self.work_dir}: the checkpoint of iteration {self.iter} could not be written; '
                            f'{self._remedy()} and go on with --resume')

    def train(self, stream: BatchStream) -> None:
        """One iteration."""
        self.model.train()
        self.mode, self.data_loader = 'train', stream
        batch = self._next_batch(stream)
        self.call_hook('before_train_iter')
        with self.readable_failures():
            batch, self._computing = to_device(batch, self.device), True
            outputs = self.model.train_step(batch, self.optimizer)
        self.position, self._computing = stream.position, False
        if not outputs['log_vars']:
            self.counts['skipped_updates'] += 1
            self.logger.warning(f'iteration {self.iter + 1}: the loss is NaN or infinite; weights left as they are '
                                f'({self.counts["skipped_updates"]} times so far)')
        self._stepped = True
        self.log_buffer.update(outputs['log_vars'], outputs['num_samples'])
        self._time_iteration()
        self.outputs = outputs
        self.call_hook('after_train_iter')
        self._iter, self._inner_iter, self._stepped = self._iter + 1, self._inner_iter + 1, False

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """Time spent within is not part of an iteration's `time` (validation, checkpoints)."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)  # what is still being computed belongs to the iteration
        start = time.perf_counter()
        try:
            yield
        finally:
            self._untimed += time.perf_counter() - start

    def load_checkpoint(self, filename: str | Path, map_location: str | torch.device = 'cpu', strict: bool = True,
                        revise_keys: Sequence = ()) -> dict:
        """Load a checkpoint's weights; always strict. Returns the checkpoint (see `read_checkpoint`)."""
        checkpoint = read_checkpoint(filename, map_location)
        load_weights(self.model, checkpoint, filename)
        return checkpoint

    def resume(self, checkpoint: str | Path, resume_optimizer: bool = True,
               map_location: str | torch.device = 'cpu') -> None:
        """Continue from a checkpoint: weights, optimizers, iteration, the hooks' messages and all random states.

        Raises:
            CheckpointError: It does not fit, or it has no optimizer or iteration to go on from.
        """
        path, stored = checkpoint, self.load_checkpoint(checkpoint, map_location)
        meta = stored['meta']
        states = stored.get('optimizer', {})
        if 'iter' not in meta or (resume_optimizer and states.keys() != self.optimizer.keys()):
            raise CheckpointError(f'{path} holds weights but not the state of a training run: '
                                  'start from it with --cfg-options load_from=... instead of --resume')
        if resume_optimizer:
            for name, optimizer in self.optimizer.items():
                self._load_optimizer(optimizer, states[name], path)
        self._epoch = meta.get('epoch', 0)
        self._iter = self._inner_iter = self.saved_iter = meta['iter']
        self.meta.setdefault('hook_msgs', {}).update(meta.get('hook_msgs', {}))
        self.counts = Counter(self.meta['hook_msgs'].get('counts', {}))
        self.settings = meta.get('settings', {})
        if self.settings and 'seed' in meta:
            self.settings.setdefault(SEED, str(meta['seed']))
        check_ranks(stored, path)
        try:
            self._restore_states(stored)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
            raise CheckpointError(f'{path}: its state of training cannot be gone on from ({reason_of(error)})'
                                  ) from error

    def _restore_states(self, stored: dict) -> None:
        """All that checkpoints of MMEditing lack."""
        self.position = stored.get('samples', self.iter * batch_size(self.cfg, 'train') * dist.world_size())
        update = self._update()
        if update and 'update' in stored:
            update.load_state_dict(stored['update'])
        elif hasattr(update, 'steps'):
            update.steps = self._iter
        ranks = stored.get('ranks', [])
        if len(ranks) == dist.world_size():  # else they belong to other processes
            self.log_buffer.load_state_dict(ranks[dist.rank()]['log_window'])
            restore_random_state(ranks[dist.rank()]['random'])

    @staticmethod
    def _load_optimizer(optimizer, state, path):
        """Adam's averages and steps from the checkpoint; learning rate and the like as the config has them now."""
        configured = [{key: value for key, value in group.items() if key != 'params'}
                      for group in optimizer.param_groups]
        try:
            optimizer.load_state_dict(state)
            _require_shapes(optimizer)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            raise CheckpointError(f'{path}: its optimizer does not fit this config ({reason_of(error)})') from error
        for group, settings in zip(optimizer.param_groups, configured, strict=True):
            group.update(settings, initial_lr=settings['lr'])

    def save_checkpoint(self, out_dir: str | Path, filename_tmpl: str = 'iter_{}.pth', meta: dict | None = None,
                        save_optimizer: bool = True, create_symlink: bool = True) -> bool:
        """Save under `out_dir/filename_tmpl`, atomically; with `create_symlink`, `latest.pth` leads to it.

        Called on every rank; the first one writes. If the disk is full, or weights are not finite, the log
        says so, nothing is replaced and training goes on.

        Returns:
            bool: Whether it is written.
        """
        path, written = Path(out_dir) / filename_tmpl.format(self.done), True
        # Without these, what a resumed run does would not be what this one does.
        ranks = dist.gather(dict(random=random_state(), log_window=self.log_buffer.state_dict(),
                                        counts=dict(self.stream.counts) if self.stream else {}))
        counts = sum((Counter(state.pop('counts')) for state in ranks), self.counts)
        self.meta.setdefault('hook_msgs', {})['counts'] = dict(counts)
        if self.rank == 0:
            try:
                self._require_folder(Path(out_dir))
                update = self._update().state_dict() if self._update() else None
                meta = dict(meta or {}, **(self.meta or {}), epoch=self.epoch, iter=self.done, time=time.asctime())
                save_checkpoint(path, self.model, self.optimizer if save_optimizer else None, meta,
                                samples=self.position, update=update, ranks=ranks)
                self._save_error = None
            except (OSError, FloatingPointError) as error:
                reason = getattr(error, 'strerror', None) or error
                self.logger.error(f'{path}: not saved ({reason}); earlier ones are as they were, training goes on')
                written, self._save_error = False, error
        written = not dist.highest(int(not written))
        if written and save_optimizer:
            self.saved_iter = self.done
        if written and create_symlink and self.rank == 0:
            try:
                point_latest_to(path)
            except OSError as error:
                self.logger.error(f'latest.pth does not lead to {path.name} ({error.strerror}); --resume finds it')
        return written

    def save_now(self) -> bool:
        """Save the last finished iteration if there is one and it is not saved yet; returns whether it is on disk."""
        if self.done == 0:
            return False
        there = self.rank > 0 or Path(self.work_dir, f'iter_{self.done}.pth').is_file()  # the folder may be gone
        if self.saved_iter == self.done and not dist.highest(int(not there)):
            return True
        return self.save_checkpoint(self.work_dir)

    def agree(self, wish: int, problem: Exception | None = None) -> int:
        """The highest of the ranks' wishes (GO_ON, STOP, FAIL), on every rank.

        Raises:
            UserError: It is FAIL: the problem of the first rank that has one, after saving what is done.
        """
        decision = dist.highest(wish)
        if decision == FAIL:
            problem = next(filter(None, dist.gather(problem)))
            raise type(problem)(f'{problem} ({self._what_is_saved()})') from problem
        return decision

    def _next_batch(self, stream) -> dict:
        """The next batch, or an orderly end if any rank wants one."""
        batch, problem, wish = None, None, STOP if self.stop_requested else GO_ON
        if wish is GO_ON:
            waited = self._waiting_time()
            try:
                batch = stream.next()
                self.log_buffer.update(dict(data_time=waited()))
            except UserError as error:
                # A scheduler may have sent the signal to the workers too.
                problem, wish = (None, STOP) if self.stop_requested else (error, FAIL)
            except Exception as error:
                if is_out_of_memory(error):  # from degrading a batch on the device
                    let_go(error)
                    problem = OutOfMemory(self._out_of_memory())
                else:
                    problem = UserError(f'the batch of iteration {self.iter + 1} could not be made: '
                                        f'{reason_of(error)}; {TRACEBACK}')
                    problem.__cause__ = error
                wish = FAIL
        if self.agree(wish, problem) == STOP:
            self._stop()
        if self.iter == self.start_iter:  # workers have to start first: no part of what an iteration takes
            self.log_buffer.val_history['data_time'][-1] = 0.0
            self._start_clock()
        return batch

    def _stop(self):
        raise Stopped(f'stopped after iteration {self.done} of {self.max_iters}; {self._what_is_saved()}')

    def _what_is_saved(self) -> str:
        if self.done == 0:
            return 'nothing is lost: start again'
        if self.save_now():
            return f'iteration {self.done} is saved in {self.work_dir}: go on with --resume'
        return f'iteration {self.done} could not be saved: {self._remedy()}; --resume goes on from an earlier one'

    def _remedy(self) -> str:
        if isinstance(self._save_error, OSError):
            return remedy(self._save_error)
        return 'see the log'

    def _require_folder(self, folder: Path) -> None:
        """Make the work dir anew where somebody moved or removed it."""
        if not folder.is_dir():
            folder.mkdir(parents=True)
            self.logger.warning(f'{folder} is gone (moved or removed while training); it is made anew, and what comes '
                                'from here on is in it')
            self.settle()

    def _failed(self, error: Exception) -> UserError:
        """What to say of a failure, after saving unless the weights were being changed."""
        message = f'in iteration {self.iter + 1}: {reason_of(error)}'
        # Other ranks may go on: alone this one cannot save.
        if dist.world_size() == 1 and not (self._computing and getattr(self._update(), 'stepping', True)):
            message += f'; {self._what_is_saved()}'
        return OneRankError(f'{message}; {TRACEBACK}')

    @contextmanager
    def readable_failures(self) -> Iterator[None]:
        """No memory, or no compiler, is no bug: say what to do, and save unless the weights were being changed.

        Raises:
            UserError: Instead of what was raised within.
        """
        try:
            yield
        except Exception as error:
            dynamo = sys.modules.get('torch._dynamo.exc')
            if dynamo and isinstance(error, dynamo.TorchDynamoException):
                reason = next((line for line in str(error).splitlines() if line), type(error).__name__)
                raise OneRankError(f'config key "compile": torch.compile failed ({reason}); use False') from error
            if not is_out_of_memory(error):
                raise
            let_go(error)
            message = self._out_of_memory()
            # Other ranks may have memory enough: alone this one cannot save.
            if dist.world_size() == 1 and not getattr(self._update(), 'stepping', True):
                message += f'; {self._what_is_saved()}'
            raise OutOfMemory(message) from error

    def _out_of_memory(self) -> str:
        return f'out of memory on {self.device} in iteration {self.iter + 1}; {advice(self.cfg, self.device)}'

    def _waiting_time(self):
        """Starts to measure how long the device is without work for want of data; returns how to end it (s).

        On CUDA two events in the device's own stream tell; they are read only for the log. While the device
        is still busy with the last iteration, waiting for data costs nothing.
        """
        if self.device.type != 'cuda':
            start = time.perf_counter()
            return lambda: time.perf_counter() - start
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()

        def seconds():
            after.synchronize()
            return before.elapsed_time(after) / 1000

        def end():
            after.record()
            return seconds

        return end

    def _start_clock(self) -> None:
        self._mark, self._untimed = time.perf_counter(), 0.0

    def _time_iteration(self) -> None:
        now = time.perf_counter()
        self.log_buffer.update(dict(time=max(now - self._mark - self._untimed, 0.0)))
        self._mark, self._untimed = now, 0.0

    def _update(self):
        return getattr(self.model, 'update', None)  # MMEditing's own restorers have none


def reason_of(error: Exception) -> str:
    """An exception in one line; from a loading process it comes with that one's traceback, its own line last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith('Caught '):
        return lines[-1][:LONGEST]
    return f'{type(error).__name__}: {" ".join(lines)}'[:LONGEST].rstrip(': ')


def _require_shapes(optimizer) -> None:
    """That an optimizer's averages have their weights' shapes, which torch does not look at when it loads them.

    Raises:
        ValueError: They have not.
    """
    for parameter, state in optimizer.state.items():
        for name in SHAPED & state.keys():
            if not torch.is_tensor(state[name]) or state[name].shape != parameter.shape:
                raise ValueError(f'{name} has another shape than its weight')
