# NAFUNet: a U-Net of NAFNet's blocks for whole faces, with the PSNR itself as the loss: 1,234,048 parameters.
model = dict(
    type='FaceRestorer',
    generator=dict(
        type='NAFUNet',  # see facesr/models/backbones/naf_unet.py
        in_channels=3,
        out_channels=3,
        mid_channels=(64, 96, 128),  # at 64x64, 32x32 and 16x16 of an LQ image of 128x128
        num_blocks=(2, 2, 4),  # on the way down
        num_up_blocks=(3, 3),  # on the way up, the finest first
        patch_size=2,  # LQ pixels to a side of a position at the finest level
        upscale_factor=4),
    pixel_loss=dict(type='PSNRLoss', loss_weight=1.0))  # the logged loss is -PSNR in dB
train_cfg = None
test_cfg = dict(metrics=['PSNR', 'SSIM'], crop_border=0)  # RGB, uint8, no crop: the competition's rule
