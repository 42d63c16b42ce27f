"""The events of the SQL sink: written as they are, with the points in them, and read back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson

from runcard.events import Event, mark, restore
from runcard.sinks._sql_numbers import double, exact, label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runcard.record import RunRecord
    from runcard.sinks._sql_engine import Transaction


def lock_run(transaction: Transaction, run_id: str) -> None:
    """Let nobody else judge the run until the transaction ends."""
    transaction.run("UPDATE runcard_runs SET run_id = run_id WHERE run_id = :run_id", run_id=run_id)


def seen(transaction: Transaction, run_id: str) -> None:
    """Note that the run was heard of."""
    transaction.run("UPDATE runcard_runs SET seen_at = :now WHERE run_id = :run_id", now=time.time(), run_id=run_id)


def insert_events(transaction: Transaction, run_id: str, events: Iterable[Event]) -> None:
    """Keep events of a run, and the points in them, that are not there yet."""
    insert_all(transaction, ((run_id, event) for event in events))
    seen(transaction, run_id)


def insert_all(transaction: Transaction, events: Iterable[tuple[str, Event]]) -> None:
    """Keep events of any runs, each with its run's id."""
    bodies, numbers = [], []
    for run_id, event in events:
        writer, n = event["writer"], event["n"]
        body = {key: value for key, value in event.items() if key != "writer"}
        moment = double(event.get("t"))
        bodies.append(
            {
                "run_id": run_id,
                "writer": writer,
                "n": n,
                "kind": label(event["kind"]),
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
                        "name": label(name),
                        "writer": writer,
                        "n": n,
                        "step": double(event.get("step")),
                        "value": double(value),
                        "exact": exact(value),
                        "time": moment,
                    }
                )
    transaction.insert("runcard_events", _EVENT, bodies)
    transaction.insert("runcard_points", _POINT, numbers)


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
        found.setdefault(writer, []).append(_event(body))
    return found


def read_many(transaction: Transaction, run_ids: Sequence[str]) -> dict[str, dict[str, list[Event]]]:
    """The events of many runs, by run and writer; a run that has none is not in it."""
    found: dict[str, dict[str, list[Event]]] = {}
    for run_id, writer, body in transaction.run(
        "SELECT run_id, writer, body FROM runcard_events"  # noqa: S608 - our own words
        f" WHERE run_id {transaction.among('run_ids')} ORDER BY run_id, writer, n",
        run_ids=transaction.listed(run_ids),
    ):
        found.setdefault(run_id, {}).setdefault(writer, []).append(_event(body))
    return found


def _event(body: str) -> Event:
    event: Event = orjson.loads(body)
    return restore(event) if '{"$' in body else event


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
