# Everything about a run that is neither model, data nor schedule.
custom_imports = dict(imports=['facesr.register'])  # MMEditing's way: what configs name is registered by this
budget = 1821085  # the competition's cap on generator parameters; None switches the check off
seed = 0  # `--seed N` overrides it
evaluation = dict(interval=5000, save_best='PSNR')  # iterations; the last one is always validated
# What a power cut costs at most; the last 5 are kept, and the best besides.
checkpoint_config = dict(interval=1000, by_epoch=False, max_keep_ckpts=5)
log_config = dict(
    interval=100,
    hooks=[dict(type='SRTextLoggerHook'), dict(type='SRTensorboardLoggerHook')])
log_level = 'INFO'
load_from = None  # start from these weights (a checkpoint), with a fresh optimizer and schedule
work_dir = None  # None: work_dirs/<config name>
custom_hooks = []
cudnn_benchmark = True  # inputs have one size, so cuDNN's search for the fastest kernels pays

# How a step is computed.
amp = None  # mixed precision: 'auto', 'fp16' or 'bf16'; `--amp` overrides it
channels_last = False  # keep images as NHWC, which tensor cores prefer; in fp32 cuDNN takes more memory for it
compile = False  # torch.compile; True, or a dict of its arguments
accumulation_steps = 1  # compute a batch in so many parts: less memory, the same training
grad_clip = None  # largest L2 norm of the gradient
ema = None  # keep a moving average of the generator's weights, with this decay, for example 0.999
memory_limit_gb = None  # let CUDA take no more than this (GiB), as if the card were that small
degrade = 'fast'  # MMEditing's degradation in a pipeline as our Degrade, where that is the same; 'stock' keeps it
on_data_error = 'stop'  # at an unreadable image or a loading process that died: 'stop' or 'skip' it
