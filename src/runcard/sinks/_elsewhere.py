"""The record whole, as a tracker on another machine is given it beside what it can hold of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runcard.record import RunRecord


def whole(record: RunRecord, *, diff: bool) -> dict[str, Any]:
    """All of a record but its history, which lies there point by point.

    Args:
        record: The record.
        diff: Whether uncommitted changes were asked for: without, the text of the function stays here too, which may
            hold some; its hash goes.
    """
    told = record.to_dict(history=False)
    if not diff and isinstance(told.get("function"), dict):
        told["function"] = {name: value for name, value in told["function"].items() if name != "source"}
    return told
