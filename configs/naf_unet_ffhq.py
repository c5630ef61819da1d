# A network made for faces: a U-Net of NAFNet's blocks that sees the whole face, trained with Muon.
_base_ = [
    './_base_/models/naf_unet.py', './_base_/datasets/ffhq.py', './_base_/datasets/zoomed.py',
    './_base_/schedules/muon_cosine.py', './_base_/runtime/default.py'
]
data = dict(train_dataloader=dict(samples_per_gpu=4), train=dict(pipeline={{_base_.zoomed_pipeline}}))
channels_last = True  # faster on CPUs too
