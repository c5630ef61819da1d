# A network made for faces: a U-Net of NAFNet's blocks that sees the whole face, trained with Muon.
_base_ = [
    './_base_/models/naf_unet.py', './_base_/datasets/ffhq.py', './_base_/schedules/muon_cosine.py',
    './_base_/runtime/default.py'
]
# As in the base, but zoomed: a network that sees all of a face learns few of them by heart (docs/races.md).
train_pipeline = [
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', flag='color', channel_order='rgb'),
    dict(
        type='RandomResizedCrop',  # scale is of the area; (1.0, 1.0) in both leaves images as they are
        keys=['gt'],
        crop_size=512,
        scale=(0.8, 1.0),
        ratio=(0.95, 1.05),
        interpolation='bicubic'),
    dict(type='Flip', keys=['gt'], flip_ratio=0.5, direction='horizontal'),
    dict(
        type='Degrade',
        degradation={{_base_.degradation}},
        gt_patch_size={{_base_.gt_patch_size}},
        on={{_base_.degrade_on}}),
    dict(type='ImageToTensor', keys=['lq', 'gt'], to_float32=False),
    dict(type='Collect', keys=['lq', 'gt'], meta_keys=['gt_path']),
]
data = dict(train_dataloader=dict(samples_per_gpu=4), train=dict(pipeline=train_pipeline))
channels_last = True  # faster on CPUs too
