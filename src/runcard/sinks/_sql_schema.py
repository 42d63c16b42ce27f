"""The tables of the SQL sink, and how a database comes to have them. One text serves SQLite and PostgreSQL.

``runcard_events`` is the truth: each event as its JSON, from which records are made again. The other tables follow
from it and are for people to query. Names, paths and tags are cut at 500 characters there, and a NUL, which PostgreSQL
does not take, is U+FFFD; the event and the record's JSON have them whole. A number that a double cannot hold stands
in ``exact`` as text: ``nan`` on SQLite, and integers beyond 2^53.

``runcard_listing`` and ``runcard_lean`` are what listings read: narrow rows to filter and sort by, and the part of a
record that listings show, as JSON. ``runcard_inexact`` names the fields, settings and metrics that somewhere hold what
the tables cannot tell exactly, so that they are compared in Python.

A change to the tables is a new entry in `MIGRATIONS`; one that was released is never edited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runcard.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runcard.sinks._sql_engine import Transaction

LABEL_LIMIT = 500  # characters of an indexed text: PostgreSQL's index rows hold 2,704 bytes

_FIRST = """
CREATE TABLE runcard_runs (
    run_id TEXT PRIMARY KEY, name TEXT, experiment TEXT, status TEXT NOT NULL,
    started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, duration_s DOUBLE PRECISION,
    parent_id TEXT, user_name TEXT, host TEXT, decision TEXT, decision_reason TEXT, is_best BOOLEAN,
    objective TEXT, direction TEXT, config_hash TEXT, git_commit TEXT, notes TEXT,
    seen_at DOUBLE PRECISION NOT NULL, record TEXT NOT NULL);
CREATE INDEX runcard_runs_started ON runcard_runs (started_at);
CREATE INDEX runcard_runs_experiment ON runcard_runs (experiment, started_at);
CREATE INDEX runcard_runs_status ON runcard_runs (status);
CREATE INDEX runcard_runs_parent ON runcard_runs (parent_id);
CREATE TABLE runcard_config (
    run_id TEXT NOT NULL, path TEXT NOT NULL, value TEXT, number DOUBLE PRECISION, PRIMARY KEY (run_id, path));
CREATE INDEX runcard_config_path ON runcard_config (path, number);
CREATE TABLE runcard_metrics (
    run_id TEXT NOT NULL, name TEXT NOT NULL, last DOUBLE PRECISION, exact TEXT, last_step DOUBLE PRECISION,
    min DOUBLE PRECISION, min_step DOUBLE PRECISION, max DOUBLE PRECISION, max_step DOUBLE PRECISION, count BIGINT,
    PRIMARY KEY (run_id, name));
CREATE INDEX runcard_metrics_name ON runcard_metrics (name, last);
CREATE TABLE runcard_tags (run_id TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (run_id, tag));
CREATE INDEX runcard_tags_tag ON runcard_tags (tag);
CREATE TABLE runcard_artifacts (
    run_id TEXT NOT NULL, place TEXT NOT NULL, bytes BIGINT, sha256 TEXT, PRIMARY KEY (run_id, place));
CREATE INDEX runcard_artifacts_sha256 ON runcard_artifacts (sha256);
CREATE TABLE runcard_events (
    run_id TEXT NOT NULL, writer TEXT NOT NULL, n BIGINT NOT NULL, kind TEXT NOT NULL, t DOUBLE PRECISION,
    body TEXT NOT NULL, PRIMARY KEY (run_id, writer, n));
CREATE TABLE runcard_points (
    run_id TEXT NOT NULL, name TEXT NOT NULL, writer TEXT NOT NULL, n BIGINT NOT NULL, step DOUBLE PRECISION,
    value DOUBLE PRECISION, exact TEXT, time DOUBLE PRECISION, PRIMARY KEY (run_id, name, writer, n));
"""

_SECOND = """
CREATE TABLE runcard_listing (
    run_id TEXT PRIMARY KEY, began BIGINT NOT NULL, status TEXT NOT NULL, experiment TEXT, name TEXT, parent_id TEXT,
    duration_s DOUBLE PRECISION, decision TEXT, is_best BOOLEAN, user_name TEXT, host TEXT, objective TEXT,
    direction TEXT, config_hash TEXT);
CREATE INDEX runcard_listing_began ON runcard_listing (began, run_id, status);
CREATE INDEX runcard_listing_experiment ON runcard_listing (experiment, began, run_id, status);
CREATE INDEX runcard_listing_name ON runcard_listing (name);
CREATE INDEX runcard_listing_running ON runcard_listing (run_id, began) WHERE status = 'running';
CREATE TABLE runcard_lean (run_id TEXT PRIMARY KEY, fields TEXT NOT NULL);
CREATE TABLE runcard_inexact (field TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (field, name));
ALTER TABLE runcard_config ADD COLUMN kind TEXT;
DROP INDEX runcard_config_path;
CREATE INDEX runcard_config_path ON runcard_config (path, number, kind, run_id);
DROP INDEX runcard_metrics_name;
CREATE INDEX runcard_metrics_name ON runcard_metrics (name, last, exact, run_id)
"""


def _second(transaction: Transaction) -> None:
    """Make what listings read, and fill it from the records that are there."""
    from runcard.sinks._sql_records import write_again

    _execute(transaction, _SECOND)
    write_again(transaction)


MIGRATIONS: list[str | Callable[[Transaction], None]] = [_FIRST, _second]
"""What leads from one version to the next; a database's version is how many of them it has had."""

_VERSION = "CREATE TABLE IF NOT EXISTS runcard_schema (version BIGINT NOT NULL, store_id TEXT NOT NULL)"


def migrate(transaction: Transaction) -> str:
    """Bring the tables up to this version, within one transaction that nobody else migrates in.

    Returns:
        The database's own id.

    Raises:
        StoreError: When a later runcard made the tables.
    """
    import secrets

    transaction.run(_VERSION)
    rows = transaction.run("SELECT version, store_id FROM runcard_schema")
    version, store_id = rows[0] if rows else (0, secrets.token_hex(4))
    if version > len(MIGRATIONS):
        raise StoreError(
            f"its tables are of version {version}, this runcard knows {len(MIGRATIONS)}: pip install -U runcard"
        )
    if not rows:
        transaction.run("INSERT INTO runcard_schema (version, store_id) VALUES (0, :store_id)", store_id=store_id)
    if version < len(MIGRATIONS):
        for migration in MIGRATIONS[version:]:
            if isinstance(migration, str):
                _execute(transaction, migration)
            else:
                migration(transaction)
        transaction.run("UPDATE runcard_schema SET version = :version", version=len(MIGRATIONS))
    return str(store_id)


def is_current(transaction: Transaction) -> bool:
    """Whether the tables are of this version; an older one is moved by the next write, not by a reader."""
    return bool(transaction.run("SELECT 1 FROM runcard_schema WHERE version = :version", version=len(MIGRATIONS)))


def _execute(transaction: Transaction, statements: str) -> None:
    for statement in statements.split(";"):
        if statement.strip():
            transaction.run(statement)
