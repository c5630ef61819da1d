"""The repository's scripts, imported but not run, for tests of their arguments."""
import argparse
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Parsed(BaseException):
    """Ends a script where it reads its arguments, with the parser that was about to read them."""


class Script:
    """A file of `tools/` or `benchmarks/` with a command line."""

    def __init__(self, path: Path, module):
        self.path, self.module, self.parser = path, module, None

        def stop(parser, *_args, **_kwargs):
            raise Parsed(parser)

        with pytest.MonkeyPatch.context() as patch:
            for name in ('parse_args', 'parse_intermixed_args'):
                patch.setattr(argparse.ArgumentParser, name, stop)
            with pytest.raises(Parsed) as stopped:
                module.main()
        self.parser = stopped.value.args[0]

    def parse(self, arguments: list) -> argparse.Namespace:
        """Through the script's own `parse_args`, where it has one, as that may look further than argparse."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [str(self.path), *arguments])
            return getattr(self.module, 'parse_args', self.parser.parse_args)()


def load_scripts() -> dict:
    """All tools and benchmarks by path, for example `tools/train.py`."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for folder in ('benchmarks', 'tools'):
            patch.syspath_prepend(ROOT / folder)  # for what they import of each other
            for path in sorted(ROOT.glob(f'{folder}/[a-z]*.py')):
                module = _imported(path)
                if hasattr(module, 'main'):
                    found[str(path.relative_to(ROOT))] = Script(path, module)
    return found


def _imported(path: Path):
    """A tool's module; a benchmark's is that which tests import by its name, as some register classes."""
    if path.parent.name == 'benchmarks':
        return importlib.import_module(path.stem)
    spec = importlib.util.spec_from_file_location(f'tools_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
