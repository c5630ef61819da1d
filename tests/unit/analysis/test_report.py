import json
import os
import re
import shutil
from copy import deepcopy
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import torch
from conftest import SMALL
from mmcv import Config
from mmedit.core import psnr
from mmediting_forms import organiser
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput

from facesr.analysis.logs import Run, read_runs
from facesr.analysis.report.measure import ImageRow, Measured, Pictures, measure_run
from facesr.analysis.report.page import render
from facesr.analysis.report.provenance import training_time
from facesr.analysis.report.settings import as_call
from facesr.analysis.work_dir import Sources, find_sources
from facesr.config import load_config
from facesr.engine.train import train
from facesr.evaluation.evaluator import bicubic, evaluate
from facesr.evaluation.metrics import build_metrics
from facesr.evaluation.test import load_split
from facesr.inference.network import network
from facesr.models.build import load_model
from facesr.utils.errors import UserError
from facesr.utils.images import encode_png

CONFIG = 'configs/srresnet_ffhq.py'
DATE = '2026-01-01 00:00 UTC'
LIGHT = [{'name': 'prefers-color-scheme', 'value': 'light'}]
ATTACK = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'&'


@pytest.fixture(scope='module')
def work(tiny_root, tmp_path_factory):
    """A run of two iterations of a small network with a moving average."""
    folder = tmp_path_factory.mktemp('runs') / 'tiny'
    torch.manual_seed(0)
    train(load_config(CONFIG, {
        **SMALL, 'ema': 0.9, 'data.train.ann_file': str(tiny_root / 'train.txt'), 'data.workers_per_gpu': 0,
        'data.train_dataloader.samples_per_gpu': 1, 'gt_patch_size': 32, 'total_iters': 2, 'evaluation.interval': 1,
        'log_config.interval': 1, 'work_dir': str(folder)}, str(tiny_root)), 'small')
    return folder


@pytest.fixture(scope='module')
def sources(work, sample_root):
    return find_sources(work, data_root=str(sample_root))


@pytest.fixture(scope='module')
def measured(sources):
    return measure_run(sources, 3)


@pytest.fixture(scope='module')
def run(work):
    return read_runs([work])[0]


class Elements(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ''
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += f'{data} '


def test_a_run_finds_its_own_parts(work, sources, tmp_path):
    assert sources.config == work / 'small.py' and sources.checkpoint.name.startswith('best_PSNR_iter_')
    assert sources.meta['iter'] in (1, 2) and sources.ema is False
    copy = shutil.copytree(work, tmp_path / 'copy', symlinks=True)
    shutil.copy(copy / 'small.py', copy / 'other.py')
    assert find_sources(copy).config == copy / 'small.py'  # the checkpoint says which
    best = next(copy.glob('best_*.pth')).rename(copy / 'best_PSNR_ema_iter_2.pth')
    assert find_sources(copy, options={'evaluation.save_best': 'PSNR_ema'}).ema is True
    best.unlink()
    assert find_sources(copy).checkpoint.name == 'iter_2.pth'


def test_what_is_missing_is_named(work, tmp_path):
    with pytest.raises(UserError, match='nowhere: no such folder; give the work dir'):
        find_sources(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='no checkpoint in it; give one with --checkpoint, or --no-images'):
        find_sources(tmp_path)
    with pytest.raises(UserError, match='no config in it; give the config of the run with --config'):
        find_sources(tmp_path, images=False)
    for name in ('a.py', 'b.py'):
        shutil.copy(work / 'small.py', tmp_path / name)
    with pytest.raises(UserError, match='has a.py, b.py; give the config'):
        find_sources(tmp_path, images=False)


def test_figures_and_pictures_are_those_of_evaluate(sources, measured):
    net = network(load_model(sources.cfg, sources.checkpoint))
    pairs = evaluate(net, load_split(sources.cfg, 'val'), build_metrics(sources.cfg.test_cfg))
    for (image, result), row in zip(pairs, measured.rows, strict=True):
        assert (row.name, row.metrics) == result
        baseline = psnr(bicubic(image.lq), image.gt)
        assert row.bicubic == pytest.approx(baseline, abs=1e-4)
        assert row.gain == pytest.approx(result.metrics['PSNR'] - baseline, abs=1e-4)
        for shown in (c for c in measured.pictures if c.row == row):
            for png, expected in ((shown.lq, image.lq), (shown.hq, image.hq), (shown.gt, image.gt)):
                assert np.array_equal(pixels(png), expected[..., ::-1])
    assert sorted(row.rank for row in measured.rows) == [1, 2, 3, 4]
    assert [shown.row.rank for shown in measured.pictures] == [1, 2, 4]  # best, median, worst


def test_images_by_name(sources):
    by_name = measure_run(sources, ['00002', '00000.png'])
    assert [shown.row.name for shown in by_name.pictures] == ['00002.png', '00000.png']
    with pytest.raises(UserError, match='--images 00009.png: no such image in .*; did you mean 0000.*png'):
        measure_run(sources, ['00009.png'])


def test_the_page_tells_what_was_measured(sources, measured, run):
    page = render(sources, measured, run, DATE)
    text = ' '.join(Elements(page).text.split())
    mean = np.mean([row.metrics['PSNR'] for row in measured.rows])
    assert f'PSNR {mean:.4f} dB' in text and f'{measured.parameters:,}' in text
    for row in measured.rows:
        assert f'{row.metrics["PSNR"]:.4f} {row.metrics["SSIM"]:.4f} {row.bicubic:.4f}' in text
    for told in ('best of 4', 'median of 4', 'worst of 4', 'L1Loss(loss_weight=1.0', 'CosineRestart(', 'seed 0',
                 "'type': 'FaceRestorer'", 'torch ' + torch.__version__, DATE):
        assert told in text, told
    assert render(sources, measured, run, DATE) == page


def test_the_page_needs_nothing_else(sources, measured, run):
    page = render(sources, measured, run, DATE)
    tags = Elements(page).tags
    links = [value for _, attributes in tags for name, value in attributes.items()
             if name in ('src', 'href', 'xlink:href', 'srcset', 'data', 'action', 'poster')]
    assert len(links) > 9 and all(re.match(r'data:image/png;base64,|#', link) for link in links)
    assert not {tag for tag, _ in tags} & {'link', 'iframe', 'object', 'embed', 'base', 'form'}
    assert all(re.match(r'data:|#', url) for url in re.findall(r'url\(["\']?([^)]*)', page))
    assert '@import' not in page
    ids = [attributes['id'] for _, attributes in tags if 'id' in attributes]
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in links if value.startswith('#')} <= set(ids)
    assert set(re.findall(r'url\(#([^)]*)\)', page)) <= set(ids)


def hostile(sources):
    """A report in which every name and text is an attack."""
    row = ImageRow(ATTACK, {'PSNR': float('inf'), 'SSIM': 1.}, 20., 1)
    png = encode_png(np.zeros((4, 4, 3), np.uint8))
    measured = Measured([row], [Pictures(row, png, png, png, (1, 1), (4, 4))], 1, ATTACK)
    cfg = deepcopy(sources.cfg)
    cfg.load_from = cfg.model.generator.type = ATTACK
    bad = Sources(sources.work_dir / ATTACK, sources.config.with_name(ATTACK.replace('/', '')), cfg, sources.checkpoint,
                  sources.meta, False, ATTACK)
    return render(bad, measured, Run(ATTACK, [dict(iter=1, loss=1., time=1.)], [dict(iter=1, PSNR=20.)]), DATE)


def test_everything_from_files_is_escaped(sources, measured, run):
    tags = Elements(hostile(sources)).tags
    assert [tag for tag, _ in tags].count('script') == 1
    assert [attributes['src'][:5] for tag, attributes in tags if tag == 'img'] == ['data:'] * 3
    assert not [name for _, attributes in tags for name in attributes if name.startswith('on')]
    assert Elements(hostile(sources)).text.count('<script>alert(1)</script>') > 5


def test_settings_and_curves_alone(work, sources, run):
    alone = find_sources(work, images=False)
    assert alone.checkpoint is None
    page = render(alone, None, run, DATE)
    assert 'made with --no-images' in page and 'CosineRestart(' in page and page.count('<svg') == 2
    assert 'class="compare"' not in page
    page = render(alone, None, None, DATE)
    assert 'no JSON log with training records in the work dir' in page and '<svg' not in page


def test_in_words():
    assert as_call(dict(policy='Step', step=[1, 2]), 'policy') == 'Step(step=[1, 2])'
    run = Run('a', [dict(iter=20, time=2.), dict(iter=40, time=1.), dict(iter=1000, time=4.)])
    assert training_time(run) == ('65 min', '3.9 s an iteration, 1,000 iterations in the logs')
    assert training_time(Run('a', [dict(iter=20, loss=1.)]))[0] == 'unknown'


def test_a_work_dir_of_mmediting(run_tool, tmp_path, checkpoint):
    """Its dumped config, a log by its time under whatever ending; of a text log alone it is said what is missing."""
    work = tmp_path / '2022'
    work.mkdir()
    (tmp_path / 'flat.py').write_text(organiser('data/FFHQ', 'model["generator"].update(num_blocks=1)'))
    Config.fromfile(str(tmp_path / 'flat.py')).dump(str(work / 'flat.py'))
    records = [dict(mode='train', epoch=1, iter=i, lr=2e-4, loss=1 / i, time=1.) for i in (1, 2)]
    shutil.copy(checkpoint, work / 'iter_2.pth')
    for name, curves in (('20220401_120000.log.json', True), ('20220401_120000.json', True),
                         ('20220401_120000.log', False)):
        text = '2022-04-01 - mmedit - INFO - Iter [1/2]' if not curves else '\n'.join(
            json.dumps(record) for record in (dict(exp_name='flat.py'), *records))
        (work / name).write_text(f'{text}\n')
        done = run_tool('report.py', work, '--no-images')
        assert done.returncode == 0, done.stderr
        assert ('<svg' in (work / 'report.html').read_text()) == curves
        assert ('20220401_120000.log is the log as text: MMEditing writes 20220401_120000.log.json' in done.stdout
                ) == (not curves)
        (work / name).unlink()


def test_the_tool(run_tool, refused, work, sample_root, tmp_path):
    out = tmp_path / 'new/report.html'
    done = run_tool('report.py', work, '--data-root', sample_root, '--num', 2, '--out', out)
    assert done.returncode == 0, done.stderr
    assert f'written: {out} (' in done.stdout
    assert out.read_text().count('class="compare"') == 2
    line = refused('report.py', work, '--data-root', tmp_path / 'none', '--out', out)
    assert f'{tmp_path}/none/val/LQ: no such folder' in line and out.is_file()


def pixels(png: bytes):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    """Headless Chromium without a network."""
    chromium, driver = shutil.which('chromium') or shutil.which('google-chrome'), shutil.which('chromedriver')
    if not (chromium and driver):
        missing = 'no browser: apt-get install chromium chromium-driver'
        (pytest.fail if os.environ.get('FACESR_BROWSER') == 'required' else pytest.skip)(missing)
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'window-size=1280,1000',
                     'force-color-profile=srgb', 'force-prefers-reduced-motion',
                     f'user-data-dir={tmp_path_factory.mktemp("browser")}'):
        options.add_argument(f'--{argument}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    driver = Chrome(options, Service(driver))
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': LIGHT})
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, sources, measured, run, tmp_path):
    """The report in the browser, which must have had nothing to complain about or to load at the end."""
    page = tmp_path / 'report.html'
    page.write_text(render(sources, measured, run, DATE))
    browser.get_log('performance')
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log('browser') == []
    messages = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    asked = {message['params']['request']['url'] for message in messages
             if message['method'] == 'Network.requestWillBeSent'}
    assert page.as_uri() in asked and all(url == page.as_uri() or url.startswith('data:') for url in asked)


class Slider:
    """The first comparison of the page, as it is seen: its pictures are shown pixel by pixel."""

    def __init__(self, browser, image):
        self.browser = browser
        self.frame = browser.find_element('css selector', '.frame')
        browser.execute_script('arguments[0].scrollIntoView({block: "center"})', self.frame)
        size = image.gt_size
        assert (self.frame.size['width'], self.frame.size['height']) == size
        self.pictures = dict(LQ=cv2.resize(pixels(image.lq), size, interpolation=cv2.INTER_NEAREST),
                             HQ=pixels(image.hq), GT=pixels(image.gt))

    def seen(self, *shares):
        """What is seen at these shares of the width: from a screenshot, the picture whose pixels they are."""
        screenshot, found = pixels(self.frame.screenshot_as_png), []
        for share in shares:
            place = (slice(60, 420), slice(int(share * 512) - 3, int(share * 512) + 3))  # no label, no handle
            equal = [name for name, picture in self.pictures.items()
                     if np.abs(screenshot[place].astype(int) - picture[place]).max() <= 1]
            found += equal or ['nothing']
        return ' '.join(found)

    def point(self, kind, *stops):
        """Press a pointer at the first place (shares of width and height), move it to the others, let go."""
        builder = ActionBuilder(self.browser, mouse=PointerInput(kind, kind), duration=50)
        for i, (x, y) in enumerate(stops):
            offset = round((x - 0.5) * 512), round((y - 0.5) * 512)
            builder.pointer_action.move_to(self.frame, *offset)
            if i == 0:
                builder.pointer_action.pointer_down()
        builder.pointer_action.pointer_up()
        builder.perform()


@pytest.fixture
def slider(opened, measured):
    slider = Slider(opened, measured.pictures[0])
    assert slider.seen(.1, .3, .4, .6, .7, .9) == 'LQ LQ HQ HQ GT GT'
    return slider


def press(browser, *keys):
    actions = ActionChains(browser)
    for key in keys:
        actions.send_keys(key)
    actions.perform()


@pytest.mark.browser
def test_the_keyboard_moves_the_slider(slider, opened, tmp_path):
    while 'left' not in (opened.switch_to.active_element.get_attribute('class') or ''):
        press(opened, Keys.TAB)
    before = opened.get_screenshot_as_png()
    press(opened, *[Keys.ARROW_RIGHT] * 10)
    assert slider.seen(.1, .3, .4, .6, .7, .9) == 'LQ LQ LQ HQ GT GT'
    press(opened, Keys.TAB, Keys.END)
    assert slider.seen(.4, .6, .9, .97) == 'LQ HQ HQ HQ'
    press(opened, Keys.HOME)  # takes the other along
    assert slider.seen(.02, .4, .9) == 'GT GT GT'
    opened.save_screenshot(str(tmp_path / 'moved.png'))
    assert pixels((tmp_path / 'moved.png').read_bytes()).shape == pixels(before).shape
    assert (tmp_path / 'moved.png').read_bytes() != before
    label = opened.switch_to.active_element.get_attribute('aria-label')
    assert re.match(r'Edge between HQ and GT of 0000\d.png', label)
    assert opened.switch_to.active_element.get_attribute('aria-valuetext') == 'GT covers 100 %'


@pytest.mark.browser
@pytest.mark.parametrize('kind', ['mouse', 'touch'])
def test_a_pointer_moves_the_slider(slider, kind):
    slider.point(kind, (.34, .5), (.4, .5), (.55, .52))
    assert slider.seen(.1, .5, .6, .7, .9) == 'LQ LQ HQ GT GT'
    slider.point(kind, (.66, .3), (.8, .3), (.97, .3))
    assert slider.seen(.5, .6, .7, .9) == 'LQ HQ HQ HQ'
    slider.point(kind, (.2, .7))  # a click or a tap: the nearer edge comes
    assert slider.seen(.1, .25, .5, .9) == 'LQ HQ HQ HQ'


@pytest.mark.browser
def test_a_finger_still_scrolls_the_page(slider):
    slider.point('touch', (.1, .6), (.1, .55), (.12, .3))
    assert slider.seen(.1, .3, .4, .6, .7, .9) == 'LQ LQ HQ HQ GT GT'


@pytest.mark.browser
def test_views_and_sorting(slider, opened):
    lq_hq, hq_gt = opened.find_elements('css selector', '.compare:first-child .views button')[1:]
    lq_hq.click()
    assert slider.seen(.1, .45, .55, .95) == 'LQ LQ HQ HQ'
    press(opened, Keys.TAB, Keys.ENTER)
    assert hq_gt.get_attribute('aria-pressed') == 'true'
    assert slider.seen(.03, .45, .55, .95) == 'HQ HQ GT GT'

    def column(number):
        return [cell.text for cell in opened.find_elements('css selector', f'tbody tr > :nth-child({number})')[:4]]

    names, values = column(1), column(2)
    opened.find_element('css selector', 'thead th:nth-child(2) button').click()
    assert column(2) == sorted(values, key=float, reverse=True) and column(1) != names
    press(opened, Keys.SPACE)
    assert column(2) == sorted(values, key=float)


@pytest.mark.browser
def test_phone_dark_and_paper(opened):
    opened.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=360, height=740, deviceScaleFactor=2,
                                                                      mobile=True))
    assert opened.execute_script('return document.documentElement.scrollWidth') == 360
    opened.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})

    def lefts():
        return [layer.rect['x'] for layer in opened.find_elements('css selector', '.layer')[:3]]

    assert len(set(lefts())) == 1
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': 'print'})
    assert lefts() == sorted(set(lefts())) and len(lefts()) == 3  # side by side, as nothing slides on paper
    dark = {'media': '', 'features': [{'name': 'prefers-color-scheme', 'value': 'dark'}]}
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', dark)
    corner = pixels(opened.get_screenshot_as_png())[:5, :5]
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': LIGHT})
    assert corner.max() < 50 and pixels(opened.get_screenshot_as_png())[:5, :5].min() == 255


@pytest.mark.browser
def test_an_attack_does_nothing_in_the_browser(browser, sources, tmp_path):
    page = tmp_path / 'report.html'
    page.write_text(hostile(sources))
    browser.get(page.as_uri())
    assert browser.find_element('tag name', 'h1').text.startswith('<script>alert(1)')
    assert browser.get_log('browser') == []  # an alert that is open would raise
    # And the page's policy holds where escaping would have failed.
    browser.execute_script('document.body.insertAdjacentHTML("beforeend", "<img src=x: onerror=\\"window.hit = 1\\">")')
    assert browser.execute_script('return window.hit') is None
    assert any('Content Security Policy' in entry['message'] for entry in browser.get_log('browser'))
