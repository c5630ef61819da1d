# ESRGAN: the slim RRDBNet, trained on from its PSNR weights with a discriminator: 636,947 + 1,061,417 = 1,698,364
# parameters, within the cap together. For looks: its PSNR is lower than that of the network it starts from.
# Needs VGG-19's weights (training says where to put them); --cfg-options model.perceptual_loss=None trains without.
_base_ = './rrdbnet_ffhq.py'
model = dict(
    type='FaceESRGAN',
    discriminator=dict(type='ModifiedVGG', in_channels=3, mid_channels=16),  # slimmed from 64
    pixel_loss=dict(loss_weight=1e-2),
    perceptual_loss=dict(
        type='VGGPerceptualLoss',  # MMEditing's PerceptualLoss, but with nothing downloaded and no VGG in checkpoints
        layer_weights={'34': 1.0},  # conv5_4 before its activation
        vgg_type='vgg19',
        perceptual_weight=1.0,
        criterion='l1',
        pretrained=None),  # a file; None: torchvision's cache
    gan_loss=dict(type='GANLoss', gan_type='vanilla', loss_weight=5e-3, real_label_val=1.0, fake_label_val=0))
train_cfg = dict(_delete_=True, disc_steps=1, disc_init_steps=0)  # how the networks take turns: at every iteration
gt_patch_size = 128  # ModifiedVGG takes no other
accumulation_steps = 1  # with patches this small all 16 fit; parts would change the discriminator's batch norm
load_from = 'work_dirs/rrdbnet_ffhq/latest.pth'  # the discriminator starts fresh
load_hint = ('train configs/rrdbnet_ffhq.py first, or give a checkpoint of it with --cfg-options load_from=FILE '
             '(load_from=None: from scratch)')
optimizers = dict(  # MMEditing's rates; the schedule of rrdbnet_ffhq.py is theirs too
    generator=dict(lr=1e-4),
    discriminator=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999)))
