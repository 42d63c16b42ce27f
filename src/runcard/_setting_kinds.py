"""What each setting takes: a text, as in a variable, or a Python value, made the value that `Settings` holds.

Each function raises `ValueError` or `TypeError` with what is accepted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

CAPTURES = ("git", "packages", "host", "hardware", "command", "source", "inputs", "console", "system", "files")


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if callable(value) or hasattr(value, "finish"):
        return [value]
    if not isinstance(value, Iterable):
        raise TypeError("a list, or a text with commas")
    return list(value)


def _sinks(value: Any) -> tuple[Any, ...]:
    items = _items(value)
    for item in items:
        if not (isinstance(item, str) or callable(item) or callable(getattr(item, "finish", None))):
            raise TypeError("a sink is a URL, a function of a record, or an object with start, append and finish")
        if isinstance(item, str) and ":" not in item:
            raise ValueError(f"{item!r} is no URL; write file:{item} for a folder, sqlite:///{item} for a database")
        if not isinstance(item, str):
            _check_callable(item)
    return tuple(items)


def _check_callable(sink: Any) -> None:
    """Refuse what can be called but would do nothing then: each of its records would be lost."""
    import inspect

    if isinstance(sink, type) and (hasattr(sink, "finish") or any("__call__" in vars(base) for base in sink.__mro__)):
        raise TypeError(f"{sink.__name__} is the class of a sink; write {sink.__name__}() for one")
    called = [sink, getattr(sink, "__call__", None), *(getattr(sink, name, None) for name in _LIVE)]  # noqa: B004 - its own
    if any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in called):
        raise TypeError("a sink is called in a thread of its own, without a loop: it is no coroutine function")
    if any(inspect.isgeneratorfunction(each) for each in called):
        raise TypeError("a generator function runs only when it is iterated; take the yield out of the sink")


_LIVE = ("start", "append", "finish")


def _captures(value: Any) -> tuple[str, ...]:
    if isinstance(value, frozenset):
        return tuple(value)
    items = _items(value)
    for item in items:
        if not isinstance(item, str) or item.lstrip("+-") not in CAPTURES:
            raise ValueError(f"there are: {', '.join(CAPTURES)}; a leading - takes one away")
    return tuple(items)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("1", "true", "yes", "on"):
        return True
    if isinstance(value, str) and value.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("write true or false")


def _seconds(value: Any) -> float:
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < 1e7:
        raise ValueError("a number of seconds, zero or more")
    return number


def _size(value: Any) -> int:
    """Bytes, also as ``500MB`` or ``2 GiB``."""
    if isinstance(value, str):
        text = value.strip().upper().removesuffix("B").removesuffix("I").strip()
        unit = _UNITS.get(text[-1:], 1)
        try:
            value = int(text) if unit == 1 else int(float(text[:-1]) * unit)
        except (ValueError, OverflowError):
            value = None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a number of bytes, or a text such as 500MB")
    return value


_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _one_of(*words: str) -> Callable[[Any], str]:
    def parser(value: Any) -> str:
        if value not in words:
            raise ValueError(f"it is one of: {', '.join(words)}")
        return str(value)

    return parser


def _signals(value: Any) -> tuple[str, ...]:
    import signal

    if value is True or value is False:
        return ("SIGTERM", "SIGHUP") if value else ()
    names = []
    for item in _items(value):
        known = {int(each): each.name for each in signal.Signals}
        name = known.get(item, str(item)) if isinstance(item, int) else str(item).upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name not in signal.Signals.__members__ or name in ("SIGKILL", "SIGSTOP"):
            raise ValueError("names of signals that can be caught, such as SIGTERM, SIGHUP, SIGUSR1")
        names.append(name)
    return tuple(names)


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in _items(value))


def _folder(value: Any) -> Path:
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError("the path of a folder")
    return Path(os.path.expanduser(text))


PARSERS: dict[str, Callable[[Any], Any]] = {
    "sinks": _sinks,
    "directory": _folder,
    "strict": _flag,
    "durability": _one_of("process", "disk"),
    "signals": _signals,
    "capture": _captures,
    "deadline": _seconds,
    "redact_keep": _names,
    "mode": _one_of("private", "group"),
    "input_limit": _size,
    "large_artifact": _size,
    "export_parent": _flag,
    "system_interval": _seconds,
    "spool": _folder,
}
