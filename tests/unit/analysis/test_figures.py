"""Curves and pictures."""
import math

import numpy as np
import pytest
from PIL import Image
from test_logs import train, val, write_log

from facesr.analysis.figures.curves import COLOURS, curve_figures, moving_average, plot_curves
from facesr.analysis.logs import read_runs
from facesr.utils.errors import UserError


def write_run(folder, end, step=100, **metrics):
    records = [train(i, 1 / i, lr=2e-4 if i <= end // 2 else 4e-4 * (1 - i / end)) for i in range(step, end + 1, step)]
    write_log(folder / '1.log.json', *records, *([val(end, 27.5, **metrics)] if metrics is not None else []))
    return folder


def curves(axes, colour):
    return [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) > 1]


def test_a_long_run_has_two_panels(tmp_path):
    runs = read_runs([write_run(tmp_path / 'a', 20_000), write_run(tmp_path / 'b', 5000)])
    for figure in curve_figures(runs).values():
        first, rest = figure.axes
        assert first.get_xlim()[0] < 0 and 10_000 < first.get_xlim()[1] < 11_000
        assert 9000 < rest.get_xlim()[0] < 10_000 and 20_000 < rest.get_xlim()[1] < 21_000
    first, rest = curve_figures(runs)['loss'].axes
    raw, smoothed = curves(first, COLOURS[0])
    assert raw.get_alpha() < 1 and smoothed.get_linewidth() > raw.get_linewidth()
    assert list(raw.get_xdata()) == list(range(100, 10_001, 100)) and len(curves(first, COLOURS[1])) == 2
    assert list(curves(rest, COLOURS[0])[0].get_xdata()) == list(range(10_100, 20_001, 100))
    assert not curves(rest, COLOURS[1])  # b ended before
    for run in (runs[1], *read_runs([write_run(tmp_path / 'c', 12_000)])):  # a short rest is no panel of its own
        assert len(curve_figures([run])['loss'].axes) == 1


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_legend_names_runs_and_their_best(tmp_path):
    odd = write_run(tmp_path / '_$a$', 500, PSNR_ema=28.25)
    figures = curve_figures(read_runs([odd, write_run(tmp_path / 'b', 700)]))
    assert texts(figures['loss']) == ['./_$a$', 'b']
    assert texts(figures['psnr']) == ['./_$a$: best 27.500 dB at 500', './_$a$ (EMA): best 28.250 dB at 500',
                                      'b: best 27.500 dB at 700']
    stars = [tuple(line.get_xydata()[0]) for line in figures['psnr'].axes[0].lines if line.get_marker() == '*']
    assert stars == [(500, 27.5), (500, 28.25), (700, 27.5)]
    assert '--' in [line.get_linestyle() for line in figures['psnr'].axes[0].lines]


def test_each_validation_set_has_its_line(tmp_path):
    records = [val(i, 27., **{'Set5/PSNR': 30. + i, 'Set5/PSNR_ema': 31.}) for i in (1, 2)]
    figures = curve_figures(read_runs([write_log(tmp_path / 'a.log.json', *records)]))
    assert texts(figures['psnr']) == ['a: best 27.000 dB at 1', 'a (Set5): best 32.000 dB at 2',
                                      'a (Set5, EMA): best 31.000 dB at 1']
    lines = [(line.get_marker(), line.get_linestyle()) for line in curves(figures['psnr'].axes[0], COLOURS[0])]
    assert lines == [('o', '-'), ('s', '-'), ('o', '--')]
    assert 'no loss was logged' in [text.get_text() for text in figures['loss'].axes[0].texts]  # validations alone
    assert not figures['psnr'].axes[0].texts


def test_restarts_and_resumptions_are_marked(tmp_path):
    write_log(tmp_path / '1.log.json', *(train(i, lr=1 - i / 1000) for i in range(100, 900, 100)))
    write_log(tmp_path / '2.log.json', *(train(i, lr=1.) for i in range(900, 1500, 100)))
    figure = curve_figures(read_runs([tmp_path]))['loss']
    assert texts(figure)[1:] == ['learning-rate restart', 'resumed']
    dotted, = [line for line in figure.axes[0].lines if line.get_linestyle() == ':']
    ticks, = [line for line in figure.axes[0].lines if line.get_marker() == '|']
    assert list(dotted.get_xdata()) == [800, 800] and list(ticks.get_xdata()) == [900]


def test_a_moving_average_by_hand():
    x = np.arange(0, 100, 10)
    y = np.where(x == 50, np.nan, x**2.)
    smoothed = moving_average(x, y, 20)
    assert smoothed[0] == 50 and smoothed[3] == (400 + 900 + 1600) / 3 and smoothed[5] == (1600 + 3600) / 2
    assert smoothed[-1] == (6400 + 8100) / 2
    assert moving_average(x, y, 20, steep_start=True)[0] == 0
    assert list(moving_average(x, y, 0))[:5] == list(y)[:5] and math.isnan(moving_average(x, y, 0)[5])
    assert np.isnan(moving_average([1, 2], [np.nan, np.inf], 10)).all() and len(moving_average([], [], 5)) == 0


def test_the_average_stops_at_a_restart(tmp_path):
    losses = [train(i, .1 if i <= 1000 else .2, lr=1e-7 + max(0, 1 - i / 1000) if i <= 1000 else 1.)
              for i in range(100, 2001, 100)]
    axes, = curve_figures(read_runs([write_log(tmp_path / 'a.log.json', *losses)]), smooth=1000)['loss'].axes
    before, after = curves(axes, COLOURS[0])[1:]
    assert before.get_ydata() == pytest.approx([.1] * 10) and after.get_ydata() == pytest.approx([.2] * 10)


def test_one_extreme_loss_does_not_flatten_the_rest(tmp_path):
    records = [train(i, 5. if i == 700 else .1 + .001 * (i % 7)) for i in range(10, 2000, 10)]
    axes, = curve_figures(read_runs([write_log(tmp_path / 'a.log.json', *records)]))['loss'].axes
    assert axes.get_ylim()[1] < .2 and 'peak 5 not shown' in axes.get_title()


def test_the_files_are_the_same_when_made_twice(tmp_path):
    write_log(tmp_path / '1.log.json', *[train(i, 1 / i) for i in range(1, 5)])  # never validated
    runs = read_runs([tmp_path])
    files = plot_curves(runs, tmp_path / 'curves')
    assert [path.name for path in files] == ['loss.png', 'loss.svg', 'psnr.png', 'psnr.svg']
    first = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in plot_curves(runs, tmp_path / 'curves')] == first
    for path in files[::2]:
        with Image.open(path) as image:
            assert image.format == 'PNG' and image.width > 500
    assert b'<svg' in first[1] and b'dc:date' not in first[1]


@pytest.mark.parametrize('name', ['psnr.png', 'psnr.svg'])
def test_a_picture_that_is_none_of_them_stays(tmp_path, name):
    write_log(tmp_path / '1.log.json', *[train(i, 1 / i) for i in range(1, 5)])
    (tmp_path / name).write_text('mine')
    with pytest.raises(UserError, match=f'{name}: is there and was not made by this tool'):
        plot_curves(read_runs([tmp_path]), tmp_path)
    assert (tmp_path / name).read_text() == 'mine' and not list(tmp_path.glob('loss*'))


def write_text(path):
    path.write_text('2023-01-01 INFO')
    return path


def test_the_tool(run_tool, refused, tmp_path):
    write_run(tmp_path / 'a', 500)
    with open(tmp_path / 'a/1.log.json', 'a') as file:
        file.write('{"mode": "tr')
    done = run_tool('plot_curves.py', tmp_path / 'a')
    assert done.returncode == 0, done.stderr
    assert f'1 broken line skipped in {tmp_path}/a/1.log.json\n' in done.stdout
    assert f'written: {tmp_path}/a/curves/psnr.svg' in done.stdout and len(list((tmp_path / 'a/curves').iterdir())) == 4
    line = refused('plot_curves.py', tmp_path / 'a/1.log.json')  # a log may lie where nothing is to be written
    assert 'give --out-dir, a folder' in line and len(list((tmp_path / 'a').iterdir())) == 2
    line = refused('plot_curves.py', write_text(tmp_path / 'a.log'), '--out-dir', tmp_path / 'b')
    assert 'a.log: not a JSON log; give the' in line
    (tmp_path / 'a/1.log.json').rename(tmp_path / 'x.jsonl')
    assert run_tool('plot_curves.py', tmp_path / 'x.jsonl', '--out-dir', tmp_path / 'b').returncode == 0
    assert 'give a folder' in refused('plot_curves.py', tmp_path / 'a', '--out-dir', tmp_path / 'curves.png')
