"""The run that the ranks of a launch share: found without a barrier, and told from that of an earlier launch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from runcard import _current
from runcard._shared import make_folder
from runcard.identity import began, is_run_id, new_run_id
from runcard.journal import Journal, last_events
from runcard.record import Status
from runcard.sinks.files import file_mode, make_run, read_run

if TYPE_CHECKING:
    from runcard.identity import Launch


def is_within(key: str) -> bool:
    """Whether the run around this one already is the launch's: then its children are each rank's own."""
    if any(run._life is not None and run._life.place.launch == key for run in list(_current.open_runs.values())):
        return True
    parent = os.environ.get("RUNCARD_PARENT", "")
    run_id, _, root = parent.partition("@")
    if not is_run_id(run_id):
        return False
    return any(
        event.get("launch") == key
        for path in Path(root, run_id).glob("journal*.jsonl")
        for event in last_events(path, first=True)
    )


_ordinals: dict[tuple[int, str, str], int] = {}  # (pid, launch, name) → how many runs of that name there were


def shared_run(name: str, root: Path, mode: str, launch: Launch) -> tuple[str, Path, Journal]:
    """The run that all ranks of a launch share, found without a barrier: who comes first writes its id down.

    A launcher that gives every launch the same key (a fixed master port) is told apart by the ranks themselves: a
    rank whose journal is there already, or a run that was over before this process began, belongs to an earlier launch.

    Returns:
        Its id, its folder, and this rank's journal.
    """
    ordinal = _ordinals[os.getpid(), launch.key, name] = _ordinals.get((os.getpid(), launch.key, name), -1) + 1
    key = hashlib.sha256(f"{launch.key}|{name}|{ordinal}".encode("utf-8", "replace")).hexdigest()[:24]
    meeting = root / ".launches"
    make_folder(meeting)
    file = "journal.jsonl" if launch.rank == 0 else f"journal-rank{launch.rank}.jsonl"
    for generation in range(10_000):
        run_id = _meet(meeting / f"{key}-{generation}")
        folder = make_run(root, run_id, mode, exist_ok=True)
        if _is_earlier_launch(folder):
            continue
        try:
            journal = Journal(folder / file, exclusive=True, mode=file_mode(root, mode))
        except FileExistsError:
            continue
        return run_id, folder, journal
    raise OSError(f"{meeting} holds ten thousand launches of one key; remove it")


def _meet(path: Path) -> str:
    """The run id in a file that many processes may want to make at once; the first one's holds for all."""
    for _ in range(200):
        try:
            run_id = path.read_text("utf-8")
        except FileNotFoundError:
            pass  # nobody was here yet
        else:
            if is_run_id(run_id):
                return run_id
        own = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        own.write_text(new_run_id(), "utf-8")
        try:
            os.link(own, path)  # fails when it is there; the content is there at once
        except FileExistsError:
            continue
        except OSError:  # no links on this file system: renaming without looking is the next best
            if not path.exists():
                os.replace(own, path)
        finally:
            own.unlink(missing_ok=True)
    raise OSError(f"{path} cannot be agreed on")


def _is_earlier_launch(folder: Path) -> bool:
    """Whether the run there was over before this process began: a rank that only comes late is of the same launch."""
    try:
        touched = (folder / "journal.jsonl").stat().st_mtime
        record = read_run(folder)
    except OSError:
        return False  # rank 0 has not come yet
    if record.status is Status.RUNNING:
        return False
    start = began()
    return start is None or start > (record.ended_at.timestamp() if record.ended_at is not None else touched)
