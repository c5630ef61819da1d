"""Validation during training."""
from functools import partial
from pathlib import Path

import cv2
from mmcv.runner import HOOKS, EvalHook, IterBasedRunner
from mmcv.runner.hooks.logger import LoggerHook

from facesr.checkpoint.naming import numbered_checkpoints
from facesr.datasets.batch_stream import is_worker_death
from facesr.engine.log_buffer import LazyLogBuffer
from facesr.engine.record import BEST_SINCE
from facesr.engine.runner import FAIL, GO_ON, STOP, VALIDATION_DUE
from facesr.evaluation.evaluator import evaluate_loader, mean_metrics
from facesr.evaluation.metrics import EMA_SUFFIX, METRICS
from facesr.utils import dist
from facesr.utils.errors import UserError
from facesr.utils.files import remove_old
from facesr.utils.images import save_png
from facesr.utils.memory import OutOfMemory, is_out_of_memory, let_go

EXAMPLES = 3


@HOOKS.register_module()
class SREvalHook(EvalHook):
    """mmcv's `EvalHook` for iteration-based super-resolution training.

    Against mmcv 1.7.2: the metrics are this project's (`evaluate_loader`), of the generator and of its
    moving average (`PSNR_ema`) if there is one; several processes share the images; the last iteration is
    validated too; the logs give the training iteration instead of the number of images; and the previous
    best checkpoint is deleted only after the new one is written. A stop in the middle of a validation
    does not wait for its end: the resumed run begins with it.

    Args:
        dataloader (DataLoader): Validation pairs, read in order (`build_eval_loader`).
        interval (int): Iterations between validations.
        save_best (str | None): Metric whose best checkpoint is kept as `best_<metric>_iter_<n>.pth`.
        rule (str | None): 'greater' or 'less' is better; None for what it is of this metric. Default: None.
        start (int | None): Iteration of the first validation; None for `interval`. Default: None.
        save_image (bool): Write the HQ images, as `val_visuals/NAME/NAME-ITERATION.png` of the work dir, which is
            what MMEditing calls them. Default: False.

    Attributes:
        examples (list[Restored]): A few images of the last validation, always the same ones.
    """

    def __init__(self, dataloader, interval, save_best='PSNR', rule=None, start=None, save_image=False):
        if rule is None and save_best:
            rule = METRICS[save_best.removesuffix(EMA_SUFFIX)].rule
        super().__init__(
            dataloader, start=start, interval=interval, by_epoch=False, save_best=save_best, rule=rule,
            test_fn=evaluate_loader)
        self.examples, self.save_image = [], save_image

    def before_run(self, runner: IterBasedRunner) -> None:
        """As mmcv's, but a resumed run does not hold on to a best checkpoint that is no longer there, and it makes up
        for a validation that was cut short.
        """
        messages = runner.meta.setdefault('hook_msgs', {})
        best = messages.get('best_ckpt')
        if best and dist.highest(int(runner.rank == 0 and not self._in_out_dir(runner, best).is_file())):
            runner.logger.warning(f'best checkpoint {messages["best_ckpt"]} is gone: its score no longer counts')
            for key in ('best_ckpt', 'best_score'):
                messages.pop(key, None)
        super().before_run(runner)
        if messages.get(VALIDATION_DUE):
            self._do_evaluate(runner)

    def before_train_iter(self, runner: IterBasedRunner) -> None:
        """Nothing: mmcv's would validate with `start` where a run is resumed, besides when it is time."""

    def after_train_iter(self, runner: IterBasedRunner) -> None:
        """Validate if it is time."""
        if self._should_evaluate(runner):
            self._do_evaluate(runner)

    def _should_evaluate(self, runner):
        return super()._should_evaluate(runner) or self.is_last_iter(runner)

    def _do_evaluate(self, runner):
        messages = runner.meta['hook_msgs']
        with runner.untimed():
            messages[VALIDATION_DUE] = True
            metrics = self._measure(runner)
            if metrics is None:
                return
            messages[VALIDATION_DUE] = False
            self._log(runner, metrics)
            if self.save_best:
                self._save_ckpt(runner, metrics[self.save_best])

    def _measure(self, runner):
        """Mean metrics over the images of all ranks, the same on each; None if a stop came in between."""
        self.examples.clear()
        results, problem = None, None
        try:
            results = self.test_fn(runner.model, self.dataloader, stop=lambda: runner.stop_requested,
                                   keep=self.examples, keep_at_most=EXAMPLES,
                                   each=partial(self._save_image, runner) if self.save_image else None)
        except (UserError, RuntimeError, OSError, EOFError, cv2.error) as error:
            # A scheduler's signal reaches the workers too: then their death is no failure.
            if not (runner.stop_requested and is_worker_death(error)):
                problem = self._as_user_error(error)
                let_go(error)
        wish = FAIL if problem else STOP if results is None else GO_ON
        if runner.agree(wish, problem) == STOP:
            return None
        return mean_metrics([result for part in dist.gather(results) for result in part])

    @staticmethod
    def _save_image(runner, restored) -> None:
        name = Path(restored.lq_path).stem
        path = Path(runner.work_dir) / 'val_visuals' / name / f'{name}-{runner.done:06d}.png'
        try:
            save_png(restored.hq, path)
        except OSError as error:
            runner.logger.warning(f'{path}: not written ({error.strerror or error}); training goes on')

    def _as_user_error(self, error: Exception) -> UserError:
        reason = ' '.join(str(error).split()) or type(error).__name__
        if isinstance(error, OutOfMemory) or is_out_of_memory(error):
            batch = self.dataloader.batch_size
            smaller = f'data.val_dataloader.samples_per_gpu={batch // 2}' if batch > 1 else (
                '--no-validate, and tools/test.py on the checkpoints; --device cpu there takes none of the card')
            return OutOfMemory(f'out of memory in validation ({reason.partition("; use ")[0]}); use {smaller}')
        if isinstance(error, UserError):
            return error
        if is_worker_death(error):
            return UserError(f'a process that loads validation images died ({reason}); use '
                             'data.val_dataloader.workers_per_gpu=0')
        if isinstance(error, (OSError, cv2.error)):
            return UserError(f'a validation image cannot be read any more ({reason})')
        raise error

    def _log(self, runner, metrics: dict) -> None:
        training, runner.log_buffer = runner.log_buffer, LazyLogBuffer()
        for hook in runner.hooks:
            if isinstance(hook, LoggerHook):
                runner.log_buffer.output.update(metrics, eval_iter_num=runner.done)
                hook.log(runner)
        runner.log_buffer = training

    def _save_ckpt(self, runner, key_score):
        messages = runner.meta['hook_msgs']
        best = messages.get('best_score', self.init_value_map[self.rule])
        if not self.compare_func(key_score, best):
            runner.logger.info(f'Best {self.key_indicator} stays {best:.4f}')
            return
        before = dict(messages)
        name = f'best_{self.key_indicator}_iter_{runner.done}.pth'
        messages.update(best_score=float(key_score), best_ckpt=str(self._in_out_dir(runner, name)))
        if not runner.save_checkpoint(runner.work_dir, filename_tmpl=name, create_symlink=False):
            messages.clear()
            messages.update(before)  # the best on disk is still the earlier one
            return
        if runner.rank == 0:
            self._remove_surpassed(runner)
        runner.logger.info(f'Best {self.key_indicator} is {key_score:.4f}, saved as {name}')

    def _remove_surpassed(self, runner) -> None:
        """All earlier bests: a kill between writing one and deleting the last may have left two.

        But for those that were measured otherwise.
        """
        since = runner.meta['hook_msgs'].get(BEST_SINCE, -1)
        for number, _, path in numbered_checkpoints(runner.work_dir):
            if since < number < runner.done and path.name == f'best_{self.key_indicator}_iter_{number}.pth':
                remove_old(path, runner.logger.warning)

    @staticmethod
    def _in_out_dir(runner, path) -> Path:
        return Path(runner.work_dir) / Path(path).name  # by name, because the work dir may have been moved
