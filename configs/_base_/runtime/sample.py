# Four validations in a run of two minutes, so that a PSNR curve exists.
_base_ = './default.py'
evaluation = dict(interval=30)
checkpoint_config = dict(interval=30, max_keep_ckpts=2)
log_config = dict(interval=10)
