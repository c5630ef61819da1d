# What we would train for the competition: NAFUNet with the PSNR loss and Muon, 1.2 million faces in one cosine.
# Why, and what it costs: docs/races.md. No card has trained it yet.
_base_ = './naf_unet_ffhq.py'
