"""The log that people read, and the JSON log that tools read."""
import datetime
import logging
import sys
import time
from contextlib import ExitStack

from mmcv.runner import HOOKS, IterBasedRunner, TextLoggerHook
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from facesr.datasets.loader import most_workers
from facesr.utils.memory import peak_allocated, peak_memory

STARVED = 0.2  # share of an iteration spent waiting for data, from which the log says so


@HOOKS.register_module()
class SRTextLoggerHook(TextLoggerHook):
    """mmcv's `TextLoggerHook`: one line per logging window, or a progress bar on a terminal.

    A line has the iteration, the time to go, iterations per second, losses, learning rate, peak memory and
    the time that the device waited for data. On a terminal the lines go to the log file alone. The JSON
    log keeps mmcv's keys; `memory` (MiB) is what tensors took of a card, as mmcv's, `memory_reserved` what the
    allocator took of it for them; on a CPU `memory` is the process's. A full disk does not end training.

    Args:
        interval (int): Iterations per window. Default: 100.
        by_epoch (bool): Only False is of use here. Default: False.
    """

    def __init__(self, interval: int = 100, by_epoch: bool = False):
        super().__init__(by_epoch=by_epoch, interval=interval)
        self._bar, self._starved, self._broken, self._contexts = None, False, False, ExitStack()

    def before_run(self, runner: IterBasedRunner) -> None:
        """Open the log and, on a terminal, the progress bar."""
        super().before_run(runner)
        if runner.rank == 0 and sys.stderr.isatty():
            self._bar = tqdm(total=runner.max_iters, initial=runner.iter, unit='it', dynamic_ncols=True)
            self._contexts.enter_context(self._bar)
            self._contexts.enter_context(logging_redirect_tqdm([runner.logger]))  # lines go above the bar

    def after_train_iter(self, runner: IterBasedRunner) -> None:
        """Log if it is time."""
        super().after_train_iter(runner)
        if self._bar is not None:
            self._bar.update()

    def after_run(self, runner: IterBasedRunner) -> None:
        """Close the progress bar."""
        self._contexts.close()

    def _get_max_memory(self, runner):
        return int(peak_allocated(runner.device) if runner.device.type == 'cuda' else peak_memory(runner.device) or 0)

    def log(self, runner: IterBasedRunner) -> dict:
        """Write a line and a JSON record of a window or a validation."""
        scaler = getattr(getattr(runner.model, 'update', None), 'scaler', None)
        if scaler and self.get_mode(runner) == 'train':
            runner.log_buffer.output['loss_scale'] = scaler.get_scale()
        return super().log(runner)

    def _log_info(self, log_dict, runner):
        if log_dict['mode'] == 'train':
            log_dict['memory'] = self._get_max_memory(runner)
            if runner.device.type == 'cuda':
                log_dict['memory_reserved'] = int(peak_memory(runner.device))
            self._train_line(log_dict, runner)
            self._warn_if_starved(log_dict, runner)
        else:
            values = ', '.join(f'{name}: {value:.4f}' for name, value in log_dict.items()
                               if name not in ('mode', 'epoch', 'iter', 'lr'))
            runner.logger.info(f'Iter(val) [{log_dict["iter"]}] {values}')

    def _train_line(self, log_dict, runner) -> None:
        # With validations and checkpoints: what the clock on the wall will show.
        seconds = (time.monotonic() - runner.start_time) / (runner.done - runner.start_iter)
        eta = datetime.timedelta(seconds=int(seconds * (runner.max_iters - runner.done)))
        known = ('mode', 'epoch', 'iter', 'lr', 'time', 'data_time', 'memory', 'memory_reserved')
        losses = ', '.join(f'{name}: {value:.4f}' for name, value in log_dict.items() if name not in known)
        rates = ', '.join(f'lr_{name}: {value:.3e}' for name, value in log_dict['lr'].items())
        reserved = f' ({log_dict["memory_reserved"]} reserved)' if 'memory_reserved' in log_dict else ''
        speed = 1 / max(log_dict['time'], 1e-9)
        line = (f'Iter [{log_dict["iter"]}/{runner.max_iters}] eta: {eta}, {speed:.2f} it/s, {losses}, {rates}, '
                f'memory: {log_dict["memory"]} MiB{reserved}, data_time: {log_dict["data_time"]:.3f} s')
        if self._bar is None:
            runner.logger.info(line)
            return
        self._bar.set_postfix_str(f'{losses}, {rates}, {log_dict["memory"]} MiB')
        log_to_file(runner.logger, line)

    def _warn_if_starved(self, log_dict, runner) -> None:
        share = log_dict['data_time'] / max(log_dict['time'], 1e-9)
        if share > STARVED and not self._starved:
            loader = runner.stream.loader
            workers, free = loader.num_workers, most_workers()
            more = (f'data.workers_per_gpu={free} (now {workers}; {free} cores)' if workers < free else
                    f'a machine with more cores (all {free} are in use), or a smaller batch')
            runner.logger.warning(f'the device waits for data {share:.0%} of the time (data_time); use {more}')
        self._starved = share > STARVED

    def _dump_log(self, log_dict, runner):
        try:
            super()._dump_log(log_dict, runner)
        except OSError as error:
            if not self._broken:
                runner.logger.warning(f'{self.json_log_path}: {error.strerror or error}; training goes on')
            self._broken = True


def log_to_file(logger: logging.Logger, line: str) -> None:
    """Write a line to a logger's files, not to the terminal."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(logger.makeRecord(logger.name, logging.INFO, '', 0, line, (), None))
