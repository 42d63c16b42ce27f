"""How costs grow with what there is: each a list of sizes and costs, and the slope between them on two log scales."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.harness import Subject, WorkFailedError, folder_of_its_own
from benchmarks.stores import make_repository, make_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


@dataclass
class Growth:
    """One cost over one size."""

    title: str
    unit: str
    points: list[tuple[int, float]] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """Of log cost over log size, from the first to the last size."""
        (first, low), (last, high) = self.points[0], self.points[-1]
        return math.log(max(high, 1e-9) / max(low, 1e-9)) / math.log(last / first) if last > first else 0.0


def measure_growth(subject: Subject, *, quick: bool = False, limit: int | None = None) -> dict[str, Growth]:
    """All of them; ``limit`` bounds every size, for a test of the harness."""
    found = {
        "log": Growth("`log()`, by steps of the run", "µs"),
        "end": Growth("the end of a run, by its steps", "ms"),
        "runs": Growth("one more run, by runs in the store", "ms"),
        "list": Growth("listing, warm, by runs in the store", "ms"),
        "keys": Growth("one run, by config keys", "ms"),
        "git": Growth("first run, by files in the repository", "ms"),
        "packages": Growth("first run, by packages installed", "ms"),
    }
    for size in _sizes([100, 1_000, 10_000, 100_000], [1_000_000, 10_000_000], quick, limit):
        answer = _try(subject, "steps", count=size, metrics=1)
        if answer:
            found["log"].points.append((size, answer["log"] / size * 1e6))
            found["end"].points.append((size, answer["end"] * 1e3))
    for size in _sizes([100, 1_000], [10_000, 100_000], quick, limit):
        added, listed = _in_store(subject, size)
        found["runs"].points.append((size, added))
        found["list"].points.append((size, listed))
    for size in _sizes([1, 10, 100, 1_000], [10_000], quick, limit):
        answer = _try(subject, "wide_runs", keys=size, count=7)
        if answer:
            found["keys"].points.append((size, median(answer["times"]) * 1e3))
    for size in _sizes([10, 100, 1_000], [10_000, 100_000], quick, limit):
        found["git"].points.append((size, _first(subject, lambda folder, size=size: _repository(folder, size))))
    for size in _sizes([10, 100], [1_000, 2_000], quick, limit):
        found["packages"].points.append((size, _first(subject, lambda folder, size=size: _packages(folder, size))))
    return {key: each for key, each in found.items() if each.points}


def _sizes(small: list[int], large: list[int], quick: bool, limit: int | None) -> Iterable[int]:
    chosen = small if quick else small + large
    return [size for size in chosen if limit is None or size <= limit]


def _try(subject: Subject, work: str, **arguments: int) -> dict[str, float] | None:
    with folder_of_its_own() as folder:
        try:
            return subject.do(work, folder, **arguments)
        except WorkFailedError as error:
            print(f"growth: {error}", file=sys.stderr)
            return None


def _in_store(subject: Subject, size: int) -> tuple[float, float]:
    with folder_of_its_own() as folder:
        make_store(folder, size)
        subject.do("listing", folder, repeats=1)
        added = median(subject.do("wide_runs", folder, keys=10, count=9)["times"])
        return added * 1e3, median(subject.do("listing", folder, repeats=4)["times"][1:]) * 1e3


def _first(subject: Subject, prepare: Callable[[Path], tuple[Path, str | None]]) -> float:
    with folder_of_its_own() as folder:
        where, source = prepare(folder)
        runs = folder / "runs"
        runs.mkdir()
        sources = os.pathsep.join(each for each in (source, subject.source) if each)
        inside = where / "worker.py"
        worker = inside if inside.exists() else subject.worker
        taking = replace(subject, source=sources or None, worker=worker)
        times = [taking.do("empty_runs", runs / _made(runs, n), cwd=where, count=0)["first"] for n in range(3)]
        return median(times) * 1e3


def _made(runs: Path, number: int) -> str:
    (runs / str(number)).mkdir()
    return str(number)


def _repository(folder: Path, size: int) -> tuple[Path, str | None]:
    return make_repository(folder / "repository", files=size), None


def _packages(folder: Path, size: int) -> tuple[Path, str | None]:
    """A folder of installed packages, as their metadata lie on the path."""
    site = folder / "site"
    for number in range(size):
        metadata = site / f"package_{number}-1.{number}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package-{number}\nVersion: 1.{number}\n")
        (metadata / "RECORD").write_text("")
    return folder, str(site)
