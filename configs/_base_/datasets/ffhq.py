# The competition's FFHQ faces: 512x512 GT, 128x128 LQ. Training LQ are made on the fly from GT.
data_root = 'data/FFHQ'  # `--data-root DIR` points every path below at another folder
data_hint = 'put the images there (layout: data/README.md) or point --data-root at them'
scale = 4
gt_patch_size = 512  # side of the training crop, after degradation; smaller to save memory or time

# Keep decoded GT images (768 KiB each) in a memory-mapped file on a local disk, for all of your runs on this machine:
# True (in data/FFHQ/train/.cache), or a folder.
cache_images = False

degrade_on = 'loader'  # where training LQ are made: by the processes that load images, or on the training 'device'

# Blind degradation, in this order, of RGB images (512x512 -> 128x128), in the terms of MMEditing's transforms.
resize_modes = ['bilinear', 'area', 'bicubic']
degradation = [
    dict(
        type='RandomBlur',
        params=dict(
            kernel_size=[41],
            kernel_list=['iso', 'aniso'],
            kernel_prob=[0.5, 0.5],
            sigma_x=[0.2, 5],
            sigma_y=[0.2, 5],
            rotate_angle=[-3.141592653589793, 3.141592653589793]),
        keys=['lq']),
    dict(
        type='RandomResize',  # always down, by a factor drawn from [1/16, 1]
        params=dict(
            resize_mode_prob=[0, 1, 0],
            resize_scale=[0.0625, 1],
            resize_opt=resize_modes,
            resize_prob=[1 / 3, 1 / 3, 1 / 3]),
        keys=['lq']),
    dict(
        type='RandomNoise',  # sigma in units of 1/255
        params=dict(
            noise_type=['gaussian'], noise_prob=[1], gaussian_sigma=[0, 25], gaussian_gray_noise_prob=0),
        keys=['lq']),
    dict(type='RandomJPEGCompression', params=dict(quality=[50, 95]), keys=['lq']),
    dict(
        type='RandomResize',
        params=dict(target_size=(512, 512), resize_opt=resize_modes, resize_prob=[1 / 3, 1 / 3, 1 / 3]),
        keys=['lq']),
    dict(type='Quantize', keys=['lq']),
    dict(
        type='RandomResize',
        params=dict(target_size=(128, 128), resize_opt=['area'], resize_prob=[1]),
        keys=['lq']),
]

train_pipeline = [
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', flag='color', channel_order='rgb'),
    # Before the degradation, so that JPEG's blocks begin at the left in all LQ, as in the organiser's.
    dict(type='Flip', keys=['gt'], flip_ratio=0.5, direction='horizontal'),
    dict(type='Degrade'),  # makes lq by the degradation above, crops both
    dict(type='ImageToTensor', keys=['lq', 'gt'], to_float32=False),  # 8-bit GT become [0, 1] on the device
    dict(type='Collect', keys=['lq', 'gt'], meta_keys=['gt_path']),
]
val_pipeline = [  # 8-bit images throughout: [0, 1] is for the network alone
    dict(type='LoadImageFromFile', io_backend='disk', key='lq', flag='color', channel_order='rgb'),
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', flag='color', channel_order='rgb'),
    dict(type='ImageToTensor', keys=['lq', 'gt'], to_float32=False),
    dict(type='Collect', keys=['lq', 'gt'], meta_keys=['lq_path', 'gt_path']),
]
test_pipeline = [
    dict(type='LoadImageFromFile', io_backend='disk', key='lq', flag='color', channel_order='rgb'),
    dict(type='ImageToTensor', keys=['lq'], to_float32=False),
    dict(type='Collect', keys=['lq'], meta_keys=['lq_path']),
]

data = dict(
    workers_per_gpu=4,
    train_dataloader=dict(samples_per_gpu=8),
    # A thread loads the next images meanwhile; with processes it took longer (benchmarks/validation.py).
    val_dataloader=dict(samples_per_gpu=1, workers_per_gpu=0),
    test_dataloader=dict(samples_per_gpu=1, workers_per_gpu=0),
    train=dict(
        type='SRAnnotationDataset',
        lq_folder=f'{data_root}/train/GT',  # the dataset asks for one; the pipeline never reads it
        gt_folder=f'{data_root}/train/GT',
        ann_file='annotations/ffhq_train.txt',
        pipeline=train_pipeline,
        scale=scale),
    val=dict(
        type='SRFolderDataset',
        lq_folder=f'{data_root}/val/LQ',
        gt_folder=f'{data_root}/val/GT',
        pipeline=val_pipeline,
        scale=scale,
        test_mode=True),
    test=dict(
        type='SRFolderLQDataset',  # LQ only: the organiser keeps the GT
        lq_folder=f'{data_root}/test/LQ',
        pipeline=test_pipeline,
        scale=scale))
