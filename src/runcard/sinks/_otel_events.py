"""A run's events as metric points and log records: plain data, in the order they came.

As an attribute of a point, a step would make every value a time series of its own, which is what metric stores fare
worst with. So it stands where OpenTelemetry keeps what is known of a measurement but tells no series apart: in the
point's exemplar.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runcard.sinks._otel_messages import Line, Reading
from runcard.sinks._otel_run import nanoseconds, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from runcard.events import Event
    from runcard.record import RunRecord
    from runcard.sinks._otel_run import Pairs

    Series = Callable[[str | None], Pairs]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}")  # what OpenTelemetry takes for an instrument
_STRANGE = re.compile(r"[^A-Za-z0-9_./-]")


def readings(event: Event, series: Series) -> Iterator[Reading]:
    """The metric points of an event.

    Args:
        event: Of any kind.
        series: The attributes of the points of a writer.
    """
    metrics = event.get("metrics")
    if event["kind"] not in ("log", "system", "end") or not isinstance(metrics, dict):
        return
    time_ns = nanoseconds(event.get("t", 0))
    for name, value in metrics.items():
        yield from _reading(name, value, time_ns, event.get("step"), series(event.get("writer")))


def readings_of(record: RunRecord, series: Series) -> Iterator[Reading]:
    """All points of a run that came without its events."""
    for point in record.metric_history:
        yield from _reading(point.name, point.value, nanoseconds(point.time), point.step, series(None))


def with_steps(points: Iterable[Reading]) -> Iterator[Reading]:
    """The points with their step among the attributes that tell series apart."""
    for point in points:
        steps = [pair for pair in point.about if pair[0] == "runcard.step"]
        yield point._replace(attributes=[*point.attributes, *steps]) if steps else point


def lines(event: Event, attributes: Pairs) -> Iterator[Line]:
    """The notes and judgements of an event."""
    said = _SAID.get(event["kind"])
    body = said(event) if said is not None else None
    if body:
        kind = "note" if event["kind"] == "start" else event["kind"]
        own: Pairs = [("runcard.kind", kind)]
        if event.get("writer") is not None:  # what tells a log record from every other that comes twice
            own += [("runcard.writer", event["writer"]), ("runcard.event", event["n"])]
        if event.get("by"):
            own.append(("runcard.by", plain(event["by"])))
        time_ns = nanoseconds(event.get("t", 0))
        yield Line(kind, body, time_ns, time_ns, [*attributes, *own])


def remarks_of(record: RunRecord, time_ns: int, attributes: Pairs) -> Iterator[Line]:
    """The notes of a run that came without its events."""
    if record.notes:
        yield Line("note", record.notes, time_ns, time_ns, [*attributes, ("runcard.kind", "note")])


def printed(path: Path, end_ns: int, attributes: Pairs, skip: int) -> Iterator[Line]:
    """What a run printed, line by line.

    When a line was printed is not recorded: they are seen at the run's end, a nanosecond apart, so that whoever sorts
    by time leaves them in their order, and a second delivery is the same.

    Args:
        path: The log; none when the run captured no output.
        end_ns: The run's end.
        attributes: Of every line.
        skip: How many lines were sent before.
    """
    try:
        found = path.read_text("utf-8", "backslashreplace").removesuffix("\n")
    except OSError:
        return
    texts = found.split("\n") if found else []
    begin = max(0, end_ns - len(texts))
    for number, text in enumerate(texts[skip:], skip):
        own: Pairs = [("runcard.kind", "console"), ("log.file.name", path.name), ("runcard.line", number + 1)]
        yield Line("console", text, 0, begin + number, [*attributes, *own])


def changes(path: Path, time_ns: int, attributes: Pairs, limit: int) -> Iterator[Line]:
    """The uncommitted changes of a run as one log record."""
    try:
        with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
            text, more = file.read(limit), bool(file.read(1))
    except OSError:
        return
    own: Pairs = [("runcard.kind", "diff"), ("log.file.name", path.name), ("runcard.cut", more)]
    if text:
        yield Line("diff", text, time_ns, time_ns, [*attributes, *own])


def _reading(name: str, value: Any, time_ns: int, step: Any, series: Pairs) -> Iterator[Reading]:
    if not isinstance(value, (int, float)):
        return
    about: Pairs = [] if step is None else [("runcard.step", plain(step))]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        about.append(("runcard.exact", plain(value)))
    if not _NAME.fullmatch(name):
        series = [*series, ("runcard.metric", name)]
        name = _STRANGE.sub("_", name)[:240]
        name = name if name[:1].isalpha() else f"metric_{name}"
    yield Reading(name, value, time_ns, series, about)


def _tagged(event: Event) -> str:
    told = [f"{word} {', '.join(str(tag) for tag in event.get(key) or ())}" for word, key in _TAGGED if event.get(key)]
    return "; ".join(told)


_TAGGED = (("tagged", "add"), ("untagged", "remove"))


def _amended(event: Event) -> str:
    metrics = event.get("metrics")
    told = ", ".join(f"{name}={value}" for name, value in metrics.items()) if isinstance(metrics, dict) else ""
    return f"amended {told}{_because(event)}"


def _because(event: Event) -> str:
    return f": {event['reason']}" if event.get("reason") else ""


_SAID: dict[str, Callable[[Event], str]] = {
    "start": lambda event: str(event.get("notes") or ""),
    "note": lambda event: str(event.get("text") or ""),
    "decision": lambda event: f"{event.get('decision')}{_because(event)}",
    "tag": _tagged,
    "name": lambda event: f"renamed to {event.get('name')}",
    "amend": _amended,
}
