# Adam with two cosine periods of 150k iterations. The PSNR drops at the restart (150k) and is back by 200k.
optimizers = dict(generator=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999)))
total_iters = 300000
lr_config = dict(
    policy='CosineRestart', by_epoch=False, periods=[150000, 150000], restart_weights=[1, 1], min_lr=1e-7)
