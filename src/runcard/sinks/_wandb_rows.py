"""A run's log events as rows of W&B's history.

W&B keeps one row a step, takes no step twice and none that goes back. So each row has a number of its own that only
rises, which is the user's step wherever it can be, and beside it the step as it was logged. The numbers follow from
the order of the journals alone: whoever delivers the run, and however often, finds the same ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runcard._folding import rank_of
from runcard.journal import Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runcard.events import Event
    from runcard.record import Point

    Row = tuple[int, dict[str, Any]]

STEP = "step"
"""The column of the step as it was logged, which W&B's charts go by."""

_TIME = "_timestamp"
_LONGEST = 2**53  # a larger step would leave no room for the rows after it


class Rows:
    """Gathers events into rows; an event that came before changes nothing."""

    def __init__(self) -> None:
        self._last = -1
        self._seen: dict[str, Numbers] = {}  # by writer; threads write some numbers out of order
        self._open: tuple[Any, dict[str, Any]] | None = None  # a step that may get more metrics
        self._later: list[Event] = []  # forked children's: their place among the others hangs on when they are read
        self.empty = True

    def take(self, events: Iterable[Event]) -> list[Row]:
        """The rows that are complete with these events."""
        rows: list[Row] = []
        for event in events:
            writer, number = str(event.get("writer")), int(event["n"])
            if not self._seen.setdefault(writer, Numbers()).add(number):
                continue
            if event.get("kind") != "log" or rank_of(writer) != 0:
                continue
            self.empty = False
            if "-fork" in writer:
                self._later.append(event)
            else:
                rows += self._add(event.get("step"), event.get("t"), event.get("metrics"))
        return rows

    def take_points(self, points: Iterable[Point]) -> list[Row]:
        """The rows of a run of which there is no journal."""
        rows: list[Row] = []
        for point in points:
            self.empty = False
            rows += self._add(point.step, point.time, {point.name: point.value})
        return rows

    def rest(self) -> list[Row]:
        """What is left when the run has ended."""
        rows: list[Row] = []
        for event in sorted(self._later, key=lambda event: float(event.get("t", 0.0))):
            rows += self._add(event.get("step"), event.get("t"), event.get("metrics"))
        self._later = []
        return rows + self._close()

    def _add(self, step: Any, time: Any, metrics: Any) -> list[Row]:
        """Add to the open row what is logged at its step, as W&B does; else close it and open the next."""
        if not isinstance(metrics, dict):
            return []
        values = columns(metrics)
        closed: list[Row] = []
        if self._open is not None:
            at, row = self._open
            if step is None or at != step or not values.keys().isdisjoint(row):
                closed = self._close()
        if self._open is None:
            self._open = (step, {STEP: step} if step is not None and STEP not in values else {})
        self._open[1].update(values)
        if isinstance(time, (int, float)):
            self._open[1][_TIME] = time
        return closed

    def _close(self) -> list[Row]:
        if self._open is None:
            return []
        step, row = self._open
        self._open = None
        whole = isinstance(step, int) or (isinstance(step, float) and step.is_integer())
        self._last = int(step) if whole and self._last < step <= _LONGEST else self._last + 1
        return [(self._last, row)]


def columns(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics as W&B can hold them: a name that it keeps for itself, and an integer beyond 64 bits, are told apart."""
    values: dict[str, Any] = {}
    for given, value in metrics.items():
        if not isinstance(value, (int, float)):
            continue
        name = column(str(given))
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            values[f"{name}.exact"] = hex(value)
            try:
                value = float(value)  # noqa: PLW2901 - what a chart can show of it
            except OverflowError:
                value = math.inf if value > 0 else -math.inf  # noqa: PLW2901 - likewise
        values[name] = value
    return values


def column(name: str) -> str:
    """The name of a metric's column."""
    return f"metric/{name}" if name.startswith("_") or not name else name
