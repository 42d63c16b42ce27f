"""A record as W&B is told of it: its config, summary, names and files."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.record import Status
from runcard.sinks._elsewhere import whole
from runcard.sinks._wandb_rows import column, columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard.record import RunRecord

RECORD = "runcard.json"
"""The file of the run that holds the whole record, but for its history."""

_LABEL = 128  # characters that W&B takes in a name, a group or a project
_TAG = 64
_NOT_IN_A_PROJECT = re.compile(r"[/\\#?%:\x00-\x1f]+")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def opening(record: RunRecord) -> dict[str, Any]:
    """What W&B is told when a run begins."""
    git = record.environment.get("git") or {}
    commit = git.get("commit")
    return {
        "run": record.run_id,
        "group": record.parent_id,
        "settings": {
            "host": record.host,
            "program": (record.environment.get("command") or {}).get("entry") or record.experiment,
            "git_commit": commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None,
            "git_remote_url": git.get("remote") or None,
        },
        **labels(record),
        "config": config(record.config),
    }


def labels(record: RunRecord) -> dict[str, Any]:
    """What may change while a run goes on, and after: name, notes and tags, within W&B's bounds."""
    tags = dict.fromkeys(tag[:_TAG] for tag in record.tags if tag)
    return {"name": record.name[:_LABEL] or None, "notes": record.notes or None, "tags": list(tags)}


def config(given: dict[str, Any]) -> dict[str, Any]:
    """A config in strict JSON, which W&B's is: NaN and infinities are texts in it, and no value loads an artifact."""
    return {(f"config/{key}" if key == "_wandb" else str(key)): _plain(value) for key, value in given.items()}


def closing(record: RunRecord, *, diff: bool) -> dict[str, Any]:
    """What W&B is told when a run has ended; ``diff``: whether uncommitted changes were asked for."""
    return {
        "run": record.run_id,
        **labels(record),
        "config": config(record.config),
        "summary": {**_last_values(record), "runcard": _plain(_facts(record))},
        "exit_code": exit_code(record),
        "record": json.dumps(whole(record, diff=diff), indent=1, ensure_ascii=False),
    }


def exit_code(record: RunRecord) -> int:
    """0 is what W&B shows as finished, 255 what wandb writes after a Ctrl-C; anything else is failed."""
    if record.status is Status.FINISHED:
        return record.exit_code or 0
    if record.status is Status.KILLED:
        return 255
    return record.exit_code or 1


def project(wanted: str | None, record: RunRecord) -> str:
    """The project: the one that was named, else the experiment, written as W&B takes it."""
    name = wanted or _NOT_IN_A_PROJECT.sub("-", record.experiment)[:_LABEL].strip()
    return name or "runcard"


def artifacts(record: RunRecord) -> tuple[list[dict[str, Any]], int]:
    """The files of a run that can be had, and how many can not: they were removed, or lie outside of the run."""
    found: list[dict[str, Any]] = []
    missing = 0
    for entry in record.artifacts:
        path, uri = entry.get("path"), entry.get("uri")
        name = entry.get("name") or path or uri
        if isinstance(path, str) and record.folder is not None and not entry.get("removed"):
            lies = _inside(Path(record.folder), path)
            if lies is not None:
                found.append({"name": str(name), "path": str(lies)})
                continue
        if isinstance(uri, str) and "://" in uri and not uri.startswith("file:"):
            found.append({"name": str(name), "uri": uri})
        else:
            missing += 1
    return found, missing


def asked_files(record: RunRecord, *, diff: bool, output: bool) -> list[dict[str, Any]]:
    """The uncommitted changes and what the run printed, each only when it was asked for."""
    wanted = [name for name, asked in (("diff.patch", diff), ("output.log", output)) if asked]
    if record.folder is None:
        return []
    lie = [(name, _inside(Path(record.folder), name)) for name in wanted]
    return [{"name": name, "path": str(path)} for name, path in lie if path is not None]


def _facts(record: RunRecord) -> dict[str, Any]:
    """What W&B has no place of its own for, as columns ``runcard.…`` of its table of runs."""
    error: Mapping[str, Any] = record.error or {}
    told = {
        "run_id": record.run_id,
        "status": record.status.value,
        "experiment": record.experiment,
        "parent_id": record.parent_id,
        "started_at": record.started_at.isoformat() if record.started_at else None,
        "ended_at": record.ended_at.isoformat() if record.ended_at else None,
        "duration_s": record.duration_s,
        "decision": record.decision,
        "decision_reason": record.decision_reason,
        "is_best": record.is_best,
        "config_hash": record.config_hash,
        "rerun_of": record.rerun_of,
        "error": f"{error.get('type')}: {error.get('message')}"[:1_000] if error else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _last_values(record: RunRecord) -> dict[str, Any]:
    """The metrics that stand. One that is no number, and that the history ends with, is left to the history."""
    values = columns(dict(record.metrics))
    for name, value in record.metrics.items():
        if isinstance(value, float) and not math.isfinite(value):
            summary = record.metric_summary.get(name)
            if summary is not None and repr(summary.get("last")) == repr(value):
                del values[column(name)]
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        plain = {str(key): _plain(item) for key, item in value.items()}
        if plain.get("_type") == "artifactVersion":
            plain["_type"] = "text: artifactVersion"
        return plain
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if type(value) is int and value.bit_length() > _IN_DIGITS:
        return hex(value)
    if isinstance(value, str) and value.startswith("wandb-") and "artifact://" in value:
        return f"text: {value}"
    return value


def _inside(folder: Path, name: str) -> Path | None:
    """A file below a folder, however its path is written; None when it is not there, or is elsewhere."""
    try:
        root, path = folder.resolve(), (folder / name).resolve()
        inside = path.is_relative_to(root) and path.is_file() and os.access(path, os.R_OK)
    except (OSError, ValueError):
        return None
    return path if inside else None


_IN_DIGITS = 10_000  # bits; Python writes no more than some four thousand digits
