"""The rows of the table and the lines of the growth, with their goals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.results import FLAT, LINEAR

if TYPE_CHECKING:
    from benchmarks.results import Measured


@dataclass(frozen=True)
class Row:
    """One number to know.

    Attributes:
        key: Its name on the command line and in the results.
        title: What it is, in the table.
        unit: Of its values.
        raw: The building block that it stands beside, in words.
        goal: The most it may be for runcard; None where there is no goal.
        by: Whether the goal is for the value or for the ratio to the building block.
        first: Whether no peer may be below.
    """

    key: str
    title: str
    unit: str
    raw: str = ""
    goal: float | None = None
    by: Literal["value", "ratio"] = "value"
    first: bool = False

    def meets(self, found: Measured) -> bool | None:
        """Whether the goal is met; None where there is none, or nothing was measured."""
        measured = found.middle if self.by == "value" else found.ratio
        return None if self.goal is None or measured is None else measured <= self.goal

    def goal_text(self) -> str:
        """The goal in a cell."""
        if self.goal is None:
            return ""
        return f"≤ {self.goal:g} ×" if self.by == "ratio" else f"≤ {self.goal:g} {self.unit}"


ROWS = {
    row.key: row
    for row in (
        Row("import", "import, over `python -c pass`", "ms", "`python -c pass`", 40, first=True),
        Row("empty", "one empty run: 10 config values, 3 final metrics", "ms", "a folder and a file", 1, first=True),
        Row("first", "the first run of a process, in a repository of 500 files", "ms", "`git status`", 200),
        Row("log1", "`log()` of one scalar", "µs", "`os.write` of 71 bytes", 3.5, "ratio", first=True),
        Row("log10", "`log()` of ten scalars", "µs", "`log()` of one", 2, "ratio"),
        Row("lost", "steps lost to `kill -9` after 1 s flat out", "steps", goal=0),
        Row("lost100", "steps lost to `kill -9` at 100 a second", "steps", goal=0),
        Row("journal", "journal, 3 metrics × 10,000 steps, bytes a step", "B", goal=200),
        Row("disk", "all files of the same, bytes a step", "B"),
        Row("parallel", "8 processes × 25 runs in one store", "s", "the processes alone", first=True),
        Row("missing", "runs missing or failed of these 200", "runs", goal=0),
        Row("memory", "memory of 10,000 steps × 10 metrics, beyond the imports", "MB", goal=10),
        Row("list@1000", "list 1,000 runs by a metric, warm", "ms", goal=10),
        Row("rank@1000", "rank 1,000 runs, warm", "ms", goal=10),
        Row("list@10000", "list 10,000 runs by a metric, warm", "ms", goal=50),
        Row("rank@10000", "rank 10,000 runs, warm", "ms", goal=50),
        Row("list@100000", "list 100,000 runs by a metric, warm", "ms", goal=300),
        Row("rank@100000", "rank 100,000 runs, warm", "ms", goal=300),
        Row("new@100000", "the first listing of 100,000 runs after 1,000 new ones", "ms", goal=1000),
        Row("rss@100000", "memory of a process that lists 100,000 runs", "MB", goal=300),
        Row("ls", "`runcard ls`, 1,000 runs, whole process", "ms", "`python -c pass`", 150),
        Row("query1000", "the tracker's own listing of 1,000 runs by a metric, first time", "ms"),
        Row("again1000", "the same, again", "ms"),
        Row("query10000", "the tracker's own listing of 10,000 runs by a metric, first time", "ms"),
        Row("packages", "packages that an installation brings", "", goal=12),
        Row("megabytes", "megabytes that an installation brings", "MB", goal=25),
    )
}

LINES = {
    "log": ("`log()`, by steps of the run", "µs", FLAT),
    "end": ("the end of a run, by its steps", "ms", LINEAR),
    "added": ("one more run, by runs in the store", "ms", LINEAR),
    "list": ("listing, warm, by runs in the store", "ms", LINEAR),
    "keys": ("one run, by config keys", "ms", LINEAR),
    "git": ("first run, by files in the repository", "ms", LINEAR),
    "packages": ("first run, by packages installed", "ms", LINEAR),
}


def title(key: str) -> str:
    """What a row is, or a size of a growth."""
    if key in ROWS:
        return ROWS[key].title
    line, _, size = key.partition("@")
    return f"{LINES[line][0]}: {int(size):,}" if line in LINES else key
