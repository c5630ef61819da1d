"""What tools' arguments and configs' keys may be, where a tool says so in `--help` and must not import what uses it."""
AMP_MODES = ('auto', 'fp16', 'bf16')
LAUNCHERS = ('none', 'pytorch')
RESUME_LATEST, RESUME_AUTO = 'latest', 'auto'
SPLITS = ('val', 'test')
EXPORT_FORMATS = ('onnx', 'safetensors', 'pth')
OPSET = 17  # of ONNX; ONNX Runtime reads it since 1.12 (2022)
TILE = 256  # LQ pixels; SRResNet takes 0.9 GB for one in fp32
CPU = 'cpu'
FLIP = 'flip'
ENSEMBLES = {False: None, True: 'self-ensemble', FLIP: 'flip ensemble'}  # how they are called
FOR_PHOTOS = 'naf_unet_ffhq_second_order'  # of the weights in the box
