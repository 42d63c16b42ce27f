"""MLflow's SQLite database, read with the standard library; it is opened for reading alone."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runcard.errors import SettingError, describe
from runcard.importers import Aside, Damaged
from runcard.importers._mlflow_files import files_below
from runcard.importers.mlflow import Stored, imported, local_path, origin
from runcard.sinks._mlflow_mapping import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runcard.importers import Imported

_BESIDE = ("mlruns", "mlartifacts")  # where a client, and a server, keep files when they are told nothing else


def runs(path: Path) -> Iterator[Imported | Damaged | Aside]:
    """The runs of a database.

    Raises:
        SettingError: When it is no database of MLflow's.
    """
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
    try:
        database = _Database(connection, path)
        yield from database.runs()
    finally:
        connection.close()


class _Database:
    """One database, of whatever version: columns that it lacks read as None."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        try:
            self._tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.DatabaseError as error:
            raise SettingError(f"{path} cannot be read as a SQLite database: {error}") from error
        if not {"runs", "experiments", "params", "metrics", "tags"} <= self._tables:
            hint = "; it is a store of runcard's: `runcard sync` copies it" if "runcard_runs" in self._tables else ""
            raise SettingError(f"{path} is no database of MLflow's{hint}")

    def runs(self) -> Iterator[Imported | Damaged | Aside]:
        """All of them, those of deleted experiments being deleted."""
        experiments = {row["experiment_id"]: row for row in self._rows("SELECT * FROM experiments")}
        found = self._rows("SELECT * FROM runs ORDER BY start_time, run_uuid")
        given = {
            row["run_uuid"]: row["value"]
            for row in self._rows("SELECT run_uuid, value FROM tags WHERE key = ?", RUN_ID)
        }
        origins = {
            row["run_uuid"]: origin(row["run_uuid"], row["start_time"], given.get(row["run_uuid"])) for row in found
        }
        for row in found:
            try:
                run = self._stored(row, experiments.get(row["experiment_id"], {}))
                yield imported(run, f"{self._path}", origins)
            except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                yield Damaged(f"{self._path}, run {row['run_uuid']}", describe(error))
        for what, table in (
            ("traces", "trace_info"),
            ("logged models", "logged_models"),
            ("registered models", "registered_models"),
        ):
            if table in self._tables and (count := self._rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]):  # noqa: S608 - the names are those above
                yield Aside(what, count)

    def _stored(self, row: dict[str, Any], experiment: dict[str, Any]) -> Stored:
        run_id = row["run_uuid"]
        uri = row.get("artifact_uri")
        home = self._home(uri, str(row["experiment_id"]), run_id)
        tags = {each["key"]: each["value"] or "" for each in self._of("tags", run_id)}
        left_out = {}
        if home is None and uri and local_path(uri) is None and ("://" in uri or uri.startswith("mlflow-artifacts:")):
            left_out["artifact folders kept elsewhere"] = 1
        return Stored(
            id=run_id,
            name=row.get("name") or None,
            experiment=str(experiment.get("name") or row["experiment_id"]),
            status=str(row["status"]),
            start_ms=row["start_time"],
            end_ms=row.get("end_time"),
            user=row.get("user_id"),
            deleted="deleted" in (row.get("lifecycle_stage"), experiment.get("lifecycle_stage")),
            tags=tags,
            params={each["key"]: each["value"] for each in self._of("params", run_id)},
            metrics=lambda: self._metrics(run_id),
            datasets=self._datasets(run_id),
            artifacts=files_below(home) if home is not None else (),
            uri=uri,
            left_out=left_out,
        )

    def _of(self, table: str, run_id: str) -> list[dict[str, Any]]:
        return self._rows(f"SELECT * FROM {table} WHERE run_uuid = ? ORDER BY rowid", run_id)  # noqa: S608 - our own names

    def _metrics(self, run_id: str) -> list[tuple[str, int, float, int]]:
        return [
            (row["key"], row["timestamp"], float("nan") if row.get("is_nan") else row["value"], row.get("step") or 0)
            for row in self._of("metrics", run_id)
        ]

    def _datasets(self, run_id: str) -> list[dict[str, Any]]:
        if not {"inputs", "datasets", "input_tags"} <= self._tables:
            return []
        rows = self._rows(
            "SELECT d.name, d.digest, d.dataset_source AS source, d.dataset_source_type AS source_type,"
            " t.value AS context FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
            " LEFT JOIN input_tags t ON t.input_uuid = i.input_uuid AND t.name = 'mlflow.data.context'"
            " WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id = ?",
            run_id,
        )
        return list(rows)

    def _home(self, uri: str | None, experiment: str, run_id: str) -> Path | None:
        """Where the run's files are: as the database says, else where they lie when it was moved with them."""
        said = local_path(uri)
        if said is None and uri and "://" not in uri and not uri.startswith("mlflow-artifacts:"):
            said = self._path.parent / uri
        beside = [self._path.parent / name / experiment / run_id / "artifacts" for name in _BESIDE]
        return next((path for path in (said, *beside) if path is not None and path.is_dir()), None)

    def _rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(query, values)]
