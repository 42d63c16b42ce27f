"""Runs the code blocks of a Markdown document, in order, as one story in one folder.

- A ``python`` block whose first line is a comment with a file's name is written to that file.
- Any other ``python`` block is executed; with ``>>>`` as a doctest. All blocks of a document share their names.
- In a ``console`` block each line with ``$`` is run by bash, and what it prints is compared with the lines below.

What a command prints is compared without what differs from run to run: ids, numbers, times, curves, blanks. A line of
dots, ``…``, stands for any lines.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

HEAVY = "09_grid.py"  # trains with scikit-learn


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line it begins at."""

    language: str
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document."""
    text = path.read_text("utf-8")
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def tell(path: Path, folder: Path, *, heavy: bool = False) -> list[str]:
    """Run a document's blocks in ``folder``; what went otherwise than it says.

    Blocks that need more than the tests' packages are run alone, with ``heavy``.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    wrong = []
    for block in blocks(path):
        if (HEAVY in block.text) is not heavy:
            continue
        if block.language == "python":
            wrong += _python(block, names, folder, path)
        elif block.language == "console":
            wrong += _console(block, folder, path)
    return wrong


def _python(block: Block, names: dict[str, Any], folder: Path, path: Path) -> list[str]:
    first = re.match(r"# (\w+\.py)\b", block.text)
    if first:
        (folder / first[1]).write_text(block.text, "utf-8")
        return []
    place = f"{path.name}:{block.line}"
    if ">>>" not in block.text:
        exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), names)
        return []
    test = doctest.DocTestParser().get_doctest(block.text, names, place, str(path), block.line - 1)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    return ["".join(said)] if runner.failures else []


def _console(block: Block, folder: Path, path: Path) -> list[str]:
    commands: list[str] = []
    expected: list[str] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            commands.append(line[2:].rstrip("\n"))
            expected.append("")
        elif line.startswith("> "):
            commands[-1] += "\n" + line[2:].rstrip("\n")
        else:
            expected[-1] += line
    script = "".join(f"{command}\nprintf '\\n@@@\\n'\n" for command in commands)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNCARD_")}
    environ |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}", "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    printed = done.stdout.split("\n@@@\n")
    wrong = [done.stderr] if "Traceback" in done.stderr else []
    for command, want, got in zip(commands, expected, printed, strict=False):
        if not _matches(want, got):
            wrong.append(f"{path.name}:{block.line}\n$ {command}\nit says:\n{want}\nit printed:\n{got}\n{done.stderr}")
    return wrong


def _matches(want: str, got: str) -> bool:
    """Whether the output is what the document says, but for what differs from run to run."""
    parts = [_plain(part) for part in re.split(r"^…\n|^\.\.\.\n", want, flags=re.MULTILINE)]
    pattern = r"(?:\S.*\n)*".join(re.escape(part) for part in parts)
    return re.fullmatch(pattern, _plain(got)) is not None


def _plain(text: str) -> str:
    text = re.sub(r"\d{8}T\d{6}-[0-9a-z]{8}", "#", text)
    text = re.sub(r"\b(?:[0-9a-hjkmnp-tv-z]{8}|[0-9a-f]{7})\b", "#", text)  # short ids, and some words; commits
    text = re.sub(r"[▁▂▃▄▅▆▇█]+", "~", text)
    text = re.sub(r"\S+@\S+", "#@#", text)
    text = re.sub(r"[+-]?\d[\d.:e+-]*(?:Z|ms|s|m|h|d)?(?:\d+[sm])*\b", "#", text)
    text = re.sub(r"(?:/[\w.-]+)+/", "/", text)
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)
