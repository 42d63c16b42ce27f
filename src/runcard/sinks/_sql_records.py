"""The rows that follow from a record: for people to query, and for listings to read."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from runcard._paths import is_branch
from runcard.events import mark
from runcard.record import RunRecord
from runcard.sinks._sql_numbers import clean, double, exact, is_double, label
from runcard.sinks._sql_schema import LABEL_LIMIT
from runcard.values import path_join

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runcard.sinks._sql_engine import Transaction

    Row = dict[str, Any]

HEAVY = frozenset(
    (
        *("metric_history", "environment", "error", "result", "attempts", "function", "artifacts", "inputs"),
        *("resources", "seed", "verdicts", "decisions", "config_types"),
    )
)
"""The fields that listings do not show: they are read from the run itself."""
_CHUNK = 200  # records that are written again at a time


def write_records(transaction: Transaction, records: Sequence[RunRecord]) -> None:
    """The rows of these runs, anew."""
    if not records:
        return
    now = time.time()
    data = [record.to_dict(history=False) for record in records]
    runs = [_run(record, told, now) for record, told in zip(records, data, strict=True)]
    there = "SELECT run_id FROM runcard_runs WHERE run_id"
    ids = transaction.listed([record.run_id for record in records])
    known = [str(row[0]) for row in transaction.run(f"{there} {transaction.among('ids')}", ids=ids)]
    transaction.insert("runcard_runs", _RUNS, runs, update="run_id")
    _write_rows(transaction, list(zip(records, data, strict=True)), known)


def write_again(transaction: Transaction) -> None:
    """The rows of all runs from the records that are there, after a change of the tables."""
    last = ""
    while True:
        found = transaction.run(
            f"SELECT run_id, record FROM runcard_runs WHERE run_id > :last ORDER BY run_id LIMIT {_CHUNK}",  # noqa: S608 - a number of ours
            last=last,
        )
        if not found:
            return
        told = [orjson.loads(text) for _, text in found]
        _write_rows(transaction, [(RunRecord.from_dict(each), each) for each in told], [row[0] for row in found])
        last = found[-1][0]


def began(record: RunRecord) -> int:
    """When a run began in microseconds since 1970: by its start, else by its id; what listings go by."""
    started = record.started_at
    if started is None:
        try:
            started = datetime.strptime(record.run_id[:15] + "+0000", "%Y%m%dT%H%M%S%z")
        except ValueError:
            return -(2**62)
    return microseconds(started)


def microseconds(moment: datetime) -> int:
    """A time as microseconds since 1970."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _write_rows(transaction: Transaction, records: Sequence[tuple[RunRecord, Row]], known: Sequence[str]) -> None:
    """Write the rows; of runs that are known, in the place of those they have."""
    rows: dict[str, list[Row]] = {name: [] for name in _TABLES}
    odd: set[tuple[str, str]] = set()
    for record, told in records:
        made = {
            "config": _config(record, odd),
            "metrics": _summaries(record, odd),
            "tags": _tags(record, odd),
            "artifacts": _artifacts(record),
            "listing": [_listing(record, odd)],
            "lean": [{"fields": orjson.dumps({k: v for k, v in told.items() if k not in HEAVY}).decode()}],
        }
        for name, each in made.items():
            rows[name] += [{"run_id": record.run_id, **row} for row in each]
    for name, types in _TABLES.items():
        if known:
            transaction.run(
                f"DELETE FROM runcard_{name} WHERE run_id {transaction.among('ids')}",  # noqa: S608 - a name from below
                ids=transaction.listed(known),
            )
        transaction.insert(f"runcard_{name}", types, rows[name])
    _note_odd(transaction, odd)


def _run(record: RunRecord, told: Row, now: float) -> Row:
    return {
        "run_id": record.run_id,
        "name": label(record.name),
        "experiment": label(record.experiment),
        "status": record.status.value,
        "started_at": told["started_at"],
        "ended_at": told["ended_at"],
        "duration_s": double(record.duration_s),
        "parent_id": record.parent_id,
        "user_name": clean(record.user),
        "host": clean(record.host),
        "decision": record.decision,
        "decision_reason": clean(record.decision_reason),
        "is_best": record.is_best,
        "objective": clean(record.objective),
        "direction": record.direction,
        "config_hash": record.config_hash,
        "git_commit": clean((record.environment.get("git") or {}).get("commit")),
        "notes": clean(record.notes),
        "seen_at": now,
        "record": orjson.dumps(told).decode(),
    }


def _listing(record: RunRecord, odd: set[tuple[str, str]]) -> Row:
    row: Row = {"began": began(record)}
    if record.started_at is None:
        odd.add(("started_at", ""))
    for name in ("status", "experiment", "name", "parent_id", "decision", "host", "objective", "direction"):
        row[name] = _plain(name, getattr(record, name), odd)
    row["user_name"] = _plain("user", record.user, odd)
    row["config_hash"] = _plain("config_hash", record.config_hash, odd)
    row["duration_s"] = double(record.duration_s)
    if not (record.duration_s is None or is_double(record.duration_s)):
        odd.add(("duration_s", ""))
    row["is_best"] = record.is_best if isinstance(record.is_best, bool) else None
    if row["is_best"] is not record.is_best:
        odd.add(("is_best", ""))
    return row


def _plain(name: str, value: Any, odd: set[tuple[str, str]]) -> str | None:
    if value is None:
        return None
    text = str(value)
    kept = label(text)
    if kept != text or not isinstance(value, str):
        odd.add((name, ""))
    return kept


def _config(record: RunRecord, odd: set[tuple[str, str]]) -> list[Row]:
    found: dict[str, Row] = {}
    for path, value in _settings(record.config, "", odd):
        name = label(path)
        kind = _kind(value)
        if kind == "other" or name != path:
            odd.add(("config", name))
        found[name] = {"path": name, "value": _text(value), "number": double(value), "kind": kind}
    return list(found.values())


def _settings(value: Any, path: str, odd: set[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """The leaves as `runcard._paths.leaves` has them; branches, which stand in no row, are odd."""
    for key, item in value.items():
        place = path_join(path, key)
        if is_branch(item):
            odd.add(("config", label(place)))
            yield from _settings(item, place, odd)
            continue
        if isinstance(item, Mapping) and item:
            odd.add(("opaque", label(place)))
        yield place, item


def _kind(value: Any) -> str:
    """What a comparison must know of a setting, so that its row tells it exactly; else ``other``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "other" if "\0" in value else "text"
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return "number" if is_double(value) else "other"


def _summaries(record: RunRecord, odd: set[tuple[str, str]]) -> list[Row]:
    found = {}
    for name, value in record.metrics.items():
        summary: Mapping[str, Any] = record.metric_summary.get(name) or {}
        row = {key: double(summary.get(key)) for key in ("last_step", "min", "min_step", "max", "max_step")}
        kept = label(name)
        bounds = (summary.get("min"), summary.get("max"))
        # Infinite and missing bounds are told as they are; what a double cannot hold is not.
        if kept != name or not all(_is_told(each) for each in (value, *(b for b in bounds if b is not None))):
            odd.add(("metrics", kept))
        number = double(value)
        found[kept] = {
            "name": kept,
            "last": number,
            "exact": None if number is None else exact(value),
            "count": summary.get("count"),
            **row,
        }
    for entry in record.amendments:
        odd.update(("amended", label(str(name))) for name in entry.get("metrics") or ())
    return list(found.values())


def _is_told(value: Any) -> bool:
    return is_double(value) or (type(value) is float and math.isnan(value))


def _tags(record: RunRecord, odd: set[tuple[str, str]]) -> list[Row]:
    kept = dict.fromkeys(map(label, record.tags))
    if not kept.keys() <= set(record.tags):
        odd.add(("tags", ""))
    return [{"tag": tag} for tag in kept]


def _artifacts(record: RunRecord) -> list[Row]:
    found = {}
    for entry in record.artifacts:
        place = label(str(entry.get("uri") or entry.get("path") or entry.get("name")))
        found[place] = {"place": place, "bytes": entry.get("bytes"), "sha256": clean(entry.get("sha256"))}
    return list(found.values())


def _note_odd(transaction: Transaction, odd: set[tuple[str, str]]) -> None:
    if not odd:
        return
    known = {(field, name) for field, name in transaction.run("SELECT field, name FROM runcard_inexact")}
    new = sorted(odd - known)  # in one order, lest two that write at once wait for each other
    transaction.insert("runcard_inexact", _INEXACT, [{"field": field, "name": name} for field, name in new])


def _text(value: Any) -> str | None:
    """A setting as text: its own, or JSON."""
    if value is None or isinstance(value, str):
        return clean(value)
    return clean(orjson.dumps(mark(value)).decode())


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT_, _NUMBER, _INTEGER, _TIME = "TEXT", "DOUBLE PRECISION", "BIGINT", "TIMESTAMPTZ"
_RUNS = {
    "run_id": _TEXT_,
    **dict.fromkeys(("name", "experiment", "status"), _TEXT_),
    **dict.fromkeys(("started_at", "ended_at"), _TIME),
    "duration_s": _NUMBER,
    **dict.fromkeys(("parent_id", "user_name", "host", "decision", "decision_reason"), _TEXT_),
    "is_best": "BOOLEAN",
    **dict.fromkeys(("objective", "direction", "config_hash", "git_commit", "notes"), _TEXT_),
    "seen_at": _NUMBER,
    "record": _TEXT_,
}
_TABLES: dict[str, dict[str, str]] = {
    "config": {"run_id": _TEXT_, "path": _TEXT_, "value": _TEXT_, "number": _NUMBER, "kind": _TEXT_},
    "metrics": {
        "run_id": _TEXT_,
        "name": _TEXT_,
        "last": _NUMBER,
        "exact": _TEXT_,
        **dict.fromkeys(("last_step", "min", "min_step", "max", "max_step"), _NUMBER),
        "count": _INTEGER,
    },
    "tags": {"run_id": _TEXT_, "tag": _TEXT_},
    "artifacts": {"run_id": _TEXT_, "place": _TEXT_, "bytes": _INTEGER, "sha256": _TEXT_},
    "listing": {
        "run_id": _TEXT_,
        "began": _INTEGER,
        **dict.fromkeys(("status", "experiment", "name", "parent_id"), _TEXT_),
        "duration_s": _NUMBER,
        "decision": _TEXT_,
        "is_best": "BOOLEAN",
        **dict.fromkeys(("user_name", "host", "objective", "direction", "config_hash"), _TEXT_),
    },
    "lean": {"run_id": _TEXT_, "fields": _TEXT_},
}
_INEXACT = {"field": _TEXT_, "name": _TEXT_}
assert LABEL_LIMIT < 2_704 // 4  # bytes a character, in PostgreSQL's index rows
