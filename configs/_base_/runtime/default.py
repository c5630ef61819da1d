# Everything about a run that is neither model, data nor schedule.
budget = 1821085  # the competition's cap on generator parameters; None switches the check off
seed = 0  # `--seed N` overrides it
evaluation = dict(interval=5000, save_best='PSNR')  # iterations; the last one is always validated
checkpoint_config = dict(interval=5000, by_epoch=False, max_keep_ckpts=5)  # the best is kept besides
log_config = dict(
    interval=100,
    hooks=[dict(type='TextLoggerHook', by_epoch=False), dict(type='TensorboardLoggerHook', by_epoch=False)])
log_level = 'INFO'
load_from = None  # start from these weights (a checkpoint), with a fresh optimizer and schedule
work_dir = None  # None: work_dirs/<config name>
custom_hooks = []
workflow = [('train', 1)]
cudnn_benchmark = True  # inputs have one size, so cuDNN's search for the fastest kernels pays
