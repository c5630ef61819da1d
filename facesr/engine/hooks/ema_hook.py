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


@HOOKS.register_module()
class MomentumEMAHook(Hook):
    """mmcv's `EMAHook`, of the generator alone: its moves of the average, into `FaceRestorer`'s `generator_ema`.

    mmcv keeps the averages of all parameters as buffers of the model, under names of their own, and takes them for
    validation at the ends of epochs, which there are none of in training by iterations.

    Args:
        momentum (float): How much of the weights goes into the average, in (0, 1); its `interval`-th power counts.
            Default: 0.0002.
        interval (int): Iterations between two moves. Default: 1.
        warm_up (int): The n-th move takes no more than (1 + n) / (warm_up + n). Default: 100.
    """

    def __init__(self, momentum=0.0002, interval=1, warm_up=100):
        if not (isinstance(momentum, float) and 0 < momentum < 1):
            raise ValueError(f'the momentum is {momentum!r}: give a number between 0 and 1, for example 0.0002')
        if not (isinstance(interval, int) and interval >= 1):
            raise ValueError(f'the interval is {interval!r}: give a whole number, at least 1')
        self.momentum, self.interval, self.warm_up = momentum**interval, interval, warm_up

    def after_train_iter(self, runner):
        """Move the average if it is time."""
        if runner.iter % self.interval == 0:
            runner.model.update_ema(1 - min(self.momentum, (1 + runner.iter) / (self.warm_up + runner.iter)))
