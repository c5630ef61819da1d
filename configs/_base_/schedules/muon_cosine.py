# Muon for the convolutions, Adam for the rest, one cosine down to 0 over whatever `total_iters` is.
optimizers = dict(generator=dict(type='MuonAdam', lr=2e-3))
total_iters = 300000
lr_config = dict(policy='CosineAnnealing', by_epoch=False, min_lr=0)
