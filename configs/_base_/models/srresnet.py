# SRResNet without batch norm (MMEditing's MSRResNet), 20 blocks: 1,812,995 parameters.
model = dict(
    type='FaceRestorer',  # a drop-in for BasicRestorer: see facesr/models/restorers/face_restorer.py
    generator=dict(
        type='MSRResNet',
        in_channels=3,
        out_channels=3,
        mid_channels=64,
        num_blocks=20,  # 16 is the usual size; 20 is the most that the cap allows
        upscale_factor=4),
    pixel_loss=dict(type='L1Loss', loss_weight=1.0))
train_cfg = None
test_cfg = dict(metrics=['PSNR', 'SSIM'], crop_border=0)  # RGB, uint8, no crop: the competition's rule
