"""``otlp:http://host:4318``, ``otlp:grpc://host:4317``: runs as OpenTelemetry's traces, metrics and logs.

A run is a span, exported once it has ended; its metrics are gauges and its notes log records, exported while it goes
on. The protocol takes and never gives: what was acknowledged is known by the cursor that delivery keeps, and what is
sent twice is the same span, the same points, the same log records again. `docs/sinks-otel.md` has every name.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from runcard.errors import StoreError, warn
from runcard.journal import Numbers
from runcard.record import RunRecord
from runcard.sinks._extras import need
from runcard.sinks._otel_address import read
from runcard.sinks.registry import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runcard.events import Event
    from runcard.sinks._otel_messages import Line, Reading
    from runcard.sinks._otel_run import Pairs
    from runcard.sinks._otel_send import Sender

_REMEMBERED = 1_000  # runs of which is known, in this process, what was sent
_DIFF_LIMIT = 1_000_000  # characters of uncommitted changes that are sent


def open_sink(url: str) -> OtelSink:
    """The sink of one receiver; it connects when it is first used."""
    return OtelSink(url)


def _check(url: str) -> None:
    """Refuse what cannot work, without connecting."""
    endpoints = read(url).endpoints.values()
    need("opentelemetry.proto", "runcard[otel]", package="opentelemetry-proto")
    if any(endpoint.protocol == "grpc" for endpoint in endpoints):
        need("grpc", "runcard[otel]", package="grpcio")


open_sink.check = _check  # type: ignore[attr-defined]  # what `registry.check` asks of a factory


class OtelSink:
    """Exports runs to an OTLP receiver.

    Attributes:
        url: Where, without credentials.
    """

    def __init__(self, url: str) -> None:
        from runcard.sinks._otel_run import Ancestry
        from runcard.sinks._otel_span import Limits

        _check(url)
        self.url = without_credentials(url)
        self._options = read(url)
        self._limits = Limits.of()
        self._ancestry = Ancestry()
        self._followed: OrderedDict[str, _Followed] = OrderedDict()
        self._not_taken: set[str] = set()
        self._opened: Sender | None = None

    def start(self, record: RunRecord) -> None:
        """Learn whose events come; nothing is exported yet."""
        self._follow(record)

    def append(self, run_id: str, event: Event) -> None:
        """Export one event. Raises `StoreError`."""
        self.extend(run_id, [event])

    def extend(self, run_id: str, events: Sequence[Event]) -> None:
        """Export the metrics and notes among the events; those sent by this process change nothing.

        Raises:
            StoreError: When the receiver did not take them.
        """
        from runcard.sinks._otel_events import lines, readings

        run = self._followed.get(run_id) or self._follow(RunRecord(run_id=run_id))
        new = [event for event in events if not run.knows(event)]
        self._export_points(run, [reading for event in new for reading in readings(event, run.attributes_of)])
        self._export_lines(run, (line for event in new for line in lines(event, run.attributes)))
        for event in new:
            run.note(event)

    def finish(self, record: RunRecord) -> None:
        """Export what was printed, then the span: a run that is seen is there whole.

        Raises:
            StoreError: When the receiver did not take it.
        """
        from runcard.sinks._otel_events import readings_of, remarks_of
        from runcard.sinks._otel_span import when

        run = self._follow(record)
        end_ns = when(record)[1]
        if record.folder is None and not run.seen:  # it came without a journal: its record is all there is
            self._export_points(run, readings_of(record, run.attributes_of))
            self._export_lines(run, remarks_of(record, end_ns, run.attributes))
            run.seen[""] = Numbers()
        if "logs" in self._options.endpoints:
            if self._options.output:
                self._export_output(run, record, end_ns)
            if self._options.diff:
                self._export_diff(run, record, end_ns)
        if "traces" in self._options.endpoints:
            from runcard.sinks._otel_messages import spans
            from runcard.sinks._otel_span import span

            self._send("traces", spans(run.resource, span(record, self._ancestry, self._limits)))

    def probe(self) -> None:
        """Send each signal's empty request, which leaves nothing behind. Raises `StoreError`."""
        absent = self._absent()
        if absent:
            raise StoreError(self._lacking(absent))

    def _follow(self, record: RunRecord) -> _Followed:
        run = self._followed.pop(record.run_id, None) or _Followed()
        run.learn(record, self._ancestry.top(record.run_id, record.parent_id, record.folder))
        self._followed[record.run_id] = run
        while len(self._followed) > _REMEMBERED:
            self._followed.popitem(last=False)
        return run

    def _export_points(self, run: _Followed, readings: Iterable[Reading]) -> None:
        if "metrics" not in self._options.endpoints:
            return
        from runcard.sinks._otel_events import with_steps
        from runcard.sinks._otel_messages import gauges

        points = list(with_steps(readings) if self._options.step else readings)
        for request in gauges(run.resource, points, run.trace_id, run.span_id):
            self._send("metrics", request)

    def _export_lines(self, run: _Followed, lines: Iterable[Line]) -> None:
        if "logs" not in self._options.endpoints:
            return
        from runcard.sinks._otel_messages import logs

        for request, _ in logs(run.resource, lines, run.trace_id, run.span_id):
            self._send("logs", request)

    def _export_output(self, run: _Followed, record: RunRecord, end_ns: int) -> None:
        from runcard.sinks._otel_events import printed
        from runcard.sinks._otel_messages import logs

        if record.folder is None:
            return
        lines = printed(Path(record.folder) / "output.log", end_ns, run.attributes, run.lines)
        for request, count in logs(run.resource, lines, run.trace_id, run.span_id):
            self._send("logs", request)
            run.lines += count  # where a second try goes on

    def _export_diff(self, run: _Followed, record: RunRecord, end_ns: int) -> None:
        from runcard.sinks._otel_events import changes

        if record.folder is not None and not run.diff:
            self._export_lines(run, changes(Path(record.folder) / "diff.patch", end_ns, run.attributes, _DIFF_LIMIT))
            run.diff = True

    def _send(self, signal: str, request: bytes) -> None:
        """Send, and say what the receiver will never take; what it may take later is raised."""
        from runcard.sinks._otel_messages import rejected
        from runcard.sinks._otel_send import NotServed, Refused

        if signal in self._not_taken:
            return
        try:
            answer = self._sender.send(signal, request)
        except Refused as error:
            warn(f"the sink {self.url} refused {signal} for good: {error}", once=f"{self.url} refuses {signal}")
            return
        except NotServed:
            absent = self._absent()
            if signal not in absent:
                raise
            self._not_taken |= absent
            warn(f"the sink {self.url}: {self._lacking(absent)}", once=f"{self.url} lacks {sorted(absent)}")
            return
        count, why = rejected(signal, answer)
        if count:
            warn(
                f"the sink {self.url} did not keep {count} of the {signal}: {why}", once=f"{self.url} rejects {signal}"
            )

    def _absent(self) -> set[str]:
        """The signals that the receiver does not serve; asked for with empty requests, which leave nothing behind.

        Raises:
            StoreError: When it cannot be reached; `NotServed` when it does not serve traces either: many receivers
                take nothing else, but what lacks traces is a wrong address.
        """
        from runcard.sinks._otel_messages import nothing
        from runcard.sinks._otel_send import NotServed

        absent = set()
        for signal in self._options.endpoints:
            try:
                self._sender.send(signal, nothing(signal))
            except NotServed:
                if signal == "traces" or "traces" not in self._options.endpoints:
                    raise
                absent.add(signal)
        return absent

    def _lacking(self, absent: set[str]) -> str:
        taken = "+".join(signal for signal in self._options.endpoints if signal not in absent)
        return f"it takes no {' and no '.join(sorted(absent))}; write ?signals={taken} after its URL"

    @property
    def _sender(self) -> Sender:
        if self._opened is None:
            from runcard.sinks._otel_send import Sender

            self._opened = Sender(self._options.endpoints)
        return self._opened

    def __repr__(self) -> str:
        return f"<OtelSink {self.url}>"


class _Followed:
    """What is known of one run: who it is, and what of it was sent.

    Attributes:
        resource, attributes: Of every point and line.
        seen: The numbers of the events sent, by writer; threads write some out of order.
        lines: How many lines of its output were sent.
        diff: Whether its uncommitted changes were.
    """

    def __init__(self) -> None:
        self.resource: Pairs = []
        self.attributes: Pairs = []
        self.trace_id = self.span_id = b""
        self.seen: dict[str, Numbers] = {}
        self.lines = 0
        self.diff = False
        self._of_ranks: dict[str, Pairs] = {}

    def learn(self, record: RunRecord, top: str) -> None:
        from runcard.sinks._otel_run import identity, resource, span_id, trace_id

        self.resource = resource(record)
        self.attributes = self.attributes or identity(record)  # a run that is renamed goes on in its series
        self.trace_id, self.span_id = trace_id(top), span_id(record.run_id)

    def knows(self, event: Event) -> bool:
        writer = event.get("writer")
        return writer in self.seen and event["n"] in self.seen[writer]

    def note(self, event: Event) -> None:
        writer = event.get("writer")
        if writer is not None:
            self.seen.setdefault(writer, Numbers()).add(event["n"])

    def attributes_of(self, writer: str | None) -> Pairs:
        """Of a writer's points: those of another rank are another series."""
        name, _, rank = (writer or "").partition("-rank")
        if name != "journal" or not rank.isdecimal():
            return self.attributes
        if rank not in self._of_ranks:
            self._of_ranks[rank] = [*self.attributes, ("runcard.rank", int(rank))]
        return self._of_ranks[rank]
