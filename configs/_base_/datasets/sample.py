# The embedded sample: portraits that installed packages ship. It shows the machinery; it is no benchmark.
_base_ = './ffhq.py'
data_root = 'data/sample'
data_hint = 'make the sample with: python tools/make_sample.py'
gt_patch_size = 64  # small crops, so that two CPU cores finish in about two minutes
data = dict(
    workers_per_gpu=1,
    train_dataloader=dict(samples_per_gpu=4),
    train=dict(
        lq_folder=f'{data_root}/train/GT',
        gt_folder=f'{data_root}/train/GT',
        ann_file='annotations/sample_train.txt'),
    val=dict(lq_folder=f'{data_root}/val/LQ', gt_folder=f'{data_root}/val/GT'),
    test=dict(lq_folder=f'{data_root}/test/LQ'))
