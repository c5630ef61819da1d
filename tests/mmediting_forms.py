"""Small configs in the forms that MMEditing 0.x's users write, for the tests."""

# Flat, as the organiser of the competition wrote his: what the base runtime sets is not there.
ORGANISER = '''
exp_name = 'small'
scale = 4
depth = 1
model = dict(
    type='BasicRestorer',
    generator=dict(type='MSRResNet', in_channels=3, out_channels=3, mid_channels=8, num_blocks=depth,
                   upscale_factor=scale),
    pixel_loss=dict(type='L1Loss', loss_weight=1.0, reduction='mean'))
train_cfg = None
test_cfg = dict(metrics=['PSNR', 'SSIM'], crop_border=0)
train_dataset_type = 'SRFolderDataset'
val_dataset_type = 'SRFolderDataset'
opts = dict(resize_opt=['bilinear', 'area', 'bicubic'], resize_prob=[1 / 3., 1 / 3., 1 / 3.])
train_pipeline = [
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', channel_order='rgb'),
    dict(type='RescaleToZeroOne', keys=['gt']),
    dict(type='CopyValues', src_keys=['gt'], dst_keys=['lq']),
    dict(type='RandomBlur', params=dict(kernel_size=[41], kernel_list=['iso', 'aniso'], kernel_prob=[0.5, 0.5],
                                        sigma_x=[0.2, 5], sigma_y=[0.2, 5], rotate_angle=[-3.1416, 3.1416]),
         keys=['lq']),
    dict(type='RandomResize', params=dict(resize_mode_prob=[0, 1, 0], resize_scale=[0.0625, 1], **opts), keys=['lq']),
    dict(type='RandomNoise', params=dict(noise_type=['gaussian'], noise_prob=[1], gaussian_sigma=[0, 25],
                                         gaussian_gray_noise_prob=0), keys=['lq']),
    dict(type='RandomJPEGCompression', params=dict(quality=[50, 95]), keys=['lq']),
    dict(type='RandomResize', params=dict(target_size=(512, 512), **opts), keys=['lq']),
    dict(type='Quantize', keys=['lq']),
    dict(type='RandomResize', params=dict(target_size=(128, 128), resize_opt=['area'], resize_prob=[1]), keys=['lq']),
    dict(type='PairedRandomCrop', gt_patch_size=32),
    dict(type='Flip', keys=['lq', 'gt'], flip_ratio=0.5, direction='horizontal'),
    dict(type='ImageToTensor', keys=['lq', 'gt']),
    dict(type='Collect', keys=['lq', 'gt'], meta_keys=['gt_path']),
]
test_pipeline = [
    dict(type='LoadImageFromFile', io_backend='disk', key='lq', channel_order='rgb'),
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', channel_order='rgb'),
    dict(type='RescaleToZeroOne', keys=['lq', 'gt']),
    dict(type='ImageToTensor', keys=['lq', 'gt']),
    dict(type='Collect', keys=['lq', 'gt'], meta_keys=['lq_path', 'lq_path']),
]
data = dict(
    workers_per_gpu=1,
    train_dataloader=dict(samples_per_gpu=2, drop_last=True, persistent_workers=False),
    val_dataloader=dict(samples_per_gpu=1, persistent_workers=False),
    test_dataloader=dict(samples_per_gpu=1, persistent_workers=False),
    train=dict(
        type='RepeatDataset',
        times=1000,
        dataset=dict(type=train_dataset_type, lq_folder='ROOT/train/GT', gt_folder='ROOT/train/GT',
                     pipeline=train_pipeline, scale=scale)),
    val=dict(type=val_dataset_type, lq_folder='ROOT/val/LQ', gt_folder='ROOT/val/GT', pipeline=test_pipeline,
             scale=scale, filename_tmpl='{}'),
    test=dict(type=val_dataset_type, lq_folder='ROOT/test/LQ', gt_folder='ROOT/val/GT', pipeline=test_pipeline,
              scale=scale, filename_tmpl='{}'))
optimizers = dict(generator=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999)))
total_iters = 2
lr_config = dict(policy='CosineRestart', by_epoch=False, periods=[2, 2], restart_weights=[1, 1], min_lr=1e-7)
checkpoint_config = dict(interval=50000, save_optimizer=True, by_epoch=False)
evaluation = dict(interval=1, save_image=False, gpu_collect=True)
log_config = dict(
    interval=1, hooks=[dict(type='TextLoggerHook', by_epoch=False),
                       dict(type='TensorboardLoggerHook')])
visual_config = None
dist_params = dict(backend='nccl')
log_level = 'INFO'
work_dir = f'ROOT/work_dirs/{exp_name}'
load_from = None
resume_from = None
workflow = [('train', 1)]
'''


def organiser(root, *more) -> str:
    """The organiser's form with its images below `root`, and more lines at its end."""
    return '\n'.join([ORGANISER.replace('ROOT', str(root)), *more])


def paired_pipeline(gt_patch_size: int, more: str = '') -> str:
    """The lines of a `train_pipeline` whose LQ are on the disk; `more` transforms come after the crop."""
    return f'''
train_pipeline = [
    dict(type='LoadImageFromFile', io_backend='disk', key='lq', flag='unchanged'),
    dict(type='LoadImageFromFile', io_backend='disk', key='gt', flag='unchanged'),
    dict(type='RescaleToZeroOne', keys=['lq', 'gt']),
    dict(type='Normalize', keys=['lq', 'gt'], mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True),
    dict(type='PairedRandomCrop', gt_patch_size={gt_patch_size}),
    {more}
    dict(type='Collect', keys=['lq', 'gt'], meta_keys=['lq_path', 'gt_path']),
    dict(type='ImageToTensor', keys=['lq', 'gt'])
]
'''
