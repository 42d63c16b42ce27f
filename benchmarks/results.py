"""What one session found: samples while it goes on, then plain numbers that can be kept as JSON and told again."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from statistics import linear_regression, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

LINEAR, FLAT = 1.0, 0.0
_ALLOWED = {LINEAR: 1.1, FLAT: 0.03}  # for noise: a tenth; and 1.4 times over five powers of ten


@dataclass
class Samples:
    """What was measured for one row and one subject.

    Attributes:
        values: In the row's unit.
        raw: The building block beside which each was measured, in the same unit; empty when there is none.
        note: What a number alone does not say.
        failures: Why trials gave nothing, in the trackers' own last words.
    """

    values: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    note: str = ""
    failures: list[str] = field(default_factory=list)

    def add(self, other: Samples) -> None:
        """Take another trial's."""
        self.values += other.values
        self.raw += other.raw
        self.note = other.note or self.note
        self.failures += other.failures

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def ratio(self) -> float | None:
        """How often the building block fits into it: the median of the pairs, which were measured in turn."""
        if not self.raw:
            return None
        if len(self.raw) == len(self.values):
            return median(value / raw for value, raw in zip(self.values, self.raw, strict=True))
        return median(self.values) / median(self.raw)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and last tenth."""
        ordered = sorted(self.values)
        last = len(ordered) - 1
        return ordered[round(last * 0.1)], ordered[round(last * 0.9)]

    def told(self) -> Measured:
        """The numbers that tables show."""
        if not self.values:
            return Measured(note=self.failures[-1] if self.failures else self.note)
        failed = f"{len(self.failures)} more failed: {self.failures[-1]}" if self.failures else ""
        note = "; ".join(part for part in (self.note, failed) if part)
        low, high = self.spread
        return Measured(_short(self.middle), _short(low), _short(high), _short(self.ratio), len(self.values), note)


@dataclass(frozen=True)
class Measured:
    """One number of the table.

    Attributes:
        middle: The median of the samples, in the row's unit; None when nothing was measured, and ``note`` says why.
        low: The first tenth of the samples.
        high: The last tenth.
        ratio: To the building block; None where there is none.
        count: How many samples.
        note: What a number alone does not say.
    """

    middle: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    count: int = 0
    note: str = ""


@dataclass
class Growth:
    """One cost over one size.

    Attributes:
        title: Of what, by what.
        unit: Of the costs.
        goal: The slope it may have: `LINEAR`, or `FLAT`.
        points: Sizes and costs.
        notes: By size, why it is missing, or what its cost alone does not say.
    """

    title: str
    unit: str
    goal: float = LINEAR
    points: list[tuple[int, float]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """Of the line fitted through the points, on two log scales: 1 is linear, 0 is flat."""
        if len(self.points) < 2:
            return math.nan
        return linear_regression(*zip(*self._logarithms(), strict=True)).slope

    @property
    def last(self) -> float:
        """The slope between the two greatest sizes, which a fixed cost hides least."""
        if len(self.points) < 2:
            return math.nan
        (size, cost), (greater, more) = self._logarithms()[-2:]
        return (more - cost) / (greater - size)

    @property
    def met(self) -> bool | None:
        """Whether it grows no faster than it may; None when there are not two sizes to tell by."""
        if len(self.points) < 2:
            return None
        steepest = self.slope if self.goal == FLAT else max(self.slope, self.last)
        return steepest <= _ALLOWED[self.goal]

    def _logarithms(self) -> list[tuple[float, float]]:
        return [(math.log10(size), math.log10(max(cost, 1e-9))) for size, cost in self.points]


@dataclass
class Session:
    """All that the table, the plot and the next reader need.

    Attributes:
        command: What was typed.
        machine: When and on what, in one line.
        took_s: Wall-clock seconds, without installing the peers.
        subjects: Key and title with version of each tracker, runcard first.
        rows: What was measured, by row and by subject; how costs grow is among them, as ``LINE@SIZE`` for runcard.
        cuts: What was left out for want of time, or failed, in sentences.
    """

    command: str
    machine: str
    subjects: dict[str, str]
    took_s: float = 0.0
    rows: dict[str, dict[str, Measured]] = field(default_factory=dict)
    cuts: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Keep it as JSON: a line a row, so that two sessions can be compared by eye."""
        whole: dict[str, Any] = asdict(self)
        parts = []
        for name, value in whole.items():
            if isinstance(value, dict):
                lines = (f"  {json.dumps(key)}: {json.dumps(each, ensure_ascii=False)}" for key, each in value.items())
                text = "{\n" + ",\n".join(lines) + "\n }" if value else "{}"
            else:
                text = json.dumps(value, ensure_ascii=False)
            parts.append(f" {json.dumps(name)}: {text}")
        path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Session:
        """Take back what `write` kept."""
        whole = json.loads(path.read_text("utf-8"))
        rows = {
            key: {subject: Measured(**each) for subject, each in found.items()} for key, found in whole["rows"].items()
        }
        return cls(**(whole | {"rows": rows}))


def _short(value: float | None) -> float | None:
    """Four digits that count: what a table shows can be made from it again, and the file stays small."""
    return None if value is None else float(f"{value:.4g}")
