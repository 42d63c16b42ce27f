"""MLflow's folder, ``mlruns/``: a folder an experiment, below it a folder a run, read as it lies.

::

    <experiment id>/meta.yaml
    <experiment id>/<run id>/meta.yaml
    <experiment id>/<run id>/params/lr          the value
    <experiment id>/<run id>/metrics/train/loss a line a point: milliseconds, value, step
    <experiment id>/<run id>/tags/mlflow.user   the value
    <experiment id>/<run id>/artifacts/         the files
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from runcard.errors import SettingError, describe
from runcard.importers import Artifact, Aside, Damaged
from runcard.importers._mlflow_yaml import read_meta
from runcard.importers.mlflow import Stored, imported, local_path, origin
from runcard.sinks._mlflow_mapping import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runcard.importers import Imported

_STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_NO_RUNS = ("datasets", "traces", "models", "tags")


def runs(root: Path) -> Iterator[Imported | Damaged | Aside]:
    """The runs of ``mlruns/``, of one experiment's folder in it, or of one run's.

    Raises:
        SettingError: When the folder is none of these.
    """
    folders, experiments = _layout(root)
    origins, names = {}, {}
    for folder in folders:
        try:
            meta = read_meta(folder / "meta.yaml")
        except (OSError, ValueError):
            continue  # said below
        run_id = _id(folder, meta)
        given = _text(folder / "tags" / RUN_ID)
        origins[run_id] = origin(run_id, meta.get("start_time"), given)
    for experiment in experiments:
        names[experiment] = _name_of(experiment)
    for folder in folders:
        try:
            yield imported(_stored(folder, names.get(folder.parent)), str(folder), origins)
        except (OSError, ValueError) as error:
            yield Damaged(str(folder), describe(error))
    for what in ("traces", "models"):
        count = sum(1 for each in experiments for _ in (each / what).glob("*/*.yaml"))
        if count:
            yield Aside("traces" if what == "traces" else "logged models", count)


def _layout(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders of runs, and those of the experiments that they are of."""
    if (root / "meta.yaml").is_file():
        if (root / "artifacts").is_dir() or (root / "params").is_dir() or (root / "metrics").is_dir():
            return [root], [root.parent]
        experiments = [root]
    else:
        experiments = sorted(path.parent for path in root.glob("*/meta.yaml"))
        trash = sorted(path.parent for path in root.glob(".trash/*/meta.yaml"))
        if not experiments and not trash:
            beside = root.parent / "mlflow.db"
            hint = f"; the runs are in {beside}" if beside.is_file() else ""
            raise SettingError(f"{root} holds no meta.yaml of MLflow's{hint}")
        experiments += trash
    found = []
    for experiment in experiments:
        with os.scandir(experiment) as entries:
            names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and e.name not in _NO_RUNS)
        # A run's folder without its meta.yaml is damaged; one without anything of a run's is something else.
        found += [experiment / name for name in names if _is_run(experiment / name)]
    return found, experiments


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("meta.yaml", "metrics", "params"))


def _name_of(experiment: Path) -> str:
    try:
        return str(read_meta(experiment / "meta.yaml").get("name") or experiment.name)
    except (OSError, ValueError):
        return experiment.name


def _id(folder: Path, meta: dict[str, Any]) -> str:
    return str(meta.get("run_id") or meta.get("run_uuid") or folder.name)


def _stored(folder: Path, experiment: str | None) -> Stored:
    """One run. Raises `ValueError` for a meta.yaml that is none."""
    meta = read_meta(folder / "meta.yaml")
    run_id = _id(folder, meta)
    if not isinstance(meta.get("start_time"), int) or "status" not in meta:
        raise ValueError("its meta.yaml has neither start_time nor status")
    status = meta["status"]
    left_out: dict[str, int] = {}
    metrics = _metrics(folder / "metrics", left_out)
    models = sum(1 for _ in (folder / "outputs").glob("*/meta.yaml"))
    if models:
        left_out["logged models"] = models
    uri = meta.get("artifact_uri")
    home = folder / "artifacts"
    said = local_path(uri)
    if not home.is_dir() and said is not None and said.is_dir():
        home = said
    if not home.is_dir() and said is None and uri and ("://" in uri or uri.startswith("mlflow-artifacts:")):
        left_out["artifact folders kept elsewhere"] = 1
    return Stored(
        id=run_id,
        name=meta.get("run_name") or None,
        experiment=experiment or folder.parent.name,
        status=_STATUSES.get(status, str(status)) if isinstance(status, int) else str(status),
        start_ms=meta["start_time"],
        end_ms=meta.get("end_time") if isinstance(meta.get("end_time"), int) else None,
        user=meta.get("user_id"),
        deleted=meta.get("lifecycle_stage") == "deleted" or folder.parent.parent.name == ".trash",
        tags=_values(folder / "tags"),
        params=_values(folder / "params"),
        metrics=lambda: metrics,
        datasets=_datasets(folder),
        artifacts=files_below(home),
        uri=uri,
        left_out=left_out,
    )


def files_below(folder: Path) -> Iterator[Artifact]:
    """All files below a folder as artifacts; links are named and not followed."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *(each for each in folders if os.path.islink(os.path.join(place, each)))]):
            path = os.path.join(place, name)
            yield Artifact(os.path.relpath(path, folder).replace(os.sep, "/"), path=type(folder)(path))


def _values(folder: Path) -> dict[str, str]:
    """Name → text of each file below a folder; names with slashes are folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        text = _text(path)
        if text is not None:
            found[path.relative_to(folder).as_posix()] = text
    return found


def _text(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
        return file.read()


def _metrics(folder: Path, left_out: dict[str, int]) -> list[tuple[str, int, float, int]]:
    """All points, in the order of each file; a line that is damaged costs itself alone."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                parts = line.split()
                try:
                    found.append((name, int(parts[0]), float(parts[1]), int(parts[2]) if len(parts) > 2 else 0))
                except (ValueError, IndexError):
                    if parts:
                        left_out["damaged lines of metrics"] = left_out.get("damaged lines of metrics", 0) + 1
    return found


def _datasets(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder / "inputs").glob("*/meta.yaml")):
        told = read_meta(path)
        if told.get("source_type") != "DATASET":
            continue
        data = read_meta(folder.parent / "datasets" / os.path.basename(str(told.get("source_id"))) / "meta.yaml")
        tags = told.get("tags")
        data["context"] = tags.get("mlflow.data.context") if isinstance(tags, dict) else None
        found.append(data)
    return found
