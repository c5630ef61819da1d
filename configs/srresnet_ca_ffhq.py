# SRResNet-20 with RCAN's channel attention in each block: 1,819,435 parameters, 99.9 % of the cap.
_base_ = './srresnet_ffhq.py'
model = dict(generator=dict(type='MSRResNetCA', reduction=32))  # 16, as in RCAN, would be over the cap
