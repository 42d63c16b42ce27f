"""A database through SQLAlchemy: reading, and writing in transactions that wait for their turn. Imported when used.

SQLite is put into WAL mode and writes with ``BEGIN IMMEDIATE``, so that many processes queue for the lock instead of
failing at it; what is refused all the same, or lost with a connection, is tried again.
"""

from __future__ import annotations

import math
import os
import random
import time
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import orjson
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from runcard import settings
from runcard.errors import StoreError
from runcard.sinks._sql_schema import migrate
from runcard.sinks.files import file_mode
from runcard.sinks.registry import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    Work = Callable[["Transaction"], Any]

T = TypeVar("T")
BUSY_S = 30.0  # how long a write waits for others
_LOCK = 0x72756E63617264  # PostgreSQL's advisory lock while tables are made
_AGAIN = ("40001", "40P01")  # PostgreSQL: serialisation failure, deadlock
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Transaction:
    """One transaction: statements in SQL that both databases understand, with parameters by name.

    Attributes:
        is_sqlite: Which of the two it is.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.is_sqlite = connection.dialect.name == "sqlite"

    def run(self, statement: str, **parameters: Any) -> list[Sequence[Any]]:
        """Run a statement; its rows."""
        result = self._connection.execute(text(statement), parameters)
        return list(result) if result.returns_rows else []

    def fetch(self, statement: str, **parameters: Any) -> list[Any]:
        """A query's rows as plain tuples: sooner than `run` for many of them."""
        cursor: Any = self._connection.execute(text(statement), parameters).cursor
        found: list[Any] = cursor.fetchall()
        return found

    def insert(
        self, table: str, types: Mapping[str, str], rows: Sequence[Mapping[str, Any]], *, update: str | None = None
    ) -> None:
        """Insert rows that are not there yet; on PostgreSQL as one JSON, sooner than arrays.

        Args:
            table: Its name.
            types: The columns' names and types.
            rows: Values by column; those of one column are all text, all integers, all floats or all booleans, or None.
            update: The key of rows that are to take the place of what is there.
        """
        if not rows:
            return
        names = ", ".join(types)
        conflict = "ON CONFLICT DO NOTHING"
        if update is not None:
            changes = ", ".join(f"{name} = excluded.{name}" for name in types if name != update)
            conflict = f"ON CONFLICT ({update}) DO UPDATE SET {changes}"
        if self.is_sqlite:
            values = ", ".join(f":{name}" for name in types)
            statement = f"INSERT INTO {table} ({names}) VALUES ({values}) {conflict}"  # noqa: S608 - names of our own
            self._connection.execute(text(statement), rows)
        else:
            columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
            given = f"json_to_recordset(CAST(:rows AS json)) AS r({columns})"
            statement = f"INSERT INTO {table} ({names}) SELECT {names} FROM {given} {conflict}"  # noqa: S608 - likewise
            self.run(statement, rows=_json(rows))

    def among(self, parameter: str) -> str:
        """What follows a column in SQL that is to be one of many: the parameter is what `listed` makes of them."""
        if self.is_sqlite:
            return f"IN (SELECT value FROM json_each(:{parameter}))"  # noqa: S608 - a name of our own
        return f"= ANY(CAST(:{parameter} AS TEXT[]))"

    def listed(self, texts: Sequence[str]) -> Any:
        """Many texts as one parameter."""
        return orjson.dumps(list(texts)).decode() if self.is_sqlite else list(texts)


class Database:
    """A database by its URL; nothing connects before the first statement.

    Attributes:
        store_id: The database's own id, once it was written to.
    """

    def __init__(self, address: str) -> None:
        self.store_id = ""
        self._name = without_credentials(address)
        self._ready = False
        try:
            url = make_url(address)
        except (ArgumentError, ValueError):
            raise StoreError(f"{self._name} is no database's URL") from None  # the cause may hold the password
        self._is_sqlite = url.get_backend_name() == "sqlite"
        self.path = url.database if self._is_sqlite else None
        if self._is_sqlite:
            arguments: dict[str, Any] = {"timeout": BUSY_S}
        else:
            if url.drivername == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            arguments = {"application_name": "runcard"}
            if "connect_timeout" not in url.query:
                arguments["connect_timeout"] = 10
        try:
            self._engine = create_engine(
                url, connect_args=arguments, hide_parameters=True, pool_pre_ping=True, pool_size=1, max_overflow=4
            )
        except (SQLAlchemyError, ImportError) as error:
            raise StoreError(f"{self._name} cannot be opened: {_said(error)}") from None
        if self._is_sqlite:
            event.listen(self._engine, "connect", _manual_transactions)
            event.listen(self._engine, "begin", _begin)
        _engines.add(self._engine)
        weakref.finalize(self, self._engine.dispose)  # a server's connections are closed, not left

    def read(self, work: Callable[[Transaction], T], empty: T) -> T:
        """Read within one transaction; ``empty`` when there are no tables yet. Raises `StoreError`."""
        if self.path is not None and not os.path.exists(self.path):
            return empty
        if self.path is not None and _is_at_rest(self.path):
            return self._tried(lambda: self._read(work, empty, self._unchanging))
        return self._tried(lambda: self._read(work, empty, self._engine))

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Write within one transaction, which is tried again while others are in the way. Raises `StoreError`."""
        if self.path is not None and not os.path.isdir(os.path.dirname(self.path)):
            raise StoreError(f"{self._name}: the folder {os.path.dirname(self.path)} is not there; make it first")
        if self.path is not None and not os.path.exists(self.path):
            _make_private(self.path)
        return self._tried(lambda: self._write(work))

    def _read(self, work: Callable[[Transaction], T], empty: T, engine: Engine) -> T:
        with engine.connect() as connection:
            transaction = Transaction(connection)
            return work(transaction) if self._ready or self._has_tables(transaction) else empty

    @cached_property
    def _unchanging(self) -> Engine:
        """Reads a file that nobody can be writing: SQLite would make files beside it, where it may not."""
        address = URL.create(
            "sqlite", database=f"file:{quote(str(self.path))}", query={"immutable": "1", "uri": "true"}
        )
        return create_engine(address, poolclass=NullPool)

    def _has_tables(self, transaction: Transaction) -> bool:
        if self._is_sqlite:
            found = transaction.run("SELECT 1 FROM sqlite_master WHERE name = 'runcard_runs'")
        else:
            found = transaction.run("SELECT 1 WHERE to_regclass('runcard_runs') IS NOT NULL")
        return bool(found)

    def _write(self, work: Callable[[Transaction], T]) -> T:
        with self._engine.connect() as connection:
            if not self._ready:
                if self._is_sqlite:
                    _to_wal(connection)
                self._migrate(connection)
            connection.execution_options(runcard_write=True)
            with connection.begin():
                return work(Transaction(connection))

    def _migrate(self, connection: Connection) -> None:
        connection.execution_options(runcard_write=True)
        with connection.begin():
            transaction = Transaction(connection)
            if not self._is_sqlite:
                transaction.run(f"SELECT pg_advisory_xact_lock({_LOCK})")
            try:
                self.store_id = migrate(transaction)
            except StoreError as error:
                raise StoreError(f"{self._name}: {error}") from None
        self._ready = True

    def _tried(self, action: Callable[[], T]) -> T:
        until, pause, lost = time.monotonic() + BUSY_S, 0.01, False
        while True:
            try:
                return action()
            except DBAPIError as error:
                again = _is_busy(error) or (error.connection_invalidated and not lost)
                lost = lost or error.connection_invalidated
                if not again or time.monotonic() > until:
                    raise StoreError(f"{self._name}: {_said(error)}") from None
            except SQLAlchemyError as error:
                raise StoreError(f"{self._name}: {_said(error)}") from None
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - so that two do not meet again
            pause = min(0.5, pause * 2)


def _is_at_rest(path: str) -> bool:
    """Whether a database lies where nothing can be written, and nobody is in the middle of it."""
    return not os.access(os.path.dirname(path), os.W_OK) and not os.path.exists(f"{path}-wal")


def _make_private(path: str) -> None:
    """An empty database for its owner, or the group that the setting `mode` shares with; what SQLite adds is alike."""
    bits = file_mode(Path(path).parent, settings.current().mode)
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, bits)
    except OSError:
        return  # another process made it, or SQLite says why nobody can
    try:
        os.chmod(path, bits)  # whatever the umask took away
    finally:
        os.close(file)


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as PostgreSQL reads them out of JSON: every number exact, and those that JSON has not as their names."""
    plain = [
        {
            name: repr(value) if type(value) is float and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    return orjson.dumps(plain).decode()


def _manual_transactions(connection: Any, _record: Any) -> None:
    """Let SQLAlchemy begin transactions itself; in WAL mode NORMAL loses no whole transaction to a killed process."""
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("runcard_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _to_wal(connection: Connection) -> None:
    """Outside of a transaction, as SQLite wants it; a file system that cannot keeps its mode."""
    raw: Any = connection.connection.dbapi_connection  # SQLite's own
    raw.execute("PRAGMA journal_mode=WAL").fetchall()


def _is_busy(error: DBAPIError) -> bool:
    said = str(error.orig)
    return "database is locked" in said or "busy" in said or getattr(error.orig, "sqlstate", None) in _AGAIN


def _said(error: BaseException) -> str:
    """What the database said, in one line, without the statement."""
    said = str(getattr(error, "orig", None) or error)
    return " ".join(said.partition("\n[SQL")[0].split())[:300]


def _forget_connections() -> None:
    """In a forked child: the parent's connections are not ours to close."""
    for engine in list(_engines):
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)
