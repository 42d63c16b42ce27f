"""The tables of the SQL sink, and how a database comes to have them. One text serves SQLite and PostgreSQL.

``runcard_events`` is the truth: each event as its JSON, from which records are made again. The other tables follow
from it and are for people to query. Names, paths and tags are cut at 500 characters there, and a NUL, which PostgreSQL
does not take, is U+FFFD; the event and the record's JSON have them whole. A number that a double cannot hold stands
in ``exact`` as text: ``nan`` on SQLite, and integers beyond 2^53.

A change to the tables is a new entry in `MIGRATIONS`; one that was released is never edited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runcard.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    Execute = Callable[..., Any]

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

MIGRATIONS = [_FIRST]
"""What leads from one version to the next; a database's version is how many of them it has had."""

_VERSION = "CREATE TABLE IF NOT EXISTS runcard_schema (version BIGINT NOT NULL, store_id TEXT NOT NULL)"


def migrate(execute: Execute) -> str:
    """Bring the tables up to this version, within one transaction that nobody else migrates in.

    Args:
        execute: Runs one statement with parameters by name, and gives its rows.

    Returns:
        The database's own id.

    Raises:
        StoreError: When a later runcard made the tables.
    """
    import secrets

    execute(_VERSION)
    rows = execute("SELECT version, store_id FROM runcard_schema")
    version, store_id = rows[0] if rows else (0, secrets.token_hex(4))
    if version > len(MIGRATIONS):
        raise StoreError(
            f"its tables are of version {version}, this runcard knows {len(MIGRATIONS)}: pip install -U runcard"
        )
    if not rows:
        execute("INSERT INTO runcard_schema (version, store_id) VALUES (0, :store_id)", store_id=store_id)
    if version < len(MIGRATIONS):
        for migration in MIGRATIONS[version:]:
            for statement in migration.split(";"):
                if statement.strip():
                    execute(statement)
        execute("UPDATE runcard_schema SET version = :version", version=len(MIGRATIONS))
    return str(store_id)
