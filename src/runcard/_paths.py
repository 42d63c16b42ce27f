"""Places inside nested plain data, in the path syntax of `runcard.values`: ``a.b``, ``a[0]``, ``a["x.y"]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from runcard.errors import QueryError
from runcard.values import path_join


class Missing:
    """The type of `MISSING`: what stands for a value that is not there, which None does not."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = Missing()


def find(value: Any, key: str | int) -> Any:
    """What ``value`` holds under a key, an index, or a path; `MISSING` when there is nothing.

    A key in full goes before a path: ``{"a.b": 1, "a": {"b": 2}}`` has 1 under ``a.b``.
    """
    if isinstance(value, Mapping):
        found = value.get(key, MISSING)
        if found is MISSING and isinstance(key, str) and _PATH_MARK.search(key):
            steps = parts(key)
            return MISSING if steps is None else look_up(value, steps)
        return found
    if isinstance(value, (list, tuple)) and type(key) is int and -len(value) <= key < len(value):
        return value[key]
    return MISSING


def look_up(value: Any, steps: tuple[str | int, ...]) -> Any:
    """Follow the steps of a path; `MISSING` where they lead nowhere."""
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step, MISSING)
        elif isinstance(value, (list, tuple)) and type(step) is int and -len(value) <= step < len(value):
            value = value[step]
        else:
            return MISSING
    return value


def parts(path: str) -> tuple[str | int, ...] | None:
    """The steps of a path; None when the text is not one.

    >>> parts('model.layers[0]["x.y"]')
    ('model', 'layers', 0, 'x.y')
    """
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or (match["dot"] is not None and at == 0):
            return None
        if match["index"] is not None:
            steps.append(int(match["index"][:18]))
        elif match["quoted"] is not None:
            steps.append(_ESCAPED.sub(r"\1", match["quoted"][1:-1]))
        elif at and match["dot"] is None:
            return None  # two names with nothing between them
        else:
            steps.append(match["name"])
        at = match.end()
    return tuple(steps)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping with their paths; lists, marks and empty mappings are leaves."""
    if not is_branch(value):
        yield path, value
        return
    for key, item in value.items():
        place = path_join(path, key)
        if type(item) in _PLAIN or not isinstance(item, Mapping):
            yield place, item
        else:
            yield from leaves(item, place)


def is_branch(value: Any) -> bool:
    """Whether a value is a mapping to be looked into: not empty, and no ``{"$…": …}`` mark."""
    if not isinstance(value, Mapping) or not value:
        return False
    first = next(iter(value))
    return not (isinstance(first, str) and first.startswith("$") and not first.startswith("$$"))


def is_seed(path: str) -> bool:
    """Whether a setting is a seed: the last name of its path ends in ``seed`` or ``random_state``."""
    steps = [step for step in parts(path) or (path,) if isinstance(step, str)]
    return bool(steps) and steps[-1].lower().endswith(("seed", "random_state"))


def bad_path(path: str) -> QueryError:
    """The error for a text that is no path."""
    return QueryError(f'{path!r} is no path; write a.b, a[0], or a["x.y"] for names with dots, slashes or spaces')


_PLAIN = frozenset((str, int, float, bool, type(None), list))  # asking for an abstract class costs ten times as much
_PATH_MARK = re.compile(r"[.\[]")
_STEP = re.compile(
    r"""\[(?P<index>-?\d+)\]
      | \[(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\]
      | (?P<dot>\.)?(?P<name>[^.\[\]"]+)""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")
