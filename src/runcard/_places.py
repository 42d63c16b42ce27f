"""Where a run's journal goes: its store, its folder, its file; a new run, a resumed one, or one shared by ranks.

When the store cannot be written the run falls back, with one message: the user's state folder, the temporary folder,
memory. It is never lost for want of a place, unless ``strict``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard import settings
from runcard._memory_journal import MemoryJournal
from runcard._points import points
from runcard._ranks import is_within, shared_run
from runcard._resuming import resumed
from runcard.errors import StoreError, describe, is_strict, warn
from runcard.identity import Token, is_alive, is_run_id, launch_of, new_run_id
from runcard.journal import Journal, last_events
from runcard.record import History, RunRecord, fold
from runcard.sinks import registry, views
from runcard.sinks.files import file_mode, just_written, make_run, make_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runcard._run import Run
    from runcard.events import Event
    from runcard.journal import Known
    from runcard.settings import Settings


class Place:
    """Where one run's events go in this process.

    Attributes:
        root, folder: The store and the run's folder in it; folder is None when only memory was left.
        run_id, attempt: The run, and which time it is that it is tried.
        journal: Open for appending.
        rank: The rank of this process in a launch; None outside of one.
        owner: Whether this process writes the run's end and views.
        spooled: Whether the folder only waits for delivery.
        launch: The launch's key.
        known: What the start event ends with.
        losses: What was lost on the way here.
    """

    def __init__(self, root: Path, folder: Path | None, run_id: str, journal: Journal | MemoryJournal) -> None:
        self.root = root
        self.folder = folder
        self.run_id = run_id
        self.journal = journal
        self.attempt = 1
        self.rank: int | None = None
        self.launch: str | None = None
        self.spooled = False
        self.known: Known | None = None
        self.losses: dict[str, int] = {}

    @property
    def owner(self) -> bool:
        """Whether this process writes the run's end and views."""
        return not self.rank

    @property
    def journal_path(self) -> Path | None:
        """The journal's file, when there is one."""
        return self.journal.path if isinstance(self.journal, Journal) else None

    @property
    def mode(self) -> int:
        """The permissions of the run's files."""
        return 0o660 if self.folder is not None and self.folder.stat().st_mode & 0o020 else 0o600

    def is_home(self, url: str) -> bool:
        """Whether a ``file:`` URL means the folder that the journal lies in."""
        return url == "file:" or (self.folder is not None and Path(registry.path_of(url)) == self.root)

    def record(self, run_id: str) -> RunRecord:
        """The record of what is written so far."""
        if not isinstance(self.journal, MemoryJournal):
            assert self.folder is not None  # a file is in one
            return just_written(self.folder, self.journal, run_id, self.known)
        journals = {"journal": self.journal.events()}
        return replace(fold(run_id, journals), metric_history=History(points(journals)))


def find(run: Run, wanted: Settings, token: Token | None, config_hash: str | None) -> Place:
    """The place of a run that begins.

    Raises:
        RunStateError: When the run to resume cannot be.
        StoreError: When nothing can be written and ``strict`` holds.
    """
    root, spooled = _root(wanted, token, run.parent)
    if root is not None:
        again = resumed(run, root, config_hash)
        if again is not None:
            run_id, folder, attempt, journal = again
            found = Place(root, folder, run_id, journal)
            found.attempt = attempt
            return found
    place = None
    problem = "the working directory is gone" if root is None else ""
    for candidate in _candidates(root):
        try:
            place = _new_place(run, candidate, wanted)
        except OSError as error:
            problem = problem or f"{candidate} cannot be written ({describe(error)})"
            if is_strict():
                raise StoreError(f"{problem}; set directory= or RUNCARD_DIR to a folder that can be") from error
            continue
        break
    if place is None:
        place = Place(Path(os.sep), None, new_run_id(), MemoryJournal())
    if problem:
        where = place.folder or "memory, until the process ends"
        warn(f"{problem}; this run is recorded in {where}. Set directory= or RUNCARD_DIR", once=problem)
    place.spooled = spooled
    return place


def give_up(run: Run, start: Event) -> Place:
    """The start event did not go to the disk: the next place takes the run, or else memory.

    Raises:
        StoreError: When ``strict`` holds.
    """
    before: Place = run._life.place
    problem = f"{before.folder} cannot be written (is the disk full?)"
    if is_strict():
        raise StoreError(f"{problem}; set directory= or RUNCARD_DIR to a folder that can be")
    run._journal.close()
    start = {name: value for name, value in start.items() if value not in (None, [], {})}
    alone = before.rank is None and before.attempt == 1  # and so free to go
    place = _elsewhere(before, start) if alone else None
    if place is None:
        place = Place(before.root, None, run.run_id, MemoryJournal())
        place.journal.append(start)
    elif before.folder is not None:
        _remove(before.folder)  # what is torn there would read as a crashed run
    place.spooled = before.spooled
    run.root, run.folder, run._journal = place.root, place.folder, place.journal
    warn(f"{problem}; this run is recorded in {place.folder or 'memory, until the process ends'}", once=problem)
    return place


def _elsewhere(before: Place, start: Event) -> Place | None:
    """The first other place that takes a run's start event."""
    for root in _candidates(None):
        if root == before.root:
            continue
        try:
            make_store(root)
            folder = make_run(root, before.run_id, "private")
            journal = Journal(folder / "journal.jsonl", exclusive=True)
        except OSError:
            continue
        if journal.append(start):
            return Place(root, folder, before.run_id, journal)
        journal.close()
        _remove(folder)
    return None


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def write_start(place: Place, config: Any, shared: Mapping[str, bytes]) -> None:
    """Write the views that are known at the start."""
    assert place.folder is not None
    if place.attempt == 1:
        views.write_start(place.folder, place.mode, config=config, shared=shared)


def is_open(token: Token) -> bool:
    """Whether the run that a token is of still goes on."""
    folder = _folder_of(token)
    if folder is None:
        return False
    attempts = (path for path in folder.glob("journal-attempt*.jsonl") if "-fork" not in path.name)
    latest = max(attempts, key=lambda path: path.stat().st_mtime, default=None)
    path = latest or folder / "journal.jsonl"
    if last_events(path, first=True):
        return _goes_on(path)
    return any(_goes_on(rank) for rank in _ranks_of(folder))  # rank 0 has not come yet


def experiment_of(token: Token) -> str | None:
    """The experiment of the run that a token is of."""
    folder = _folder_of(token)
    if folder is None:
        return None
    for path in (folder / "journal.jsonl", *_ranks_of(folder)):
        for event in last_events(path, first=True):
            experiment = event.get("experiment")
            return experiment if isinstance(experiment, str) else None
    return None


def _goes_on(path: Path) -> bool:
    """Whether who writes a journal lives and has not ended it."""
    if any(event["kind"] == "end" for event in last_events(path)):
        return False
    began = last_events(path, first=True)
    return bool(began) and is_alive(began[0].get("alive") or {}, touched=path.stat().st_mtime)


def _ranks_of(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("journal-rank*.jsonl")) if "-fork" not in path.name]


def _folder_of(token: Token) -> Path | None:
    folder = Path(token.root) / token.run_id
    return folder if is_run_id(token.run_id) and any(folder.glob("journal*.jsonl")) else None


def _root(wanted: Settings, token: Token | None, parent: Run | None) -> tuple[Path | None, bool]:
    """The store's root, and whether it is only a spool; None when there is no telling where."""
    home = _home(wanted)
    if home is None:
        return settings.spool_root(wanted), True
    if home != "file:":
        return Path(registry.path_of(home)), False
    if not settings.was_configured("directory"):  # a child lies beside its parent, wherever it was started
        if token is not None:
            return Path(token.root), False
        if parent is not None and parent.folder is not None and _home(parent._life.settings) == "file:":
            return parent.root, False
    try:
        return settings.store_root(wanted), False
    except OSError:
        return None, False


def _home(wanted: Settings) -> str | None:
    """The files sink that the journal lies in, if there is one."""
    return next((sink for sink in wanted.sinks if registry.is_files(sink)), None)


def _state_folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("runcard")


def _candidates(root: Path | None) -> Iterator[Path]:
    """Where to try, in turn: what was set, the state folder, the temporary folder."""
    if root is not None:
        yield root
    try:
        yield _state_folder() / "runs"
    except (OSError, RuntimeError, KeyError):
        pass  # no home folder to be found: the temporary one is next
    import tempfile

    try:
        owner = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
        yield Path(tempfile.gettempdir()) / f"runcard{owner}"
    except OSError:
        pass  # no temporary folder either: memory is left


def _new_place(run: Run, root: Path, wanted: Settings) -> Place:
    make_store(root, wanted.mode)
    launch = launch_of(os.environ, run._options.ranks)
    if launch is not None and not is_within(launch.key):
        run_id, folder, journal = shared_run(run.name, root, wanted.mode, launch)
        place = Place(root, folder, run_id, journal)
        place.rank, place.launch = launch.rank, launch.key
        return place
    run_id = new_run_id()
    try:
        folder = make_run(root, run_id, wanted.mode)
    except FileExistsError:  # 2^40 ids a second make this a miracle; the second try is not
        run_id = new_run_id()
        folder = make_run(root, run_id, wanted.mode)
    try:
        journal = Journal(folder / "journal.jsonl", exclusive=True, mode=file_mode(root, wanted.mode))
    except OSError:
        folder.rmdir()  # the run goes elsewhere: leave no folder that reads as a crashed one
        raise
    return Place(root, folder, run_id, journal)
