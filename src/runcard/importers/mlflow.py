"""MLflow's runs: of its folder, of its SQLite file, of a server, by MLflow's own client.

Folders and SQLite files are read here, so that nothing has to be installed; for other databases and servers
``mlflow:URI`` needs the extra. All three give `Stored`, which `imported` makes the common form of.

Parameters are texts in MLflow. One that is exactly what Python prints for an integer, a finite float, a boolean or
None is read as that; all others stay texts.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from runcard.errors import SettingError
from runcard.importers import Aside, Damaged, Imported, Origin, git
from runcard.record import Point, Status
from runcard.sinks._mlflow_mapping import RUN_ID, told_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from runcard.importers import Artifact

_STATUSES = {"FINISHED": Status.FINISHED, "FAILED": Status.FAILED, "KILLED": Status.KILLED}


@dataclass
class Stored:
    """A run as MLflow keeps it.

    Attributes:
        id, name, experiment, status, user: As in MLflow; the status in capitals.
        start_ms, end_ms: Milliseconds since the epoch.
        metrics: Gives (name, milliseconds, value, step), in the order kept.
        datasets: Name, digest, source, source type and context of each.
        artifacts: The files.
        uri: Where MLflow says that the files are.
    """

    id: str
    name: str | None
    experiment: str
    status: str
    start_ms: int | None
    end_ms: int | None
    user: str | None = None
    deleted: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: Callable[[], Iterable[tuple[str, int, float, int]]] = tuple
    datasets: list[dict[str, Any]] = field(default_factory=list)
    artifacts: Iterable[Artifact] = ()
    uri: str | None = None
    left_out: dict[str, int] = field(default_factory=dict)


def runs(source: str) -> Iterator[Imported | Damaged | Aside]:
    """The runs of a folder, of a SQLite file, or of a tracking URI; an empty one means MLflow's own default.

    Raises:
        SettingError: When nothing of MLflow's is there; `MissingExtra` when MLflow's client is needed and missing.
    """
    uri = source or os.environ.get("MLFLOW_TRACKING_URI") or ("mlflow.db" if Path("mlflow.db").is_file() else "mlruns")
    path = _local(uri)
    if path is None:
        from runcard.importers import _mlflow_server

        yield from _mlflow_server.runs(uri)
    elif path.is_file():
        from runcard.importers import _mlflow_sqlite

        yield from _mlflow_sqlite.runs(path)
    elif path.is_dir():
        from runcard.importers import _mlflow_files

        if not any(path.glob("*/meta.yaml")) and not (path / "meta.yaml").is_file():
            for inner in (path / "mlruns", path / "mlflow.db"):
                if inner.exists():
                    yield from runs(str(inner))
                    return
        yield from _mlflow_files.runs(path)
    else:
        raise SettingError(f"there is nothing at {path}; name MLflow's folder (mlruns), its database or its server")


def _local(uri: str) -> Path | None:
    """The folder or file that a tracking URI means; None for a server and for other databases."""
    scheme, colon, rest = uri.partition(":")
    if not colon or len(scheme) == 1 or os.sep in scheme:
        return Path(uri).expanduser().absolute()
    if scheme == "sqlite" and rest.startswith("///"):
        return Path(rest[3:].partition("?")[0]).absolute()
    return local_path(uri)


def local_path(uri: str | None) -> Path | None:
    """The path of a plain path or of a ``file:`` URI on this machine, else None."""
    if not uri:
        return None
    if uri.startswith("/"):
        return Path(uri)
    split = urlsplit(uri)
    if split.scheme == "file" and split.netloc in ("", "localhost"):
        return Path(unquote(split.path)).absolute()
    return None


def imported(run: Stored, source: str, origins: Mapping[str, Origin]) -> Imported:
    """The common form of a run.

    Args:
        run: The run.
        source: Where it was read from, without credentials.
        origins: The origin of each run by its id, for parents.
    """
    tags = dict(run.tags)
    name = run.name or tags.get("mlflow.runName") or run.id
    parent = tags.get("mlflow.parentRunId")
    left_out = dict(run.left_out)
    if parent and parent not in origins:
        left_out["parents that are not there"] = 1
    ours = RUN_ID in tags  # it was delivered by runcard
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    shown = [f"{key}={value}" if value else key for key, value in own.items()]
    said = {
        "id": run.id,
        "status": run.status,
        "experiment": run.experiment,
        "artifact_uri": run.uri,
        "tags": own,
        "mlflow_tags": {key: tags[key] for key in tags.keys() - own.keys() - {"mlflow.note.content"}},
    }
    code = git(
        tags.get("mlflow.source.git.commit"),
        branch=tags.get("mlflow.source.git.branch"),
        remote=tags.get("mlflow.source.git.repoURL"),
        dirty={"true": True, "false": False}.get(tags.get("mlflow.source.git.dirty", "").lower()),
    )
    return Imported(
        origin=origins[run.id],
        source=source,
        name=name,
        experiment=run.experiment,
        status=None if ours and tags.get("runcard.status") == Status.CRASHED else _STATUSES.get(run.status),
        ended_at=seconds(run.end_ms),
        parent=origins.get(parent) if parent else None,
        config={key: read(value) for key, value in run.params.items()},
        points=_points(run),
        tags=told_tags(tags) if ours else shown,
        notes=tags.get("mlflow.note.content") or "",
        user=tags.get("mlflow.user") or (run.user if run.user not in ("", "unknown") else None),
        artifacts=run.artifacts,
        inputs=[_input(dataset) for dataset in run.datasets],
        environment={"git": code} if code is not None else {},
        original={key: value for key, value in said.items() if value not in (None, {}, "")},
        left_out=left_out,
        deleted=run.deleted,
    )


def origin(run_id: str, start_ms: int | None, given: str | None = None) -> Origin:
    """Who a run is: MLflow's ids are unique everywhere, so where it lies does not matter."""
    return Origin("mlflow", run_id, seconds(start_ms) or 0.0, given)


def seconds(milliseconds: object) -> float | None:
    """MLflow's times as ours."""
    return milliseconds / 1000 if isinstance(milliseconds, int) and milliseconds > 0 else None


def read(text: str) -> Any:
    """A parameter's value: what Python prints exactly so, else the text.

    >>> [read(text) for text in ("0.1", "16", "True", "None", "1e-4", "016", "nan", "adam")]
    [0.1, 16, True, None, '1e-4', '016', 'nan', 'adam']
    """
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _LONGEST_NUMBER and _NUMERIC.fullmatch(text):
        for kind in (int, float):
            try:
                value = kind(text)
            except ValueError:
                continue
            if repr(value) == text and math.isfinite(value):
                return value
    return text


_WORDS = {"True": True, "False": False, "None": None}
_LONGEST_NUMBER = 300
_NUMERIC = re.compile(r"-?\d[\d.]*(?:e[+-]\d+)?")


def _points(run: Stored) -> Iterator[Point]:
    """By time, then step: what MLflow holds by name is put together as it was logged."""
    kept = sorted(run.metrics(), key=lambda metric: (metric[1], metric[3]))
    for name, milliseconds, value, step in kept:
        yield Point(name, step, value, milliseconds / 1000)


def _input(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset as an input: its address when its source says one, else its name."""
    address = None
    try:
        told = json.loads(dataset.get("source") or "")
    except ValueError:
        told = None
    if isinstance(told, dict):
        address = next((told[key] for key in ("uri", "url", "path") if isinstance(told.get(key), str)), None)
    found = {"path": address or dataset.get("name") or "dataset", "type": "dataset", "sha256": None, "hashed": False}
    for key in ("name", "digest", "context", "source_type"):
        if isinstance(dataset.get(key), str) and dataset[key]:
            found[key] = dataset[key]
    return found
