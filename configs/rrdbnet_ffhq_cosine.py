# Slim RRDBNet with SRResNet's cosine restarts: what the report wished it had tried.
_base_ = [
    './_base_/models/rrdbnet.py', './_base_/datasets/ffhq.py', './_base_/schedules/cosine_300k.py',
    './_base_/runtime/default.py'
]
data = dict(train_dataloader=dict(samples_per_gpu=16))
accumulation_steps = 4  # as in rrdbnet_ffhq.py
