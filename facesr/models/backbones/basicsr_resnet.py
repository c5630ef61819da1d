"""SRResNet as BasicSR has it, for weights that were trained there."""
from mmedit.models.backbones.sr_backbones.sr_resnet import MSRResNet
from mmedit.models.registry import BACKBONES


@BACKBONES.register_module()
class BasicSRResNet(MSRResNet):
    """MMEditing's `MSRResNet` with a leaky ReLU after each upsampling, which BasicSR's of the same name has.

    The arguments and the weights' names are `MSRResNet`'s; `facesr.checkpoint` gives BasicSR's weights these names.
    """
    of_basicsr = True  # its weights fit no other network, though names and shapes do

    def forward(self, x):
        """(n, in_channels, h, w) -> (n, out_channels, scale x h, scale x w), RGB in [0, 1]."""
        out = self.lrelu(self.upsample1(self.trunk_net(self.lrelu(self.conv_first(x)))))
        if self.upscale_factor == 4:
            out = self.lrelu(self.upsample2(out))
        return self.conv_last(self.lrelu(self.conv_hr(out))) + self.img_upsampler(x)
