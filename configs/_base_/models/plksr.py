# PLKSR, scaled to the cap: 9 blocks of 64 channels, a 17x17 convolution of 16 of them in each; 1,804,288 parameters.
# Source: Lee et al., "Partial Large Kernel CNNs for Efficient Super-Resolution", 2024, arXiv:2404.11848 (MIT licence).
model = dict(
    type='FaceRestorer',
    generator=dict(
        type='SpandrelNet',  # any architecture of spandrel: see facesr/models/backbones/spandrel_net.py
        architecture='PLKSR',  # what follows are its own arguments
        dim=64,
        n_blocks=9,  # 28 in the paper
        kernel_size=17,
        split_ratio=0.25,  # share of the channels that the large kernel sees
        ccm_type='CCM',
        upscaling_factor=4),
    pixel_loss=dict(type='L1Loss', loss_weight=1.0))
train_cfg = None
test_cfg = dict(metrics=['PSNR', 'SSIM'], crop_border=0)  # RGB, uint8, no crop: the competition's rule
