"""``sqlite:///runs.db`` and ``postgresql://…``: runs, metrics and events in tables, through SQLAlchemy.

The sink follows runs live and can be read back; every event is kept once by (run_id, writer, n), however often it is
delivered. `docs/sinks.md` has the tables.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any

import orjson

from runcard._folding import points
from runcard._paths import leaves
from runcard.errors import MissingExtra, RunNotFound, SettingError, StoreError
from runcard.events import Event, mark, restore
from runcard.identity import is_alive
from runcard.record import History, RunRecord, Status, fold
from runcard.sinks._sql_schema import LABEL_LIMIT
from runcard.sinks.registry import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runcard.sinks._sql_engine import Database, Transaction

_INTEGERS = 2**53  # up to here a double holds every integer


def open_sink(url: str) -> SqlSink:
    """The sink and source of one database; it connects when it is first used."""
    return SqlSink(url)


def _check(url: str) -> None:
    """Refuse what cannot work, without connecting."""
    from importlib.util import find_spec
    from urllib.parse import urlsplit

    wanted = ["sqlalchemy"]
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        if not rest.startswith("///") or not rest[3:].partition("?")[0] or rest[3:].startswith(":memory:"):
            raise SettingError(f"{url!r} names no file; write sqlite:///runs.db, or sqlite:////data/runs.db")
    else:
        try:
            split = urlsplit(url)
            _ = split.port
        except ValueError:
            raise SettingError(f"{without_credentials(url)} has no valid host and port") from None
        if not split.path.strip("/") and "dbname=" not in split.query:
            raise SettingError(f"{without_credentials(url)} names no database; write postgresql://user@host/database")
        if scheme in ("postgresql", "postgresql+psycopg"):
            wanted.append("psycopg")
    for package in wanted:
        if find_spec(package) is None:
            raise MissingExtra(f'{package} is not installed: pip install "runcard[sql]"')


open_sink.check = _check  # type: ignore[attr-defined]  # what `registry.check` asks of a factory


class SqlSink:
    """Writes runs into a database and reads them back.

    Attributes:
        url: Where, without credentials.
    """

    def __init__(self, url: str) -> None:
        _check(url)
        self._address = _absolute(url)
        self.url = without_credentials(self._address)
        self._opened: Database | None = None

    def start(self, record: RunRecord) -> None:
        """Note a run that began, or goes on again. Raises `StoreError`."""
        self._database.write(lambda transaction: self._keep(transaction, record))

    def append(self, run_id: str, event: Event) -> None:
        """Keep one event: of a live run, with its writer, or a late judgement, which gets its number here.

        Raises:
            StoreError: When the database cannot take it; `RunNotFound` for a judgement of a run it does not have.
        """
        if "writer" in event:
            self.extend(run_id, [event])
        else:
            self._database.write(lambda transaction: self._judge(transaction, run_id, event))

    def extend(self, run_id: str, events: Sequence[Event]) -> None:
        """Keep many events in one transaction; those it has change nothing. Raises `StoreError`."""
        self._database.write(lambda transaction: _insert(transaction, run_id, events))

    def finish(self, record: RunRecord) -> None:
        """Note how a run ended. Raises `StoreError`."""

        def work(transaction: Transaction) -> None:
            if not transaction.run(
                "SELECT 1 FROM runcard_events WHERE run_id = :run_id LIMIT 1", run_id=record.run_id
            ):  # a run without a journal: its points are all there is
                _insert(transaction, record.run_id, _from_history(record))
            self._keep(transaction, record)

        self._database.write(work)

    def touch(self, run_id: str) -> None:
        """Show that a run goes on which has nothing to say. Raises `StoreError`."""
        self._database.write(lambda transaction: _seen(transaction, run_id))

    def probe(self) -> None:
        """Connect, make the tables and write, leaving nothing behind. Raises `StoreError`."""
        self._database.write(lambda transaction: transaction.run("UPDATE runcard_schema SET version = version"))

    def run_ids(self) -> list[str]:
        """The ids of all runs."""
        return self._database.read(lambda t: [row[0] for row in t.run("SELECT run_id FROM runcard_runs")], [])

    def record(self, run_id: str) -> RunRecord:
        """One record, its status derived. Raises `RunNotFound`."""
        found: list[Any] = self._database.read(
            lambda t: t.run("SELECT run_id, status, seen_at, record FROM runcard_runs WHERE run_id = :id", id=run_id),
            [],
        )
        if not found:
            raise RunNotFound(f"no run {run_id!r} in {self.url}")
        return self._from_row(*found[0])

    def records(self) -> list[RunRecord]:
        """All records, in the order they began."""
        rows: list[Any] = self._database.read(
            lambda t: t.run("SELECT run_id, status, seen_at, record FROM runcard_runs ORDER BY started_at, run_id"), []
        )
        return [self._from_row(*row) for row in rows]

    def journals(self, run_id: str) -> dict[str, list[Event]]:
        """The events of one run by writer."""
        return self._database.read(lambda t: _journals(t, run_id), {})

    def folder(self, _run_id: str) -> None:
        """None: a database keeps no files."""
        return

    @property
    def _database(self) -> Database:
        if self._opened is None:
            from runcard.sinks._sql_engine import Database

            self._opened = Database(self._address)
        return self._opened

    def _from_row(self, run_id: str, status: str, seen_at: float, text: str) -> RunRecord:
        history = History(lambda: points(self._database.read(lambda t: _journals(t, run_id, ("start", "log")), {})))
        if status != Status.RUNNING:
            return RunRecord.from_dict(orjson.loads(text), metric_history=history)
        record = fold(run_id, self.journals(run_id))
        changes: dict[str, Any] = {"metric_history": history, "duration_s": None}
        if record.started_at is None:  # its events are still on their way
            record = RunRecord.from_dict(orjson.loads(text))
        latest = [entry for entry in record.attempts if not entry.get("process_rank")] or record.attempts
        if record.status is not Status.RUNNING:
            del changes["duration_s"]
        elif not latest or not is_alive(latest[-1].alive, touched=seen_at):
            changes["status"] = Status.CRASHED
            changes["duration_s"] = record.duration_s
        from dataclasses import replace

        return replace(record, **changes)

    def _judge(self, transaction: Transaction, run_id: str, event: Event) -> None:
        """Number a late event, and make the record again from all of them."""
        if not transaction.run("SELECT 1 FROM runcard_runs WHERE run_id = :run_id", run_id=run_id):
            raise RunNotFound(f"no run {run_id!r}")
        writer = f"journal-sql{self._database.store_id}"  # its own, lest another store's judge takes the same number
        _lock_run(transaction, run_id)
        ((last,),) = transaction.run(
            "SELECT max(n) FROM runcard_events WHERE run_id = :run_id AND writer = :writer",
            run_id=run_id,
            writer=writer,
        )
        _insert(transaction, run_id, [{"n": 0 if last is None else last + 1, **event, "writer": writer}])
        record = fold(run_id, _journals(transaction, run_id))
        if record.started_at is None:
            raise StoreError(f"the run {run_id} came without its journal and cannot be judged here")
        _write(transaction, record)

    def _keep(self, transaction: Transaction, record: RunRecord) -> None:
        """Write a record; where it was judged in this database, made again from all its events."""
        judged = transaction.run(
            "SELECT 1 FROM runcard_events WHERE run_id = :run_id AND writer LIKE 'journal-sql%' LIMIT 1",
            run_id=record.run_id,
        )
        status = record.status
        if judged and status is not Status.RUNNING:
            folded = fold(record.run_id, _journals(transaction, record.run_id))
            if folded.status is status:
                record = folded
        _write(transaction, record)

    def __repr__(self) -> str:
        return f"<SqlSink {self.url}>"


def _absolute(url: str) -> str:
    """An SQLite file's URL with an absolute path: the working directory may change."""
    if not url.startswith("sqlite:"):
        return url
    head, _, rest = url.partition(":///")
    path, mark_, query = rest.partition("?")
    return f"{head}:///{os.path.abspath(os.path.expanduser(path))}{mark_}{query}"


def _lock_run(transaction: Transaction, run_id: str) -> None:
    """Let nobody else judge the run until the transaction ends."""
    transaction.run("UPDATE runcard_runs SET run_id = run_id WHERE run_id = :run_id", run_id=run_id)


def _seen(transaction: Transaction, run_id: str) -> None:
    transaction.run("UPDATE runcard_runs SET seen_at = :now WHERE run_id = :run_id", now=time.time(), run_id=run_id)


def _insert(transaction: Transaction, run_id: str, events: Iterable[Event]) -> None:
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
    _seen(transaction, run_id)


def _from_history(record: RunRecord) -> list[Event]:
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


def _journals(transaction: Transaction, run_id: str, kinds: tuple[str, ...] = ()) -> dict[str, list[Event]]:
    only = f" AND kind IN ({', '.join(repr(kind) for kind in kinds)})" if kinds else ""
    found: dict[str, list[Event]] = {}
    for writer, body in transaction.run(
        f"SELECT writer, body FROM runcard_events WHERE run_id = :run_id{only} ORDER BY writer, n",  # noqa: S608 - `kinds` is this file's own
        run_id=run_id,
    ):
        event = orjson.loads(body)
        found.setdefault(writer, []).append(restore(event) if '{"$' in body else event)
    return found


def _write(transaction: Transaction, record: RunRecord) -> None:
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
