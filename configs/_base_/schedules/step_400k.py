# Adam with the learning rate halved four times.
optimizers = dict(generator=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999)))
total_iters = 400000
lr_config = dict(policy='Step', by_epoch=False, step=[50000, 100000, 200000, 300000], gamma=0.5)
