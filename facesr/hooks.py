"""Validation during training."""
from pathlib import Path

from mmcv.runner import HOOKS, EvalHook

from facesr.evaluation import evaluate_loader


@HOOKS.register_module()
class SREvalHook(EvalHook):
    """mmcv's `EvalHook` for iteration-based super-resolution training.

    Against mmcv 1.7.2: the metrics are this project's (`evaluate_loader`), the last iteration is
    validated too, the logs give the training iteration instead of the number of images, and the
    previous best checkpoint is deleted only after the new one is written.

    Args:
        dataloader (DataLoader): Validation pairs, read in order.
        interval (int): Iterations between validations.
        save_best (str | None): Metric whose best checkpoint is kept as `best_<metric>_iter_<n>.pth`.
        rule (str): 'greater' if more is better (PSNR, SSIM), else 'less'. Default: 'greater'.
        start (int | None): Iteration of the first validation; None for `interval`. Default: None.
    """

    def __init__(self, dataloader, interval, save_best='PSNR', rule='greater', start=None):
        super().__init__(
            dataloader, start=start, interval=interval, by_epoch=False, save_best=save_best, rule=rule,
            test_fn=evaluate_loader)

    def before_run(self, runner):
        """As mmcv's, but a resumed run does not hold on to a best checkpoint that is no longer there."""
        messages = runner.meta.setdefault('hook_msgs', {})
        if 'best_ckpt' in messages and not self._in_out_dir(runner, messages['best_ckpt']).is_file():
            runner.logger.warning(f'best checkpoint {messages["best_ckpt"]} is gone: its score no longer counts')
            for key in ('best_ckpt', 'best_score'):
                messages.pop(key, None)
        super().before_run(runner)

    def _should_evaluate(self, runner):
        return super()._should_evaluate(runner) or self.is_last_iter(runner)

    def _do_evaluate(self, runner):
        results = [dict(eval_result=image.metrics) for image in self.test_fn(runner.model, self.dataloader)]
        score = self.evaluate(runner, results)
        if self.save_best and score is not None:
            self._save_ckpt(runner, score)

    def _save_ckpt(self, runner, key_score):
        messages = runner.meta['hook_msgs']
        best = messages.get('best_score', self.init_value_map[self.rule])
        if not self.compare_func(key_score, best):
            runner.logger.info(f'Best {self.key_indicator} stays {best:.4f}')
            return
        previous, name = self.best_ckpt_path, f'best_{self.key_indicator}_iter_{runner.iter + 1}.pth'
        self.best_ckpt_path = str(self._in_out_dir(runner, name))
        messages.update(best_score=float(key_score), best_ckpt=self.best_ckpt_path)
        runner.save_checkpoint(runner.work_dir, filename_tmpl=name, create_symlink=False)
        if previous and Path(previous).name != name:
            self._in_out_dir(runner, previous).unlink(missing_ok=True)
        runner.logger.info(f'Best {self.key_indicator} is {key_score:.4f}, saved as {name}')

    @staticmethod
    def _in_out_dir(runner, path) -> Path:
        return Path(runner.work_dir) / Path(path).name  # by name, because the work dir may have been moved
