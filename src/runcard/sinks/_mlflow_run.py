"""One run on its way into MLflow: which of its events are there, and how the others become calls."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from runcard._folding import rank_of
from runcard.errors import StoreError
from runcard.journal import Reading, writers
from runcard.record import Status
from runcard.sinks import _mlflow_mapping as mapping
from runcard.sinks._mlflow_files import Files, digest
from runcard.sinks._mlflow_service import Batch, Found, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runcard.events import Event
    from runcard.record import RunRecord
    from runcard.sinks._mlflow_service import Service

MOST_METRICS = 800  # in one call, which MLflow allows 1,000 things in all
MOST_OTHERS = 100  # params, and tags
UNSURE = 3  # calls after a failure, or another process, in which something may be there already


class OpenRun:
    """A run that is being delivered.

    Attributes:
        id: MLflow's own.
        parent: MLflow's id of the run it is a child of, as far as it was told.
        delivered: Writer → number of its last event that is there.
        deleted: Whether somebody threw it away in MLflow; then nothing more is done.
    """

    def __init__(self, service: Service, found: Found, *, known: bool, folder: str | None) -> None:
        """Take a run as MLflow has it.

        Args:
            service: Who is asked.
            found: The run.
            known: Whether it was there already, so that some of what comes may be there too.
            folder: Where its files lie here.
        """
        self._service, self._found = service, found
        self._unsure = UNSURE if known else 0
        self._folder = Path(folder) if folder is not None else None
        self.delivered = _counts(found.tags.get(mapping.DELIVERED))
        self.deleted = found.deleted
        self._metrics = mapping.Keys("metrics", found.steps, found.tags)
        self._params = mapping.Keys("params", found.params, found.tags)
        self._tags = mapping.Keys("tags", found.tags, found.tags)
        self._own = mapping.told_tags(found.tags)  # the user's, in their order
        self._steps = dict(found.steps)  # key → the highest step so far
        self._points: list[tuple[str, float, int, int]] = []
        self._began = 0.0
        self._refused: dict[str, None] = {}
        self._files = Files(service, found, self._folder, self._refused)

    @property
    def id(self) -> str:
        """MLflow's own id."""
        return self._found.id

    @property
    def parent(self) -> str | None:
        """The parent's id, once it was told."""
        return self._found.tags.get("mlflow.parentRunId")

    def begin(self, record: RunRecord, parent: str | None) -> None:
        """Tell what is known of a run that begins, or goes on. Raises `StoreError`."""
        if record.started_at is not None:
            self._began = record.started_at.timestamp()
        if record.status is Status.RUNNING and self._found.status != "RUNNING":
            self._update(status="RUNNING")
            self._found.status = "RUNNING"
        self._tell(record, parent)

    def take(self, events: Iterable[Event]) -> None:
        """Add what events bring, in calls as large as MLflow allows. Raises `StoreError`."""
        if self.deleted:
            return
        counts = dict(self.delivered)
        shown: list[Event] = []
        tags: dict[str, str] = {}
        config: dict[str, Any] = {}
        for event in self._without_gaps(events):
            writer, n, kind = event.get("writer"), event.get("n"), event.get("kind")
            if isinstance(writer, str) and isinstance(n, int):
                if n <= counts.get(writer, -1):
                    continue
                counts[writer] = n
            if kind in ("log", "system", "end", "amend"):
                if rank_of(str(writer)) == 0:
                    self._add_points(event)
            elif kind == "config":
                config.update(event.get("config") or {})
            elif kind == "decision":
                told = {"runcard.decision": event.get("decision"), "runcard.decision_reason": event.get("reason")}
                tags.update({key: mapping.tag(value) for key, value in told.items() if value})
            elif kind in ("tag", "name", "artifact"):
                shown.append(event)
            if len(self._points) >= MOST_METRICS:
                self._flush(counts, {})
        if counts != self.delivered or self._points or tags or config:
            self._flush(counts, tags, config)
        for event in shown:
            self._show(event)

    def _without_gaps(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, and before them what MLflow should have, but has not: it was set back, or lost the run."""
        last = dict(self.delivered)
        for event in _by_number(events):
            writer, n = event.get("writer"), event.get("n")
            if isinstance(writer, str) and isinstance(n, int):
                path = self._journal(writer) if n > last.get(writer, -1) + 1 else None
                for earlier in Reading(path) if path is not None else ():
                    if last.get(writer, -1) < earlier["n"] < n:
                        yield {**earlier, "writer": writer}
                last[writer] = max(n, last.get(writer, -1))
            yield event

    def _journal(self, writer: str) -> Path | None:
        try:
            return writers(self._folder).get(writer) if self._folder is not None else None
        except OSError:
            return None  # the folder was removed: what it had is gone

    def end(self, record: RunRecord, parent: str | None, *, diff: bool, output: bool) -> None:
        """Put all in place as the record has it; the status comes last. Raises `StoreError`."""
        if not self.deleted:
            self._tell(record, parent)
        if self.deleted:
            return
        self._files.add_inputs(record)
        mark = digest(record.artifacts)
        problems = [] if self._found.tags.get(mapping.UPLOADED) == mark else self._files.upload_all(record)
        if record.artifacts and not problems:
            self._flush(self.delivered, {mapping.UPLOADED: mark})
        self._files.upload_own(record, diff=diff, output=output)
        if self._refused:
            self._send(Batch(tags=[("runcard.refused", mapping.tag(orjson.dumps(list(self._refused)).decode()))]))
        if record.status is not Status.RUNNING:
            self._update(status=mapping.STATUS[record.status], ended=mapping.ended(record))
        if problems:
            raise StoreError("; ".join(problems))

    def _tell(self, record: RunRecord, parent: str | None) -> None:
        """Name, config and tags, as far as they are not there."""
        if record.name and record.name != self._found.name:
            self._update(name=record.name)
            self._found.name = record.name
        tags = mapping.tags(record)
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        self._drop_tags(record.tags)
        self._own = list(record.tags)
        self._flush(self.delivered, {**tags, **self._own_tags()}, record.config)

    def _own_tags(self) -> dict[str, str]:
        tags = {self._tags.of(name): "true" for name in mapping.own_tags(self._own)}
        if self._own or mapping.TAGS in self._found.tags:
            tags[mapping.TAGS] = mapping.tag(orjson.dumps(self._own).decode())
        return tags

    def _flush(
        self, counts: Mapping[str, int], tags: Mapping[str, str], config: Mapping[str, Any] | None = None
    ) -> None:
        """Send the points with the count that says so, and whatever params and tags are new."""
        params, more = self._new_params(config or {})
        told = {**tags, **more, **self._metrics.told(), **self._params.told(), **self._tags.told()}
        if counts != self.delivered:
            told[mapping.DELIVERED] = orjson.dumps(dict(counts), option=orjson.OPT_SORT_KEYS).decode()
        new = [(key, value) for key, value in told.items() if self._found.tags.get(key) != value]
        points = self._points
        batches = []
        while len(points) > MOST_METRICS or len(params) > MOST_OTHERS or len(new) > MOST_OTHERS:
            batches.append(
                Batch(points[:MOST_METRICS], params[:MOST_OTHERS], new[: max(0, len(new) - MOST_OTHERS)][:MOST_OTHERS])
            )
            points, params = points[MOST_METRICS:], params[MOST_OTHERS:]
            new = new[len(batches[-1].tags) :]
        for batch in [*batches, Batch(points, params, new)]:  # the count goes with the last of the points
            if batch != Batch():
                self._send(batch)
                self._found.params.update(batch.params)
                self._found.tags.update(batch.tags)
        self._points, self._unsure = [], max(0, self._unsure - 1)
        self.delivered = dict(counts)

    def _send(self, batch: Batch) -> None:
        """Send one batch; what MLflow refuses is found by halves, left out, and noted."""
        try:
            self._service.log(self._found, batch, again=self._unsure > 0)
        except Refused:
            if self._is_deleted():
                return
            parts = _halves(batch)
            if not parts:
                self._refused[_name_of(batch)] = None
                return
            for part in parts:
                self._send(part)
        except StoreError:
            self._points, self._unsure = [], UNSURE  # they come again, and some may be there
            raise

    def _add_points(self, event: Event) -> None:
        metrics, at = event.get("metrics"), event.get("t")
        if not isinstance(metrics, dict) or not isinstance(at, (int, float)):
            return
        moment = max(0, int(at * 1000))
        kind, step = event["kind"], event.get("step")
        for name, value in metrics.items():
            if not isinstance(value, (int, float)):
                continue
            key = self._metrics.of(name)
            if kind == "log":
                place = mapping.whole_step(step)
            elif kind == "system":
                place = max(0, int(at - self._began)) if self._began else 0
            else:  # returned, or corrected: the last word stands at the last step
                place = self._steps.get(key, 0)
            self._steps[key] = max(place, self._steps.get(key, place))
            self._points.append((key, mapping.number(value), moment, place))

    def _new_params(self, config: Mapping[str, Any]) -> tuple[list[tuple[str, str]], dict[str, str]]:
        """The settings that are not there yet; MLflow keeps the first value of each, a later one becomes a tag."""
        new: list[tuple[str, str]] = []
        tags: dict[str, str] = {}
        cut = []
        for path, plain, value in mapping.flat(config):
            key = self._params.of(path, plain)
            text, was_cut = mapping.param(value)
            if was_cut:
                cut.append(path)
            there = self._found.params.get(key)
            if there is None:
                new.append((key, text))
            elif there != text:
                tags[f"runcard.config.{key}"[:250]] = mapping.tag(text)
        if cut:
            tags["runcard.cut"] = mapping.tag(", ".join(cut))
        return new, tags

    def _show(self, event: Event) -> None:
        """Show at once what the end will put in place anyway."""
        kind = event["kind"]
        if kind == "artifact":
            self._files.upload(event)
        elif kind == "name":
            self._update(name=str(event["name"]))
            self._found.name = str(event["name"])
        else:
            gone = {str(tag) for tag in event.get("remove") or ()}
            added = [str(tag) for tag in event.get("add") or ()]
            left = [tag for tag in dict.fromkeys([*self._own, *added]) if tag not in gone]
            self._drop_tags(left)
            self._own = left
            self._flush(self.delivered, self._own_tags())

    def _drop_tags(self, left: Sequence[str]) -> None:
        """Take away the user's tags but these; what people tagged in MLflow itself stays."""
        for key in [self._tags.of(name) for name in mapping.own_tags(self._own) if name not in left]:
            if key in self._found.tags:
                self._service.delete_tag(self._found, key)
                del self._found.tags[key]

    def _update(self, *, status: str | None = None, ended: int | None = None, name: str | None = None) -> None:
        try:
            self._service.update(self._found, status=status, ended=ended, name=name)
        except Refused:
            if not self._is_deleted():
                raise

    def _is_deleted(self) -> bool:
        """Whether a refusal means that the run lies in MLflow's trash: it stays there."""
        if not self.deleted:
            there = self._service.find([self._found.experiment], self._found.tags.get(mapping.RUN_ID, ""))
            self.deleted = there is not None and there.deleted
        return self.deleted


def _halves(batch: Batch) -> list[Batch]:
    """A batch in parts: by kind, then by halves; none when there is but one thing in it."""
    kinds = [Batch(params=batch.params), Batch(metrics=batch.metrics), Batch(tags=batch.tags)]
    parts = [part for part in kinds if part != Batch()]
    if len(parts) > 1:
        return parts
    only = parts[0] if parts else Batch()
    middle = max(len(only.metrics), len(only.params), len(only.tags)) // 2
    if not middle:
        return []
    return [
        Batch(only.metrics[:middle], only.params[:middle], only.tags[:middle]),
        Batch(only.metrics[middle:], only.params[middle:], only.tags[middle:]),
    ]


def _name_of(batch: Batch) -> str:
    return next((entry[0] for kind in (batch.metrics, batch.params, batch.tags) for entry in kind), "")


def _by_number(events: Iterable[Event]) -> Iterator[Event]:
    """The events of each writer in the order of their numbers, which threads that log at one time do not keep."""
    for _, written in groupby(events, key=lambda event: event.get("writer")):
        yield from sorted(written, key=lambda event: int(event.get("n", 0)))


def _counts(text: str | None) -> dict[str, int]:
    return {writer: n for writer, n in mapping.read_mapping(text).items() if isinstance(n, int)}
