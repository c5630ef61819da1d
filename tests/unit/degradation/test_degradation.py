"""The fast degradations against MMEditing's own transforms: for the same draws, and in distribution."""
import json
import pickle
from collections import Counter
from copy import deepcopy
from dataclasses import replace

import cv2
import numpy as np
import pytest
import stock_statistics
import torch
from scipy.stats import ks_2samp
from stock_statistics import COURSE, SECOND_ORDER, STATISTICS, statistics

from facesr.config import load_config
from facesr.datasets.degrade import training_recipe
from facesr.degradation.cpu import degrade
from facesr.degradation.device import BatchDegradation
from facesr.degradation.kernels import NEGLIGIBLE, full_kernel, trimmed
from facesr.degradation.noise import noise_field
from facesr.degradation.plan import KINDS, MODES, Blur, Jpeg, Noise, Plan, Quantize, Resize
from facesr.degradation.recipe import Recipe
from facesr.utils.errors import UserError
from tools._reference import NoiseRecord, degrade_by_mmedit

# In units of 1/255, for the same draws.
BEFORE_JPEG = 0.05  # largest difference of a pixel; the float32 of either way, and what kernels lose at their rim
AFTER_JPEG, AFTER_JPEG_MEAN = 0.5, 0.1  # mean of an image, and of all: where a coefficient was rounded the other way


@pytest.fixture(scope='session')
def faces(sample_root):
    """GT images: (512, 512, 3), uint8, RGB."""
    return stock_statistics.read_faces(sample_root)


def on_host(image, steps, noise):
    return degrade(image, steps, noise)


def on_device(image, steps, noise):
    gt = torch.from_numpy(image).permute(2, 0, 1).float().div(255)
    return BatchDegradation(noise=noise)(gt[None], [Plan(tuple(steps), None)])[0][0].permute(1, 2, 0).numpy()


def difference(way, image, steps):
    """|ours - MMEditing's| under the same noise, in units of 1/255."""
    record = NoiseRecord()
    ours = way(image, steps, record)
    stock = degrade_by_mmedit(image, steps, record.replay())
    assert ours.shape == stock.shape and ours.dtype == np.float32
    return np.abs(ours - stock) * 255


ways = pytest.mark.parametrize('way', [on_host, on_device])


@ways
@pytest.mark.parametrize('config', [COURSE, SECOND_ORDER])
def test_same_draws_same_image(config, way, faces):
    recipe, means = training_recipe(load_config(config)), []
    for seed in range(12):
        image = faces[seed % len(faces)]
        steps = recipe.draw(np.random.default_rng(seed), *image.shape[:2]).steps
        first_jpeg = next((i for i, step in enumerate(steps) if isinstance(step, Jpeg)), len(steps))
        assert difference(way, image, steps[:first_jpeg]).max() < BEFORE_JPEG
        means.append(difference(way, image, steps).mean())
    assert max(means) < AFTER_JPEG and np.mean(means) < AFTER_JPEG_MEAN


@ways
@pytest.mark.parametrize('kind', KINDS)
def test_every_kernel(kind, way, faces):
    for size, sigma_x, sigma_y in ((41, 4.9, 0.3), (41, 0.2, 0.2), (21, 2.5, 5), (7, 1, 0.6)):
        blur = Blur(kind, size, sigma_x, sigma_y if kind.endswith('aniso') else sigma_x, 0.7, 1.7, 1.3)
        assert difference(way, faces[0], [blur]).max() < BEFORE_JPEG


@ways
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('size', [(128, 128), (32, 32), (511, 511), (190, 190), (640, 640), (512, 512)])
def test_every_resize(mode, size, way, faces):
    assert difference(way, faces[1], [Resize(*size, mode)]).max() < 0.01
    assert difference(way, cv2.resize(faces[1], (37, 37)), [Resize(*size, mode)]).max() < 0.01


@ways
def test_no_noise_keeps_the_ways_in_step(way, faces):
    steps = [Noise('gaussian', 0., False, 1), Resize(128, 128, 'area'), Noise('gaussian', 0.1, False, 2)]
    assert difference(way, faces[0], steps).max() < 0.01


@ways
@pytest.mark.parametrize('kind, amount', [('gaussian', 0.1), ('poisson', 3.)])
@pytest.mark.parametrize('gray', [False, True])
def test_noise(kind, amount, gray, way, faces):
    step = Noise(kind, amount, gray, seed=5)
    assert difference(way, faces[2], [step]).max() < 0.01
    added = way(faces[2], [step], NoiseRecord()) * 255 - faces[2]
    assert (np.ptp(added, axis=2).max() < 0.01) == gray
    again, other = (way(faces[2], [replace(step, seed=seed)], NoiseRecord()) * 255 - faces[2] for seed in (5, 6))
    assert (again == added).all() and (other != added).any()


@pytest.mark.parametrize('gray', [False, True])
def test_poisson_noise_has_the_strength_of_mmeditings(gray, faces):
    from mmedit.datasets.pipelines import RandomNoise
    params = dict(noise_type=['poisson'], noise_prob=[1], poisson_scale=[2, 2], poisson_gray_noise_prob=int(gray))
    np.random.seed(0)
    image = np.float32(faces[0]) / 255
    stock = RandomNoise(params, ['lq'])(dict(lq=image))['lq'] - image
    ours = degrade(faces[0], [Noise('poisson', 2., gray, 0)]) - image
    dark = faces[0].max(axis=2) < 60
    for where in (dark, ~dark):
        assert ours[where].std() == pytest.approx(stock[where].std(), rel=0.02)


@ways
def test_jpeg_swaps_red_and_blue_as_the_reference_does(way, faces):
    assert difference(way, faces[0], [Jpeg(60)]).mean() < 0.01
    straight = cv2.imencode('.jpg', cv2.cvtColor(faces[0], cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    straight = cv2.cvtColor(cv2.imdecode(straight, 1), cv2.COLOR_BGR2RGB)
    assert np.abs(way(faces[0], [Jpeg(60)], None) * 255 - straight).mean() > 0.1


@ways
def test_images_that_are_small_or_not_square(way, faces):
    steps = [Blur('aniso', 41, 3, 1, 0.5), Resize(50, 90, 'bicubic'), Quantize()]
    assert difference(way, np.ascontiguousarray(faces[0][:100, :180]), steps).mean() < 0.01
    assert difference(way, np.ascontiguousarray(faces[0][:12, :15]), [Blur('aniso', 41, 3, 1, 0.5)]).max() < BEFORE_JPEG


def test_the_image_is_left_as_it_was(faces):
    image, gt = faces[0].copy(), torch.from_numpy(faces[0]).permute(2, 0, 1).float()[None] / 255
    before = gt.clone()
    for steps in ([Quantize()], [Noise('gaussian', 0.1, False, 0)], [Resize(512, 512, 'area'), Quantize()]):
        degrade(image, steps)
        BatchDegradation()(gt, [Plan(tuple(steps), (512, 512))])
        assert (image == faces[0]).all() and torch.equal(gt, before)


def test_a_batch_is_its_images_one_by_one(faces):
    recipe = training_recipe(load_config(SECOND_ORDER))
    plans = [recipe.draw(np.random.default_rng(seed), 512, 512).cropped((8, 16, 32)) for seed in range(4)]
    gt = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in faces[:4]]).float() / 255
    lq, patches = BatchDegradation()(gt, plans)
    assert lq.shape == (4, 3, 32, 32) and patches.shape == (4, 3, 128, 128)
    assert torch.equal(patches, gt[:, :, 32:160, 64:192])
    for i, plan in enumerate(plans):
        alone, _ = BatchDegradation()(gt[i:i + 1], [plan])
        assert (alone[0] - lq[i]).abs().mean() * 255 < AFTER_JPEG
    again, _ = BatchDegradation()(gt, plans)
    assert torch.equal(again, lq)


def test_what_opencvs_resizes_are_is_asked_once(faces, monkeypatch):
    """Also of as many sizes as batches of a recipe have."""
    steps = [[Resize(side, side + 1, mode)] for side in range(60, 90) for mode in MODES]
    first = [on_device(faces[0][:64, :64], step, None) for step in steps]
    monkeypatch.setattr(cv2, 'resize', None)
    assert all((on_device(faces[0][:64, :64], step, None) == image).all()
               for step, image in zip(steps, first, strict=True))


def test_trimmed_kernels_keep_their_sum_and_their_mass():
    kernel = full_kernel(Blur('aniso', 41, 2.5, 0.5, 0.3))
    core = trimmed(kernel)
    assert core.size < kernel.size / 2 and core.sum() == pytest.approx(1)
    rows, columns = ((41 - side) // 2 for side in core.shape)
    assert kernel[rows:41 - rows, columns:41 - columns].sum() > 1 - 2 * NEGLIGIBLE


@pytest.fixture(scope='module')
def stored():
    """Statistics of MMEditing's transforms, for each config."""
    return json.loads(stock_statistics.FILE.read_text())


@pytest.mark.parametrize('config', [COURSE, SECOND_ORDER])
def test_the_stored_statistics_are_mmeditings(config, faces, stored):
    """Of the first images; OpenCV's releases differ a little."""
    made = stock_statistics.stock_statistics(config, faces, 8)
    assert {name: len(values) for name, values in stored[config].items()} == dict.fromkeys(
        STATISTICS, stock_statistics.COUNTS[config])
    for name, values in made.items():
        assert stored[config][name][:8] == pytest.approx(values, rel=0.02), name


@ways
@pytest.mark.parametrize('config, count', stock_statistics.COUNTS.items())
def test_the_distribution_is_mmeditings(config, count, way, faces, stored):
    """Two-sample Kolmogorov-Smirnov tests of statistics per image, each way with draws of its own."""
    recipe = training_recipe(load_config(config))

    def make(number, image):
        return way(image, recipe.draw(np.random.default_rng([1, number]), 512, 512).steps, noise_field)

    ours, stock = statistics(make, faces, count), stored[config]
    p_values = {name: ks_2samp(ours[name], stock[name]).pvalue for name in STATISTICS}
    assert min(p_values.values()) > 0.01, p_values


def test_the_distribution_test_sees_a_small_change(faces):
    """Noise up to 35 instead of 25 does not pass it."""
    cfg = load_config(COURSE)
    recipe = Recipe(cfg.degradation)
    noisy = deepcopy(list(cfg.degradation))
    noisy[2]['params']['gaussian_sigma'] = [0, 35]
    values = [[STATISTICS['colour noise'](np.float64(degrade(faces[i % 4], r.draw(np.random.default_rng([s, i]), 512,
                                                                                 512).steps)), None)
               for i in range(500)] for s, r in ((2, recipe), (3, Recipe(noisy)))]
    assert ks_2samp(*values).pvalue < 0.01


def test_draws_have_the_recipes_ranges_and_shares():
    recipe = training_recipe(load_config(COURSE))
    plans = [recipe.draw(np.random.default_rng(seed), 512, 512).steps for seed in range(2000)]
    blurs, downs, noises, jpegs, ups, _, areas = zip(*plans, strict=True)
    assert Counter(blur.kind for blur in blurs)['iso'] == pytest.approx(1000, abs=100)
    assert 0.2 <= min(blur.sigma_x for blur in blurs) < 0.25 and 4.95 < max(blur.sigma_x for blur in blurs) <= 5
    assert all(blur.sigma_x == blur.sigma_y for blur in blurs if blur.kind == 'iso')
    assert 32 <= min(down.height for down in downs) < 36 and 506 < max(down.height for down in downs) <= 512
    for resizes in (downs, ups):
        assert all(share == pytest.approx(667, abs=90) for share in Counter(r.mode for r in resizes).values())
    assert max(noise.amount for noise in noises) == pytest.approx(25 / 255, abs=0.001)
    assert len({noise.seed for noise in noises}) == 2000
    assert {jpeg.quality for jpeg in jpegs} == set(range(50, 96))
    assert {(area.height, area.width, area.mode) for area in areas} == {(128, 128, 'area')}


def test_groups_are_shuffled_and_steps_left_out():
    recipe = training_recipe(load_config(SECOND_ORDER))
    ends = Counter()
    for seed in range(1000):
        names = [type(step).__name__ for step in recipe.draw(np.random.default_rng(seed), 512, 512).steps]
        ends[tuple(names[next(i for i, n in enumerate(names) if i > 3 and n == 'Noise') + 1:])] += 1
    sinc_first, jpeg_first = (('Resize', 'Blur', 'Jpeg', 'Quantize'), ('Jpeg', 'Resize', 'Blur', 'Quantize'))
    assert ends[sinc_first] == pytest.approx(400, abs=60) and ends[jpeg_first] == pytest.approx(400, abs=60)
    assert sum(ends.values()) - ends[sinc_first] - ends[jpeg_first] == pytest.approx(200, abs=50)
    assert len(ends) == 4


def test_generalized_kernels_have_mmeditings_beta():
    """It draws a bound first, then beta between that and 1."""
    params = dict(kernel_list=['generalized_iso'], kernel_prob=[1], kernel_size=[21], sigma_x=[1, 1],
                  beta_gaussian=[0.5, 4])
    recipe = Recipe([dict(type='RandomBlur', params=params, keys=['lq'])])
    ours = [recipe.draw(np.random.default_rng(seed), 64, 64).steps[0].beta for seed in range(2000)]
    rng = np.random.RandomState(0)
    bounds = rng.uniform(0.5, 4, 2000)
    theirs = [rng.uniform(bound, 1) if rng.uniform() <= 0.5 else rng.uniform(1, bound) for bound in bounds]
    assert ks_2samp(ours, theirs).pvalue > 0.01


def test_plans_are_values():
    recipe = training_recipe(load_config(SECOND_ORDER))
    plan = recipe.draw(np.random.default_rng(3), 512, 512)
    assert pickle.loads(pickle.dumps(plan)) == plan == recipe.draw(np.random.default_rng(3), 512, 512)
    assert plan != recipe.draw(np.random.default_rng(4), 512, 512)
    assert [step['type'] for step in plan.as_dicts()] == [type(step).__name__ for step in plan.steps]
    assert all(plan.describe())


@pytest.mark.parametrize('entries, message', [
    ([], 'is empty'),
    ([dict(type='RandomVideoCompression', params={})], "0 is 'RandomVideoCompression'; give one of RandomBlur"),
    ([dict(type='RandomJPEGCompression', params={})], "KeyError: 'quality'"),
    ([dict(type='RandomJPEGCompression', params=dict(quality=[0, 95]))], 'give a range within 1 to 100'),
    ([dict(type='RandomJPEGCompression', params=3)], 'AttributeError'),
    ([dict(type='RandomJPEGCompression', params=dict(quality=[50, 95]), keys=['gt'])], "has keys \\['gt'\\]"),
    ([dict(type='RandomBlur', params=dict(kernel_list=['iso'], kernel_prob=[1], kernel_size=41))], 'TypeError'),
    ([dict(type='DegradationsWithShuffle')], "KeyError: 'degradations'"),
    (5, 'TypeError'),
    ([dict(type='RandomBlur', params=dict(kernel_list=['skew'], kernel_prob=[1], kernel_size=[7]))], "has 'skew'"),
    ([dict(type='RandomBlur', params=dict(kernel_list=['iso'], kernel_prob=[1], kernel_size=[8]))], 'give odd'),
    ([dict(type='RandomBlur', params=dict(kernel_list=['iso'], kernel_prob=[1], kernel_size=[7]))], 'iso needs sigma'),
    ([dict(type='RandomResize', params=dict(target_size=(8, 8), resize_opt=['cubic'], resize_prob=[1]))], "'cubic'"),
    ([dict(type='RandomResize', params=dict(target_size=(8, 8), resize_opt=['area'], resize_prob=[.5]))], 'not add up'),
    ([dict(type='DegradationsWithShuffle', degradations=[[dict(type='Blur')]], keys=['lq'])], "is 'Blur'"),
])
def test_wrong_recipes_are_refused(entries, message):
    with pytest.raises(UserError, match=message):
        Recipe(entries)


def test_an_even_size_and_a_kept_one():
    params = dict(resize_mode_prob=[0, 1, 0], resize_scale=[0.3, 1], resize_opt=['area'], resize_prob=[1])
    even = Recipe([dict(type='RandomResize', params=dict(params, is_size_even=True), keys=['lq'])])
    assert {even.draw(np.random.default_rng(s), 512, 512).steps[0].height % 2 for s in range(50)} == {0}
    kept = Recipe([dict(type='RandomResize', params=dict(params, resize_mode_prob=[0, 0, 1]), keys=['lq'])])
    assert kept.fits(100, 60, 1) and not kept.fits(100, 60, 4)
    course = training_recipe(load_config(COURSE))
    assert course.fits(512, 512, 4) and not course.fits(1024, 1024, 4) and not course.fits(514, 512, 4)


def test_a_size_that_not_every_draw_gives_does_not_fit():
    degradation = deepcopy(list(load_config(COURSE).degradation))
    degradation[-1]['params']['prob'] = 0.9
    assert not Recipe(degradation).fits(512, 512, 4)
