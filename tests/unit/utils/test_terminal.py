"""Text from outside, and terminals, pipes and disks that fail."""
import subprocess
import sys

import pytest
from conftest import ROOT

from facesr.utils.terminal import EXIT_PIPE, plain, say

TOOL = """
import sys
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say

@report_user_errors
def main():
    for i in range(int(sys.argv[1])):
        say(f'{i} \\u00fc')
    open(sys.argv[2], 'w').write('done')
    if sys.argv[3:]:
        raise UserError(sys.argv[3])

main()
"""


@pytest.fixture
def tool(tmp_path):
    """Runs a tool that prints lines and writes a file; returns the status in the shell and stderr."""

    def run(redirection, lines=3, error='', **env):
        done = tmp_path / 'done'
        command = ['bash', '-c', f'set -o pipefail; "$0" -c "$1" {lines} {done} $3 {redirection}', sys.executable, TOOL]
        found = subprocess.run([*command, '', error], cwd=ROOT, capture_output=True, text=True,
                               env=dict(PYTHONPATH=str(ROOT), PATH='/usr/bin:/bin', **env))
        assert 'Traceback' not in found.stderr and 'Exception' not in found.stderr, found.stderr
        assert done.read_text() == 'done'  # whatever became of the lines
        return found.returncode, found.stderr, found.stdout

    return run


def test_a_reader_who_goes_does_not_end_the_work(tool):
    status, stderr, stdout = tool('| head -1', lines=100_000)
    assert (status, stderr, stdout) == (EXIT_PIPE, '', '0 ü\n')
    assert tool('| true', lines=100_000)[0] == EXIT_PIPE


@pytest.mark.parametrize('redirection', ['>&-', '2>&-', '2>/dev/full', '<&- >&- 2>&-', '>/dev/null'])
def test_closed_streams(tool, redirection):
    assert tool(redirection)[:2] == (0, '')


def test_a_full_disk_behind_stdout_is_told_and_a_failure(tool):
    assert tool('>/dev/full')[:2] == (2, 'error: stdout: No space left on device\n')


def test_a_mistake_keeps_its_status(tool):
    for redirection in ('', '>/dev/full', '>&-'):
        assert tool(redirection, error='mistake')[:2] == (2, 'error: mistake\n')
    assert tool('2>/dev/full', error='mistake')[0] == 2


def test_letters_that_an_encoding_lacks(tool):
    assert tool('', lines=1, PYTHONIOENCODING='ascii') == (0, '', '0 \\xfc\n')


def test_nothing_for_a_terminal_to_obey(capsys):
    name = 'a\x1b[2J\r\nerror: all is lost\u202e\udcff ü 顔'
    assert plain(name) == 'a\\x1b[2J\\r\\nerror: all is lost\\u202e\\udcff ü 顔'
    say(name, 'b', file=sys.stderr)
    assert capsys.readouterr().err == f'{plain(name)}\nb\n'
