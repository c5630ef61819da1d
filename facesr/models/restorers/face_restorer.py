"""MMEditing's BasicRestorer for this project's ways of training and testing."""
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from mmedit.models.registry import MODELS
from mmedit.models.restorers import BasicRestorer
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from facesr.config import PLAN
from facesr.degradation.device import BatchDegradation
from facesr.models.restorers.optimizer_step import OptimizerStep
from facesr.utils import dist
from facesr.utils.errors import mistakes_in
from facesr.utils.pixels import to_float


def exchanging_gradients(net, device: torch.device, **kwargs):
    """A network as processes that `torchrun` started train it: in `DistributedDataParallel` (`kwargs`), also if there
    is one alone, so that what one GPU can show of it is seen there. Without `torchrun`, as it is.
    """
    if not dist.started():
        return net
    devices = [device.index] if device.type == 'cuda' else None
    return DistributedDataParallel(net, device_ids=devices, **kwargs)


@MODELS.register_module()
class FaceRestorer(BasicRestorer):
    """`BasicRestorer` that trains without copies of its images to the host, and tests without GT.

    The arguments, the weights' names and the images that come out are `BasicRestorer`'s. How it trains
    (precision, accumulation, several processes, EMA) is set by `prepare_training`; until then it trains
    as `BasicRestorer` does. With `keep_results` its `train_step` gives its images too. With `add_ema` it also holds
    `generator_ema`, named as MMEditing's `ExponentialMovingAverageHook` names it.
    """
    test_cfg: Any
    pixel_loss: Any
    _update: Any

    keep_results = False

    def prepare_training(self, device, dtype=None, channels_last=False, compile=False, accumulation_steps=1,
                         grad_clip=None):
        """Move to a device and set how `train_step` computes.

        Args:
            device (torch.device): Where to train.
            dtype (torch.dtype | None): What autocast computes in (`facesr.utils.precision.amp_dtype`).
            channels_last (bool): Keep images and weights as NHWC, which tensor cores prefer.
            compile (bool | dict): Whether to use `torch.compile`; a dict gives its arguments.
            accumulation_steps (int): Chunks that a batch is computed in.
            grad_clip (float | None): Largest L2 norm of the gradient.
        """
        self._degradation = BatchDegradation()
        self._channels_last = channels_last
        self.to(device, memory_format=torch.channels_last if channels_last else torch.preserve_format)
        self._update = OptimizerStep(dtype, device, accumulation_steps, grad_clip)
        net = exchanging_gradients(self.generator, device)
        if compile:
            with mistakes_in('compile'):
                net = torch.compile(net, **(compile if isinstance(compile, dict) else {}))
        # Not as a submodule: the weights keep their names.
        object.__setattr__(self, '_training_net', net)

    def add_ema(self) -> None:
        """Hold a moving average of the generator's weights, `generator_ema`, that starts as a copy of them."""
        self.generator_ema = deepcopy(self.generator).requires_grad_(False)

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Move `generator_ema` towards the generator: ema = decay * ema + (1 - decay) * weights."""
        average = get_ema_multi_avg_fn(decay)
        average(list(self.generator_ema.parameters()), list(self.generator.parameters()), None)
        for mean, value in zip(self.generator_ema.buffers(), self.generator.buffers(), strict=True):
            mean.copy_(value)

    @property
    def update(self) -> Any:
        """The `OptimizerStep` (of a GAN the `AdversarialSteps`) that `train_step` uses."""
        if '_update' not in self.__dict__:
            self.prepare_training(next(self.parameters()).device)
        return self._update

    def train_step(self, data_batch: dict, optimizer: dict) -> dict:
        """One update of the generator, and of the discriminator where there is one; losses stay on the device.

        Args:
            data_batch (dict): `lq` (n, 3, h, w) and `gt` (n, 3, scale x h, scale x w), RGB in [0, 1], on the device;
                without `lq`, whole `gt` with a plan in the `meta` of each (see `facesr.datasets.degrade.Degrade`).
            optimizer (dict[str, Optimizer]): By network, as `generator`.

        Returns:
            dict: `log_vars` (0-dim tensors; empty if a loss was not finite and the update skipped),
                `num_samples` and, with `keep_results`, `results` (lq, gt and output, on the device).

        Raises:
            TrainingDiverged: A loss was not finite too often in a row.
        """
        update, images = self.update, self._training_images(data_batch)
        self._made = []
        log_vars = update.finish(*self.compute_step(images, optimizer))
        return dict(log_vars=log_vars, num_samples=len(images['gt']), **self._results())

    def _results(self) -> dict:
        """The `results` of the chunks of a batch, as one; nothing where they are not kept."""
        made, self._made = self._made, []
        return dict(results={name: torch.cat([part[name] for part in made]) for name in made[0]}) if made else {}

    def compute_step(self, images: dict, optimizer: dict) -> tuple:
        """All of a step but its end: losses and gradients, which `update.finish` takes.

        Args:
            images (dict[str, Tensor]): `lq` and `gt`.
            optimizer (dict[str, Optimizer]): As for `train_step`.
        """
        def losses_of(lq, gt):
            outputs = self.forward_train(lq, gt)
            if self.keep_results:
                self._made.append(outputs['results'])
            return outputs['losses']

        return (self.update.compute(losses_of, images, optimizer['generator'], self._training_net), )

    def degrade(self, data_batch: dict) -> dict:
        """`lq` and `gt` of a batch on the device that has whole `gt` and a plan in the `meta` of each."""
        lq, gt = self._degradation(data_batch['gt'], [meta[PLAN] for meta in data_batch['meta']])
        return dict(lq=lq, gt=gt)

    def _training_images(self, data_batch) -> dict:
        images = data_batch if 'lq' in data_batch else self.degrade(data_batch)
        layout = torch.channels_last if self._channels_last else torch.preserve_format
        return {key: images[key].to(memory_format=layout) for key in ('lq', 'gt')}

    def forward_train(self, lq: torch.Tensor, gt: torch.Tensor) -> dict:
        """One training forward; nothing leaves the device (`BasicRestorer` copies lq, gt and output).

        Args:
            lq (Tensor): LQ images (n, 3, h, w), RGB in [0, 1].
            gt (Tensor): GT images (n, 3, scale x h, scale x w), RGB in [0, 1].

        Returns:
            dict: `losses`, `num_samples` and `results` (lq, gt and detached output, on the device).
        """
        output = self.__dict__.get('_training_net', self.generator)(lq).float()  # losses are never in half precision
        return dict(
            losses=dict(loss_pix=self.pixel_loss(output, gt)),
            num_samples=len(gt),
            results=dict(lq=lq, gt=gt, output=output.detach()))

    def forward_test(self, lq: torch.Tensor, gt: torch.Tensor | None = None, **kwargs) -> dict:
        """As `BasicRestorer.forward_test`, but takes 8-bit images too, and without GT the metrics are left out."""
        lq, gt = (None if images is None else to_float(images) for images in (lq, gt))
        if gt is not None:
            return super().forward_test(lq, gt, **kwargs)
        with self._without_metrics():
            return super().forward_test(lq, **kwargs)

    @contextmanager
    def _without_metrics(self):
        test_cfg, self.test_cfg = self.test_cfg, None
        try:
            yield
        finally:
            self.test_cfg = test_cfg
