"""How a run's events become its record: the fold behind `runcard.record.fold`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runcard._points import Summary, attempt_of, ordered_writers, points, rank_of
from runcard._shapes import NUMBER, is_plain, misshapen
from runcard.record import Fields, RunRecord, Status, as_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runcard.events import Event

__all__ = ["Folding", "attempt_of", "ordered_writers", "points", "rank_of"]


class Folding:
    """The state of one fold: a method an event kind, and the record at its end."""

    def __init__(self, run_id: str, losses: Mapping[str, int] | None, *, several: bool) -> None:
        self.data: dict[str, Any] = {"run_id": run_id}
        self.losses: dict[str, int] = dict(losses or {})
        self.several = several  # attempts: then the points of each step are kept until it is known which stands
        self.summaries: dict[str, Summary] = {}
        self.resumed: dict[str, dict[Any, tuple[int, list[int | float]]]] = {}  # name → step → (attempt, values)
        self.returned: dict[str, int | float] = {}
        self.amended: dict[str, int | float] = {}
        self.attempts: list[Fields] = []
        self.artifacts: dict[str, Fields] = {}
        self.inputs: dict[str, Fields] = {}
        self.tags: dict[str, None] = {}
        self.notes: list[str] = []
        self.remarks: dict[str, list[Event]] = {}  # by writer: tags, notes, names and corrections, until all are read
        self.decisions: dict[str, list[Fields]] = {}  # by writer
        self.verdicts: list[Fields] = []
        self.amendments: list[Fields] = []
        self.system: dict[str, Summary] = {}
        self.attempt = 1
        self.ended = False
        self.owner = True

    def take(self, writer: str, events: Iterable[Event]) -> None:
        """Take in the events of one writer; one that makes no sense costs itself alone."""
        self.name, self.owner = writer, rank_of(writer) == 0
        self.attempt = attempt_of(writer)
        self.forked = "-fork" in writer
        self.ended = False
        for event in events:
            try:
                self._event(event)
            except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
                self._lose({"damaged": 1})

    def _event(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "log":
            if self.owner:
                self._log(event)
        else:
            event = event if kind == "verdict" else self._checked(event)
            take = getattr(self, f"_on_{kind}", None)  # an unknown kind is of a later version: left aside
            if kind in _REMARKS:
                self.remarks.setdefault(self.name, []).append(event)
            elif take is not None:
                take(event)
        if "losses" in event:
            self._lose(event["losses"])
        if kind in _SIGNS_OF_LIFE and self.attempts and not self.ended:
            began = self.attempts[-1]
            began["_last"] = max(began.get("_last", 0.0), float(event.get("t", 0.0)))

    def _checked(self, event: Event) -> Event:
        """The event without fields that are not what a field of that name is."""
        wrong = misshapen(event)
        if not wrong:
            return event
        self._lose({"damaged": 1})
        return {name: value for name, value in event.items() if name not in wrong}

    def _numbers(self, event: Event) -> dict[str, int | float]:
        metrics = event.get("metrics") or {}
        numbers = {name: value for name, value in metrics.items() if isinstance(value, NUMBER)}
        if len(numbers) < len(metrics):
            self._lose({"damaged": 1})
        return numbers

    def _lose(self, losses: Mapping[str, int]) -> None:
        for kind, count in losses.items():
            self.losses[str(kind)] = self.losses.get(str(kind), 0) + min(max(int(count), 0), _MANY)

    def _log(self, event: Event) -> None:
        step = event.get("step")
        if not (step is None or is_plain(step)):
            raise TypeError("a step is a number")
        for name, value in event["metrics"].items():
            if not isinstance(value, NUMBER):
                self._lose({"damaged": 1})
            elif self.several:
                self._resumed_point(name, value, step)
            else:
                summary = self.summaries.get(name)
                if summary is None:
                    summary = self.summaries[name] = Summary()
                summary.add(value, step)

    def _resumed_point(self, name: str, value: int | float, step: Any) -> None:
        steps = self.resumed.setdefault(name, {})
        attempt, values = steps.get(step, (0, []))
        if attempt == self.attempt:
            values.append(value)
        else:  # an earlier attempt's, which this one does over: its place is now the latest
            steps.pop(step, None)
            steps[step] = (self.attempt, [value])

    def _on_start(self, event: Event) -> None:
        if self.forked:
            return
        started = float(event["t"])
        self.attempts.append(
            Fields(
                attempt=event.get("attempt") or 1,
                status=Status.RUNNING.value,
                started_at=_utc(started).isoformat(),
                ended_at=None,
                host=event.get("host"),
                alive=as_fields(event.get("alive") or {}),
                job=event.get("job"),
                process_rank=event.get("process_rank"),
            )
        )
        self.ended = False
        self.attempts[-1]["_t"] = started
        if self.owner:  # a later attempt: how the earlier one ended is said in `attempts`
            for name in _END_FIELDS:
                self.data.pop(name, None)
        if "started_at" in self.data and self.attempt == 1:
            return  # another rank of the same launch
        first = {} if "started_at" not in self.data else {"started_at": self.data["started_at"]}
        for name in _START_FIELDS:
            if event.get(name) is not None:
                self.data[name] = as_fields(event[name])
        self.data["started_at"] = _utc(started)
        self.data.update(first)
        remarks = self.remarks.setdefault(self.name, [])
        remarks.append({"kind": "tag", "t": started, "add": event.get("tags")})
        if event.get("notes"):
            remarks.append({"kind": "note", "t": started, "text": event["notes"], "again": self.attempt > 1})
        for entry in event.get("inputs") or ():
            self._on_input(entry)

    def _on_config(self, event: Event) -> None:
        self.data["config"] = Fields({**self.data.get("config", {}), **as_fields(event["config"])})
        self.data["config_types"] = {**self.data.get("config_types", {}), **event.get("types", {})}
        self.data["config_hash"] = event.get("config_hash")

    def _on_artifact(self, event: Event) -> None:
        entry = Fields({key: event[key] for key in _FILE_FIELDS if key in event})
        self.artifacts[str(entry.get("path") or entry.get("uri") or entry.get("name"))] = entry

    def _on_files(self, event: Event) -> None:
        for path in event["removed"]:
            entry = self.artifacts.get(str(path))
            if entry is not None:
                entry["removed"] = True

    def _on_input(self, event: Event) -> None:
        entry = Fields({key: value for key, value in event.items() if key not in ("n", "kind", "t", "losses")})
        self.inputs[str(entry["path"])] = entry

    def _on_tag(self, event: Event) -> None:
        for tag in event.get("add") or ():
            self.tags[str(tag)] = None
        for tag in event.get("remove") or ():
            self.tags.pop(str(tag), None)

    def _on_note(self, event: Event) -> None:
        if not (event.get("again") and event["text"] in self.notes):  # a later attempt brings the same notes
            self.notes.append(str(event["text"]))

    def _on_name(self, event: Event) -> None:
        self.data["name"] = str(event["name"])

    def _on_decision(self, event: Event) -> None:
        entry = Fields(
            decision=event["decision"],
            reason=event.get("reason"),
            by=event.get("by"),
            at=_utc(float(event["t"])).isoformat(),
            source=event.get("source", "code"),
        )
        self.decisions.setdefault(self.name, []).append(entry)

    def _on_amend(self, event: Event) -> None:
        metrics, at = self._numbers(event), _utc(float(event["t"])).isoformat()
        before = {name: self._metrics().get(name) for name in metrics}
        self.amended.update(metrics)
        self.amendments.append(
            Fields(
                metrics=as_fields(metrics),
                before=as_fields(before),
                reason=event.get("reason"),
                by=event.get("by"),
                at=at,
            )
        )

    def _on_verdict(self, event: Event) -> None:
        self.verdicts.append(as_fields({k: v for k, v in event.items() if k not in ("n", "kind", "losses")}))

    def _on_system(self, event: Event) -> None:
        for name, value in self._numbers(event).items():
            self.system.setdefault(name, Summary()).add(value, None)

    def _on_durable(self, _event: Event) -> None:
        if self.owner:
            self.data["durability"] = "disk"

    def _on_end(self, event: Event) -> None:
        status = Status(event["status"])
        attempt = self.attempts[-1] if self.attempts else Fields()
        ended = float(event["t"])
        attempt.update(status=status.value, ended_at=_utc(ended).isoformat(), duration_s=event.get("duration_s"))
        if not self.owner:
            return
        self.ended = True
        self.data.update(status=status, ended_at=_utc(ended), durability="process")
        for name in _END_FIELDS[3:]:
            if event.get(name) is not None:
                self.data[name] = as_fields(event[name])
        self.returned.update(self._numbers(event))

    def _merged(self) -> dict[str, Summary]:
        """The summary of each metric; of a resumed run, over the latest attempt of each step."""
        merged = dict(self.summaries)
        for name, steps in self.resumed.items():
            merged[name] = Summary()
            for step, (_, values) in steps.items():
                for value in values:
                    merged[name].add(value, step)
        return merged

    def _metrics(self) -> dict[str, int | float | None]:
        logged = {name: summary.last for name, summary in self._merged().items()}
        return {**logged, **self.returned, **self.amended}

    def _take_remarks(self) -> None:
        """What was said of the run, in the order it was said: late judgements stand in the first attempt's journal."""
        said = [event for events in self.remarks.values() for event in events]
        if len(self.remarks) > 1:  # of several writers; one writer's own order does not hang on its clock
            said.sort(key=lambda event: event["t"] if isinstance(event.get("t"), (int, float)) else 0.0)
        for event in said:
            try:
                getattr(self, f"_on_{event['kind']}")(event)
            except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
                self._lose({"damaged": 1})

    def record(self) -> RunRecord:
        """The record of what was taken in."""
        self._take_remarks()
        summary = {name: entry.fields() for name, entry in self._merged().items()}
        for name, value in self.returned.items():
            if name not in summary:
                alone = Summary()
                alone.add(value, None)
                summary[name] = alone.fields()
        if self.system:
            self.data["resources"] = Fields(
                {**self.data.get("resources", {}), "system": {n: s.fields() for n, s in self.system.items()}}
            )
        decisions = [entry for entries in self.decisions.values() for entry in entries]
        if len(self.decisions) > 1:  # of several writers; one writer's own order does not hang on its clock
            decisions.sort(key=lambda entry: str(entry["at"]))
        standing = decisions[-1] if decisions else {"decision": None, "reason": None}
        latest = max((entry["attempt"] for entry in self.attempts), default=1)
        for entry in self.attempts:
            began, last = entry.pop("_t", None), entry.pop("_last", None)
            if entry.get("duration_s") is None and began and last:
                entry["duration_s"] = max(0.0, last - began)
            if entry["status"] == Status.RUNNING.value and entry["attempt"] < latest:
                entry["status"] = Status.CRASHED.value  # else there would have been nothing to go on with
        seconds = [entry.get("duration_s") for entry in self.attempts if not entry.get("process_rank")]
        known = [each for each in seconds if each is not None]
        return RunRecord(
            **self.data,
            metrics=Fields(self._metrics()),
            metric_summary=Fields(summary),
            duration_s=sum(known) if known else None,
            artifacts=list(self.artifacts.values()),
            inputs=list(self.inputs.values()),
            tags=list(self.tags),
            notes="\n".join(self.notes),
            decision=standing["decision"],
            decision_reason=standing["reason"],
            decisions=decisions,
            attempts=self.attempts,
            verdicts=self.verdicts,
            amendments=self.amendments,
            losses={kind: count for kind, count in self.losses.items() if count},
        )


def _utc(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except OSError as error:  # what some systems raise where others have an OverflowError
        raise ValueError("a time that no calendar has") from error


_MANY = 10**9  # a loss is a count; a hostile one stays a number that JSON has
_SIGNS_OF_LIFE = ("start", "log", "system", "config", "artifact", "input")  # a judgement may come the day after
_REMARKS = ("tag", "note", "name", "amend")
_END_FIELDS = ("status", "ended_at", "durability", "result", "error", "exit_code", "resources", "is_best")
_START_FIELDS = (
    "schema_version",
    "name",
    "experiment",
    "parent_id",
    "launched_by",
    "rerun_of",
    "config",
    "config_hash",
    "config_types",
    "objective",
    "direction",
    "function",
    "environment",
    "process_rank",
    "user",
    "host",
    "seed",
)
_FILE_FIELDS = ("name", "path", "uri", "bytes", "sha256", "mtime", "transient", "hashed", "rank")
