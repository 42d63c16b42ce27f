"""W&B's runs: of a ``wandb`` folder, where offline runs and the local copies of online ones lie.

A run's ``run-*.wandb`` file has all that was sent, or was to be sent; it is read here, without wandb and without a
login. A run that was resumed has a file for each time, under one id: they are read together, the oldest first.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.errors import SettingError, describe
from runcard.identity import is_run_id
from runcard.importers import Damaged, Imported, Origin, git
from runcard.importers._wandb_around import environment, files, stored, surroundings
from runcard.importers._wandb_records import Gathered
from runcard.record import Point, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INTERRUPTED = 255  # what wandb writes for a KeyboardInterrupt
_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_EXACT = ".exact"  # beside an integer that W&B cannot hold, of a run that the sink wrote
_IDS = ("id", "entity", "project", "group", "job_type", "sweep")
_MEDIA = {
    "image": "images",
    "images": "images",
    "table": "tables",
    "histogram": "histograms",
    "audio": "audio clips",
    "video": "videos",
    "videos": "videos",
    "html": "HTML pages",
    "plotly": "plots",
    "object3D": "3D objects",
}


def runs(source: str) -> Iterator[Imported | Damaged]:
    """The runs of a folder, however deep they lie in it, of one run's folder, or of one file.

    Raises:
        SettingError: When nothing of W&B's is there.
    """
    path = Path(source or "wandb").expanduser().absolute()
    if not path.exists():
        raise SettingError(f"there is nothing at {path}; name W&B's folder (wandb), or a run-*.wandb file in it")
    found = [path] if path.is_file() else list(_files(path))
    if not found:
        raise SettingError(f"{path} holds no run-*.wandb file; wandb writes one for each run")
    for together in _by_run(found):
        read = Gathered()
        problem = None
        for file in together:
            try:
                read.read(file)
            except (OSError, ValueError) as error:
                problem = describe(error)
                read.left_out["damaged files"] += 1
        if "id" in read.run:
            yield imported(read, str(together[0].parent))
        else:
            yield Damaged(str(together[0]), problem or "it holds no run yet: wandb writes some 32 KiB at a time")


def imported(read: Gathered, source: str) -> Imported:
    """The common form of what was read."""
    ours, own = is_run_id(read.run["id"]), _own(read)
    began = _moment(own.get("started_at")) or read.started_at or min((at for _, at, _ in read.rows if at), default=0.0)
    told = surroundings(read.around, read.folders)
    code = git(read.run.get("commit") or told.get("commit"), remote=read.run.get("remote") or told.get("remote"))
    points, last = _points(read, began, own=ours)
    metrics, result = _summary(read, last, own=ours)
    parent = own.get("parent_id")
    ids: dict[str, Any] = {name: read.run[name] for name in _IDS if name in read.run}
    return Imported(
        origin=_origin(read, began),
        source=source,
        name=read.run.get("name") or read.run["id"],
        experiment=str(own.get("experiment") or read.run.get("project") or "uncategorized"),
        status=_status(read, own),
        ended_at=_ended_at(read, began, own),
        parent=Origin("wandb", parent, 0.0, parent) if isinstance(parent, str) and is_run_id(parent) else None,
        config={
            _given(key, "config/") if ours else key: value for key, value in read.config.items() if key != "_wandb"
        },
        points=points,
        metrics=metrics,
        result=result or None,
        tags=read.run.get("tags", ()),
        notes=read.run.get("notes", ""),
        user=told.get("username"),
        host=read.run.get("host") or told.get("host"),
        artifacts=[*stored(read.artifacts), *files(read.folders)],
        environment={**environment(told, read.folders), **({"git": code} if code is not None else {})},
        exit_code=read.exit_code,
        original={**ids, **({"runcard": own} if own else {})},
        left_out={what: count for what, count in read.left_out.items() if count},
    )


def _files(folder: Path) -> Iterator[Path]:
    """All files of runs below a folder; links, such as ``latest-run``, are not followed."""
    for where, inner, names in os.walk(folder):
        inner.sort()
        yield from (Path(where, name) for name in sorted(names) if name.startswith("run-") and name.endswith(".wandb"))


def _by_run(found: list[Path]) -> list[list[Path]]:
    """The files of each run of each ``wandb`` folder, in the order of the times that their folders are named by."""
    runs: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(found, key=lambda path: path.parent.name.partition("run-")[2]):
        runs.setdefault((path.parent.parent, path.name), []).append(path)
    return list(runs.values())


def _own(read: Gathered) -> dict[str, Any]:
    """What the sink wrote in the summary, of a run that runcard had recorded."""
    own = read.summary.get("runcard")
    return own if isinstance(own, dict) and own.get("run_id") == read.run["id"] and is_run_id(read.run["id"]) else {}


def _origin(read: Gathered, began: float) -> Origin:
    run = read.run
    key = f"{run.get('entity', '')}/{run.get('project', '')}/{run['id']}"
    return Origin("wandb", key, began, run["id"] if is_run_id(run["id"]) else None)


def _status(read: Gathered, own: Mapping[str, Any]) -> Status | None:
    if read.exit_code is None or own.get("status") == Status.CRASHED:
        return None
    if is_run_id(read.run["id"]) and not own:
        return None  # the sink closed it because its process was gone
    if own.get("status") in (Status.FINISHED, Status.FAILED, Status.KILLED):
        return Status(own["status"])
    if read.exit_code == _INTERRUPTED:
        return Status.KILLED
    return Status.FINISHED if read.exit_code == 0 else Status.FAILED


def _ended_at(read: Gathered, began: float, own: Mapping[str, Any]) -> float | None:
    if _status(read, own) is None:
        return None
    return _moment(own.get("ended_at")) or max(began + read.runtime, read.last_at)


def _points(read: Gathered, began: float, *, own: bool) -> tuple[list[Point], dict[str, int | float]]:
    """The numbers of the history and of the machine's samples; and the last one of each name."""
    points: list[Point] = []
    last: dict[str, int | float] = {}
    for number, at, row in read.rows:
        step: Any = number
        if own:  # its rows have a number of their own, and the step beside it
            found = row.get("step")
            step = found if isinstance(found, (int, float)) else None
            row = {name: value for name, value in row.items() if name != "step"}  # noqa: PLW2901 - the rest of it
        for name, value in _numbers(row, read.left_out, own=own):
            points.append(Point(name, step, value, at or began))
            last[name] = value
    points += [Point(name, None, value, at) for at, name, value in read.samples]
    return points, last


def _numbers(row: Mapping[str, Any], left_out: Counter[str], *, own: bool) -> Iterator[tuple[str, int | float]]:
    for name, value in sorted(row.items()):  # wandb writes them in no order
        if own and name.endswith(_EXACT) and name.removesuffix(_EXACT) in row:
            continue
        exact = _exact(row.get(name + _EXACT)) if own else None
        found = exact if exact is not None else _number(value)
        if found is not None:
            yield _given(name, "metric/") if own else name, found
        elif isinstance(value, dict) and "_type" not in value:
            inner = {f"{name}.{key}": each for key, each in value.items()}
            yield from _numbers(inner, left_out, own=False)
        else:
            left_out[_kind(value)] += 1


def _summary(
    read: Gathered, last: Mapping[str, int | float], *, own: bool
) -> tuple[dict[str, int | float], dict[str, Any]]:
    """What the summary says beside the last points: numbers, and the rest."""
    given = {
        name: value
        for name, value in read.summary.items()
        if not name.startswith("_") and not (own and name in ("runcard", "step"))
    }
    dropped: Counter[str] = Counter()  # media of the last row are counted with the history
    numbers = {name: value for name, value in _numbers(given, dropped, own=own) if repr(last.get(name)) != repr(value)}
    rest = {
        name: value
        for name, value in given.items()
        if isinstance(value, (str, list)) and _number(value) is None and not (own and name.endswith(_EXACT))
    }
    return numbers, rest


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):
        return _NUMBERS.get(value)
    return value if isinstance(value, (int, float)) else None


def _exact(text: Any) -> int | None:
    try:
        return int(text, 16) if isinstance(text, str) else None
    except ValueError:
        return None


def _kind(value: Any) -> str:
    """What a value of the history is that is no number, in the plural."""
    if isinstance(value, dict):
        return _MEDIA.get(str(value.get("_type")).partition("-")[0].partition("/")[0], "other media")
    if isinstance(value, str):
        return "texts in the history"
    return "empty values" if value is None else "lists in the history"


def _given(name: str, prefix: str) -> str:
    """The name as the run had it, of one that W&B keeps for itself."""
    return name.removeprefix(prefix) if name.startswith(f"{prefix}_") else name


def _moment(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None
