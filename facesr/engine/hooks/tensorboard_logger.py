"""Curves and pictures in TensorBoard."""
import contextlib
import threading
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from mmcv.runner import HOOKS, IterBasedRunner, TensorboardLoggerHook
from mmcv.runner.dist_utils import master_only
from torch.utils.tensorboard import SummaryWriter

from facesr.engine.hooks.eval_hook import SREvalHook


@HOOKS.register_module()
class SRTensorboardLoggerHook(TensorboardLoggerHook):
    """mmcv's `TensorboardLoggerHook` with LQ | HQ | GT of a few images at each validation.

    A resumed run hides what was logged after its checkpoint, and a full disk does not end training.

    Args:
        interval (int): Iterations between scalars. Default: 100.
        log_dir (str | None): Default: `tf_logs` in the work dir.
        by_epoch (bool): Only False is of use here. Default: False.
    """

    def __init__(self, interval: int = 100, log_dir: str | None = None, by_epoch: bool = False):
        super().__init__(log_dir, interval, by_epoch=by_epoch)
        self.writer: SummaryWriter | None = None
        self._before: Callable | None = None

    @master_only
    def before_run(self, runner: IterBasedRunner) -> None:
        """Open the event file."""
        super(TensorboardLoggerHook, self).before_run(runner)
        self._before, threading.excepthook = threading.excepthook, partial(self._in_thread, runner.logger)
        self.writer = SummaryWriter(self.log_dir or f'{runner.work_dir}/tf_logs', purge_step=runner.iter + 1)

    @master_only
    def log(self, runner: IterBasedRunner) -> None:
        """Write the averages of a logging window, or a validation's metrics and examples."""
        if self.writer is None:
            return
        try:
            for tag, value in self.get_loggable_tags(runner, tags_to_skip=('eval_iter_num',)).items():
                self.writer.add_scalar(tag, value, runner.done)
            if self.get_mode(runner) == 'val':
                self._add_examples(runner)
        except OSError as error:
            runner.logger.warning(f'no more TensorBoard logs: {error.strerror or error}')
            self.writer = None

    @master_only
    def after_run(self, runner: IterBasedRunner) -> None:
        """Close the event file."""
        if self.writer is not None:
            with contextlib.suppress(OSError):  # a full disk, told before
                self.writer.close()
        if self._before:
            self._before, threading.excepthook = None, self._before

    def _in_thread(self, logger, error) -> None:
        """TensorBoard's thread that writes would end with a traceback where its file cannot be written any more."""
        if issubclass(error.exc_type, OSError):
            logger.warning(f'no more TensorBoard logs: {error.exc_value.strerror or error.exc_value}')
        elif self._before:
            self._before(error)

    def _add_examples(self, runner) -> None:
        for hook in runner.hooks:
            for image in hook.examples if isinstance(hook, SREvalHook) else []:
                lq = cv2.resize(image.lq, image.hq.shape[1::-1], interpolation=cv2.INTER_NEAREST)
                row = np.concatenate([lq, image.hq, image.gt], axis=1)
                self.writer.add_image(f'val/LQ | HQ | GT {image.lq_path.rpartition("/")[2]}', row, runner.done,
                                      dataformats='HWC')
