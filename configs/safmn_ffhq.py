# SAFMN with SRResNet's training: modulation at four scales, at two thirds of SRResNet-20's operations.
_base_ = [
    './_base_/models/safmn.py', './_base_/datasets/ffhq.py', './_base_/schedules/cosine_300k.py',
    './_base_/runtime/default.py'
]
# A sample leaves 1107 MiB for the backward pass, SRResNet-20's 311, of which eight took 5.3 GB: in four parts, 4.7 GB.
# Computed, not measured on a GPU.
accumulation_steps = 4
