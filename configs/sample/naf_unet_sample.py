# NAFUNet on the embedded sample: the whole way in about two minutes on two CPU cores.
_base_ = [
    '../_base_/models/naf_unet.py', '../_base_/datasets/sample.py', '../_base_/schedules/muon_cosine.py',
    '../_base_/runtime/sample.py'
]
gt_patch_size = 128
channels_last = True
total_iters = 400
