"""Muon, an optimizer for the weights of convolutions, beside Adam for everything else."""
from collections import defaultdict

import facesr.compat.bridged  # noqa: F401

import torch
from mmcv.runner.optimizer.builder import OPTIMIZERS
from torch.optim.adam import adam

# Five steps of x -> a x + b x^3 + c x^5 bring singular values from (0, 1] to about 1 (0.7 to 1.2).
QUINTIC, STEPS = (3.4445, -4.7750, 2.0315), 5
LIKE_ADAM = 0.2  # root mean square of an update of Adam's, in units of its rate


@OPTIMIZERS.register_module()
class MuonAdam(torch.optim.Optimizer):
    """Muon for weights that are matrices, Adam for the others.

    Muon replaces the running mean of a gradient by the nearest orthogonal matrix, so that a step moves all
    directions of a layer alike. It is scaled to the size of Adam's steps, so both take rates of the same order.
    A convolution's weight (out, in, k, k) is the matrix (out, in k k). Depthwise ones, biases and gains, which are no
    matrices in that sense, are Adam's.

    Args:
        params (iterable): Parameters, or groups of them (dicts).
        lr (float): Rate of both. Default: 2e-3.
        momentum (float): Of Muon's running mean; Nesterov's. Default: 0.95.
        betas (tuple[float]): Of Adam's running means. Default: (0.9, 0.999).
        eps (float): Adam's. Default: 1e-8.

    Raises:
        ValueError: A number is out of its range, or missing.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; its scale: Liu et al.,
    "Muon is Scalable for LLM Training", 2025, arXiv:2502.16982. torch's own `Muon` takes 2D weights alone.
    """

    def __init__(self, params, lr: float = 2e-3, momentum: float = 0.95, betas=(0.9, 0.999), eps: float = 1e-8):
        if len(betas) != 2:
            raise ValueError(f'betas is {betas}: give two numbers')
        for name, value in dict(momentum=momentum, beta1=betas[0], beta2=betas[1]).items():
            if not 0 <= value < 1:
                raise ValueError(f'{name} is {value}: give a number from 0 to below 1')
        if lr < 0:
            raise ValueError(f'lr is {lr}: give a number from 0 on')
        super().__init__(params, dict(lr=lr, momentum=momentum, betas=tuple(betas), eps=eps))
        # A group has one or the other, so that schedules and logs see both as they are.
        self.param_groups[:] = [{**group, 'params': chosen, 'muon': muon} for group in self.param_groups
                                for muon in (True, False)
                                if (chosen := [weight for weight in group['params'] if is_matrix(weight) == muon])]

    @torch.no_grad()
    def step(self, closure=None):
        """One update of all parameters that have a gradient; returns what `closure` does, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group['params'] if weight.grad is not None]
            (self._muon if group['muon'] else self._adam)(weights, group)
        return loss

    def _adam(self, weights: list, group: dict) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight].update(step=torch.tensor(0.0), exp_avg=torch.zeros_like(weight),
                                          exp_avg_sq=torch.zeros_like(weight))
        states = [self.state[weight] for weight in weights]
        means, squares, steps = ([state[key] for state in states] for key in ('exp_avg', 'exp_avg_sq', 'step'))
        beta1, beta2 = group['betas']
        adam(weights, [weight.grad for weight in weights], means, squares, [], steps, amsgrad=False, beta1=beta1,
             beta2=beta2, lr=group['lr'], weight_decay=0, eps=group['eps'], maximize=False)

    def _muon(self, weights: list, group: dict) -> None:
        updates = defaultdict(list)  # by shape, as equal ones go through the device together
        for weight in weights:
            mean = self.state[weight].setdefault('momentum_buffer', torch.zeros_like(weight))
            mean.lerp_(weight.grad, 1 - group['momentum'])
            update = weight.grad.lerp(mean, group['momentum']).flatten(1)
            updates[update.shape].append((weight, update))
        for shape, pairs in updates.items():
            rate = group['lr'] * LIKE_ADAM * max(shape) ** 0.5
            directions = orthogonalized(torch.stack([update for _, update in pairs]))
            for (weight, _), direction in zip(pairs, directions, strict=True):
                weight.sub_(direction.view_as(weight), alpha=rate)


def is_matrix(weight: torch.Tensor) -> bool:
    """Whether Muon takes a parameter: (out, in, ...) with more than one row, and more than one channel in."""
    return weight.ndim in (2, 4) and min(weight.shape[:2]) > 1


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """About the nearest orthogonal matrix of each of (n, rows, columns), by a Newton-Schulz iteration in float32."""
    x = matrices.float()
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
