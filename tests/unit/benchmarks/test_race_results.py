"""What benchmarks/race.py says of made-up results, where the right answer is known."""
import numpy as np
import pytest
import scipy.stats
from race_entries import Length, Recipe
from race_figure import figure_of
from race_results import Difference, Outcome, Row, crossed_half_width, difference, report

RECIPE = Recipe(1000, 2 * 10**9, 10**9, 4, 96)


def row_of(label: str, images, recipe=RECIPE, iterations: int = 100) -> Row:
    """A row with PSNR of each image by seed; a dict, or a sequence that begins with seed 0. Bicubic has 26 dB."""
    by_seed = images if isinstance(images, dict) else dict(enumerate(images))
    by_seed = {seed: np.atleast_1d(np.asarray(psnr, float)) for seed, psnr in by_seed.items()}
    return Row(label, recipe, iterations, np.full(len(next(iter(by_seed.values()), ())), 26.),
               {seed: Outcome([(50, psnr.mean() - 1), (100, psnr.mean())], psnr, 1, 3600)
                for seed, psnr in by_seed.items()})


def test_the_interval_is_students():
    finals = {'a': [28.1, 28.3, 28.2, 28.6], 'b': [28.2, 28.5, 28.2, 28.8]}
    a, b = (row_of(label, values) for label, values in finals.items())
    found = difference(b, a)
    expected = scipy.stats.ttest_rel(finals['b'], finals['a']).confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(tuple(expected))
    assert found.verdict() == 'not told apart: the difference is within its interval'
    assert Difference(0.2, 0.1).verdict() == 'better' and Difference(-0.2, 0.1).verdict() == 'worse'


def test_the_interval_over_seeds_and_images():
    def noise(*shape):
        return random.standard_normal(shape)

    random = np.random.default_rng(0)
    # With one seed it is Student's over images, and so it is where seeds have no effect; with no effects but those of
    # seeds it is Student's over seeds.
    one = noise(1, 12)
    expected = scipy.stats.ttest_1samp(one[0], 0).confidence_interval(0.95)
    assert one.mean() + crossed_half_width(one) == pytest.approx(expected.high)
    images, seeds = noise(1, 40) + 1e-9 * noise(3, 40), noise(3, 1) + 1e-9 * noise(3, 40)
    expected = scipy.stats.ttest_1samp(images.mean(0), 0).confidence_interval(0.95)
    assert images.mean() + crossed_half_width(images) == pytest.approx(expected.high)
    expected = scipy.stats.ttest_1samp(seeds.mean(1), 0).confidence_interval(0.95)
    assert seeds.mean() + crossed_half_width(seeds) == pytest.approx(expected.high)
    assert crossed_half_width(np.full((3, 4), 0.25)) == 0


@pytest.mark.parametrize('seeds, deviations', [(2, (.02, .02, .02)), (3, (.02, 0, .05)), (3, (0, .1, .05))])
def test_the_interval_over_seeds_and_images_holds_what_it_says(seeds, deviations):
    random, held, repeats, images = np.random.default_rng(0), 0, 300, 40
    for _ in range(repeats):  # effects of seeds, of images, and of both together; the true difference is 0
        values = sum(deviation * random.standard_normal(shape) for deviation, shape in
                     zip(deviations, ((seeds, 1), (1, images), (seeds, images)), strict=True))
        held += abs(values.mean()) <= crossed_half_width(values)
    assert held / repeats > 0.912  # 0.95 less three standard errors


def test_what_holds_on_these_images_alone_is_said():
    images = np.linspace(27, 29, 12)
    effects = np.linspace(-0.3, 0.4, 12)  # on the images; the same for all seeds
    a = row_of('a', [images, images, images])
    b = row_of('b', [images + effects + shift for shift in (-0.001, 0, 0.001)])
    assert difference(b, a).verdict() == ('better on these images ([+0.048, +0.052] over seeds), but for other images '
                                          'not told apart: the difference is within its interval')
    one = difference(row_of('b', [images + 0.1 + 0.01 * effects]), row_of('a', [images]))
    assert one.half_width is None and one.verdict() == 'one seed says nothing of others; over images: better'
    assert difference(row_of('b', [[28.]]), row_of('a', [[27.]])).verdict() == 'one seed says nothing of others'
    assert difference(row_of('b', [[28., np.nan]]), row_of('a', [[27., 27.]])).verdict() == 'a PSNR is not finite'
    for small in (b, row_of('b', [images + effects])):
        assert difference(small, a).interval >= (difference(small, a).half_width or 0)


def test_the_table():
    images = np.array([26.5, 27.5, 28.])
    rows = [row_of('a', [images, images + 0.2]), row_of('b', [images + 0.5, images + 0.71], Recipe(5, 10**9, 1, 8, 96))]
    text = report({Length('macs', 23.2): rows, Length('macs', 371.0): rows[:1], Length('macs', 5000.): []})
    first, table, verdicts, second = text.split('\n\n')[:4]
    assert (first, second, verdicts) == ('23.2 T multiply-adds', '371 T multiply-adds', 'b: better')
    header, a, b = (line.split() for line in table.splitlines())
    assert header == ['seeds', 'PSNR', 'std', 'gain', 'diff', '95%', 'interval', 'parameters', 'GMACs', 'iters',
                      'faces', 'CPU', 'h']
    assert a == ['a', '2', '27.4333', '0.1414', '+1.433', '1,000', '2.00', '100', '400', '1']
    assert b[:6] == ['b', '2', '27.9383', '0.1485', '+1.938', '+0.5050'] and b[-5:] == ['5', '1.00', '100', '800', '1']
    assert max(map(len, text.splitlines())) <= 120


def test_a_picture_of_many_rows():
    rows = [row_of(f'r{i}', [[28.1 + seed, 28] for seed in range(3)]) for i in range(9)]
    assert len(figure_of({Length('iterations', 100): rows}).legends[0].get_texts()) == 9


def test_a_picture_of_several_lengths():
    def rows(gain, *labels):
        return [row_of(label, [[26 + gain + number + 0.01 * seed, 26.02 + gain] for seed in range(2)])
                for number, label in enumerate(labels)]

    lengths = {Length('macs', 23.2): rows(1, 'a', 'b'), Length('macs', 92.8): rows(2, 'a', 'b', 'c'),
               Length('macs', 371.): []}
    figure = figure_of(lengths)
    left, right = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['a', 'b', 'c']
    assert left.get_xscale() == right.get_xscale() == 'log' and left.get_xlabel() == 'T multiply-adds of a run'
    assert [text.get_text() for text in left.get_xticklabels()] == ['23.2', '92.8']
    (a, _, _), (b, _, _), (c, _, _) = left.containers
    assert a.get_ydata() == pytest.approx([1.0125, 2.0125]) and c.get_ydata() == pytest.approx([3.0125])
    assert b.get_xdata() == pytest.approx([23.2, 92.8], rel=0.05)
    assert [bars[0].get_ydata().tolist() for bars in right.containers] == [pytest.approx([0.5] * 2), pytest.approx([1])]


def test_seeds_that_only_one_has_are_left_out():
    a, b = (row_of('x', {seed: float(seed) for seed in seeds}) for seeds in ((0, 1, 2), (1, )))
    assert difference(b, a) == Difference(0., None)
    assert difference(a, row_of('none', {})) is None
