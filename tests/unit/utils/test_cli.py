"""One convention for the arguments of all tools, and former names that still work."""
import argparse
import contextlib
import io

import pytest

from facesr.utils.cli import note

SHARED = ('--amp', '--cfg-options', '--data-root', '--ema', '--flip-ensemble', '--images', '--num', '--out-dir',
          '--replace', '--seed', '--self-ensemble')
PAIR = ['C.py', 'c.pth']
# Tool, arguments as they were, and as they are.
FORMER = [
    ('check_data', ['C.py', '--show', '3'], ['C.py', '--num', '3']),
    ('compare', ['a', '--images', '0'], ['a', '--num', '0']),
    ('compare', ['a', '--images=4'], ['a', '--num=4']),
    ('join_data', ['a', 'b', '--out', 'd'], ['a', 'b', '--out-dir', 'd']),
    ('make_annotation', ['GT', 'a.txt', '--force'], ['GT', 'a.txt', '--replace']),
    ('make_lq', ['GT', 'LQ'], ['configs/srresnet_ffhq.py', 'GT', '--out-dir', 'LQ']),
    ('make_lq', ['GT', 'LQ', '--config', 'C.py', '--seed', '3'], ['C.py', 'GT', '--out-dir', 'LQ', '--seed', '3']),
    ('make_sample', ['--out', 'd'], ['--out-dir', 'd']),
    ('plot_curves', ['w', '--out', 'd'], ['w', '--out-dir', 'd']),
    ('report', ['w', '--images', '3'], ['w', '--num', '3']),
    ('restore', [*PAIR, 'photo.jpg', '--out', 'd', 'more'], [*PAIR, 'photo.jpg', '--out-dir', 'd', 'more']),
    ('show_degradation', ['C.py', '--samples', '2'], ['C.py', '--num', '2']),
    ('test', [*PAIR, '--save-path', 'd', '--out', 'm.json'], [*PAIR, '--out-dir', 'd', '--out', 'm.json']),
]


@pytest.fixture
def parsed(scripts):
    """Parses a tool's arguments; returns them as a dict, and what was said on stderr."""

    def parse(tool, arguments):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            args = vars(scripts[f'tools/{tool}.py'].parse(arguments))
        return {key: value for key, value in args.items() if not key.startswith('former')}, said.getvalue()

    return parse


@pytest.fixture
def options(scripts):
    """Actions of all tools by tool and option; without those that are only there for MMEditing's users."""
    return {(name, option): action for name, script in scripts.items() if name.startswith('tools/')
            for option, action in script.parser._option_string_actions.items() if action.help != argparse.SUPPRESS}


@pytest.mark.parametrize('tool,before,now', FORMER, ids=lambda value: value if isinstance(value, str) else '')
def test_former_names_work_with_a_line(tool, before, now, parsed):
    args, said = parsed(tool, before)
    assert said.startswith('note: ') and said.count('\n') == 1 and 'goes with the next release' in said
    assert parsed(tool, now) == (args, '')


def test_a_former_name_is_told_and_its_tool_does_its_work(tiny_root, run_tool, tmp_path):
    (tmp_path / 'a.txt').write_text('0.png (8,8,3)\n')
    done = run_tool('make_annotation.py', tiny_root / 'train/GT', tmp_path / 'a.txt', '--force')
    assert done.returncode == 0 and done.stdout.endswith('2 images, written\n')
    assert done.stderr == 'note: --force is called --replace now; the former name goes with the next release\n'


def test_former_names_are_not_in_the_help(scripts):
    for name, script in scripts.items():
        if name.startswith('tools/'):
            known = script.parser._option_string_actions
            assert not set(script.parser.former) & set(known) and set(script.parser.former.values()) <= set(known)


@pytest.mark.parametrize('option', SHARED)
def test_an_option_is_the_same_in_all_tools(option, options):
    found = {name: (action.nargs, action.metavar, action.dest, tuple(action.choices or ()))
             for (name, of), action in options.items() if of == option and action.help != argparse.SUPPRESS}
    assert found and len(set(found.values())) == 1, found


def test_out_is_a_file_and_out_dir_a_folder(options):
    for (_, option), action in options.items():
        if option == '--out':
            assert action.metavar in ('FILE', 'PNG', 'HTML')
        if option == '--out-dir':
            assert action.metavar == 'DIR'


def test_config_comes_first_then_the_checkpoint(scripts):
    with_both = set()
    for name, script in scripts.items():
        positional = [action.dest for action in script.parser._actions if not action.option_strings]
        if name.startswith('tools/') and 'config' in positional:
            assert positional[0] == 'config'
        if name.startswith('tools/') and 'checkpoint' in positional:
            assert positional[:2] == ['config', 'checkpoint']
            with_both.add(name.removeprefix('tools/'))
    assert with_both >= {'test.py', 'export.py', 'show_results.py'}
    usage = scripts['tools/restore.py'].parser.usage  # its inputs may stand alone
    assert usage.startswith('%(prog)s [CONFIG CHECKPOINT] INPUT')


def test_full_precision_can_be_asked_for_everywhere(parsed):
    """In training `none` is instead of the config's; where there is no other default it is the default."""
    assert parsed('train', ['C.py', '--amp', 'none'])[0]['amp'] == 'none'
    for tool, arguments in {'test': PAIR, 'show_results': [*PAIR, '--out', 'a.png'],
                            'restore': [*PAIR, 'i', '--out-dir', 'd']}.items():
        assert parsed(tool, [*arguments, '--amp', 'none']) == parsed(tool, arguments)


@pytest.mark.parametrize('tool,arguments,message', [
    ('make_lq', ['C.py', 'GT'], 'give --out-dir'),
    ('make_lq', ['C.py', 'GT', '--out-dir', 'LQ', '--config', 'C.py'], 'give CONFIG as the first argument'),
    ('report', ['w', '--images', '0'], '--images 0: give at least 1'),
    ('report', ['w', '--num', '0'], "'0' is not a whole number of at least 1"),
    ('train', ['C.py', '--data-root', ''], 'argument --data-root: is empty'),
    ('train', ['C.py', '--resume', '', '--work-dir', 'w'], 'argument --resume: is empty'),
    ('train', [''], 'argument CONFIG: is empty'),
    ('train', ['C.py', '--seed', '-1'], "'-1' is not a whole number of at least 0"),
])
def test_mistakes_are_a_line(tool, arguments, message, scripts):
    with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit, match='2'):
        scripts[f'tools/{tool}.py'].parse(arguments)
    assert message in said.getvalue().splitlines()[-1] and said.getvalue().splitlines()[-1].startswith('error: ')


def test_notes_are_told_by_one_process(monkeypatch, capsys):
    note('a')
    monkeypatch.setenv('LOCAL_RANK', '1')
    note('b')
    assert capsys.readouterr().err == 'note: a\n'
