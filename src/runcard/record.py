"""The record of a run, and how it follows from the run's events.

`RunRecord` is what every reader, sink and command sees: frozen, plain data. `fold` makes one from the events of
a run's journals and nothing else; it does no I/O and never raises on damaged or hostile events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, overload

from runcard.events import SCHEMA_VERSION, UNMARKED, Event, mark, restore

Journals = Mapping[str, Iterable[Event]]
"""The events of one run by writer, each in the order of its file."""


class Status(StrEnum):
    """How a run stands. `CRASHED` is derived by readers: the run itself never gets to write it."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    CRASHED = "crashed"


class _Point(NamedTuple):
    name: str
    step: int | float | None
    value: int | float
    time: float


class Point(_Point):
    """One logged value: `name`, `step`, `value`, `time` (seconds since the epoch, UTC), and the `attempt` it is of."""

    attempt: int = 1


class Fields(dict[str, Any]):
    """A mapping of the record whose entries are attributes too: ``record.error.type``, ``record.error["type"]``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return as_fields(self[name])
        except KeyError:
            message = f"no field {name!r}; there are: {', '.join(self) or 'none'}"
            raise AttributeError(message) from None


class History(Sequence[Point]):
    """The points of a run in the order logged, read when first looked at."""

    def __init__(self, load: Callable[[], Iterable[Point]] | Iterable[Point] = ()) -> None:
        self._load = load
        self._points: list[Point] | None = None if callable(load) else list(load)

    def _read(self) -> list[Point]:
        if self._points is None:
            self._points = list(self._load()) if callable(self._load) else []
        return self._points

    def __iter__(self) -> Iterator[Point]:
        """Iterate without keeping the points, when they were not read before: a long run stays on disk."""
        if self._points is None and callable(self._load):
            return iter(self._load())
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | Sequence[Point]:
        return self._read()[index]

    def __eq__(self, other: object) -> bool:
        return self._read() == list(other) if isinstance(other, (History, list, tuple)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a sequence that compares by its items has no hash

    def __reduce__(self) -> tuple[type[History], tuple[list[Point]]]:
        return History, (self._read(),)

    def __repr__(self) -> str:
        return f"<History of {len(self)} points>"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Everything known of one run.

    Attributes:
        schema_version: The version of the format this record was read from.
        run_id: ``YYYYMMDDTHHMMSS-xxxxxxxx``, in UTC.
        name: What the run is called; may be changed later.
        experiment: What it is compared with.
        status: See `Status`.
        started_at, ended_at: Aware, UTC; `ended_at` is None while the run goes on, and when it crashed.
        duration_s: Seconds by a clock that does not jump; of a crashed run, up to its last event.
        parent_id: The run that was open when this one began.
        launched_by: The run whose token started this one after it had ended.
        rerun_of: The run that this one repeats.
        config, config_hash, config_types: The arguments before the call, their hash, and the types JSON cannot tell.
        metrics: Name → last value. `metric_summary` adds min, max, their steps and the count.
        metric_history: All points of the run's owner, read lazily.
        result: What the function returned, apart from its numbers.
        artifacts, inputs: Files written and read, each a mapping with `path`, `bytes`, `sha256`.
        tags, notes: As given and added later.
        decision, decision_reason, is_best: The judgement that stands; `decisions` has all of them, oldest first.
        objective, direction: The metric by which `is_best` was found, and whether less or more is better.
        function: module, qualname, file, line and source hash of the tracked function.
        environment: git, packages, python, platform, hardware, command, process, variables.
        error: What left the run: type, message, traceback, notes, causes.
        resources: Wall and processor seconds, peak memory.
        exit_code: Of `SystemExit`, or 1 for a failure.
        process_rank: The rank of the process that owns the record, in a launch of many.
        attempts: One mapping an attempt: when, where, how it ended.
        user, host: Who ran it, where.
        durability: `process` or `disk`: what the run's end survives.
        seed: What was seeded, and the state of the generators.
        verdicts: What reruns of this run found, oldest first.
        amendments: Metrics corrected later, oldest first; the old values stay here.
        losses: What was dropped, cut, redacted or damaged, counted by kind; empty when nothing was.
        folder: Where the run's files lie, when they do; not part of `to_dict`, so that a store can be moved.
    """

    run_id: str
    name: str = ""
    experiment: str = ""
    status: Status = Status.RUNNING
    schema_version: int = SCHEMA_VERSION
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    parent_id: str | None = None
    launched_by: str | None = None
    rerun_of: str | None = None
    config: Fields = field(default_factory=Fields)
    config_hash: str | None = None
    config_types: dict[str, str] = field(default_factory=dict)
    metrics: Fields = field(default_factory=Fields)
    metric_summary: Fields = field(default_factory=Fields)
    metric_history: Sequence[Point] = field(default_factory=History)
    result: Any = None
    artifacts: list[Fields] = field(default_factory=list)
    inputs: list[Fields] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    decision: str | None = None
    decision_reason: str | None = None
    is_best: bool | None = None
    decisions: list[Fields] = field(default_factory=list)
    objective: str | None = None
    direction: str | None = None
    function: Fields | None = None
    environment: Fields = field(default_factory=Fields)
    error: Fields | None = None
    resources: Fields = field(default_factory=Fields)
    exit_code: int | None = None
    process_rank: int | None = None
    attempts: list[Fields] = field(default_factory=list)
    user: str | None = None
    host: str | None = None
    durability: str = "process"
    seed: Fields | None = None
    verdicts: list[Fields] = field(default_factory=list)
    amendments: list[Fields] = field(default_factory=list)
    losses: dict[str, int] = field(default_factory=dict)
    folder: str | None = field(default=None, compare=False)

    @property
    def short_id(self) -> str:
        """The last eight characters of the run's id: enough to address it."""
        return self.run_id[-8:]

    def to_dict(self, *, history: bool = True) -> dict[str, Any]:
        """The record as strict JSON data, which is what ``--json`` prints.

        Args:
            history: Whether `metric_history` is in it, as a list of ``{"name", "step", "value", "time", "attempt"}``.
        """
        data = {name: getattr(self, name) for name in _FIELDS}
        for name in _WITH_NUMBERS:
            if data[name]:
                data[name] = mark(data[name])
        for name in ("started_at", "ended_at"):
            if data[name] is not None:
                data[name] = data[name].isoformat()
        data["status"] = self.status.value
        if history:
            data["metric_history"] = [point_to_dict(point) for point in self.metric_history]
        else:
            del data["metric_history"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], **changes: Any) -> RunRecord:
        """The record back from `to_dict`; unknown fields are left out, ``changes`` override."""
        known: dict[str, Any] = {}
        for name in _FIELDS:
            if name not in data:
                continue
            value = data[name]
            if name in ("started_at", "ended_at"):
                value = datetime.fromisoformat(value) if value else None
            elif name == "status":
                value = Status(value)
            elif name == "metric_history":
                value = History([point_from_dict(point) for point in value])
            elif name == "metric_summary":
                value = Fields({metric: as_fields(summary) for metric, summary in restore(value).items()})
            elif name not in ("config_types", "losses", "tags"):
                value = as_fields(value if name in UNMARKED else restore(value))
            known[name] = value
        return cls(**{**known, **changes})

    def __repr__(self) -> str:
        numbers = ", ".join(f"{printable(name)}={_brief(value)}" for name, value in list(self.metrics.items())[:3])
        kept = f" {self.decision}" if self.decision else ""
        name = printable(self.name)
        return f"<RunRecord {self.short_id} {name} {self.status.value}{kept}{' ' + numbers if numbers else ''}>"

    def _repr_html_(self) -> str:
        """The card, as a notebook shows it."""
        from runcard._notebook import record_html

        return record_html(self)


# Where a number may be that strict JSON has no form for; the others came out of JSON as they are.
_WITH_NUMBERS = ("config", "metrics", "metric_summary", "result", "resources", "amendments", "verdicts")
_FIELDS = tuple(entry.name for entry in fields(RunRecord) if entry.name != "folder")


def point_to_dict(point: Point) -> dict[str, Any]:
    """A point as strict JSON data."""
    data = {"name": point.name, "step": point.step, "value": mark(point.value), "time": point.time}
    return {**data, "attempt": point.attempt} if point.attempt != 1 else data


def point_from_dict(data: Mapping[str, Any]) -> Point:
    """The inverse of `point_to_dict`."""
    point = Point(data["name"], data["step"], restore(data["value"]), data["time"])
    if data.get("attempt", 1) != 1:
        point.attempt = data["attempt"]
    return point


def as_fields(value: Any) -> Any:
    """A mapping as `Fields`, a list with `Fields` for its mappings; what lies deeper follows when it is asked for."""
    if type(value) is dict:
        return Fields(value)
    if type(value) is list:
        return [Fields(item) if type(item) is dict else item for item in value]
    return value


def printable(text: str) -> str:
    """A name as a `repr` holds it: in one line, and with escapes for what a terminal would obey."""
    return text if text.isprintable() else repr(text)[1:-1]


def _brief(value: int | float) -> str:
    if isinstance(value, float) or abs(value) < 2**1000:
        return f"{value:.4g}"
    return f"{'-' if value < 0 else ''}~2^{value.bit_length()}"  # beyond every float


def fold(run_id: str, journals: Journals, *, losses: Mapping[str, int] | None = None) -> RunRecord:
    """The record that follows from a run's events.

    Args:
        run_id: The run's id, for a run whose start event is lost.
        journals: Events by writer. The owner's and those of later attempts and forked children make the record;
            those of other ranks add their artifacts, inputs and losses.
        losses: What the reader of the journals already found damaged, by kind.
    """
    from runcard._folding import Folding
    from runcard._points import attempt_of, ordered_writers

    writers = ordered_writers(journals)
    folding = Folding(run_id, losses, several=any(attempt_of(writer) > 1 for writer in writers))
    for writer in writers:
        folding.take(writer, journals[writer])
    return folding.record()
