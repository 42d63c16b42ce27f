"""Readers for what people already have: runs of MLflow, Weights & Biases and TensorBoard become records.

A reader is a module with ``runs(source)``, which gives an `Imported` for each run it finds, a `Damaged` for each one
that it cannot read, and an `Aside` for what belongs to no run. All the rest is done here and in `_writing`, the same
for every kind: ids, secrets, the journal, the views, and what to do when a run was imported before.

A run's id follows from its `Origin`, so a second import makes nothing twice, and one that was broken off goes on.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard.errors import StoreError, describe
from runcard.identity import is_run_id
from runcard.importers._kinds import KINDS, is_named, kind_of
from runcard.record import Point, Status

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Progress = Callable[[Iterable[Any]], Iterable[Any]]

__all__ = ["KINDS", "Artifact", "Aside", "Damaged", "Imported", "Origin", "Report", "git", "import_runs", "kind_of"]

COPY_LIMIT = 100_000_000  # bytes; a larger artifact is referenced where it lies
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_LAST_SECOND = 253_402_300_799.0  # of the year 9999


class Origin(NamedTuple):
    """What tells a run from every other at each import, wherever its files lie by then.

    Attributes:
        kind: One of `KINDS`.
        key: Unique within the kind: MLflow's run id, W&B's ``entity/project/id``.
        started_at: Seconds since the epoch.
        given: The run's own id, when it was runcard that had delivered it there.
    """

    kind: str
    key: str
    started_at: float
    given: str | None = None

    @property
    def run_id(self) -> str:
        """The id that the run has here: its start in UTC, and 40 bits of the hash of kind and key.

        >>> Origin("mlflow", "0af1", 0.0).run_id
        '19700101T000000-6hvbb1ej'
        """
        if self.given is not None and is_run_id(self.given):
            return self.given
        digest = hashlib.sha256(f"{self.kind}\0{self.key}".encode("utf-8", "backslashreplace")).digest()
        bits = int.from_bytes(digest[:5])
        tail = "".join(_CROCKFORD[bits >> shift & 31] for shift in range(35, -1, -5))
        return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(usable_time(self.started_at) or 0.0))}-{tail}"


class Artifact(NamedTuple):
    """A file of an imported run; of the four, what there is of it.

    Attributes:
        name: A relative path with slashes.
        path: Where the file lies on this machine.
        content: The file's bytes, for one that the reader makes.
        uri: Where it is kept, when that is not this machine.
        fetch: Writes the file to the path it is given; used when files are to be copied.
        bytes: The size, where it is known without fetching.
    """

    name: str
    path: Path | None = None
    content: bytes | None = None
    uri: str | None = None
    fetch: Callable[[Path], None] | None = None
    bytes: int | None = None


class Damaged(NamedTuple):
    """A run that cannot be read: where it is, and why. The others are imported."""

    where: str
    problem: str


class Aside(NamedTuple):
    """What lies there and belongs to no run, such as traces: the kind in the plural, and how many."""

    what: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A run as its reader found it. Nothing in it is checked, bounded or free of secrets yet: `_writing` sees to that.

    Attributes:
        origin: Who it is.
        source: Where it was read from, without credentials.
        name, experiment: As they are called there.
        status: FINISHED, FAILED or KILLED; None for a run without a last word, which is running or has crashed.
        ended_at: Seconds since the epoch; None when that is not known.
        parent: The run it is a child of.
        config: Parameters, nested as given.
        points: `Point`s in the order logged, consumed once; those of one step and time go in one event.
        metrics: Numbers that are no last point: a summary's own. They stand before points of the same name.
        result: The rest of such a summary.
        tags, notes, user, host: As `RunRecord` has them.
        artifacts: Files.
        inputs: Mappings with ``path``, and what else is known.
        environment: What is known of it, in the record's own form; `git` makes its ``git``.
        error, exit_code: As `RunRecord` has them.
        original: What has no place of its own in a record, for ``environment.imported``: the id and the status there,
            tags with their values, …
        left_out: What cannot be carried over, by kind in the plural: ``{"images": 3}``.
        deleted: It was deleted there, and is left out unless it is asked for.
    """

    origin: Origin
    source: str
    name: str
    experiment: str
    status: Status | None = Status.FINISHED
    ended_at: float | None = None
    parent: Origin | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    points: Iterable[Point] = ()
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    result: Any = None
    tags: Iterable[str] = ()
    notes: str = ""
    user: str | None = None
    host: str | None = None
    artifacts: Iterable[Artifact] = ()
    inputs: Iterable[Mapping[str, Any]] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    exit_code: int | None = None
    original: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    deleted: bool = False


@dataclass
class Report:
    """What came of an import.

    Attributes:
        imported: The ids of the runs that are new here.
        brought_up_to_date: Those that had gone on since they were imported.
        there: How many were there already.
        passed_over: How many were not asked for: another experiment, deleted, or not met by ``where``.
        left_out: What was not carried over of the imported runs, by kind, counted.
        problems: One line for each run that could not be imported.
    """

    imported: list[str] = field(default_factory=list)
    brought_up_to_date: list[str] = field(default_factory=list)
    there: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def found(self) -> int:
        """How many runs the reader came upon."""
        known = len(self.imported) + len(self.brought_up_to_date) + self.there
        return known + self.passed_over.total() + len(self.problems)


class Wishes(NamedTuple):
    """What the person asked for: see `import_runs`."""

    experiment: str | None = None
    rename: str | None = None
    where: str | None = None
    deleted: bool = False
    copy_limit: int | None = COPY_LIMIT


def import_runs(
    source: str,
    into: str | os.PathLike[str],
    *,
    kind: str | None = None,
    wishes: Wishes | None = None,
    dry_run: bool = False,
    progress: Progress = iter,
) -> Report:
    """Make records from the runs of another tracker.

    Args:
        source: A folder, a file, or ``mlflow:`` and a tracking URI.
        into: The folder of a store, or the URL of a sink that can be read back.
        kind: One of `KINDS`; None means: by what lies there.
        wishes: Which runs, and what of them.
        dry_run: Write nothing, and say what would be imported.
        progress: Is given the runs as they are found, and gives them back one by one.

    Raises:
        SettingError: When it cannot be told what the source is; `MissingExtra` when a package is needed to read it;
            `StoreError` when the store cannot be written.
    """
    from runcard.importers._writing import Target

    kind = kind or kind_of(source)
    reader = import_module(f"runcard.importers.{kind}")
    found: Iterator[Imported | Damaged | Aside] = reader.runs(source.partition(":")[2] if is_named(source) else source)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="runcard-import-") as staging:
        target = Target(into, Path(staging), wishes or Wishes(), dry_run=dry_run)
        for each in progress(found):
            if isinstance(each, Aside):
                report.left_out[each.what] += each.number
            elif isinstance(each, Damaged):
                report.problems.append(f"{each.where}: {each.problem}")
            else:
                _take(each, target, report)
        report.problems += target.deliver()
    return report


def git(
    commit: object, *, branch: object = None, remote: object = None, dirty: bool | None = None
) -> dict[str, Any] | None:
    """What another tracker knew of the code, as ``environment.git``; None when it is no commit.

    Where it did not say that there were no changes beside it, the code is called incomplete.
    """
    if not isinstance(commit, str) or len(commit) not in (40, 64) or set(commit.lower()) - set("0123456789abcdef"):
        return None
    return {
        "state": {True: "dirty", False: "clean", None: "imported"}[dirty],
        "commit": commit.lower(),
        "branch": branch if isinstance(branch, str) and branch else None,
        "dirty": dirty,
        "remote": remote if isinstance(remote, str) and remote else None,
        "patch": None,
        "incomplete": dirty is not False,
    }


def usable_time(seconds: object) -> float | None:
    """A time that a calendar has, else None."""
    if isinstance(seconds, (int, float)) and 0 <= seconds <= _LAST_SECOND:
        return float(seconds)
    return None


def _take(run: Imported, target: Any, report: Report) -> None:
    """Import one run; what is wrong with it is noted and keeps no other back."""
    try:
        outcome, losses = target.take(run)
    except StoreError:
        raise  # the next one would not go in either
    except Exception as error:  # what a reader of other people's files may meet has no end; a Ctrl-C goes through
        report.problems.append(f"{run.name} ({run.origin.key}): {describe(error)}")
        return
    run_id = run.origin.run_id
    if outcome == "there":
        report.there += 1
    elif outcome == "imported":
        report.imported.append(run_id)
        report.left_out.update(losses)
    elif outcome == "up to date":
        report.brought_up_to_date.append(run_id)
    else:
        report.passed_over[outcome] += 1
