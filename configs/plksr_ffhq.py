# PLKSR with SRResNet's training: large kernels, at two thirds of SRResNet-20's operations.
_base_ = [
    './_base_/models/plksr.py', './_base_/datasets/ffhq.py', './_base_/schedules/cosine_300k.py',
    './_base_/runtime/default.py'
]
