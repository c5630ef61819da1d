# Slim RRDBNet on the embedded sample: the whole way in about two minutes on two CPU cores.
# RRDBNet does not start from the upscaled LQ image as SRResNet does: two minutes leave it far below bicubic.
_base_ = [
    '../_base_/models/rrdbnet.py', '../_base_/datasets/sample.py', '../_base_/schedules/sample.py',
    '../_base_/runtime/sample.py'
]
