"""MMEditing's BasicRestorer for this project's ways of training and testing."""
from contextlib import contextmanager

from mmedit.models.registry import MODELS
from mmedit.models.restorers import BasicRestorer


@MODELS.register_module()
class FaceRestorer(BasicRestorer):
    """`BasicRestorer` that trains without copies to the host and tests without GT.

    The arguments, the weights' names and the images that come out are `BasicRestorer`'s.
    """

    def forward_train(self, lq, gt):
        """One training forward; nothing leaves the device (`BasicRestorer` copies lq, gt and output).

        Args:
            lq (Tensor): LQ images (n, 3, h, w), RGB in [0, 1].
            gt (Tensor): GT images (n, 3, scale x h, scale x w), RGB in [0, 1].

        Returns:
            dict: `losses`, `num_samples` and `results` (lq, gt and detached output, on the device).
        """
        output = self.generator(lq)
        return dict(
            losses=dict(loss_pix=self.pixel_loss(output, gt)),
            num_samples=len(gt),
            results=dict(lq=lq, gt=gt, output=output.detach()))

    def forward_test(self, lq, gt=None, **kwargs):
        """As `BasicRestorer.forward_test`, but without GT the metrics are left out instead of refused."""
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
