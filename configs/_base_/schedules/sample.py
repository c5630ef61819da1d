# A short run on the embedded sample: one cosine period, from a higher rate than a long run bears.
optimizers = dict(generator=dict(type='Adam', lr=5e-4, betas=(0.9, 0.999)))
total_iters = 400
lr_config = dict(policy='CosineRestart', by_epoch=False, periods=[400], restart_weights=[1], min_lr=1e-7)
