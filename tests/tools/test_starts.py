"""Each tool in a process of its own: test_demo.py starts most of them with a job to do, this the others."""
import subprocess
import sys

import pytest
from conftest import HANGS, ROOT
from test_demo import STARTED

TOOLS = {path.name for path in (ROOT / 'tools').glob('[!_]*.py')}


@pytest.mark.slow
@pytest.mark.parametrize('tool', sorted(TOOLS - STARTED))
def test_help(tool):
    done = subprocess.run([sys.executable, f'tools/{tool}', '--help'], capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith(f'usage: {tool} ')
