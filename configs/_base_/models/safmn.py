# SAFMN, scaled to the cap: 16 blocks of 72 channels, each modulated by itself at four scales; 1,795,728 parameters.
# Source: Sun et al., "Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution", ICCV 2023
# (among the permissively licensed ones of spandrel).
model = dict(
    type='FaceRestorer',
    generator=dict(
        type='SpandrelNet',  # any architecture of spandrel: see facesr/models/backbones/spandrel_net.py
        architecture='SAFMN',  # what follows are its own arguments
        dim=72,  # the paper: 36 with 8 blocks, 128 with 16
        n_blocks=16,
        ffn_scale=2.0,
        upscaling_factor=4),
    pixel_loss=dict(type='L1Loss', loss_weight=1.0))
train_cfg = None
test_cfg = dict(metrics=['PSNR', 'SSIM'], crop_border=0)  # RGB, uint8, no crop: the competition's rule
