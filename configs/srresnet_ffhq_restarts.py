# SRResNet-20 with many restarts: each period is twice as long as the one before it (SGDR, Loshchilov and Hutter 2017).
_base_ = './srresnet_ffhq.py'
lr_config = dict(periods=[20000, 40000, 80000, 160000], restart_weights=[1, 1, 1, 1])
