# RRDBNet as published with ESRGAN: 16,697,987 parameters. Over the cap: a reference only, not for handing in.
_base_ = './rrdbnet_ffhq.py'
model = dict(generator=dict(mid_channels=64, num_blocks=23, growth_channels=32))
budget = None  # switches the parameter cap off
