# Slim RRDBNet with the step schedule. Published: 28.216 dB val at 157.5k iterations.
_base_ = [
    './_base_/models/rrdbnet.py', './_base_/datasets/ffhq.py', './_base_/schedules/step_400k.py',
    './_base_/runtime/default.py'
]
data = dict(train_dataloader=dict(samples_per_gpu=16))
# Sixteen samples at once would take 9.9 GiB (computed: docs/cuda.md): in four parts they fit a 6 GB card.
accumulation_steps = 4
