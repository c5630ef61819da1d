# RRDBNet (ESRGAN's generator), slimmed from (64, 23, 32) to (16, 16, 7): 636,947 parameters.
model = dict(
    type='FaceRestorer',
    generator=dict(
        type='RRDBNet',
        in_channels=3,
        out_channels=3,
        mid_channels=16,
        num_blocks=16,
        growth_channels=7,
        upscale_factor=4),
    pixel_loss=dict(type='L1Loss', loss_weight=1.0))
train_cfg = None
test_cfg = dict(metrics=['PSNR', 'SSIM'], crop_border=0)  # RGB, uint8, no crop: the competition's rule
