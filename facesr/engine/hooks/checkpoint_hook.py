"""Checkpoints during training."""
from pathlib import Path

from mmcv.runner import HOOKS, CheckpointHook, IterBasedRunner

from facesr.checkpoint.naming import numbered_checkpoints
from facesr.utils.files import remove_old


@HOOKS.register_module()
class SRCheckpointHook(CheckpointHook):
    """mmcv's `CheckpointHook` for `SRIterBasedRunner`.

    Against mmcv 1.7.2: nothing is pruned unless the new checkpoint is on the disk, checkpoints that a
    stop wrote between the intervals are pruned too, and arguments that it does not know are refused.

    Args:
        interval (int): Iterations between checkpoints; the last iteration is always saved.
        max_keep_ckpts (int): Number of `iter_*.pth` to keep, the newest; -1 for all. The best is kept
            besides. Default: -1.
        save_optimizer (bool): Without it a run cannot be resumed. Default: True.
        by_epoch (bool): Only False is of use here. Default: False.
    """

    def __init__(self, interval: int, max_keep_ckpts: int = -1, save_optimizer: bool = True, by_epoch: bool = False):
        if by_epoch:
            raise ValueError('training is counted in iterations: by_epoch=False')
        super().__init__(interval, by_epoch=False, save_optimizer=save_optimizer, max_keep_ckpts=max_keep_ckpts)

    def before_run(self, runner: IterBasedRunner) -> None:
        """mmcv's would only look for file back-ends."""
        self.out_dir = runner.work_dir

    def after_train_iter(self, runner: IterBasedRunner) -> None:
        """Save if it is time."""
        if not (self.every_n_iters(runner, self.interval) or self.is_last_iter(runner)):
            return
        with runner.untimed():
            messages = runner.meta.setdefault('hook_msgs', {})
            messages['last_ckpt'] = str(Path(self.out_dir) / f'iter_{runner.done}.pth')
            if runner.save_checkpoint(self.out_dir, save_optimizer=self.save_optimizer) and runner.rank == 0:
                self._prune(runner)

    def _prune(self, runner) -> None:
        if self.max_keep_ckpts < 1:
            return
        regular = [path for number, is_regular, path in numbered_checkpoints(self.out_dir)
                   if is_regular and number <= runner.done]
        for path in regular[:-self.max_keep_ckpts]:
            remove_old(path, runner.logger.warning)
