"""Tables as text for a terminal and as Markdown."""
from facesr.utils.terminal import plain

WIDTH = 120  # characters of a terminal
NONE = '-'


def text_table(header: list, rows: list, width: int = WIDTH) -> str:
    """Columns aligned by spaces, the first to the left, the others to the right; the first is shortened to fit."""
    lines = [list(map(plain, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[0] = max(1, min(widths[0], width - sum(widths[1:]) - 2 * len(widths[1:])))
    return '\n'.join('  '.join([shortened(line[0], widths[0]).ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
                     for line in lines)


def markdown_table(header: list, rows: list) -> str:
    """The same as Markdown."""
    lines = [header, ['---', *['--:'] * (len(header) - 1)], *rows]
    return '\n'.join('| ' + ' | '.join(plain(cell).replace('|', '\\|') for cell in line) + ' |' for line in lines)


def shortened(text: str, length: int) -> str:
    """Text of at most so many characters, with its middle left out if it is longer."""
    return text if len(text) <= length else f'{text[:(length - 1) // 2]}…{text[len(text) - length // 2:]}'
