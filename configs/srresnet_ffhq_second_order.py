# SRResNet-20 for faces from anywhere: trained on Real-ESRGAN's second-order degradation. For the competition take
# srresnet_ffhq.py, whose degradation is that of its LQ images.
_base_ = [
    './_base_/models/srresnet.py', './_base_/datasets/ffhq_second_order.py', './_base_/schedules/cosine_300k.py',
    './_base_/runtime/default.py'
]
