"""What a field of an event is: a field that is something else is no writer's of ours, and is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runcard.events import Event

NUMBER = (int, float)


def misshapen(event: Event) -> list[str]:
    """The names of fields that are not what a field of that name is."""
    shapes = _OF_INPUTS if event.get("kind") == "input" else _SHAPES
    return [
        name
        for name, value in event.items()
        if value is not None
        and not (isinstance(value, shapes.get(name, object)) and (type(value) is not int or is_plain(value)))
    ]


def is_plain(value: Any) -> bool:
    """Whether a value is a number that JSON has a form for; a step or a time beyond that is no writer's of ours."""
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**64)


_SHAPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("t", "duration_s"), NUMBER),
    **dict.fromkeys(("attempt", "process_rank", "exit_code", "schema_version"), int),
    **dict.fromkeys(("config", "config_types", "types", "environment", "function", "error", "resources"), dict),
    **dict.fromkeys(("alive", "metrics", "losses", "seed"), dict),
    **dict.fromkeys(("inputs", "tags", "add", "remove", "removed"), list),
    **dict.fromkeys(("name", "experiment", "parent_id", "launched_by", "rerun_of", "config_hash"), str),
    **dict.fromkeys(("objective", "direction", "user", "host", "decision", "reason", "by", "text"), str),
    **dict.fromkeys(("path", "uri", "sha256", "status"), str),
    **dict.fromkeys(("bytes", "rank"), int),
}
_OF_INPUTS = {**_SHAPES, "error": str}  # why a file could not be read: one word, where a run's end has a tree
