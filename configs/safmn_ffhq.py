# SAFMN with SRResNet's training: modulation at four scales, at two thirds of SRResNet-20's operations.
_base_ = [
    './_base_/models/safmn.py', './_base_/datasets/ffhq.py', './_base_/schedules/cosine_300k.py',
    './_base_/runtime/default.py'
]
# At once it would take 8.8 GiB, in two parts 4.4 (computed, as --dry-run does: docs/cuda.md).
accumulation_steps = 2
