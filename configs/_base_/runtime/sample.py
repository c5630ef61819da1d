# Four validations in a run of about two minutes, so that a PSNR curve exists.
_base_ = './default.py'
evaluation = dict(interval=100)
checkpoint_config = dict(interval=100, max_keep_ckpts=2)
log_config = dict(interval=20)
