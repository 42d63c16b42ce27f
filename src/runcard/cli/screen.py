"""Where output goes: widths, colour, tables, JSON, and the pager; colour and pager on a terminal alone."""

from __future__ import annotations

import io
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from runcard._words import elide, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Piece(NamedTuple):
    """A stretch of text and its style: words of `STYLES`, separated by spaces."""

    text: str
    style: str = ""


Line = list[Piece]

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
STATUS_STYLES = {
    "finished": "green",
    "running": "cyan",
    "failed": "red bold",
    "crashed": "red bold",
    "killed": "yellow",
}
GAP = 2  # columns between two of a table


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Its heading.
        right: Whether its cells are set to the right, as numbers are.
        least: Columns that it keeps when the line is too long; None: it is never cut.
    """

    title: str
    right: bool = False
    least: int | None = None


def is_terminal() -> bool:
    """Whether a person watches standard output."""
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):
        return False


def is_coloured() -> bool:
    """Whether to use colour: on a terminal, unless ``NO_COLOR`` is set or the terminal is dumb."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns(default: int | None = None) -> int | None:
    """The width to keep to: ``COLUMNS``, the terminal's, else ``default``."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return max(40, int(given))
    return max(40, shutil.get_terminal_size().columns) if is_terminal() else default


def painted(line: Iterable[Piece | str], *, colour: bool | None = None) -> str:
    """A line as it is written."""
    coloured = is_coloured() if colour is None else colour
    if not coloured:
        return "".join([piece if isinstance(piece, str) else piece.text for piece in line]).rstrip()
    return "".join([_painted(piece) for piece in line]).rstrip()


def table(headings: Sequence[Column], rows: Sequence[Sequence[Piece | str]], width: int | None) -> list[Line]:
    """Rows in aligned columns, no wider than ``width``: cells are elided, the widest that may be first.

    What still does not fit is left out from the right.
    """
    cells = [[_piece(cell) for cell in row] for row in rows]
    wide = [
        max([width_of(column.title), *(width_of(row[place].text) for row in cells)])
        for place, column in enumerate(headings)
    ]
    count = len(headings)
    if width is not None:
        count = _shrink(wide, headings, width)
    shown = [Piece(column.title, "dim") for column in headings[:count]]
    lines = [_aligned(shown, wide, headings)] if any(piece.text for piece in shown) else []
    return lines + [_aligned(row[:count], wide, headings) for row in cells]


def write(lines: Iterable[Iterable[Piece | str] | str]) -> None:
    """Write lines to standard output, through the pager when a person would have to scroll back."""
    coloured = is_coloured()
    texts = [line if isinstance(line, str) else painted(line, colour=coloured) for line in lines]
    if not texts:
        return
    if is_terminal() and len(texts) > shutil.get_terminal_size().lines - 1 and _paged("\n".join(texts) + "\n"):
        return
    say("\n".join(texts))


def say(text: str) -> None:
    """Write a text to standard output, in whatever letters its encoding has."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        text = text.translate(_PLAINER).encode("ascii", "replace").decode("ascii")
    sys.stdout.write(text + "\n")


def remark(text: str) -> None:
    """Tell the person something that is no part of the output: on standard error."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")


def data() -> TextIO:
    """Standard output, for what programs read: JSON, CSV and code are UTF-8, whatever letters the terminal has."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    return sys.stdout


def write_json(found: Any) -> None:
    """Write strict JSON, indented for a person."""
    import orjson

    options = orjson.OPT_INDENT_2 if is_terminal() else 0
    data().write(orjson.dumps(found, option=options).decode("utf-8") + "\n")


def flow(label: str, pieces: Sequence[Piece], width: int, *, indent: int = 9) -> list[Line]:
    """Pieces one after the other behind a label, two spaces between them, wrapped at ``width``."""
    lines: list[Line] = []
    line: Line = [Piece(f"{label:<{indent}}", "dim")]
    used = indent
    for each in pieces:
        piece = each
        if width_of(piece.text) > width - indent:
            piece = Piece(elide(piece.text, width - indent), piece.style)
        needed = width_of(piece.text)
        if used > indent and used + 2 + needed > width:
            lines.append(line)
            line, used = [Piece(" " * indent)], indent
        if used > indent:
            line.append(Piece("  "))
            used += 2
        line.append(piece)
        used += needed
    return [*lines, line]


def _painted(piece: Piece | str) -> str:
    if isinstance(piece, str):
        return piece
    if not piece.style or not piece.text.strip():
        return piece.text
    codes = ";".join(STYLES[word] for word in piece.style.split())
    return f"\x1b[{codes}m{piece.text}\x1b[0m"


def _piece(cell: Piece | str) -> Piece:
    return cell if isinstance(cell, Piece) else Piece(cell)


def _shrink(wide: list[int], headings: Sequence[Column], width: int) -> int:
    """Narrow the columns in place until they fit; how many of them do."""
    count = len(wide)
    while sum(wide[:count]) + GAP * (count - 1) > width:
        room = [
            (wide[place], place)
            for place in range(count)
            if (least := headings[place].least) is not None and wide[place] > least
        ]
        if room:
            wide[max(room)[1]] -= 1
        elif count > 1:
            count -= 1
        else:
            wide[0] = width
    return count


def _aligned(cells: Sequence[Piece], wide: Sequence[int], headings: Sequence[Column]) -> Line:
    line: Line = []
    for place, cell in enumerate(cells):
        shown, used = cell, width_of(cell.text)
        if used > wide[place]:
            shown = Piece(elide(cell.text, wide[place]), cell.style)
            used = width_of(shown.text)
        gap, blank = " " * GAP if place else "", " " * (wide[place] - used)
        line += [Piece(gap + blank), shown] if headings[place].right else [Piece(gap), shown, Piece(blank)]
    return line


def _paged(text: str) -> bool:
    """Show a long text in the user's pager; False when there is none."""
    import shlex
    import subprocess

    command = shlex.split(os.environ.get("RUNCARD_PAGER") or os.environ.get("PAGER") or "less")
    if not command or command == ["cat"] or shutil.which(command[0]) is None:
        return False
    environ = {**os.environ, "LESS": os.environ.get("LESS") or "FRX"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environ) as pager:
        try:
            pager.communicate(text.encode("utf-8", "replace"))
        except BrokenPipeError:
            pass  # the person has seen enough
        except KeyboardInterrupt:
            pass  # less takes Ctrl-C for itself
    return True


_PLAINER = str.maketrans({"…": "~", "—": "-", "·": ".", "×": "x", "▁": "_", "█": "#"})  # noqa: RUF001 - what is replaced
