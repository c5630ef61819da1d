# A short run on the embedded sample: one cosine period.
optimizers = dict(generator=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999)))
total_iters = 120
lr_config = dict(policy='CosineRestart', by_epoch=False, periods=[120], restart_weights=[1], min_lr=1e-7)
