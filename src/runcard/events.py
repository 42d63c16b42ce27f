"""The events a run is made of, and the numbers in them.

A run is a stream of events, each a JSON object with its number `n`, its `kind`, its time `t` (seconds since the
epoch) and what the kind adds. `docs/format.md` has every field. The kinds:

========== =========================================================================================
start      who, what and where: config, environment, function; the first event of each attempt
log        metrics of one step: `step`, `metrics`
system     a sample of the machine: `metrics` named `system/…`
config     keys added later: `config`, `types`
artifact   a file of the run: `name`, `path` or `uri`, `bytes`, `sha256`, `transient`
input      a file the run read: `path`, `bytes`, `sha256`
tag        `add`, `remove`
note       `text`
name       a new name
decision   `decision` (keep, discard), `reason`, `by`, `source`
amend      corrected metrics beside the old ones: `metrics`, `reason`, `by`
sink       what a sink could not do: `sink`, `problem`
verdict    what a rerun found
loss       something dropped outside any other event
files      artifacts removed by retention: `removed`
end        the last word: `status`, `error`, `result`, `metrics`, `resources`, …
durable    appended after the fsync succeeded
========== =========================================================================================

Any event may carry `losses`, a count by kind of what it could not hold; the record adds them up. An event is
identified by (`run_id`, writer, `n`), where the writer is the journal's file name without its ending.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

SCHEMA_VERSION = 1

Event = dict[str, Any]

UNMARKED = frozenset(("environment", "function", "error", "seed", "alive", "inputs", "attempts"))
"""Fields that hold no numbers of the user's: a mark of a number in them is no mark, and stays as it is."""

OWNER = "journal"  # the writer of `journal.jsonl`; the others are `journal-<writer>`


class EventId(NamedTuple):
    """What identifies an event wherever it is delivered, so that a second delivery changes nothing."""

    run_id: str
    writer: str
    number: int


def restore(value: Any) -> Any:
    """Turn the exact number marks ``{"$float": "nan"}`` and ``{"$int": "0x…"}`` back into numbers, everywhere.

    Other marks stay: they stand for values that JSON, and a plain record, have no form for.

    >>> restore({"lr": {"$float": "inf"}, "n": {"$int": "0x10000000000000000"}})
    {'lr': inf, 'n': 18446744073709551616}
    """
    if type(value) is dict:
        if len(value) == 1:
            (key, text), *_ = value.items()
            if key == "$float" and text in ("nan", "inf", "-inf"):
                return float(text)
            if key == "$int" and type(text) is str:
                try:
                    return int(text, 16)
                except ValueError:
                    return value
        return {key: restore(item) for key, item in value.items()}
    if type(value) is list:
        return [restore(item) for item in value]
    return value


def mark(value: Any) -> Any:
    """The inverse of `restore`: floats and integers that strict JSON has no form for become marks.

    >>> mark([1.5, float("nan")])
    [1.5, {'$float': 'nan'}]
    """
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is int:
        return value if -(2**63) <= value < 2**64 else {"$int": hex(value)}
    if kind is str:
        return value
    if isinstance(value, dict):
        return {key: mark(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mark(item) for item in value]
    return value
