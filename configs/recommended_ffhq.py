# What we would train for the competition: NAFUNet with the PSNR loss and Muon, 1.2 million faces in one cosine.
# Why: weights/README.md and docs/races.md; what it costs: docs/training.md. No GPU has trained it yet.
_base_ = './naf_unet_ffhq.py'
