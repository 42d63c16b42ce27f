"""The readable files beside a journal: what people, pandas, pip and git open. The journal stays the truth.

New files are written in place: one that a kill leaves half-written harms nobody, since readers read the journal. One
that does not fit on the disk is taken away again. A view that is there already is replaced whole.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from runcard._rows import cell, line_of
from runcard._shared import open_to_group
from runcard.card import card_markdown
from runcard.events import mark
from runcard.record import point_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from runcard.record import Point, RunRecord

HISTORY_IN_RECORD = 10_000
"""Points up to which `record.json` holds the history; beyond, `metric_history.csv` alone does."""

_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def write_start(folder: Path, mode: int, *, config: Any, shared: Mapping[str, bytes]) -> None:
    """Write what is known at the start.

    Args:
        folder: The run's folder.
        mode: The files' permissions.
        config: The config as JSON data; an empty one gives no file.
        shared: Name → content of the files that all runs of one snapshot share: environment, requirements, patch.
    """
    base = f"{folder}{os.sep}"
    if config:
        _write(f"{base}config.json", orjson.dumps(config, option=_INDENTED), mode)
    for name, content in shared.items():
        _link_or_write(base, name, content, mode)


def write_end(folder: Path, mode: int, record: RunRecord) -> None:
    """Write, or write again, what follows from the whole journal."""
    base = f"{folder}{os.sep}"  # text: joining paths would cost as much as writing the files
    if record.config:
        _refresh_config(f"{base}config.json", mode, record)
    if record.metrics:
        _replace(f"{base}metrics.json", orjson.dumps(mark(record.metrics), option=_INDENTED), mode)
    history: Iterable[Point] = record.metric_history
    few = sum(summary.count for summary in record.metric_summary.values()) <= HISTORY_IN_RECORD
    if few:
        history = list(history)
    _write_history(f"{base}metric_history.csv", mode, history)
    if record.decisions:
        _replace(f"{base}decision.json", orjson.dumps(_decision(record), option=_INDENTED), mode)
    data = record.to_dict(history=False)
    data["metric_history"] = [point_to_dict(point) for point in history] if few else None
    _replace(f"{base}record.json", orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE), mode)
    _replace(f"{base}card.md", card_markdown(record).encode("utf-8", "replace"), mode)


def _decision(record: RunRecord) -> dict[str, Any]:
    return {
        "decision": record.decision,
        "reason": record.decision_reason,
        "is_best": record.is_best,
        "objective": record.objective,
        "direction": record.direction,
        "decisions": record.decisions,
    }


def _refresh_config(path: str, mode: int, record: RunRecord) -> None:
    """Write the config again when keys came later; most runs' are as at the start."""
    content = orjson.dumps(mark(record.config), option=_INDENTED)
    try:
        written = os.stat(path).st_size
    except OSError:
        written = -1
    if written != len(content):
        _replace(path, content, mode)


def _write_history(path: str, mode: int, history: Iterable[Point]) -> None:
    """Write one row a point; a long history goes straight from the journal into the file."""
    points = iter(history)
    first = next(points, None)
    if first is None:
        return
    rows = _rows(chain((first,), points))
    if isinstance(history, list):  # a short one, in one piece
        _replace(path, "".join(rows).encode("utf-8"), mode)
        return
    partial = _beside(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        with open(os.open(partial, flags, mode), "w", newline="", encoding="utf-8") as file:
            if mode & 0o070:
                open_to_group(file.fileno(), mode)
            file.writelines(rows)
        os.replace(partial, path)
    except OSError:
        _remove(partial)
        raise


def _rows(points: Iterable[Point]) -> Iterator[str]:
    """The lines of the history's CSV; by hand, at a third of the csv module's cost: all but the name is a number."""
    yield "name,step,value,time,attempt\n"
    names: dict[str, str] = {}  # a name is made safe for spreadsheets once
    for point in points:
        name = names.get(point.name)
        if name is None:
            name = names[point.name] = line_of([cell(point.name)])[:-1].decode("utf-8")
        step, value = point.step, point.value
        told = repr(value) if type(value) is float else cell(value)
        yield f"{name},{'' if step is None else step},{told},{point.time},{point.attempt}\n"


_shared_from: dict[tuple[str, str, int], str] = {}  # store, name and content's hash → the file that has it


def _link_or_write(base: str, name: str, content: bytes, mode: int) -> None:
    """Share one file between the runs of a snapshot by a hard link; where links are refused, copy."""
    key = (os.path.dirname(base[:-1]), name, hash(content))
    source = _shared_from.get(key)
    if source is not None:
        try:
            os.link(source, f"{base}{name}")
        except OSError:
            pass  # removed meanwhile, another file system, no links here: write it
        else:
            return
    _write(f"{base}{name}", content, mode)
    if len(_shared_from) > 100:
        _shared_from.clear()
    _shared_from[key] = f"{base}{name}"


def _write(path: str, content: bytes, mode: int, *, flag: int = os.O_TRUNC) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flag | getattr(os, "O_CLOEXEC", 0), mode)
    whole = False
    try:
        if mode & 0o070:
            open_to_group(fd, mode)
        whole = os.write(fd, content) == len(content)
    finally:
        os.close(fd)
        if not whole:  # the disk is full: better no file than a piece of one
            _remove(path)
    if not whole:
        raise OSError(f"{os.path.basename(path)} was written in part")


def _replace(path: str, content: bytes, mode: int) -> None:
    """Write a new file in place, an existing one by renaming over it, so that no reader sees half of it."""
    try:
        _write(path, content, mode, flag=os.O_EXCL)
    except FileExistsError:
        pass
    else:
        return
    partial = _beside(path)
    _write(partial, content, mode)
    try:
        os.replace(partial, path)
    except OSError:
        _remove(partial)
        raise


def _beside(path: str) -> str:
    """The name of a file on its way to ``path``, in the same folder."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # it is gone already
