"""How runcard's costs grow with what there is: each work measures one cost or more at sizes ten times apart."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.harness import Extent, Subject, WorkFailedError, folder_of_its_own
from benchmarks.results import Growth, Measured, Samples
from benchmarks.rows import LINES, ROWS
from benchmarks.stores import make_repository, make_store
from benchmarks.works import Trial, Work, in_milliseconds, time_ls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def curves(rows: dict[str, dict[str, Measured]]) -> dict[str, Growth]:
    """The rows ``LINE@SIZE`` as lines of sizes and costs."""
    found = {key: Growth(title, unit, goal) for key, (title, unit, goal) in LINES.items()}
    for key, subjects in rows.items():
        line, at, size = key.partition("@")
        if not at or line not in found or "runcard" not in subjects:
            continue
        measured = subjects["runcard"]
        if measured.middle is not None:
            found[line].points.append((int(size), measured.middle))
        if measured.note:
            found[line].notes.append((int(size), measured.note))
    for each in found.values():
        each.points.sort()
        each.notes.sort()
    return {key: each for key, each in found.items() if each.points or each.notes}


def grow_steps(subject: Subject, extent: Extent) -> Trial:
    """`log()` at every size of one long run; the end of runs of each size."""
    sizes = extent.sizes((100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000), quick=100_000)
    found: Trial = {}
    for size in sizes[:-1]:
        with _sized(subject, found, f"end@{size}"):
            times = [_time_end(subject, size) for _ in range(5 if size <= 10_000 else 1)]
            found[f"end@{size}"] = Samples(in_milliseconds(times))
    last = f"end@{sizes[-1]}"
    with folder_of_its_own(large=True) as folder:
        with _sized(subject, found, last):
            answer = subject.do("long_run", folder, sizes=sizes, seconds=round(subject.left() / 2))
            found[last] = Samples([answer["end"] * 1e3])
        written = folder / "long_run.json"
        costs = json.loads(written.read_text()) if written.exists() else {}
    for size in sizes:
        cost = costs.get(str(size))
        found[f"log@{size}"] = Samples([cost * 1e6]) if cost else Samples(failures=["not reached in its time"])
    if str(sizes[-1]) not in costs and found[last].values:
        found[last] = Samples(failures=["not reached in its time"])
    return found


def grow_store(subject: Subject, extent: Extent) -> Trial:
    """A store of finished runs, listed, ranked and added to while it grows; the first listing makes the index."""
    found: Trial = {}
    with folder_of_its_own(large=True) as folder:
        before = 0
        for size in extent.sizes((100, 1_000, 10_000, 100_000), quick=10_000):
            with _sized(subject, found, f"list@{size}"):
                make_store(folder, size - before, start=before, until=subject.until)
                before = size
                subject.do("listing", folder, repeats=1)
                again = subject.do("listing", folder, repeats=6)
                found[f"list@{size}"] = Samples(in_milliseconds(again["times"][1:]))
                if f"rank@{size}" in ROWS:
                    ranked = subject.do("ranking", folder, repeats=6)
                    found[f"rank@{size}"] = Samples(in_milliseconds(ranked["times"][1:]))
                if size == 1_000:
                    found["ls"] = time_ls(subject, folder, 3 if extent.quick else 9)
                added = subject.do("wide_runs", folder, keys=10, count=20)
                found[f"added@{size}"] = Samples(in_milliseconds(added["times"]))
                if size == 100_000:
                    make_store(folder, 1_000, start=size, until=subject.until)
                    new = subject.do("listing", folder, repeats=1)
                    found["new@100000"] = Samples(in_milliseconds(new["times"]))
                    found["rss@100000"] = Samples([again["peak"] / 1e6])
    return found


def grow_keys(subject: Subject, extent: Extent) -> Trial:
    """Runs whose config has many keys."""
    from runcard import open_store

    found: Trial = {}
    for size in extent.sizes((1, 10, 100, 1_000, 10_000), quick=1_000):
        with _sized(subject, found, f"keys@{size}"), folder_of_its_own(large=True) as folder:
            times = subject.do("wide_runs", folder, keys=size, count=7)["times"]
            is_cut = "cut" in open_store(folder).runs(limit=1)[0].losses
            note = "of a config that is cut, and marked" if is_cut else ""
            found[f"keys@{size}"] = Samples(in_milliseconds(times), note=note)
    return found


def grow_repository(subject: Subject, extent: Extent) -> Trial:
    """The first run of a process in a repository of many files."""
    found: Trial = {}
    for size in extent.sizes((10, 100, 1_000, 10_000, 100_000), quick=1_000):
        with _sized(subject, found, f"git@{size}"):
            found[f"git@{size}"] = _first(subject, lambda folder, size=size: _repository(subject, folder, size))
    return found


def grow_packages(subject: Subject, extent: Extent) -> Trial:
    """The first run of a process in an environment of many packages."""
    found: Trial = {}
    for size in extent.sizes((10, 100, 1_000, 2_000), quick=1_000):
        with _sized(subject, found, f"packages@{size}"):
            found[f"packages@{size}"] = _first(subject, lambda folder, size=size: _packages(folder, size))
    return found


GROWTHS = (
    Work("steps", grow_steps, (1, 1), budget_s=220, own=True),
    Work("keys", grow_keys, (1, 1), budget_s=8, own=True),
    Work("git", grow_repository, (1, 1), budget_s=70, own=True),
    Work("packages", grow_packages, (1, 1), budget_s=15, own=True),
    Work("store", grow_store, (1, 1), budget_s=160, own=True),  # last: its 100,000 folders take long to remove
)


@contextmanager
def _sized(subject: Subject, found: Trial, key: str) -> Iterator[None]:
    """A size that cannot be measured says why; the others are measured all the same."""
    try:
        yield
    except (WorkFailedError, OSError, subprocess.SubprocessError) as error:
        found[key] = Samples(failures=[subject.reason(error)])


def _time_end(subject: Subject, size: int) -> float:
    with folder_of_its_own(large=True) as folder:
        return subject.do("steps", folder, count=size, metrics=1)["end"]


def _first(subject: Subject, prepare: Callable[[Path], tuple[Path, str | None]]) -> Samples:
    with folder_of_its_own(large=True) as folder:
        where, source = prepare(folder)
        sources = os.pathsep.join(each for each in (source, subject.source) if each)
        inside = where / "worker.py"
        worker = inside if inside.exists() else subject.worker
        taking = replace(subject, source=sources or None, worker=worker)
        found = Samples()
        for number in range(5):
            runs = folder / "runs" / str(number)
            runs.mkdir(parents=True)
            found.values.append(taking.do("empty_runs", runs, cwd=where, count=0)["first"] * 1e3)
        return found


def _repository(subject: Subject, folder: Path, size: int) -> tuple[Path, str | None]:
    return make_repository(folder / "repository", files=size, until=subject.until), None


def _packages(folder: Path, size: int) -> tuple[Path, str | None]:
    """A folder of installed packages, as their metadata lie on the path."""
    site = folder / "site"
    for number in range(size):
        metadata = site / f"package_{number}-1.{number}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package-{number}\nVersion: 1.{number}\n")
        (metadata / "RECORD").write_text("")
    return folder, str(site)
