"""A moving average of the generator's weights."""
from mmcv.runner import HOOKS, Hook, IterBasedRunner


@HOOKS.register_module()
class GeneratorEMAHook(Hook):
    """Updates `FaceRestorer`'s `generator_ema` after each iteration.

    Against MMEditing's `ExponentialMovingAverageHook`: all weights at once (`torch.optim.swa_utils`),
    iterations whose loss was not finite do not count, and the average follows quickly at first: its decay at the
    n-th iteration is min(decay, n / (n + 9)), a function of n alone, so a resume need not remember it.

    Args:
        decay (float): How much of the average an iteration keeps, in [0, 1). Its memory is about
            1 / (1 - decay) iterations.
    """

    def __init__(self, decay: float):
        if not (isinstance(decay, (int, float)) and 0 <= decay < 1):
            raise ValueError(f'the decay is {decay!r}: give a number in [0, 1), for example 0.999')
        self.decay = decay

    def after_train_iter(self, runner: IterBasedRunner) -> None:
        """Move the average."""
        if runner.outputs['log_vars']:
            runner.model.update_ema(min(self.decay, runner.done / (runner.done + 9)))
