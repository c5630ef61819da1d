# The same data with Real-ESRGAN's second-order degradation (Wang et al., ICCVW 2021, its published ranges) for photos
# from the wild: two rounds of blur, resize, noise and JPEG, then a sinc filter (ringing) and a JPEG in either order.
_base_ = './ffhq.py'

_kernels = dict(
    kernel_list=['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso', 'sinc'],
    kernel_prob=[0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1],  # sinc 0.1; the others share the rest
    kernel_size=[7, 9, 11, 13, 15, 17, 19, 21],
    rotate_angle=[-3.141592653589793, 3.141592653589793],
    beta_gaussian=[0.5, 4],
    beta_plateau=[1, 2])
_modes = dict(resize_opt=['bilinear', 'area', 'bicubic'], resize_prob=[1 / 3, 1 / 3, 1 / 3])
_kinds = dict(
    noise_type=['gaussian', 'poisson'],
    noise_prob=[0.5, 0.5],
    gaussian_gray_noise_prob=0.4,
    poisson_gray_noise_prob=0.4)

degradation = [
    # first round
    dict(type='RandomBlur', params=dict(_kernels, sigma_x=[0.2, 3], sigma_y=[0.2, 3]), keys=['lq']),
    dict(
        type='RandomResize',  # up, down or neither; the factor is of the size before it
        params=dict(_modes, resize_mode_prob=[0.2, 0.7, 0.1], resize_scale=[0.15, 1.5]),
        keys=['lq']),
    dict(type='RandomNoise', params=dict(_kinds, gaussian_sigma=[1, 30], poisson_scale=[0.05, 3]), keys=['lq']),
    dict(type='RandomJPEGCompression', params=dict(quality=[30, 95]), keys=['lq']),
    # second round
    dict(type='RandomBlur', params=dict(_kernels, prob=0.8, sigma_x=[0.2, 1.5], sigma_y=[0.2, 1.5]), keys=['lq']),
    dict(
        type='RandomResize',
        params=dict(_modes, resize_mode_prob=[0.3, 0.4, 0.3], resize_scale=[0.3, 1.2]),
        keys=['lq']),
    dict(type='RandomNoise', params=dict(_kinds, gaussian_sigma=[1, 25], poisson_scale=[0.05, 2.5]), keys=['lq']),
    dict(
        type='DegradationsWithShuffle',
        degradations=[
            [
                dict(type='RandomResize', params=dict(_modes, target_size=(128, 128))),
                dict(
                    type='RandomBlur',
                    params=dict(
                        prob=0.8,
                        kernel_list=['sinc'],
                        kernel_prob=[1],
                        kernel_size=[7, 9, 11, 13, 15, 17, 19, 21],
                        omega=[3.141592653589793 / 3, 3.141592653589793])),
            ],
            dict(type='RandomJPEGCompression', params=dict(quality=[30, 95])),
        ],
        keys=['lq']),
    dict(type='Quantize', keys=['lq']),
]
del _kernels, _modes, _kinds  # no keys of the config
