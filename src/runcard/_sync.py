"""Bring a whole store to another place.

A copy is compared with its original event by event, by (writer, number) and hash: what is there already is left alone,
so that a copy that was broken off goes on, and what does not come back as it was is said.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson

from runcard._open_sinks import is_live
from runcard._parcels import BATCH
from runcard._pending import Synced, cannot_be_written, said
from runcard.errors import RunNotFound, StoreError
from runcard.events import Event, mark
from runcard.identity import is_run_id
from runcard.journal import encode
from runcard.locks import locked
from runcard.record import Status
from runcard.sinks import registry
from runcard.sinks.files import FilesSource, file_mode, make_run, make_store, read_run, write_views
from runcard.sinks.mirror import Mirror
from runcard.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from runcard.record import RunRecord
    from runcard.sinks.protocol import Source

    Progress = Callable[[list[Any]], Iterable[Any]]
    Hashes = dict[tuple[str, int], bytes]
    Journals = dict[str, list[Event]]

TOGETHER = 100  # runs that are handed over at a time, where the target takes many
_EVENTS = 5_000  # events at which runs are handed over before that
_WRITER = re.compile(r"journal[A-Za-z0-9._-]*")


def copy(source: str, target: str, *, progress: Progress = iter) -> Synced:
    """Copy every ended run of a store that can be read to a folder or to any sink.

    Args:
        source: A folder, or the URL of a store that can be read back.
        target: A folder, or the URL of a sink. What can be read back is compared afterwards.
        progress: Is given all run ids, and gives them back one by one.

    Raises:
        SettingError: For a URL that is not accepted.
        StoreError: When the source is not there or cannot be read, or the target cannot be written.
    """
    store = open_store(source)
    place = store.root or getattr(store._source, "path", None)
    if place is not None and not os.path.exists(place):
        raise StoreError(f"there is no store at {store.url}")
    copying = _Copying(store._source, _target(target))
    problem = cannot_be_written(copying.target)
    if problem is not None:
        raise StoreError(problem)
    for run_id in progress(sorted(copying.origin.run_ids())):
        copying.add(run_id)
    copying.flush()
    copying.count()
    return Synced(copying.done, copying.there, copying.running, copying.problems)


class _Copying:
    """Runs on their way from one store to another, some at a time where the target takes many at once."""

    def __init__(self, origin: Source, target: Any) -> None:
        self.origin = origin
        self.done = self.there = self.running = 0
        self.problems: list[str] = []
        self.target = target
        self._together = TOGETHER if _takes_many(target) else 1
        self._waiting: list[tuple[RunRecord, Journals]] = []
        self._events = 0
        self._brought: list[str] = []

    def add(self, run_id: str) -> None:
        """Read a run; hand over what has come together."""
        try:
            record = self.origin.record(run_id)
            if record.status is Status.RUNNING:
                self.running += 1
                return
            journals = {writer: list(events) for writer, events in self.origin.journals(run_id).items()}
        except Exception as error:  # one run that cannot be read keeps no other back
            self._fail(run_id, error)
            return
        self._waiting.append((record, journals))
        self._events += sum(map(len, journals.values()))
        if len(self._waiting) >= self._together or self._events >= _EVENTS:
            self.flush()

    def flush(self) -> None:
        """Hand over what is waiting; where that fails as a whole, one after the other."""
        waiting, self._waiting, self._events = self._waiting, [], 0
        if len(waiting) > 1:
            try:
                new = _copied_together(waiting, self.target)
            except Exception:  # whose fault it is, is found one by one
                new = -1
            if new >= 0:
                self.done += new
                self.there += len(waiting) - new
                self._brought += [record.run_id for record, _ in waiting]
                return
        for record, journals in waiting:
            try:
                if _copied(record, journals, self.origin, self.target):
                    self.done += 1
                else:
                    self.there += 1
                self._brought.append(record.run_id)
            except Exception as error:  # one run that cannot be copied keeps no other back
                self._fail(record.run_id, error)

    def count(self) -> None:
        """See that every run is in the copy, when that can be read."""
        readable = self.target.source if isinstance(self.target, Folder) else self.target
        if not self._brought or not callable(getattr(readable, "run_ids", None)):
            return
        for run_id in sorted(set(self._brought).difference(readable.run_ids())):
            self.done -= 1
            self._fail(run_id, StoreError("it is not among the runs of the copy"))

    def _fail(self, run_id: str, error: Exception) -> None:
        self.problems.append(f"{run_id}: {said(error)}")


class Folder:
    """A folder of runs as the target of a copy from somewhere that has events, but no folders."""

    def __init__(self, root: Path) -> None:
        """Take the folder; it is made when the first run comes."""
        self.source = FilesSource(root)
        self._mirror = Mirror(root)

    def take(self, record: RunRecord, journals: Mapping[str, Iterable[Event]], missing: set[tuple[str, int]]) -> None:
        """Write the events that are missing, and the views anew. Raises `StoreError`."""
        if record.folder is not None:
            self._mirror(record)
            return
        if not is_run_id(record.run_id) or not all(_WRITER.fullmatch(writer) for writer in journals):
            raise StoreError("its id, or the name of a journal, is none")
        if not any(event["kind"] == "start" for events in journals.values() for event in events):
            raise StoreError("it came without its journal; a folder keeps nothing else")
        root = self.source.root
        make_store(root)
        known = (root / record.run_id).exists()
        folder = make_run(root, record.run_id, "private", exist_ok=True)
        for writer, events in journals.items():
            lines = [encode(mark(_bare(event))) for event in events if (writer, event["n"]) in missing]
            path = folder / f"{writer}.jsonl"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with locked(path), open(os.open(path, flags, file_mode(root, "private")), "ab") as file:
                file.write(b"".join(lines))
        write_views(folder, read_run(folder, record.run_id), known=known)


def _target(target: str) -> Any:
    scheme, colon, _ = target.partition(":")
    if not colon or len(scheme) == 1 or os.sep in scheme:
        return Folder(Path(os.path.abspath(os.path.expanduser(target))))
    registry.check(target)
    if registry.is_files(target):
        return Folder(Path(registry.path_of(target)))
    return registry.resolve(target)


def _takes_many(target: Any) -> bool:
    return all(callable(getattr(target, name, None)) for name in ("take", "ended", "journals_of"))


def _copied_together(runs: list[tuple[RunRecord, Journals]], target: Any) -> int:
    """Copy many runs; how many were not there. Raises `StoreError` when one does not come back as it was."""
    hashes = {record.run_id: _hashes(journals) for record, journals in runs}
    ended = target.ended(list(hashes))
    missing = _missing_of(hashes, target)
    new = [(r, journals) for r, journals in runs if missing[r.run_id] or r.run_id not in ended]
    if new:
        target.take(
            [
                (r, [{**event, "writer": writer} for writer, each in journals.items() for event in each])
                for r, journals in new
            ]
        )
        left = _missing_of({r.run_id: hashes[r.run_id] for r, _ in new}, target)
        if any(left.values()):
            raise StoreError("not all events came back as they were")
    return len(new)


def _missing_of(hashes: Mapping[str, Hashes], target: Any) -> dict[str, set[tuple[str, int]]]:
    """What the copy of each run has not, or has otherwise."""
    journals = target.journals_of(list(hashes))
    found = {}
    for run_id, wanted in hashes.items():
        there = _hashes(journals.get(run_id, {}))
        found[run_id] = {key for key, digest in wanted.items() if there.get(key) != digest}
    return found


def _copied(record: RunRecord, journals: Journals, origin: Source, target: Any) -> bool:
    """Copy one run; False when it was there already. Raises `StoreError` when it does not come back as it was."""
    run_id = record.run_id
    hashes = _hashes(journals)
    readable = target.source if isinstance(target, Folder) else target
    can_compare = callable(getattr(readable, "journals", None)) and (isinstance(target, Folder) or is_live(target))
    missing = _missing(hashes, readable, run_id) if can_compare else set(hashes)
    if can_compare and not missing and _ended(readable, run_id):
        return False
    with _in_a_folder(record, journals, origin, target) as whole:
        if isinstance(target, Folder):
            target.take(whole, journals, missing)
        elif is_live(target):
            target.start(whole)
            events = [{**event, "writer": writer} for writer, each in journals.items() for event in each]
            for begin in range(0, len(events), BATCH):
                _hand_over(target, run_id, events[begin : begin + BATCH])
            target.finish(whole)
        else:
            target(whole)
    if can_compare:
        left = _missing(hashes, readable, run_id)
        if left:
            raise StoreError(f"{len(left)} of {len(hashes)} events did not come back as they were")
    return True


@contextmanager
def _in_a_folder(record: RunRecord, journals: Journals, origin: Source, target: Any) -> Iterator[RunRecord]:
    """The record as the target wants it: an object store's files are fetched, and one gets a folder to upload."""
    has_folder = record.folder is not None and os.path.isdir(record.folder)
    fetch = getattr(origin, "fetch", None)
    if has_folder or _takes_many(target) or not (callable(fetch) or getattr(target, "keeps_files", False)):
        yield record if has_folder else replace(record, folder=None)
        return
    with TemporaryDirectory(prefix="runcard-") as place:
        folder = Path(place) / record.run_id
        if callable(fetch):
            fetch(record.run_id, folder)
        else:
            every = {(writer, event["n"]) for writer, events in journals.items() for event in events}
            Folder(Path(place)).take(replace(record, folder=None), journals, every)
        yield replace(record, folder=str(folder))


def _hand_over(target: Any, run_id: str, events: list[Event]) -> None:
    extend = getattr(target, "extend", None)
    if callable(extend):
        extend(run_id, events)
        return
    for event in events:
        target.append(run_id, event)


def _ended(readable: Any, run_id: str) -> bool:
    """Whether the copy has its end too, not only its events."""
    try:
        return readable.record(run_id).status is not Status.RUNNING
    except RunNotFound:
        return False


def _missing(hashes: Hashes, readable: Any, run_id: str) -> set[tuple[str, int]]:
    """What the copy has not, or has otherwise; what was judged in the copy is its own."""
    try:
        there = _hashes(readable.journals(run_id))
    except RunNotFound:
        return set(hashes)
    return {key for key, digest in hashes.items() if there.get(key) != digest}


def _hashes(journals: Mapping[str, Iterable[Event]]) -> Hashes:
    return {
        (writer, event["n"]): hashlib.blake2b(
            orjson.dumps(mark(_bare(event)), option=orjson.OPT_SORT_KEYS), digest_size=16
        ).digest()
        for writer, events in journals.items()
        for event in events
    }


def _bare(event: Event) -> Event:
    return {key: value for key, value in event.items() if key != "writer"}
