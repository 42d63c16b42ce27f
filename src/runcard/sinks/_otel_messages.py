"""OTLP requests as protobuf messages: the only file that knows their classes.

They come from the package ``opentelemetry-proto``, which is the protocol itself and changes by addition alone; the
SDK's own classes for finished telemetry change from release to release, and its exporters keep the reason of a failure
to themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

import runcard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runcard.sinks._otel_run import Pairs
    from runcard.sinks._otel_span import Span

POINTS = 2_000  # metric points a request
LOG_BYTES = 500_000  # of log texts a request
_SAMPLED = 1
_HAS_EVENT_NAME = "event_name" in LogRecord.DESCRIPTOR.fields_by_name  # since OTLP 1.5
_RESPONSES: dict[str, tuple[Any, str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
}
_REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}


class Reading(NamedTuple):
    """One point of a metric; `attributes` are the series', `about` what is said of the point alone."""

    name: str
    value: int | float
    time_ns: int
    attributes: Pairs
    about: Pairs


class Line(NamedTuple):
    """One log record. `seen_ns` is when it was noticed, for a text whose own time is not known (0)."""

    kind: str
    body: str
    time_ns: int
    seen_ns: int
    attributes: Pairs


def spans(resource: Pairs, span: Span) -> bytes:
    """The request with one span."""
    message = SpanMessage(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_id or b"",
        flags=_SAMPLED,
        name=_text(span.name),
        kind=SpanMessage.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_attributes(span.attributes),
        dropped_attributes_count=span.dropped,
        dropped_events_count=span.dropped_events,
    )
    for event in span.events:
        message.events.add(name=event.name, time_unix_nano=event.time_ns, attributes=_attributes(event.attributes))
    for trace_id, span_id, why in span.links:
        message.links.add(trace_id=trace_id, span_id=span_id, attributes=_attributes([("runcard.link", why)]))
    if span.error is not None:
        message.status.code = Status.STATUS_CODE_ERROR
        message.status.message = _text(span.error)
    scoped = ScopeSpans(scope=_scope(), spans=[message])
    return _bytes(
        ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=_of(resource), scope_spans=[scoped])])
    )


def gauges(resource: Pairs, readings: list[Reading], trace_id: bytes, span_id: bytes) -> Iterator[bytes]:
    """Requests with metric points as gauges; of one metric they stay in their order."""
    for begin in range(0, len(readings), POINTS):
        metrics: dict[str, Metric] = {}
        shared: dict[int, list[KeyValue]] = {}
        for reading in readings[begin : begin + POINTS]:
            metric = metrics.get(reading.name)
            if metric is None:
                metric = metrics[reading.name] = Metric(name=_text(reading.name), gauge=Gauge())
            series = shared.get(id(reading.attributes))
            if series is None:
                series = shared[id(reading.attributes)] = _attributes(reading.attributes)
            number = _number(reading.value)
            exemplar = Exemplar(
                time_unix_nano=reading.time_ns,
                trace_id=trace_id,
                span_id=span_id,
                filtered_attributes=_attributes(reading.about),
                **number,
            )
            metric.gauge.data_points.append(
                NumberDataPoint(time_unix_nano=reading.time_ns, attributes=series, exemplars=[exemplar], **number)
            )
        scoped = ScopeMetrics(scope=_scope(), metrics=list(metrics.values()))
        yield _bytes(
            ExportMetricsServiceRequest(
                resource_metrics=[ResourceMetrics(resource=_of(resource), scope_metrics=[scoped])]
            )
        )


def logs(resource: Pairs, lines: Iterable[Line], trace_id: bytes, span_id: bytes) -> Iterator[tuple[bytes, int]]:
    """Requests with log records, each with how many it holds."""
    held: list[LogRecord] = []
    size = 0
    for line in lines:
        message = LogRecord(
            time_unix_nano=line.time_ns,
            observed_time_unix_nano=line.seen_ns,
            severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
            severity_text="INFO",
            body=AnyValue(string_value=_text(line.body)),
            attributes=_attributes(line.attributes),
            flags=_SAMPLED,
            trace_id=trace_id,
            span_id=span_id,
        )
        if _HAS_EVENT_NAME:
            message.event_name = f"runcard.{line.kind}"
        held.append(message)
        size += len(line.body) + 300
        if size >= LOG_BYTES:
            yield _log_request(resource, held), len(held)
            held, size = [], 0
    if held:
        yield _log_request(resource, held), len(held)


def nothing(signal: str) -> bytes:
    """A request that holds nothing, which every receiver takes."""
    return _bytes(_REQUESTS[signal]())


def rejected(signal: str, answer: bytes) -> tuple[int, str]:
    """How much of a request the receiver did not keep, and why; an answer that is no protobuf is taken for a yes."""
    kind, field = _RESPONSES[signal]
    try:
        told = kind.FromString(answer).partial_success
    except Exception:  # protobuf's DecodeError has lain in several places
        return 0, ""
    return int(getattr(told, field)), str(told.error_message)


def _log_request(resource: Pairs, held: list[LogRecord]) -> bytes:
    scoped = ScopeLogs(scope=_scope(), log_records=held)
    return _bytes(ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=_of(resource), scope_logs=[scoped])]))


def _scope() -> InstrumentationScope:
    return InstrumentationScope(name="runcard", version=runcard.__version__)


def _of(resource: Pairs) -> Resource:
    return Resource(attributes=_attributes(resource))


def _attributes(pairs: Pairs) -> list[KeyValue]:
    return [KeyValue(key=_text(name), value=_value(value)) for name, value in pairs]


def _value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
    return AnyValue(string_value=_text(str(value)))


def _number(value: float) -> dict[str, Any]:
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"as_int": value}
    try:
        return {"as_double": float(value)}
    except OverflowError:
        return {"as_double": float("inf") if value > 0 else float("-inf")}


def _text(text: str) -> str:
    """A text that UTF-8 can hold, which is all that protobuf takes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _bytes(message: Any) -> bytes:
    serialised: bytes = message.SerializeToString()
    return serialised
