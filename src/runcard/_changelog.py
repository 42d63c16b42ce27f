"""The log of changes beside the index: writers append to it, readers look for what is new.

A line is a run's id, ``b`` (a change begins), ``d`` (it is done) or ``e`` (the run's last word), and a time that tells
lines apart. Each host and boot has a file of its own, since on NFS the appends of two hosts to one file overwrite each
other.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from runcard._shared import share
from runcard.identity import this_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = ".index"


def note(root: Path, run_id: str) -> bool:
    """Say that a run has had its last word, or was put here or removed as a whole: one small append.

    Returns:
        Whether it was written; when it was not, nothing is raised, and the change is found in the other ways.
    """
    return _append(root, run_id, "e")


@contextlib.contextmanager
def noted(root: Path, run_id: str) -> Iterator[None]:
    """Put around any change of a run that had ended: a line before, one after, so that a death between is seen."""
    _append(root, run_id, "b")
    try:
        yield
    finally:
        _append(root, run_id, "d")


@dataclass
class Changes:
    """What the logs say since the last time."""

    logs: dict[str, list[Any]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    begun: dict[str, int] = field(default_factory=dict)


def changes_since(folder: Path, logs: Mapping[str, list[Any]], begun: Mapping[str, int]) -> Changes | None:
    """The lines since the last time; None when a log is another one than it was."""
    changes = Changes(begun=dict(begun))
    try:
        names = [name for name in os.listdir(folder) if name.startswith(_LOG)]
        if not logs.keys() <= set(names):
            return None
        for name in names:
            head, offset = logs.get(name, ["", 0])
            with (folder / name).open("rb") as file:
                start = file.read(_HEAD).decode("ascii", "replace")
                if not start.startswith(head) or file.seek(0, os.SEEK_END) < offset:
                    return None
                file.seek(offset)
                whole = file.read().rpartition(b"\n")[0]
            changes.logs[name] = [head if len(head) == _HEAD else start, offset + len(whole)]
            for line in whole.decode("ascii", "replace").split("\n"):
                _take(changes, line)
    except OSError:
        return None
    return changes


def _take(changes: Changes, line: str) -> None:
    """One line of a log; of a torn one, every run that it may have spoken of."""
    changes.touched.update(_ID.findall(line))
    match = _LINE.fullmatch(line)
    if match is None:
        return
    run_id, kind = match.groups()
    if kind == "b":
        changes.begun[run_id] = changes.begun.get(run_id, 0) + 1
        return
    changes.ended.add(run_id)
    if kind == "d" and changes.begun.get(run_id, 0) > 1:
        changes.begun[run_id] -= 1
    elif kind == "d":
        changes.begun.pop(run_id, None)


def _append(root: Path, run_id: str, kind: str) -> bool:
    """One line in this host's log. Where nobody keeps anything yet there is nobody to tell."""
    path = os.path.join(root, FOLDER, _log_name())
    line = f"\n{run_id} {kind} {time.time_ns():x}\n".encode()  # the first newline ends what another may have torn
    try:
        fd = os.open(path, _APPENDING, 0o600)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if os.fstat(fd).st_size == 0:
            share(root, Path(path), 0o600)
        return os.write(fd, line) == len(line)
    except OSError:
        return False
    finally:
        os.close(fd)


@lru_cache(maxsize=1)
def _log_name() -> str:
    process = this_process()
    name = f"{process['host']} {process['boot']}"
    return f"{_LOG}{crc32(name.encode()):08x}"


def make_folder(root: Path) -> None:
    """Make the folder, before the log is read: from then on, writers tell of their changes.

    This host's log is begun at once, so that a reader knows of it, and sees when somebody takes it away.
    """
    path = root / FOLDER / _log_name()
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700)
        share(root, path.parent, 0o700)
        fd = os.open(path, _APPENDING | os.O_EXCL, 0o600)
        try:
            share(root, path, 0o600)
            os.write(fd, f"\n# {os.urandom(16).hex()}\n".encode())
        finally:
            os.close(fd)


_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_LOG = "changes-"
_HEAD = 32  # bytes at a log's beginning that tell it from another of the same name
_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-hjkmnp-tv-z]{8}")
_LINE = re.compile(rf"({_ID.pattern}) ([bed]) [0-9a-f]+")
