"""README and docs: links that lead somewhere, a README of one page, and command lines that the tools take."""
import contextlib
import io
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from mmcv.runner import HOOKS

from facesr.config import load_config
from facesr.engine.preflight import check_schedule

PAGES = sorted(path for pattern in ('*.md', 'docs/*.md', '[a-z]*/README.md') for path in ROOT.glob(pattern))
COMMAND = re.compile(r'(?:^|\s)((?:tools|benchmarks)/\w+\.py)(?=\s|$)(.*)', re.DOTALL)
TRACKED = ('configs/', 'tools/', 'benchmarks/', 'facesr/', 'tests/', 'docs/')
# Of pip and others.
FOREIGN_OPTIONS = {'--no-build-isolation', '--no-deps', '--index-url', '--nproc_per_node', '--logdir', '--help'}


def pages(*names):
    return pytest.mark.parametrize('page', [ROOT / name for name in names] or PAGES,
                                   ids=lambda page: str(page.relative_to(ROOT)))


def split_code(text: str) -> tuple:
    """A page's lines of code blocks, continued ones joined, and the rest of its text."""
    code, prose, fenced = [], [], False
    for line in text.splitlines():
        if line.startswith('```'):
            fenced = not fenced
        elif fenced or line.startswith('    '):
            code.append(line.strip())
        else:
            prose.append(line)
    return re.sub(r'\\\n\s*', ' ', '\n'.join(code)).splitlines(), '\n'.join(prose)


def spans(text: str) -> list:
    """Code within lines."""
    return [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', split_code(text)[1])]


def commands(text: str) -> list:
    """Script and arguments of each command line; in a line of text a script alone is only a name."""
    found = [COMMAND.search(line) for line in split_code(text)[0]]
    found += [match for span in spans(text) if (match := COMMAND.search(span)) and match[2].strip()]
    return [(match[1], shlex.split(match[2], comments=True)) for match in found if match]


def anchors(text: str) -> set:
    """As GitHub makes them of headings."""
    headings = re.findall(r'^#+ +(.+)$', split_code(text)[1], re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pages()
def test_links_lead_somewhere(page):
    text = page.read_text()
    links = re.findall(r'\]\(([^)\s]+)\)', split_code(text)[1])
    dead = []
    for link in links:
        if re.match(r'https?://', link):
            continue
        name, _, anchor = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    assert not dead


@pages()
def test_files_that_are_named_exist(page):
    """In code within a line, a path of this repository; not with placeholders."""
    named = [span.rstrip('/') for span in spans(page.read_text())
             if span.startswith(TRACKED) and re.fullmatch(r'[a-z0-9_./]+', span)]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pages()
def test_no_path_that_only_we_have(page):
    assert re.findall(r'\.\./shared|(?<![\w.])/(?:work|tmp|home|root)/', page.read_text()) == []


def test_readme_is_a_page():
    text = (ROOT / 'README.md').read_text()
    assert len(text.splitlines()) <= 150
    pictures = re.findall(r'!\[[^]]*\]\(([^)]+)\)', text)
    assert len(pictures) == 1
    assert (ROOT / pictures[0]).stat().st_size <= 250_000
    assert re.findall(r'^## .*guaranteed\n\n((?:[*] .*\n(?:  .*\n)*)+)', text, re.MULTILINE)[0].count('\n* ') == 7


def test_readme_has_each_tool_in_a_line(scripts):
    table = (ROOT / 'README.md').read_text().partition('\n## Tools\n')[2].partition('\n## ')[0]
    listed = re.findall(r'^\| `(\w+\.py)` \|', table, re.MULTILINE)
    assert sorted(listed) == [name.removeprefix('tools/') for name in scripts if name.startswith('tools/')]


def test_each_page_opens_with_a_command():
    """Pages of docs/ and the model zoo: the first thing below the title is what most people want to type."""
    found = [*ROOT.glob('docs/*.md'), ROOT / 'configs/README.md']
    assert [page.name for page in found if not re.match(r'# .+\n\n    \S', page.read_text())] == []


def test_each_config_is_in_the_zoo():
    zoo = (ROOT / 'configs/README.md').read_text()
    for path in [*ROOT.glob('configs/*.py'), *ROOT.glob('configs/sample/*.py')]:
        assert f'`{path.relative_to(ROOT / "configs")}`' in zoo


@pages()
def test_commands_parse(page, scripts):
    failed = []
    for script, arguments in commands(page.read_text()):
        if f'# {script}\n' in page.read_text():  # CONTRIBUTING.md has just written it
            continue
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                args = scripts[script].parse(arguments)
        except SystemExit:
            failed.append(f'{script} {shlex.join(arguments)}: {said.getvalue()}')
            continue
        config = getattr(args, 'config', None)
        if config and Path(config).is_file():  # else a placeholder
            load_config(config, getattr(args, 'cfg_options', None))
    assert failed == []


@pages()
def test_options_that_are_named_exist(page, scripts):
    if page.name == 'CHANGELOG.md':  # which also names what is no more
        return
    known = {option for script in scripts.values() for option in script.parser._option_string_actions}
    lines, prose = split_code(page.read_text())
    named = re.findall(r'(?<![\w-])--[a-z][\w-]*', '\n'.join([*lines, *spans(prose)]))
    assert set(named) - known - FOREIGN_OPTIONS == set()


def test_make_targets_that_are_named_exist():
    targets = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    for page in PAGES:
        lines, _ = split_code(page.read_text())
        for line in [*lines, *spans(page.read_text())]:
            for name in re.findall(r'^make (\w+)', line):
                assert name in targets, f'{page.name}: {line}'


def longer_lines() -> list:
    """Configs and arguments of each row of the table on training longer."""
    section = (ROOT / 'docs/training.md').read_text().partition('### Training longer')[2].partition('\n## ')[0]
    rows = [line.split('|')[2:4] for line in section.splitlines() if line.count('`') > 3 and line.startswith('|')]
    return [(re.findall(r'`([\w/]+\.py)`', configs), commands(line)[0][1]) for configs, line in rows]


def test_training_longer_is_told_for_each_config():
    told = [name for configs, _ in longer_lines() for name in configs]
    there = [*ROOT.glob('configs/*.py'), *ROOT.glob('configs/sample/*.py')]
    assert sorted(told) == sorted(str(path.relative_to(ROOT / 'configs')) for path in there)


def learning_rate(cfg, iteration: int) -> float:
    """Of the generator, by mmcv's own hook."""
    schedule = dict(cfg.lr_config)
    hook = HOOKS.build(dict(schedule, type=f'{schedule.pop("policy")}LrUpdaterHook'))
    return hook.get_lr(SimpleNamespace(iter=iteration, max_iters=cfg.total_iters), cfg.optimizers.generator.lr)


@pytest.mark.parametrize('configs,arguments', longer_lines(), ids=lambda value: value[0])
def test_training_longer_leaves_what_is_done_as_it_is(configs, arguments, scripts):
    options = scripts['tools/train.py'].parse(arguments).cfg_options
    for name in configs:
        path = ROOT / 'configs' / name
        short, longer = load_config(path), load_config(path, options)
        check_schedule(longer)
        assert longer.total_iters > short.total_iters
        assert {key for key in options if not key.startswith('lr_config.')} == {'total_iters'}
        for iteration in range(0, short.total_iters, short.total_iters // 40):
            assert learning_rate(longer, iteration) == pytest.approx(learning_rate(short, iteration), rel=1e-12)
        assert learning_rate(longer, short.total_iters) > 0
