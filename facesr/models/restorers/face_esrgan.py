"""MMEditing's ESRGAN for this project's ways of training and testing."""
import torch
from mmedit.models.builder import build_component, build_loss
from mmedit.models.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm

from facesr.models.restorers.face_restorer import FaceRestorer, exchanging_gradients
from facesr.models.restorers.optimizer_step import AdversarialSteps, OptimizerStep


@MODELS.register_module()
class FaceESRGAN(FaceRestorer):
    """MMEditing's `ESRGAN` (a relativistic average GAN) with what `FaceRestorer` has.

    The arguments, the weights' names, the losses' names and, in full precision, the steps are `ESRGAN`'s.
    For testing it is `FaceRestorer`. Precision, accumulation and clipping hold for both networks, each with its own
    `OptimizerStep`; the moving average and `compile` are the generator's alone. If the generator's loss is not finite,
    the discriminator is left as it is too.

    Batch norm in the discriminator and the means that a prediction is compared with are over the images that it
    sees at once: with `accumulation_steps` those of a chunk, with several processes those of one. So unlike
    a pixel loss these depend a little on how a batch is cut up. The logged `loss` is the generator's.

    Args:
        generator (dict): Config of the generator.
        discriminator (dict): Config of the discriminator; takes HQ images, gives logits.
        gan_loss (dict): Config of the adversarial loss, whose weight is for the generator alone.
        pixel_loss (dict | None): Config of the pixel loss. Default: None.
        perceptual_loss (dict | None): Config of the perceptual loss (`VGGPerceptualLoss`). Default: None.
        train_cfg (dict | None): `disc_steps` (the generator is updated in every so many steps, default 1) and
            `disc_init_steps` (for so many steps at the start it is not, default 0).
        test_cfg (dict | None): As for `BasicRestorer`.
        pretrained (str | None): As for `BasicRestorer`.

    Source: Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCVW 2018.
    """

    def __init__(self, generator: dict, discriminator: dict, gan_loss: dict, pixel_loss: dict | None = None,
                 perceptual_loss: dict | None = None, train_cfg: dict | None = None, test_cfg: dict | None = None,
                 pretrained: str | None = None):
        # `BasicRestorer` has to have a pixel loss.
        super().__init__(generator, pixel_loss or dict(type='L1Loss'), train_cfg, test_cfg, pretrained)
        self.pixel_loss = self.pixel_loss if pixel_loss else None
        self.discriminator = build_component(discriminator)
        self.gan_loss = build_loss(gan_loss)
        self.perceptual_loss = build_loss(perceptual_loss) if perceptual_loss else None
        self.disc_steps = (train_cfg or {}).get('disc_steps', 1)
        self.disc_init_steps = (train_cfg or {}).get('disc_init_steps', 0)

    def prepare_training(self, device: torch.device, dtype: torch.dtype | None = None, channels_last: bool = False,
                         compile: bool | dict = False, accumulation_steps: int = 1,
                         grad_clip: float | None = None) -> None:
        """As `FaceRestorer.prepare_training`, and read what the perceptual loss needs.

        Raises:
            UserError: The perceptual loss lacks its weights.
        """
        if hasattr(self.perceptual_loss, 'load'):
            self.perceptual_loss.load(device, torch.channels_last if channels_last else torch.preserve_format)
        super().prepare_training(device, dtype, channels_last, compile, accumulation_steps, grad_clip)
        self._update = AdversarialSteps(
            self._update, OptimizerStep(dtype, device, accumulation_steps, grad_clip, network='discriminator'))
        # MMEditing's ModifiedVGG takes its features for NCHW, which they are where weights and images are.
        self.discriminator.to(memory_format=torch.contiguous_format)
        for module in self.discriminator.modules():
            if isinstance(module, _BatchNorm):  # one NaN would stay in them for ever, and nothing ever reads them
                module.track_running_stats = False
        # It looks at real and generated images before one backward pass. DDP would copy the first rank's running
        # statistics in place in between, into what the backward pass needs; in training nothing reads them.
        net = exchanging_gradients(self.discriminator, device, broadcast_buffers=False)
        object.__setattr__(self, '_training_discriminator', net)

    def compute_step(self, images: dict, optimizer: dict) -> tuple:
        """As `FaceRestorer.compute_step`, of both networks; what the generator made before its step goes to the
        discriminator, so that neither has to wait for the other's.
        """
        step, generator = self.update.steps, None
        if step % self.disc_steps == 0 and step >= self.disc_init_steps:
            generator, fake = self._compute_generator(images, optimizer['generator'])
        else:
            fake = self._restored(images['lq'])
        if self.keep_results:
            self._made.append(dict(images, output=fake))
        return generator, self._compute_discriminator(images['gt'], fake, optimizer['discriminator'])

    def forward_train(self, lq, gt):
        """The generator's training forward; arguments and result as of `FaceRestorer.forward_train`.

        The discriminator's weights are taken for constants: the caller sees to it.
        """
        output = self.__dict__.get('_training_net', self.generator)(lq).float()  # losses are never in half precision
        losses = {}
        if self.pixel_loss:
            losses['loss_pix'] = self.pixel_loss(output, gt)
        if self.perceptual_loss:
            pair = zip(('loss_perceptual', 'loss_style'), self.perceptual_loss(output, gt), strict=True)
            losses.update((name, loss) for name, loss in pair if loss is not None)
        with torch.no_grad():
            real = self.discriminator(gt.contiguous()).float()
        fake = self.discriminator(output.contiguous()).float()
        losses['loss_gan'] = (self.gan_loss(fake - real.mean(), target_is_real=True, is_disc=False)
                              + self.gan_loss(real - fake.mean(), target_is_real=False, is_disc=False)) / 2
        return dict(losses=losses, num_samples=len(gt), results=dict(lq=lq, gt=gt, output=output.detach()))

    def _compute_generator(self, images: dict, optimizer) -> tuple:
        """Returns what was computed, and what it made of the batch."""
        made = []

        def losses_of(lq, gt):
            outputs = self.forward_train(lq, gt)
            made.append(outputs['results']['output'])
            return outputs['losses']

        # Gradients go through the discriminator, not to it; so it need not be DDP's either.
        self.discriminator.requires_grad_(False)
        computed = self.update.generator.compute(losses_of, images, optimizer, self._training_net)
        return computed, torch.cat(made)

    def _restored(self, lq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), self.update.generator.autocast():
            return self.generator(lq).float()

    def _compute_discriminator(self, real: torch.Tensor, fake: torch.Tensor, optimizer):
        """MMEditing computes the predictions once more for the second loss: the same numbers, since nothing changed."""
        net = self._training_discriminator

        def losses_of(real, fake):
            real, fake = net(real.contiguous()).float(), net(fake.contiguous()).float()
            return dict(
                loss_d_real=self.gan_loss(real - fake.detach().mean(), target_is_real=True, is_disc=True) / 2,
                loss_d_fake=self.gan_loss(fake - real.detach().mean(), target_is_real=False, is_disc=True) / 2)

        self.discriminator.requires_grad_(True)
        return self.update.discriminator.compute(losses_of, dict(real=real, fake=fake), optimizer, net)
