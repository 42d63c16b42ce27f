"""The points of a run in the order logged, and the summary of a metric's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runcard._shapes import NUMBER, is_plain
from runcard.record import Fields, Journals, Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runcard.events import Event


def points(journals: Journals, *, name: str | None = None, rank: int | None = None) -> Iterator[Point]:
    """The points of a run in the order logged: rank 0's with its forked children, or another rank's.

    Points of the machine's samples (``system/…``) are given when asked for by name.
    """
    writers = [w for w in ordered_writers(journals) if rank_of(w) == (rank or 0)]
    streams = [_points_of(journals[writer], name) for writer in writers]
    if not any("-fork" in writer for writer in writers):
        for stream in streams:
            yield from stream
        return
    yield from sorted((point for stream in streams for point in stream), key=lambda point: point.time)


def ordered_writers(writers: Iterable[str]) -> list[str]:
    """The owner first, then later attempts in turn, then forked children and ranks by name."""
    return sorted(writers, key=lambda writer: (attempt_of(writer), "-fork" in writer, rank_of(writer), writer))


def attempt_of(writer: str) -> int:
    return _number_after(writer, "attempt") or 1


def rank_of(writer: str) -> int:
    return _number_after(writer, "rank") or 0


class Summary:
    """The running summary of one metric; NaN counts, but is never least or most."""

    __slots__ = ("count", "last", "last_step", "max", "max_step", "min", "min_step")

    def __init__(self) -> None:
        self.count = 0
        self.last: int | float | None = None
        self.min: int | float | None = None
        self.max: int | float | None = None
        self.last_step = self.min_step = self.max_step = None

    def add(self, value: int | float, step: Any) -> None:
        self.count += 1
        self.last, self.last_step = value, step
        if isinstance(value, float) and not math.isfinite(value):
            return
        if self.min is None or value < self.min:
            self.min, self.min_step = value, step
        if self.max is None or value > self.max:
            self.max, self.max_step = value, step

    def fields(self) -> Fields:
        return Fields(
            last=self.last,
            last_step=self.last_step,
            min=self.min,
            min_step=self.min_step,
            max=self.max,
            max_step=self.max_step,
            count=self.count,
        )


def _points_of(events: Iterable[Event], name: str | None) -> Iterator[Point]:
    attempt = 1
    system = name is not None and name.startswith("system/")
    for event in events:
        kind = event.get("kind")
        if kind == "start":
            attempt = event.get("attempt") or 1
        if kind != ("system" if system else "log"):
            continue
        time, step, metrics = event.get("t", 0.0), event.get("step"), event.get("metrics")
        if not isinstance(metrics, dict) or not is_plain(time) or not (step is None or is_plain(step)):
            continue
        for metric, value in metrics.items():
            if (name is None or metric == name) and isinstance(value, NUMBER):
                point = Point(metric, step, value, time)
                if attempt != 1:
                    point.attempt = attempt
                yield point


def _number_after(writer: str, word: str) -> int | None:
    for part in writer.split("-")[1:]:
        if part.startswith(word) and part[len(word) :].isdecimal():
            return int(part[len(word) :][:9])
    return None
