"""What to free, as a plan that one can read before it is carried out: artifacts first, records only on demand.

Never freed: anything of a run that goes on, that was judged `keep`, or that is among the best of its experiment. Of
the others, transient artifacts go at once; then those of discarded runs; then, when a rule asks for it, those of runs
that nobody judged, oldest first.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from runcard.errors import SettingError, StoreError
from runcard.identity import is_run_id
from runcard.record import RunRecord, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from runcard.store import Store

Why = Literal["transient", "discarded", "not among the best", "old", "to make room"]
Files = dict[str, int]
"""Paths relative to a run's folder → bytes."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes of one run.

    Attributes:
        record: The run.
        files: Its artifacts to remove.
        why: The first rule that let them go.
        whole: Whether the run goes with its record.
        record_bytes: What the rest of its folder takes, when it goes whole.
    """

    record: RunRecord
    files: Files
    why: Why
    whole: bool = False
    record_bytes: int = 0

    @property
    def bytes(self) -> int:
        """What its removal frees."""
        return sum(self.files.values()) + self.record_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` will remove.

    Attributes:
        removals: In order.
        protected: Run id → why nothing of it goes.
        bytes: What all removals free.
        total: What the files of all runs take now.
    """

    removals: list[Removal] = field(default_factory=list)
    protected: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    total: int = 0


def plan(
    records: Iterable[RunRecord],
    files: Callable[[RunRecord], Files],
    *,
    keep_top: int = 0,
    by: str | None = None,
    direction: str | None = None,
    older_than: timedelta | None = None,
    max_size: int | None = None,
    runs: bool = False,
    now: datetime | None = None,
) -> Plan:
    """What would be freed; removes nothing.

    Args:
        records: All runs of the store.
        files: The files in a run's ``artifacts/`` with their sizes, such as `artifact_files`.
        keep_top: How many of the best runs of each experiment are left alone, and as many of its finished runs; those
            that are neither among them nor kept lose their artifacts.
        by: The metric that says which are best; None: each experiment's objective.
        direction: ``minimize`` or ``maximize``; None: as the runs say of their objective.
        older_than: Only runs that ended longer ago; transient artifacts go at any age.
        max_size: Bytes; stop once the artifacts that stay are no more than this.
        runs: Let the runs go with their records, instead of their artifacts alone.
        now: The present, for tests.

    Raises:
        SettingError: When ``keep_top`` has no metric to go by.
    """
    known = list(records)
    present = now or datetime.now(UTC)
    sizes = {record.run_id: files(record) for record in known}
    total = sum(sum(each.values()) for each in sizes.values())
    protected, unjudged = _protected(known, keep_top, by, direction)
    free = [record for record in sorted(known, key=_age) if record.run_id not in protected]
    found: list[Removal] = []
    left = total
    for record in free:
        paths = [path for path in _transient(record) if path in sizes[record.run_id]]
        if paths:
            found.append(_removal(record, paths, sizes[record.run_id], "transient"))
            left -= found[-1].bytes
    judged = [record for record in free if record.experiment not in unjudged]
    for record, why in _candidates(judged, keep_top=keep_top, older_than=older_than, max_size=max_size, now=present):
        if max_size is not None and left <= max_size:
            break
        gone = {path for removal in found if removal.record is record for path in removal.files}
        paths = [path for path in sizes[record.run_id] if path not in gone]
        if paths or runs:
            found.append(_removal(record, paths, sizes[record.run_id], why, whole=runs))
            left -= sum(found[-1].files.values())
    return Plan(found, protected, sum(removal.bytes for removal in found), total)


def apply(store: Store, made: Plan) -> tuple[int, list[str]]:
    """Carry out a plan; a run that was kept, or that goes on again, since it was made is left alone.

    Returns:
        How many bytes were freed, and what could not be removed, a sentence each.

    Raises:
        StoreError: When the store is no folder of runs.
    """
    from runcard import leaderboard
    from runcard.errors import RunNotFound

    root = _root(store)
    freed = 0
    problems: list[str] = []
    whole: list[str] = []
    for removal in made.removals:
        run_id = removal.record.run_id
        try:
            record = store.get(run_id)
        except RunNotFound:
            continue  # another has removed it
        if record.decision == "keep" or record.status is Status.RUNNING:
            problems.append(f"{record.short_id} is {record.decision or 'running'} now: left alone")
            continue
        try:
            if removal.whole:
                freed += removal.bytes
                remove_run(root, run_id)
                whole.append(run_id)
                continue
            gone = [path for path in removal.files if _unlink(root / run_id, path)]
        except OSError as error:
            problems.append(f"{record.short_id}: {error.strerror or error}")
            continue
        freed += sum(removal.files[path] for path in gone)
        if gone:
            store.append(run_id, {"kind": "files", "removed": gone})
        if len(gone) < len(removal.files):
            problems.append(f"{record.short_id}: {len(removal.files) - len(gone)} files are links or gone: left alone")
    if whole:
        leaderboard.remove(root, whole)
    return freed, problems


def remove_run(root: Path, run_id: str) -> None:
    """Remove a run's folder with all that is in it; links are removed, never followed.

    Raises:
        StoreError: When there is no such folder.
        OSError: When it cannot be removed.
    """
    folder = root / run_id
    if not is_run_id(run_id) or folder.is_symlink() or not folder.is_dir():
        raise StoreError(f"{run_id} is no run's folder in {root}")
    shutil.rmtree(folder)


def artifact_files(record: RunRecord) -> Files:
    """The files in a run's ``artifacts/``, recorded or not, with their sizes; links are left out."""
    return dict(_walk(record.folder, "artifacts")) if record.folder is not None else {}


def disk_use(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """All files of a run's folder, with what the system knows of each; links are left out."""
    for path in _paths(folder, ""):
        try:
            yield path, os.lstat(os.path.join(folder, path))
        except OSError:
            continue  # removed meanwhile


def _protected(
    records: Sequence[RunRecord], keep_top: int, by: str | None, direction: str | None
) -> tuple[dict[str, str], set[str]]:
    """The runs of which nothing goes, and why; and the experiments of which a rule about the best says nothing."""
    found: dict[str, str] = {}
    unjudged: set[str] = set()
    for record in records:
        if record.status is Status.RUNNING:
            found[record.run_id] = "running"
        elif record.decision == "keep":
            found[record.run_id] = "kept"
    if not keep_top:
        return found, unjudged
    experiments: dict[str, list[RunRecord]] = {}
    for record in records:
        experiments.setdefault(record.experiment, []).append(record)
    for name, members in experiments.items():
        best = _best(members, name, keep_top, by, direction)
        if not best:  # only what is transient goes of these
            unjudged.add(name)
        for place, record in enumerate(best, start=1):
            found.setdefault(record.run_id, f"number {place} of {name}")
    return found, unjudged


def _best(
    members: Sequence[RunRecord], name: str, count: int, by: str | None, direction: str | None
) -> Sequence[RunRecord]:
    """The first of `rank`, and of the finished among them: a run that failed takes no other's place."""
    from runcard.query import is_better, rank

    newest = sorted(members, key=_age, reverse=True)
    judging = (record for record in newest if record.objective and record.direction)
    judged = next((record for record in judging if by is None or record.objective == by), None)
    metric = by or (judged.objective if judged else None)
    if direction is None and judged is not None and metric == judged.objective:
        direction = judged.direction
    if metric is None or direction is None:
        raise SettingError(f"what is best of {name or 'a run'}? say --by METRIC and --direction minimize or maximize")
    ranked = rank([record for record in newest if record.decision != "discard"], metric, direction)
    ranked = [record for record in ranked if is_better(record.metrics.get(metric), [], direction)]
    finished = [record.run_id for record in ranked if record.status is Status.FINISHED]
    first = {*finished[:count], *(record.run_id for record in ranked[:count])}
    return [record for record in ranked if record.run_id in first]


def _candidates(
    free: Sequence[RunRecord], *, keep_top: int, older_than: timedelta | None, max_size: int | None, now: datetime
) -> Iterator[tuple[RunRecord, Why]]:
    """The runs whose artifacts may go, in the order in which they do."""
    old = [record for record in free if older_than is None or _ended(record) < now - older_than]
    for record in old:
        if record.decision == "discard":
            yield record, "discarded"
    why: Why = "not among the best" if keep_top else "old" if older_than is not None else "to make room"
    if keep_top or older_than is not None or max_size is not None:
        for record in old:
            if record.decision != "discard":
                yield record, why


def _removal(record: RunRecord, paths: Sequence[str], sizes: Files, why: Why, *, whole: bool = False) -> Removal:
    return Removal(record, {path: sizes[path] for path in paths}, why, whole, _beside(record) if whole else 0)


def _beside(record: RunRecord) -> int:
    """What a run's folder takes without its artifacts; a file that other runs share stays with them."""
    if record.folder is None:
        return 0
    files = disk_use(record.folder)
    return sum(found.st_size for path, found in files if found.st_nlink == 1 and not path.startswith("artifacts/"))


def _transient(record: RunRecord) -> list[str]:
    return [str(entry.get("path")) for entry in record.artifacts if entry.get("transient") and entry.get("path")]


def _age(record: RunRecord) -> tuple[datetime, str]:
    return _ended(record), record.run_id


def _ended(record: RunRecord) -> datetime:
    if record.ended_at is not None:
        return record.ended_at
    started = record.started_at or datetime.min.replace(tzinfo=UTC)
    return started + timedelta(seconds=record.duration_s or 0.0)


def _root(store: Store) -> Path:
    if store.root is None:
        raise StoreError(f"only a folder of runs can be tidied up, which {store.url} is not")
    return store.root


def _walk(folder: str, below: str) -> Iterator[tuple[str, int]]:
    for path in _paths(folder, below):
        try:
            yield path, os.lstat(os.path.join(folder, path)).st_size
        except OSError:
            continue  # removed meanwhile


def _paths(folder: str, below: str) -> Iterator[str]:
    """The files below, as paths from the folder with slashes; no link is followed, nor given."""
    if os.path.islink(os.path.join(folder, below)):
        return
    try:
        entries = sorted(os.scandir(os.path.join(folder, below)), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _paths(folder, path)
        elif entry.is_file(follow_symlinks=False):
            yield path


def _unlink(folder: Path, path: str) -> bool:
    """Remove one artifact; False for what is not a plain file below the run's ``artifacts/``, no link on the way."""
    parts = path.split("/")
    if parts[0] != "artifacts" or len(parts) < 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        return False
    place = folder
    for part in parts[:-1]:
        place /= part
        if place.is_symlink() or not place.is_dir():
            return False
    target = place / parts[-1]
    if target.is_symlink() or not target.is_file():
        return False
    target.unlink()
    while place != folder:  # a folder that is empty now goes too
        try:
            place.rmdir()
        except OSError:
            break  # there is more in it
        place = place.parent
    return True
