# NAFUNet for faces from anywhere: trained on, from the weights for the competition, with Real-ESRGAN's second-order
# degradation. For the competition take naf_unet_ffhq.py, whose degradation is that of its LQ images.
_base_ = [
    './_base_/models/naf_unet.py', './_base_/datasets/ffhq_second_order.py', './_base_/schedules/muon_cosine.py',
    './_base_/runtime/default.py'
]
train_pipeline = [  # zoomed, as naf_unet_ffhq.py
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', flag='color', channel_order='rgb'),
    dict(
        type='RandomResizedCrop',
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
channels_last = True
load_from = 'weights/naf_unet_ffhq.safetensors'
load_hint = 'run the tools in the repository, or give weights with --cfg-options load_from=FILE (None: from scratch)'
optimizers = dict(generator=dict(lr=1e-3))
