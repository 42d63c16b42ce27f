"""How the SQL sink writes numbers and texts into columns, and reads exact numbers back."""

from __future__ import annotations

import math
from typing import Any

from runcard.sinks._sql_schema import LABEL_LIMIT

_INTEGERS = 2**53  # up to here a double holds every integer


def clean(text: Any) -> str | None:
    """A text without NUL, which PostgreSQL does not take."""
    return None if text is None else str(text).replace("\0", "\ufffd")


def label(text: str) -> str:
    """A text for an index: cut, and without NUL."""
    return text[:LABEL_LIMIT].replace("\0", "\ufffd")


def double(value: Any) -> float | None:
    """A number as a double; an integer beyond all doubles is infinite. None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def exact(value: int | float) -> str | None:
    """What a double, or SQLite, cannot hold of a number, as text."""
    if isinstance(value, int):
        return None if -_INTEGERS <= value <= _INTEGERS else _integer(value)
    return "nan" if math.isnan(value) else None


def is_double(value: Any) -> bool:
    """Whether a double holds a number as it is; NaN, and what is no number, is none."""
    if type(value) is float:
        return not math.isnan(value)
    return type(value) is int and -_INTEGERS <= value <= _INTEGERS


def _integer(value: int) -> str:
    return str(value) if value.bit_length() < 10_000 else hex(value)  # Python's own limit on digits
