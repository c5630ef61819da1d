# SRResNet-20 on the embedded sample: the whole way in about two minutes on two CPU cores.
_base_ = [
    '../_base_/models/srresnet.py', '../_base_/datasets/sample.py', '../_base_/schedules/sample.py',
    '../_base_/runtime/sample.py'
]
