"""Whose runs lie at a place, by the files that are there."""

from __future__ import annotations

import os
from pathlib import Path

from runcard.errors import SettingError

KINDS = ("mlflow", "wandb", "tensorboard")
_OF_MLFLOW = (b"experiment_id", b"artifact_location", b"run_id", b"run_uuid")  # one of them is in each meta.yaml
_SQLITE = b"SQLite format 3\0"


def is_named(source: str) -> bool:
    """Whether a source says itself what it is, as ``mlflow:http://localhost:5000`` does."""
    name, colon, _ = source.partition(":")
    return bool(colon) and name in KINDS


def kind_of(source: str) -> str:
    """Which of `KINDS` lies there: ``mlflow:…`` and its like say it, else the files do.

    Raises:
        SettingError: When it is none, or several, or nothing is there.
    """
    if is_named(source):
        return source.partition(":")[0]
    if "://" in source:
        from runcard.sinks.registry import without_credentials

        shown = without_credentials(source)
        raise SettingError(f"{shown} does not say what it is; for MLflow write mlflow:{shown}")
    path = Path(source).expanduser()
    if not source.strip() or not path.exists():
        raise SettingError(f"there is nothing at {source or repr(source)}; name a folder such as mlruns, wandb or runs")
    found = _of_file(path) if path.is_file() else _below(path)
    if len(found) == 1:
        return found.pop()
    if found:
        raise SettingError(f"{source} holds runs of {' and '.join(sorted(found))}; --format says which to import")
    raise SettingError(
        f"{source} holds no runs that are known: neither MLflow's (mlruns/, mlflow.db), nor W&B's (run-*.wandb), "
        "nor TensorBoard's (events.out.tfevents.*); --format says which it is"
    )


def _of_file(path: Path) -> set[str]:
    if path.suffix == ".wandb":
        return {"wandb"}
    if ".tfevents." in path.name:
        return {"tensorboard"}
    with path.open("rb") as file:
        return {"mlflow"} if file.read(len(_SQLITE)) == _SQLITE else set()


def _below(path: Path) -> set[str]:
    if _is_mlflow(path):
        return {"mlflow"}
    found = {"mlflow"} if _is_mlflow(path / "mlruns") or (path / "mlflow.db").is_file() else set()
    for _, folders, names in os.walk(path):
        if any(name.endswith(".wandb") for name in names):
            found.add("wandb")
            folders.clear()  # event files in it are W&B's copies
        elif any(".tfevents." in name for name in names):
            found.add("tensorboard")
        folders[:] = [name for name in folders if name[0] != "." and not (name == "mlruns" and "mlflow" in found)]
    if not found and (next(path.glob("*/meta.yaml"), None) or next(path.glob("*/*/artifacts"), None)):
        return {"mlflow"}  # damaged, or what a database leaves beside it: its reader says more
    return found


def _is_mlflow(path: Path) -> bool:
    for meta in (path / "meta.yaml", *sorted(path.glob("*/meta.yaml")), *sorted(path.glob(".trash/*/meta.yaml"))):
        try:
            content = meta.read_bytes()[:4096]
        except OSError:
            continue
        if any(word in content for word in _OF_MLFLOW):
            return True
    return False
