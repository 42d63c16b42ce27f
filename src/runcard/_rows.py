"""A run as a row of the leaderboard: column → cell, each a text that is harmless in spreadsheets and terminals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runcard._paths import leaves
from runcard.events import mark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runcard.record import RunRecord

FIXED_COLUMNS = (
    "run_id",
    "started_at",
    "experiment",
    "name",
    "parent_id",
    "status",
    "duration_s",
    "decision",
    "is_best",
)


def cell(value: Any) -> str:
    """A value as the text of its CSV cell, before CSV's own quotes: numbers as numbers, the rest as harmless text."""
    kind = type(value)
    if kind is float:
        return repr(value)
    if kind is bool:
        return "True" if value else "False"
    if value is None:
        return ""
    if kind is int:
        return str(value) if -_WIDE < value < _WIDE else hex(value)  # Python refuses to write out very long ones
    text = _harmless(value if kind is str else _as_text(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_WIDE = 10**4000
_LONGEST = 32_000  # a spreadsheet's cell holds 32,767 characters, and Python's own reader refuses one of 131,073
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_QUOTED = re.compile('[",\n\r]')


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    import json

    return json.dumps(mark(value), ensure_ascii=False, default=str, separators=(",", ":"))


def _harmless(text: str) -> str:
    """Text that neither a spreadsheet calculates nor a terminal obeys."""
    if not text:
        return text
    safe = formula_safe(text)  # by its first character as it is, before that becomes an escape
    if not (text.isascii() and text.isprintable()):
        safe = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], safe)
    return safe


def formula_safe(text: str) -> str:
    """A text that a spreadsheet shows as it is, and never calculates."""
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text


def row_of(record: RunRecord) -> dict[str, str]:
    """Column → cell."""
    started = record.started_at
    row = {
        "run_id": record.run_id,
        # microseconds always: pandas takes all times of a column by the form of the first
        "started_at": started.isoformat(timespec="microseconds") if started is not None else "",
        "experiment": _harmless(record.experiment),
        "name": _harmless(record.name),
        "parent_id": cell(record.parent_id),
        "status": record.status.value,
        "duration_s": cell(record.duration_s),
        "decision": cell(record.decision),
        "is_best": cell(record.is_best),
    }
    if record.config:
        for path, value in leaves(record.config, "config"):
            row[_harmless(path)] = cell(value)
    for name, value in record.metrics.items():
        row[_harmless(f"metrics.{name}")] = cell(value)
    return row


def ordered(names: Iterable[str]) -> list[str]:
    """The fixed columns, then config, then metrics, each in the order met; columns of others' making before metrics."""
    names = list(names)
    metrics = [name for name in names if name.startswith("metrics.")]
    return [name for name in names if not name.startswith("metrics.")] + metrics


def line_of(cells: Iterable[str]) -> bytes:
    """Cells as a line of the file, with CSV's own quotes where they are needed."""
    quoted = [f'"{each.replace(chr(34), chr(34) * 2)}"' if _QUOTED.search(each) else each for each in cells]
    return (",".join(quoted) + "\n").encode("utf-8", "backslashreplace")
