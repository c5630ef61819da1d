# SRResNet-20 with the PSNR loss and one cosine: the best that is known of this network with Adam. Not trained to the
# end here. Muon gains 0.39 dB in 1000 iterations (docs/races.md), in 300,000 nobody knows.
#
# Reasons: benchmarks/race.py on a CPU in bf16, 48 faces, patches of 96 pixels, batch 4, 1000 iterations, 5 seeds, 12
# validation pairs; a miniature, which may not hold for 300k iterations. Differences in dB with 95 % intervals, not
# corrected for being five (with that the first still holds, the third does not):
#   PSNR loss against L1            +0.025 [+0.011, +0.039]  taken; public entries report +0.05 to +0.1
#   channel attention               -0.004 [-0.025, +0.016]  not taken: not told apart, and a quarter more memory
#   moving average (EMA) at the end -0.002 [-0.004, -0.000]  not taken: a rate that ends near 0 averages by itself
#   learning rate 4e-4 for 2e-4     -0.002 [-0.040, +0.036]  not taken: not told apart, and worse on the way
#   warm-up over 5 %                -0.012 [-0.041, +0.017]  not taken: not told apart
# One cosine instead of two was not raced; the published run lost 50k iterations to recover from its restart.
# Longer is better: a public entry gained 0.063 dB (val) from 2.75 million iterations instead of 300,000; for 3 million
# --cfg-options total_iters=3000000 "lr_config.periods=[3000000]". NAFUNet is better: recommended_ffhq.py.
_base_ = './srresnet_ffhq_one_cycle.py'
model = dict(pixel_loss=dict(type='PSNRLoss', loss_weight=1.0))  # the logged loss is -PSNR in dB
