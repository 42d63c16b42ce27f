"""One run on its way to one sink that has an address: what it has acknowledged, kept beside the journal.

A store's folder ``.pending`` holds a small file for each run and sink while something is not delivered: the sink's
name, without credentials, and how far into each journal it has come. What a process leaves behind, however it ended,
the next one with that sink, or ``runcard sync``, takes up. The sink gets every event at least once and in order.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import orjson

from runcard._shared import make_folder, share
from runcard.identity import is_alive, is_run_id, this_process
from runcard.journal import decode, rescued, writers
from runcard.record import RunRecord, Status
from runcard.sinks.files import read_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runcard.events import Event

BATCH = 500  # events handed to a sink at a time
FOLDER = ".pending"


class Parcel:
    """A run's way to a sink.

    Attributes:
        record: What the sink is told at the start, then at the end.
        ended: Whether `record` is the finished one.
        problem: What the sink said when it last failed.
        spooled: Whether the run's folder is only there until all is delivered.
        late: Whether the run's own end did not wait until all was delivered.
        note: The file that says what is pending; None when the run has no folder.
    """

    def __init__(self, sink_name: str, folder: Path | None, record: RunRecord, *, spooled: bool = False) -> None:
        self.record = record
        self.ended = False
        self.problem: str | None = None
        self.spooled = spooled
        self.late = False
        self._folder = folder
        self._started = self._left = self._elsewhere = False
        self._offsets: dict[str, int] = {}
        self._sink_name = sink_name
        self.note: Path | None = None
        if folder is not None:
            self.note = folder.parent / FOLDER / f"{record.run_id}.{_short(sink_name)}.json"

    @classmethod
    def left_behind(cls, note: Path, *, elsewhere: bool = False) -> Parcel | None:
        """What an earlier process did not deliver; None when its run is not to be delivered by us, or not yet.

        Args:
            note: What is pending.
            elsewhere: Deliver to another sink than noted, from the beginning; the note goes when that has all.
        """
        told = read_note(note)
        if told is None:
            return None
        folder = note.parent.parent / told["run_id"]
        try:
            record = read_run(folder)
        except OSError:
            note.unlink(missing_ok=True)  # the run was removed
            return None
        if record.status is Status.RUNNING or (not elsewhere and _is_at_work(told["by"], note)):
            return None
        parcel = cls(told["sink"], folder, record, spooled=told["spooled"])
        parcel.ended = parcel._left = True
        parcel._elsewhere = elsewhere
        parcel._offsets = {} if elsewhere else told["offsets"]
        return parcel

    def announce(self) -> None:
        """Note that there is something to deliver, before anything can go wrong. Raises `OSError`."""
        if self.note is not None:
            make_folder(self.note.parent)
            self._save()

    def advance(self, sink: Any) -> bool:
        """Hand over what is new; whether the sink now has all. Raises what the sink raises."""
        ended, record = self.ended, self.record  # as they are now: the run may end meanwhile
        if not self._started:
            sink.start(record)
            self._started = True
        for writer, path in self._journals():
            for events, offset in batches(path, writer, self._offsets.get(writer, 0)):
                if events:
                    _hand_over(sink, record.run_id, events)
                self._offsets[writer] = offset
                self._save()
        if not ended:
            return False
        sink.finish(record)
        if self.note is not None and (self._left or not (self.late and self.spooled)):
            self.note.unlink(missing_ok=True)
            if self._left:
                self._clear(keeps_files=getattr(sink, "keeps_files", False))
        return True

    def _clear(self, *, keeps_files: bool) -> None:
        """Take a spooled run away that is delivered everywhere, its artifacts too."""
        folder = self._folder
        if folder is None or not self.spooled or self.record.losses.get("sinks"):
            return
        others = [note for note in notes(folder.parent) if note.name.startswith(f"{self.record.run_id}.")]
        left = _unrecorded(folder, self.record) if keeps_files else any((folder / "artifacts").glob("*"))
        if not others and not left:
            shutil.rmtree(folder, ignore_errors=True)

    def _journals(self) -> list[tuple[str, Path]]:
        try:
            return sorted(writers(self._folder).items()) if self._folder is not None else []
        except OSError:
            return []  # the folder was removed: nothing more to follow

    def _save(self) -> None:
        if self.note is None or self._elsewhere:
            return
        told = {
            "run_id": self.record.run_id,
            "sink": self._sink_name,
            "spooled": self.spooled,
            "offsets": self._offsets,
            "by": this_process(),
        }
        partial = self.note.with_name(f".{self.note.name}.{os.getpid()}")
        try:
            partial.write_bytes(orjson.dumps(told))
            share(self.note.parents[1], partial, 0o600)
            os.replace(partial, self.note)
        except OSError:
            pass  # a full disk: what was delivered is delivered once more, which changes nothing


def _unrecorded(folder: Path, record: RunRecord) -> bool:
    """Whether files lie there that no sink was told of: a run that was killed had not come to record them."""
    recorded = {entry.get("path") for entry in record.artifacts}
    files = (path.relative_to(folder) for path in (folder / "artifacts").rglob("*") if not path.is_dir())
    return any(not recorded & {each.as_posix() for each in (path, *path.parents)} for path in files)


def notes(root: Path, sink_name: str | None = None) -> list[Path]:
    """What is pending in a store, of one sink or of all, oldest run first."""
    ending = ".json" if sink_name is None else f".{_short(sink_name)}.json"
    try:
        return sorted(path for path in (root / FOLDER).iterdir() if path.name.endswith(ending) and path.name[0] != ".")
    except OSError:
        return []


def read_note(note: Path) -> dict[str, Any] | None:
    """What one note says; None when it is gone or was damaged."""
    try:
        told = orjson.loads(note.read_bytes())
        offsets = {str(writer): int(offset) for writer, offset in told["offsets"].items()}
        run_id, sink = str(told["run_id"]), str(told["sink"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if not is_run_id(run_id):
        return None
    by = told.get("by")
    return {
        "run_id": run_id,
        "sink": sink,
        "spooled": told.get("spooled") is True,
        "offsets": offsets,
        "by": by if isinstance(by, dict) else {},
    }


def _is_at_work(process: dict[str, Any], note: Path) -> bool:
    """Whether another process that lives is delivering this: two at once would send all of it twice."""
    try:
        return bool(process) and process != this_process() and is_alive(process, touched=note.stat().st_mtime)
    except OSError:
        return False  # it is gone: delivered


def _short(sink_name: str) -> str:
    return hashlib.sha256(sink_name.encode("utf-8", "replace")).hexdigest()[:12]


def _hand_over(sink: Any, run_id: str, events: list[Event]) -> None:
    """In one call where the sink takes many, else one after the other."""
    extend = getattr(sink, "extend", None)
    if callable(extend):
        extend(run_id, events)
        return
    for event in events:
        sink.append(run_id, event)


def batches(path: Path, writer: str, offset: int) -> Iterator[tuple[list[Event], int]]:
    """The events of the whole lines from an offset on, some at a time, each with the offset after them."""
    events: list[Event] = []
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        file.seek(offset)
        before = offset
        for line in file:
            if not line.endswith(b"\n"):
                break  # still being written: next time
            offset += len(line)
            event = decode(line) or rescued(line)
            if event is not None:
                events.append({**event, "writer": writer})
            if len(events) >= BATCH:
                yield events, offset
                events, before = [], offset
    if offset > before:
        yield events, offset
