"""What the SQL sink writes and reads: events as they are, and the rows that follow from them and from records."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import orjson

from runcard._paths import leaves
from runcard.events import Event, mark, restore
from runcard.sinks._sql_schema import LABEL_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runcard.record import RunRecord
    from runcard.sinks._sql_engine import Transaction

_INTEGERS = 2**53  # up to here a double holds every integer


def lock_run(transaction: Transaction, run_id: str) -> None:
    """Let nobody else judge the run until the transaction ends."""
    transaction.run("UPDATE runcard_runs SET run_id = run_id WHERE run_id = :run_id", run_id=run_id)


def seen(transaction: Transaction, run_id: str) -> None:
    """Note that the run was heard of."""
    transaction.run("UPDATE runcard_runs SET seen_at = :now WHERE run_id = :run_id", now=time.time(), run_id=run_id)


def insert_events(transaction: Transaction, run_id: str, events: Iterable[Event]) -> None:
    """Keep events, and the points in them, that are not there yet."""
    bodies, numbers = [], []
    for event in events:
        writer, n = event["writer"], event["n"]
        body = {key: value for key, value in event.items() if key != "writer"}
        moment = _double(event.get("t"))
        bodies.append(
            {
                "run_id": run_id,
                "writer": writer,
                "n": n,
                "kind": _label(event["kind"]),
                "t": moment,
                "body": orjson.dumps(mark(body)).decode(),
            }
        )
        if event["kind"] not in ("log", "system") or not isinstance(event.get("metrics"), dict):
            continue
        for name, value in event["metrics"].items():
            if isinstance(value, (int, float)):
                numbers.append(
                    {
                        "run_id": run_id,
                        "name": _label(name),
                        "writer": writer,
                        "n": n,
                        "step": _double(event.get("step")),
                        "value": _double(value),
                        "exact": _exact(value),
                        "time": moment,
                    }
                )
    transaction.insert("runcard_events", _EVENT, bodies)
    transaction.insert("runcard_points", _POINT, numbers)
    seen(transaction, run_id)


def from_history(record: RunRecord) -> list[Event]:
    """The points of a record as events, for a run that came without a journal."""
    return [
        {
            "writer": "journal",
            "n": n,
            "kind": "log",
            "t": point.time,
            "step": point.step,
            "metrics": {point.name: point.value},
        }
        for n, point in enumerate(record.metric_history)
    ]


def read_journals(transaction: Transaction, run_id: str, kinds: tuple[str, ...] = ()) -> dict[str, list[Event]]:
    """The events of a run by writer, of all kinds or of some."""
    only = f" AND kind IN ({', '.join(repr(kind) for kind in kinds)})" if kinds else ""
    found: dict[str, list[Event]] = {}
    for writer, body in transaction.run(
        f"SELECT writer, body FROM runcard_events WHERE run_id = :run_id{only} ORDER BY writer, n",  # noqa: S608 - `kinds` is this file's own
        run_id=run_id,
    ):
        event = orjson.loads(body)
        found.setdefault(writer, []).append(restore(event) if '{"$' in body else event)
    return found


def write_record(transaction: Transaction, record: RunRecord) -> None:
    """The run's row, and the rows that follow from it, anew."""
    run_id = record.run_id
    commit = (record.environment.get("git") or {}).get("commit")
    transaction.run(
        _RUN,
        run_id=run_id,
        name=_label(record.name),
        experiment=_label(record.experiment),
        status=record.status.value,
        started_at=record.started_at.isoformat() if record.started_at else None,
        ended_at=record.ended_at.isoformat() if record.ended_at else None,
        duration_s=record.duration_s,
        parent_id=record.parent_id,
        user_name=_clean(record.user),
        host=_clean(record.host),
        decision=record.decision,
        decision_reason=_clean(record.decision_reason),
        is_best=record.is_best,
        objective=_clean(record.objective),
        direction=record.direction,
        config_hash=record.config_hash,
        git_commit=_clean(commit),
        notes=_clean(record.notes),
        seen_at=time.time(),
        record=orjson.dumps(record.to_dict(history=False)).decode(),
    )
    config = {_label(path): value for path, value in leaves(record.config) if path}
    tables: dict[str, list[dict[str, Any]]] = {
        "config (run_id, path, value, number) VALUES (:run_id, :path, :value, :number)": [
            {"path": path, "value": _text(value), "number": _double(value)} for path, value in config.items()
        ],
        (
            "metrics (run_id, name, last, exact, last_step, min, min_step, max, max_step, count)"
            " VALUES (:run_id, :name, :last, :exact, :last_step, :min, :min_step, :max, :max_step, :count)"
        ): list(_summaries(record).values()),
        "tags (run_id, tag) VALUES (:run_id, :tag)": [
            {"tag": tag} for tag in dict.fromkeys(_label(tag) for tag in record.tags)
        ],
        "artifacts (run_id, place, bytes, sha256) VALUES (:run_id, :place, :bytes, :sha256)": list(
            _artifacts(record).values()
        ),
    }
    for statement, rows in tables.items():
        table = statement.partition(" ")[0]
        transaction.run(f"DELETE FROM runcard_{table} WHERE run_id = :run_id", run_id=run_id)  # noqa: S608 - a name from above
        transaction.many(f"INSERT INTO runcard_{statement}", [{"run_id": run_id, **row} for row in rows])


def _summaries(record: RunRecord) -> dict[str, dict[str, Any]]:
    found = {}
    for name, value in record.metrics.items():
        summary: Mapping[str, Any] = record.metric_summary.get(name) or {}
        row = {key: _double(summary.get(key)) for key in ("last_step", "min", "min_step", "max", "max_step")}
        label = _label(name)
        found[label] = {
            "name": label,
            "last": _double(value),
            "exact": _exact(value),
            "count": summary.get("count"),
            **row,
        }
    return found


def _artifacts(record: RunRecord) -> dict[str, dict[str, Any]]:
    found = {}
    for entry in record.artifacts:
        place = _label(str(entry.get("uri") or entry.get("path") or entry.get("name")))
        found[place] = {"place": place, "bytes": entry.get("bytes"), "sha256": _clean(entry.get("sha256"))}
    return found


def _clean(text: Any) -> str | None:
    return None if text is None else str(text).replace("\0", "\ufffd")


def _label(text: str) -> str:
    return text[:LABEL_LIMIT].replace("\0", "\ufffd")


def _text(value: Any) -> str | None:
    """A setting as text: its own, or JSON."""
    if value is None or isinstance(value, str):
        return _clean(value)
    return _clean(orjson.dumps(mark(value)).decode())


def _double(value: Any) -> float | None:
    """A number as a double; an integer beyond all doubles is infinite. None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _exact(value: int | float) -> str | None:
    """What a double, or SQLite, cannot hold of a number, as text."""
    if isinstance(value, int):
        return None if -_INTEGERS <= value <= _INTEGERS else _integer(value)
    return "nan" if math.isnan(value) else None


def _integer(value: int) -> str:
    return str(value) if value.bit_length() < 10_000 else hex(value)  # Python's own limit on digits


_TEXT, _NUMBER, _INTEGER = "TEXT", "DOUBLE PRECISION", "BIGINT"
_EVENT = {"run_id": _TEXT, "writer": _TEXT, "n": _INTEGER, "kind": _TEXT, "t": _NUMBER, "body": _TEXT}
_POINT = {
    "run_id": _TEXT,
    "name": _TEXT,
    "writer": _TEXT,
    "n": _INTEGER,
    "step": _NUMBER,
    "value": _NUMBER,
    "exact": _TEXT,
    "time": _NUMBER,
}
_COLUMNS = (
    *("name", "experiment", "status", "started_at", "ended_at", "duration_s", "parent_id", "user_name", "host"),
    *("decision", "decision_reason", "is_best", "objective", "direction", "config_hash", "git_commit", "notes"),
    *("seen_at", "record"),
)
_RUN = (
    f"INSERT INTO runcard_runs (run_id, {', '.join(_COLUMNS)})"  # noqa: S608 - columns from above
    f" VALUES (:run_id, {', '.join(f':{name}' for name in _COLUMNS)})"
    f" ON CONFLICT (run_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
)
