"""A run as one span: its attributes, its events and its end, within OpenTelemetry's limits."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard._paths import leaves
from runcard.record import Status
from runcard.sinks._otel_run import identity, mapping, nanoseconds, parent_on_disk, plain, span_id, trace_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runcard.record import RunRecord
    from runcard.sinks._otel_run import Ancestry, Pairs

_STACK_LIMIT = 16_384  # characters of a stack trace, its end
_NAME_LIMIT = 256  # characters of an attribute's name
_MOST_NAMES = 100  # names in a list of what was left out


class Limits(NamedTuple):
    """How much a span may hold, OpenTelemetry's own defaults; but it knows none for the length of a text."""

    attributes: int = 128
    length: int = 4_096
    events: int = 128

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Limits:
        """As ``OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`` and its kin say."""
        return cls(
            _limit(environ, ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"), 128),
            _limit(environ, ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"), 4_096),
            _limit(environ, ("OTEL_SPAN_EVENT_COUNT_LIMIT",), 128),
        )


class Happening(NamedTuple):
    """An event of a span."""

    name: str
    time_ns: int
    attributes: Pairs


class Span(NamedTuple):
    """A run as a span. `parent_id` and `error` are None where there is none; links are (trace id, span id, why)."""

    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    start_ns: int
    end_ns: int
    attributes: Pairs
    dropped: int
    events: list[Happening]
    dropped_events: int
    links: list[tuple[bytes, bytes, str]]
    error: str | None


def span(record: RunRecord, ancestry: Ancestry, limits: Limits) -> Span:
    """The whole run."""
    trace = trace_id(ancestry.top(record.run_id, record.parent_id, record.folder))
    start_ns, end_ns = when(record)
    attributes, dropped = _within(_attributes(record), limits)
    events = list(_happenings(record, start_ns, end_ns, limits))
    ids = (("launched_by", record.launched_by), ("rerun_of", record.rerun_of))
    links = [
        (trace_id(ancestry.top(other, parent_on_disk(other, record.folder), record.folder)), span_id(other), why)
        for why, other in ids
        if other
    ]
    return Span(
        name=record.name or record.experiment or "run",
        trace_id=trace,
        span_id=span_id(record.run_id),
        parent_id=span_id(record.parent_id) if record.parent_id else None,
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=attributes,
        dropped=dropped,
        events=sorted(events[: limits.events], key=lambda event: event.time_ns),
        dropped_events=max(0, len(events) - limits.events),
        links=links,
        error=_trouble(record),
    )


def when(record: RunRecord) -> tuple[int, int]:
    """Start and end in nanoseconds; a crashed run ended with its last event, and none ends before it began."""
    if record.started_at is None:
        return 0, 0
    start = nanoseconds(record.started_at)
    end = nanoseconds(record.ended_at) if record.ended_at is not None else 0
    return start, end if end >= start else start + round((record.duration_s or 0.0) * 1e9)


def _attributes(record: RunRecord) -> Iterator[tuple[str, Any]]:
    """All there is to say, the most important first: what comes after the limit is dropped."""
    function, error = mapping(record.function), mapping(record.error)
    module, qualname = function.get("module"), function.get("qualname")
    git = mapping(record.environment.get("git"))
    frame = mapping(error.get("frame"))
    yield from identity(record)
    told = {
        "runcard.status": record.status.value,
        "error.type": error.get("type"),
        "code.function.name": ".".join(str(part) for part in (module, qualname) if part) if qualname else None,
        "code.file.path": function.get("file"),
        "code.line.number": function.get("line"),
        "runcard.parent_id": record.parent_id,
        "runcard.launched_by": record.launched_by,
        "runcard.rerun_of": record.rerun_of,
        "runcard.rank": record.process_rank,
        "runcard.attempts": len(record.attempts) if len(record.attempts) > 1 else None,
        "runcard.exit_code": record.exit_code,
        "runcard.error.frame": f"{frame.get('file')}:{frame.get('line')}" if frame else None,
        "runcard.decision": record.decision,
        "runcard.decision_reason": record.decision_reason,
        "runcard.is_best": record.is_best,
        "runcard.objective": record.objective,
        "runcard.direction": record.direction,
        "runcard.tags": record.tags or None,
        "runcard.notes": record.notes or None,
        "runcard.config_hash": record.config_hash,
        "runcard.git.state": git.get("state"),
        "runcard.git.incomplete": git.get("incomplete"),
        "runcard.result": record.result,
    }
    yield from ((name, value) for name, value in told.items() if value is not None)
    if record.config:
        yield from ((f"runcard.config.{path}", value) for path, value in leaves(record.config))
    for kind, values in (("metrics", record.metrics), ("losses", record.losses), ("resources", record.resources)):
        yield from ((f"runcard.{kind}.{name}", value) for name, value in values.items() if value is not None)


def _within(pairs: Iterable[tuple[str, Any]], limits: Limits) -> tuple[Pairs, int]:
    """What fits, and, in two more attributes of it, the names of what was dropped and of what was cut."""
    kept: Pairs = []
    cut, dropped = [], []
    for name, value in pairs:
        short, form = name[:_NAME_LIMIT], plain(value)
        if len(kept) >= max(0, limits.attributes - 2):
            dropped.append(short)
            continue
        shorter = _shortened(form, limits.length)
        if shorter != form or short != name:
            cut.append(short)
        kept.append((short, shorter))
    for name, names in (("runcard.dropped_attributes", dropped), ("runcard.cut_attributes", cut)):
        if names:
            kept.append((name, _listed(names)))
    return kept[: limits.attributes], len(dropped)


def _listed(names: list[str]) -> list[str]:
    more = len(names) - _MOST_NAMES
    return [*names[:_MOST_NAMES], f"and {more} more"] if more > 0 else names


def _shortened(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [item[:length] for item in value]
    return value


def _happenings(record: RunRecord, start_ns: int, end_ns: int, limits: Limits) -> Iterator[Happening]:
    """Exceptions first, then judgements, artifacts and inputs: the last ones are dropped where there are too many."""
    for how, error in _errors(record.error):
        told = {
            "exception.type": error.get("type"),
            "exception.message": _shortened(error.get("message"), limits.length),
            "exception.stacktrace": _stack(error),
            "runcard.exception.how": how,
            "runcard.exception.notes": error.get("notes") or None,
        }
        yield Happening("exception", end_ns, _there(told))
    for judged in record.decisions:
        told = {"runcard.decision": judged.get("decision"), "runcard.decision_reason": judged.get("reason")}
        yield Happening("runcard.decision", _between(judged.get("at"), start_ns, None) or end_ns, _there(told))
    for name, files, other in (("artifact", record.artifacts, end_ns), ("input", record.inputs, start_ns)):
        for file in files:
            told = {f"runcard.{name}.{key}": file.get(key) for key in ("name", "path", "uri", "bytes", "sha256")}
            moment = _between(file.get("mtime"), start_ns, end_ns) if name == "artifact" else None
            yield Happening(f"runcard.{name}", moment or other, _there(told))


def _errors(error: Any, how: str | None = None) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    told = mapping(error)
    if told:
        yield how, told
        for cause in told.get("causes") or ():
            yield from _errors(cause, str(mapping(cause).get("how")))


def _stack(error: Mapping[str, Any]) -> str | None:
    """The stack as Python prints it; of a long one the end, where it happened."""
    stack = str(error.get("traceback") or "")
    if not stack:
        return None
    cut = f"… {len(stack) - _STACK_LIMIT} characters\n" if len(stack) > _STACK_LIMIT else ""
    last = f"{error.get('type')}: {error.get('message')}"
    return f"Traceback (most recent call last):\n{cut}{stack[-_STACK_LIMIT:].rstrip()}\n{last[:_STACK_LIMIT]}"


def _between(moment: Any, start_ns: int, end_ns: int | None) -> int | None:
    """A recorded time, when it lies within the run."""
    try:
        found = nanoseconds(datetime.fromisoformat(moment))
    except (TypeError, ValueError):
        return None
    return found if found >= start_ns and (end_ns is None or found <= end_ns) else None


def _trouble(record: RunRecord) -> str | None:
    """What a span's status says of a run that did not end well."""
    if record.status in (Status.FINISHED, Status.RUNNING):
        return None
    error = mapping(record.error)
    if error:
        return f"{error.get('type')}: {error.get('message')}"[:1_000]
    return "crashed: the run ended with no last word" if record.status is Status.CRASHED else record.status.value


def _limit(environ: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        text = environ.get(name, "").strip()
        if text.isdecimal():
            return int(text)
    return default


def _there(told: Mapping[str, Any]) -> Pairs:
    return [(name, plain(value)) for name, value in told.items() if value is not None]
