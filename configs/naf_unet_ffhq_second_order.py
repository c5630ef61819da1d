# NAFUNet for faces from anywhere: trained on, from the weights for the competition, with Real-ESRGAN's second-order
# degradation. For the competition take naf_unet_ffhq.py, whose degradation is that of its LQ images.
_base_ = [
    './_base_/models/naf_unet.py', './_base_/datasets/ffhq_second_order.py', './_base_/datasets/zoomed.py',
    './_base_/schedules/muon_cosine.py', './_base_/runtime/default.py'
]
data = dict(train_dataloader=dict(samples_per_gpu=4), train=dict(pipeline={{_base_.zoomed_pipeline}}))
channels_last = True
load_from = 'weights/naf_unet_ffhq.safetensors'
load_hint = 'run the tools in the repository, or give weights with --cfg-options load_from=FILE (None: from scratch)'
optimizers = dict(generator=dict(lr=1e-3))
