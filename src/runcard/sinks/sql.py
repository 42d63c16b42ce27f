"""``sqlite:///runs.db`` and ``postgresql://…``: runs, metrics and events in tables, through SQLAlchemy.

The sink follows runs live and can be read back; every event is kept once by (run_id, writer, n), however often it is
delivered. `docs/sinks.md` has the tables.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import orjson

from runcard._folding import points
from runcard.errors import RunNotFound, SettingError, StoreError
from runcard.identity import is_alive
from runcard.record import History, RunRecord, Status, fold
from runcard.sinks._extras import need
from runcard.sinks._sql_records import write_records
from runcard.sinks._sql_rows import from_history, insert_all, insert_events, lock_run, read_journals, read_many, seen
from runcard.sinks.registry import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from urllib.parse import SplitResult

    from runcard._ranking import At
    from runcard.events import Event
    from runcard.sinks._sql_engine import Database, Transaction


_TOGETHER = 50  # runs whose events are read at a time
_JUDGE = "journal-sql"  # how the writer of a judgement made in a database begins


def open_sink(url: str) -> SqlSink:
    """The sink and source of one database; it connects when it is first used."""
    return SqlSink(url)


def _check(url: str) -> None:
    """Refuse what cannot work, without connecting."""
    wanted = ["sqlalchemy"]
    scheme, _, rest = url.partition(":")
    if scheme not in ("sqlite", "postgresql", "postgresql+psycopg"):
        plain = scheme.partition("+")[0]
        raise SettingError(f"{without_credentials(url)} names a driver that runcard does not use; write {plain}://…")
    if scheme == "sqlite":
        if not rest.startswith("///") or not rest[3:].partition("?")[0] or rest[3:].startswith(":memory:"):
            raise SettingError(f"{url!r} names no file; write sqlite:///runs.db, or sqlite:////data/runs.db")
    else:
        told = without_credentials(url)
        if not rest.startswith("//"):
            raise SettingError(f"{told} is no database's URL; write postgresql://user@host/database")
        split = _split(url)
        if split is None:
            raise SettingError(
                f"{told} has no valid host and port; write postgresql://user@host:5432/database, with %2F for a / in"
                " the password, or leave it to PGPASSWORD"
            )
        if not split.path.strip("/") and "dbname=" not in split.query:
            raise SettingError(f"{told} names no database; write postgresql://user@host/database")
        wanted.append("psycopg")
    for package in wanted:
        need(package, "runcard[sql]")


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None when its host or port is none. The error would hold the password."""
    from urllib.parse import urlsplit

    try:
        split = urlsplit(url)
        _ = split.port
    except ValueError:
        return None
    return split


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
        self._database.write(lambda transaction: insert_events(transaction, run_id, events))

    def finish(self, record: RunRecord) -> None:
        """Note how a run ended. Raises `StoreError`."""

        def work(transaction: Transaction) -> None:
            if not transaction.run(
                "SELECT 1 FROM runcard_events WHERE run_id = :run_id LIMIT 1", run_id=record.run_id
            ):  # a run without a journal: its points are all there is
                insert_events(transaction, record.run_id, from_history(record))
            self._keep(transaction, record)

        self._database.write(work)

    def touch(self, run_id: str) -> None:
        """Show that a run goes on which has nothing to say. Raises `StoreError`."""
        self._database.write(lambda transaction: seen(transaction, run_id))

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

    def listing(
        self,
        where: str | Callable[[RunRecord], bool] | None = None,
        experiment: str | None = None,
        status: str | Collection[str] | None = None,
        sort: str | Collection[str] | None = None,
        limit: int | None = None,
    ) -> list[RunRecord] | None:
        """The same as `runcard.query.select` over all records, sooner; None when it cannot be had so.

        Raises:
            QueryError: When an expression, a key, a status or the limit cannot be understood.
            StoreError: When the database cannot be read.
        """
        from runcard.sinks._sql_choice import Question
        from runcard.sinks._sql_listing import Listing

        return Listing(self._database, self._some).runs(Question(where, experiment, status), sort, limit)

    def ranking(
        self,
        metric: str,
        direction: str,
        *,
        at: At = "last",
        where: str | Callable[[RunRecord], bool] | None = None,
        experiment: str | None = None,
        status: str | Collection[str] | None = None,
        limit: int | None = None,
    ) -> list[RunRecord] | None:
        """The same as `runcard.query.rank` over all records, sooner; None when it cannot be had so.

        Raises:
            SettingError: When the direction or ``at`` is another word; else as `listing`.
        """
        from runcard.sinks._sql_choice import Question
        from runcard.sinks._sql_listing import Listing

        found = Listing(self._database, self._some)
        return found.ranked(Question(where, experiment, status), metric, direction, at, limit)

    def journals(self, run_id: str) -> dict[str, list[Event]]:
        """The events of one run by writer."""
        return self._database.read(lambda t: read_journals(t, run_id), {})

    def journals_of(self, run_ids: Sequence[str]) -> dict[str, dict[str, list[Event]]]:
        """The events of many runs by run and writer; a run that is not here is not in it."""
        nothing: dict[str, dict[str, list[Event]]] = {}
        return self._database.read(lambda t: read_many(t, run_ids), nothing)

    def ended(self, run_ids: Sequence[str]) -> set[str]:
        """Which of these runs have ended here."""

        def work(transaction: Transaction) -> set[str]:
            among = transaction.among("ids")
            return {
                row[0]
                for row in transaction.run(
                    f"SELECT run_id FROM runcard_runs WHERE status <> 'running' AND run_id {among}",  # noqa: S608 - ours
                    ids=transaction.listed(run_ids),
                )
            }

        return self._database.read(work, set[str]())

    def take(self, runs: Sequence[tuple[RunRecord, Sequence[Event]]]) -> None:
        """Keep ended runs with all their events in one transaction; what is here already changes nothing.

        Raises:
            StoreError: When the database cannot take them.
        """

        def work(transaction: Transaction) -> None:
            insert_all(transaction, ((record.run_id, event) for record, events in runs for event in events))
            judged = {
                row[0]
                for row in transaction.run(
                    f"SELECT DISTINCT run_id FROM runcard_events WHERE run_id {transaction.among('ids')}"  # noqa: S608 - ours
                    f" AND writer LIKE '{_JUDGE}%'",
                    ids=transaction.listed([record.run_id for record, _ in runs]),
                )
            }
            write_records(transaction, [record for record, _ in runs if record.run_id not in judged])
            for record, _ in runs:
                if record.run_id in judged:
                    self._keep(transaction, record)

        self._database.write(work)

    def folder(self, _run_id: str) -> None:
        """None: a database keeps no files."""
        return

    @property
    def path(self) -> str | None:
        """The file of SQLite, be it there or not; None on a server."""
        return self._database.path

    @property
    def _database(self) -> Database:
        if self._opened is None:
            from runcard.sinks._sql_engine import Database

            self._opened = Database(self._address)
        return self._opened

    def _some(self, run_ids: list[str]) -> list[RunRecord]:
        """The records of these runs, those that are here."""

        def work(transaction: Transaction) -> list[Any]:
            return transaction.run(
                "SELECT run_id, status, seen_at, record FROM runcard_runs"  # noqa: S608 - our own words
                f" WHERE run_id {transaction.among('ids')} ORDER BY run_id DESC",
                ids=transaction.listed(run_ids),
            )

        nothing: list[Any] = []
        rows = self._database.read(work, nothing)
        found = []
        for at in range(0, len(rows), _TOGETHER):
            some = rows[at : at + _TOGETHER]
            live = [row[0] for row in some if row[1] == Status.RUNNING]
            journals = self.journals_of(live) if live else {}
            for run_id, status, seen_at, text in some:
                found.append(self._from_row(run_id, status, seen_at, text, journals=journals.get(run_id)))
        return found

    def _from_row(
        self, run_id: str, status: str, seen_at: float, text: str, journals: dict[str, list[Event]] | None = None
    ) -> RunRecord:
        history = History(lambda: points(self._database.read(lambda t: read_journals(t, run_id, ("start", "log")), {})))
        if status != Status.RUNNING:
            return RunRecord.from_dict(orjson.loads(text), metric_history=history)
        record = fold(run_id, self.journals(run_id) if journals is None else journals)
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
        writer = f"{_JUDGE}{self._database.store_id}"  # its own, lest another store's judge takes the same number
        lock_run(transaction, run_id)
        ((last,),) = transaction.run(
            "SELECT max(n) FROM runcard_events WHERE run_id = :run_id AND writer = :writer",
            run_id=run_id,
            writer=writer,
        )
        insert_events(transaction, run_id, [{"n": 0 if last is None else last + 1, **event, "writer": writer}])
        record = fold(run_id, read_journals(transaction, run_id))
        if record.started_at is None:
            raise StoreError(f"the run {run_id} came without its journal and cannot be judged here")
        write_records(transaction, [record])

    def _keep(self, transaction: Transaction, record: RunRecord) -> None:
        """Write a record; where it was judged in this database, made again from all its events."""
        judged = transaction.run(
            f"SELECT 1 FROM runcard_events WHERE run_id = :run_id AND writer LIKE '{_JUDGE}%' LIMIT 1",  # noqa: S608 - ours
            run_id=record.run_id,
        )
        status = record.status
        if judged and status is not Status.RUNNING:
            folded = fold(record.run_id, read_journals(transaction, record.run_id))
            if folded.status is status:
                record = folded
        write_records(transaction, [record])

    def __repr__(self) -> str:
        return f"<SqlSink {self.url}>"


def _absolute(url: str) -> str:
    """An SQLite file's URL with an absolute path: the working directory may change."""
    if not url.startswith("sqlite:"):
        return url
    head, _, rest = url.partition(":///")
    path, mark_, query = rest.partition("?")
    return f"{head}:///{os.path.abspath(os.path.expanduser(path))}{mark_}{query}"
