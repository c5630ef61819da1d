# A training pipeline for beside a data set's own: zoomed, since a network that sees all of a face learns few of them by
# heart (docs/races.md).
zoomed_pipeline = [
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', flag='color', channel_order='rgb'),
    dict(
        type='RandomResizedCrop',  # scale is of the area; (1.0, 1.0) in both leaves images as they are
        keys=['gt'],
        crop_size=512,
        scale=(0.8, 1.0),
        ratio=(0.95, 1.05),
        interpolation='bicubic'),
    dict(type='Flip', keys=['gt'], flip_ratio=0.5, direction='horizontal'),
    dict(type='Degrade'),
    dict(type='ImageToTensor', keys=['lq', 'gt'], to_float32=False),
    dict(type='Collect', keys=['lq', 'gt'], meta_keys=['gt_path']),
]
