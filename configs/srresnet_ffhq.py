# The report's main model: SRResNet, 20 blocks. Published: 28.926 dB val, 28.7406 dB test at 285k iterations.
# Batch 8 at 512x512 GT takes 3.5 GiB of a card (computed: docs/cuda.md; the published training log has 5.3 GB).
_base_ = [
    './_base_/models/srresnet.py', './_base_/datasets/ffhq.py', './_base_/schedules/cosine_300k.py',
    './_base_/runtime/default.py'
]
