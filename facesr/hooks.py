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
    """

    def __init__(self, dataloader, interval, save_best='PSNR', rule='greater', **kwargs):
        super().__init__(
            dataloader, interval=interval, by_epoch=False, save_best=save_best, rule=rule,
            test_fn=evaluate_loader, **kwargs)

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
        self.best_ckpt_path = str(Path(self.out_dir) / name)
        messages.update(best_score=float(key_score), best_ckpt=self.best_ckpt_path)
        runner.save_checkpoint(self.out_dir, filename_tmpl=name, create_symlink=False)
        if previous and Path(previous).name != name:
            (Path(self.out_dir) / Path(previous).name).unlink(missing_ok=True)  # by name: the work dir may have moved
        runner.logger.info(f'Best {self.key_indicator} is {key_score:.4f}, saved as {name}')
