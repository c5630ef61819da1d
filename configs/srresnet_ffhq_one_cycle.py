# SRResNet-20 with a single cosine over all 300k iterations, without a restart.
_base_ = './srresnet_ffhq.py'
lr_config = dict(periods=[300000], restart_weights=[1])
