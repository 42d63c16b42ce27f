"""The YAML of MLflow's ``meta.yaml``: a mapping of scalars, as PyYAML writes it, and a mapping inside at most.

A YAML library would be one more thing to install for a dozen lines; this reads what MLflow writes and refuses the rest.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_SIZE_LIMIT = 16 << 20  # bytes; MLflow's own are small


def read_meta(path: Path) -> dict[str, Any]:
    """The mapping in a file. Raises `OSError`, and `ValueError` when it is none that MLflow writes."""
    if path.stat().st_size > _SIZE_LIMIT:
        raise ValueError(f"{path.name} is too large to be MLflow's")
    return parse(path.read_bytes().decode("utf-8"))


def parse(text: str) -> dict[str, Any]:
    r"""A mapping: key → text, integer, boolean, None, or a mapping of these.

    Raises:
        ValueError: For anything else.

    >>> parse("name: 'it''s'\nend_time: null\nstatus: 3\ntags:\n  a: b\n")
    {'name': "it's", 'end_time': None, 'status': 3, 'tags': {'a': 'b'}}
    """
    found: dict[str, Any] = {}
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip() or line.startswith("#"):
            continue
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise ValueError(f"line {at} of its YAML is not understood")
        more = []
        while at < len(lines) and (not lines[at] or lines[at][0] in " -"):
            more.append(lines[at])
            at += 1
        key = match["key"]
        found[_quoted([key]) if key[0] in "'\"" else key] = _value(match["value"] or "", more)
    return found


def _value(first: str, more: list[str]) -> Any:
    while more and not more[-1].strip() and not first.startswith(("'", '"')):
        more.pop()
    if first[:1] in ("'", '"'):
        return _quoted([first, *more])
    if not first and more:
        return None if more[0].lstrip().startswith("-") else parse(textwrap.dedent("\n".join(more)))
    if first in ("[]", "{}"):
        return [] if first == "[]" else {}
    if first[:1] in ("|", ">", "&", "*", "!", "[", "{"):
        raise ValueError(f"a value of its YAML begins with {first[:1]!r}")
    text = _folded([first, *more])
    if text in ("", "null", "~"):
        return None
    if text in ("true", "false"):
        return text == "true"
    return int(text) if _INTEGER.fullmatch(text) else text


def _quoted(lines: list[str]) -> str:
    mark = lines[0][0]
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    text = _folded(lines, escaped=mark == '"')
    body = text[1:-1]
    if len(text) < 2 or text[-1] != mark or not _BODIES[mark].fullmatch(body):
        raise ValueError("a quoted text of its YAML does not end")
    return body.replace("''", "'") if mark == "'" else _ESCAPE.sub(_unescaped, body)


def _folded(lines: list[str], *, escaped: bool = False) -> str:
    """Lines of one scalar: a single break is a space, n empty lines are n breaks."""
    text = lines[0]
    breaks = 0
    for each in lines[1:]:
        line = each.strip(" \t") if not escaped else each.lstrip(" \t")
        if not line.strip():
            breaks += 1
            continue
        if escaped and _ENDS_ESCAPED.search(text) and not breaks:
            text = text[:-1] + line
        else:
            text = text.rstrip(" \t") + ("\n" * breaks or " ") + line
        breaks = 0
    return text


def _unescaped(match: re.Match[str]) -> str:
    what = match[1]
    if what[0] in "xuU" and len(what) > 1:
        return chr(int(what[1:], 16))
    if what not in _ESCAPES:
        raise ValueError(f"\\{what} is no escape of YAML's")
    return _ESCAPES[what]


_ENTRY = re.compile(r"""(?P<key>[^\s'"#\-][^:\n]*|'(?:[^'\n]|'')*'|"(?:[^"\\\n]|\\.)*"):(?: +(?P<value>.*))?""")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_BODIES = {"'": re.compile(r"(?:[^']|'')*", re.DOTALL), '"': re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)}
_ENDS_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPES = dict(zip('0abtnvfre "/\\N_LP', '\0\a\b\t\n\v\f\r\x1b "/\\\x85\xa0\u2028\u2029', strict=True))
