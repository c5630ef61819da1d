# The baseline: SRResNet at its usual 16 blocks, 1,517,571 parameters.
_base_ = './srresnet_ffhq.py'
model = dict(generator=dict(num_blocks=16))
