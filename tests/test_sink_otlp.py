"""The OTLP sink against receivers that decode the real protobuf, by HTTP and by gRPC."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import subprocess
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from runcard import attach, configure, log, run
from runcard.errors import MissingExtra, SettingError
from runcard.sinks import otlp, registry
from runcard.sinks._otlp_address import read

KINDS = {
    "traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}
METHODS = {
    f"/opentelemetry.proto.collector.{package}.v1.{service}Service/Export": signal
    for signal, package, service in (
        ("traces", "trace", "Trace"),
        ("metrics", "metrics", "Metrics"),
        ("logs", "logs", "Logs"),
    )
}


class Receiver:
    """What a receiver got, decoded; `trouble` says how it answers: signal → status code, None for all is well."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.requests, self.headers, self.trouble, self.rejects, self.asked = [], [], {}, {}, 0

    def take(self, signal, headers, body):
        """A request that arrived; the answer."""
        message = KINDS[signal][0].FromString(body)
        self.headers.append(headers)
        self.requests.append((signal, message))
        answer = KINDS[signal][1]()
        if signal in self.rejects:
            answer.partial_success.error_message = "too old"
            setattr(answer.partial_success, self.rejects[signal], 3)
        return answer.SerializeToString()

    def trouble_with(self, signal):
        self.asked += 1
        return self.trouble.get(signal, self.trouble.get("all"))

    @property
    def spans(self):
        return [
            (span, resource(outer))
            for signal, message in self.requests
            if signal == "traces"
            for outer in message.resource_spans
            for inner in outer.scope_spans
            for span in inner.spans
        ]

    @property
    def points(self):
        """(metric, point) in the order they came."""
        return [
            (metric.name, point)
            for signal, message in self.requests
            if signal == "metrics"
            for outer in message.resource_metrics
            for inner in outer.scope_metrics
            for metric in inner.metrics
            for point in metric.gauge.data_points
        ]

    @property
    def logs(self):
        return [
            entry
            for signal, message in self.requests
            if signal == "logs"
            for outer in message.resource_logs
            for inner in outer.scope_logs
            for entry in inner.log_records
        ]

    def span(self, name):
        (found,) = [span for span, _ in self.spans if span.name == name]
        return found


def plain(value):
    kind = value.WhichOneof("value")
    return [plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def attributes(message):
    return {pair.key: plain(pair.value) for pair in message.attributes}


def resource(message):
    return attributes(message.resource)


def value(point):
    return getattr(point, point.WhichOneof("value"))


def step(point):
    return {pair.key: plain(pair.value) for pair in point.exemplars[0].filtered_attributes}.get("runcard.step")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["content-length"]))
        signal = self.path.rpartition("/")[2]
        status = receiver.trouble_with(signal)
        answer = b"not today"
        if status is None and self.path.startswith(("/v1/", "/base/v1/")) and signal in KINDS:
            assert self.headers["content-type"] == "application/x-protobuf"
            body = gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body
            status, answer = 200, receiver.take(signal, dict(self.headers), body)
        self.send_response(status or 404)
        if status == 302:
            self.send_header("location", f"http://{self.headers['host']}/v1/traces")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def http_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.receiver = Receiver()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class _Services(grpc.GenericRpcHandler):
    def __init__(self, receiver):
        self.receiver = receiver

    def service(self, details):
        signal = METHODS.get(details.method)
        metadata = dict(details.invocation_metadata)

        def export(body, context):
            status = self.receiver.trouble_with(signal)
            if status is not None:
                context.abort(status, "not today")
            return self.receiver.take(signal, metadata, body)

        return grpc.unary_unary_rpc_method_handler(export) if signal else None


@pytest.fixture(scope="session")
def grpc_server():
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(_Services(receiver),))
    receiver.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver
    server.stop(None)


@pytest.fixture
def receiver(http_server):
    """A receiver by HTTP that has got nothing yet; its `url` is the sink's."""
    http_server.receiver.forget()
    http_server.receiver.url = f"otlp:http://127.0.0.1:{http_server.server_port}"
    return http_server.receiver


@pytest.fixture(params=["http", "grpc"])
def either(request):
    """A receiver by HTTP, and one by gRPC."""
    if request.param == "http":
        return request.getfixturevalue("receiver")
    grpc_receiver = request.getfixturevalue("grpc_server")
    grpc_receiver.forget()
    grpc_receiver.url = f"otlp:grpc://127.0.0.1:{grpc_receiver.port}"
    return grpc_receiver


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """The machine's own settings of OpenTelemetry are not under test."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


UNAVAILABLE = {"http": 503, "grpc": grpc.StatusCode.UNAVAILABLE}


def kind(receiver):
    return "grpc" if "grpc" in receiver.url else "http"


def test_a_run_is_a_span_with_its_times_config_and_end(either, store):
    """The span has the record's times to the microsecond, and config, judgement and metrics as attributes."""
    config = {
        "lr": 0.1,
        "layers": [1, 2],
        "model": {"depth": 3, "x.y": None},
        "big": 2**70,
        "odd": math.nan,
        "mix": [1, "a"],
    }
    with run("train", config=config, sinks=["file:", either.url], tags=["quick"], notes="first") as r:
        r.log(loss=0.5)
        r.log(loss=0.25)
        r.artifact_path("model.bin").write_bytes(b"weights")
        r.keep("good")
    ((span, _),) = either.spans
    here, told = store.get(r.run_id), attributes(span)
    assert (span.name, span.kind, span.status.code) == ("train", span.SPAN_KIND_INTERNAL, 0)
    assert span.start_time_unix_nano == round(here.started_at.timestamp() * 1e6) * 1000
    assert span.end_time_unix_nano == round(here.ended_at.timestamp() * 1e6) * 1000
    assert span.span_id == hashlib.sha256(r.run_id.encode()).digest()[:8]
    assert span.trace_id == hashlib.sha256(r.run_id.encode()).digest()[:16]
    assert span.parent_span_id == b""
    expected = {
        "runcard.run_id": r.run_id,
        "runcard.experiment": here.experiment,
        "runcard.status": "finished",
        "runcard.tags": ["quick"],
        "runcard.notes": "first",
        "runcard.decision": "keep",
        "runcard.decision_reason": "good",
        "runcard.config.lr": 0.1,
        "runcard.config.layers": [1, 2],
        "runcard.config.model.depth": 3,
        'runcard.config.model["x.y"]': "null",
        "runcard.config.big": str(2**70),
        "runcard.config.mix": '[1,"a"]',
        "runcard.metrics.loss": 0.25,
    }
    assert {name: told.get(name) for name in expected} == expected
    assert math.isnan(told["runcard.config.odd"])
    events = {event.name: attributes(event) for event in span.events}
    assert events["runcard.decision"] == {"runcard.decision": "keep", "runcard.decision_reason": "good"}
    assert events["runcard.artifact"]["runcard.artifact.name"] == "model.bin"
    assert events["runcard.artifact"]["runcard.artifact.sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_the_resource_speaks_the_semantic_conventions(receiver, store):
    """Service, host, process, system, SDK and commit have OpenTelemetry's names and the record's values."""
    configure(sinks=["file:", receiver.url])
    with run("train") as r:
        log(loss=1.0)
    here = store.get(r.run_id)
    ((_, told),) = receiver.spans
    git = here.environment.git
    assert told["service.name"] == "runcard"
    assert told["telemetry.sdk.language"] == "python"
    assert told["host.name"] == here.host
    assert told["process.pid"] == os.getpid()
    assert told["process.runtime.version"] == here.environment.python.version
    assert told["process.command_args"] == here.environment.command.orig_argv
    assert told["os.type"] == "linux"
    assert told.get("vcs.ref.head.revision") == git.commit
    assert told.get("vcs.ref.head.name") == git.branch
    for signal, message in receiver.requests:
        outer = next(iter(getattr(message, {"traces": "resource_spans", "metrics": "resource_metrics"}[signal])))
        assert resource(outer) == told


def test_the_users_own_resource_goes_first(receiver, monkeypatch):
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES name the service and add to the resource."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,team=vision%20lab,host.name=h1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "resnet")
    with run("train", sinks=[receiver.url]):
        pass
    told = receiver.spans[0][1]
    assert (told["service.name"], told["team"], told["host.name"]) == ("resnet", "vision lab", "h1")


def test_children_are_child_spans_in_their_topmost_runs_trace(receiver):
    """Children and grandchildren share the trace of the topmost run, each below its parent."""
    configure(sinks=["file:", receiver.url])
    with run("top") as top, run("middle") as middle, run("inner"):
        pass
    spans = {span.name: span for span, _ in receiver.spans}
    assert set(spans) == {"top", "middle", "inner"}
    assert {span.trace_id for span in spans.values()} == {hashlib.sha256(top.run_id.encode()).digest()[:16]}
    assert spans["middle"].parent_span_id == spans["top"].span_id
    assert spans["inner"].parent_span_id == hashlib.sha256(middle.run_id.encode()).digest()[:8]


def test_a_child_in_another_process_lands_in_the_same_trace(receiver, tmp_path):
    """A grandchild made by a subprocess finds the topmost run through the store, by token or by the environment."""
    code = f"from runcard import run\nwith run('there', sinks=['file:', {receiver.url!r}]):\n    pass"
    with run("top", sinks=["file:", receiver.url]) as top, run("middle", sinks=["file:"]) as middle:
        environment = {**os.environ, "RUNCARD_PARENT": middle.token()}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    there = receiver.span("there")
    assert there.trace_id == receiver.span("top").trace_id == hashlib.sha256(top.run_id.encode()).digest()[:16]
    assert there.parent_span_id == hashlib.sha256(middle.run_id.encode()).digest()[:8]


def test_a_run_launched_by_an_ended_one_is_linked_to_it(receiver):
    """A token whose run has ended makes a span of its own trace, with a link to the other's."""
    configure(sinks=["file:", receiver.url])
    with run("first") as first:
        token = first.token()
    with attach(token), run("second") as second:
        pass
    span = receiver.span("second")
    assert span.parent_span_id == b""
    assert span.trace_id == hashlib.sha256(second.run_id.encode()).digest()[:16]
    (link,) = span.links
    assert (link.trace_id, link.span_id) == (receiver.span("first").trace_id, receiver.span("first").span_id)
    assert attributes(link) == {"runcard.link": "launched_by"}


def test_exceptions_are_events_and_the_status_is_an_error(either):
    """A failure is an exception event with its stack, its causes are more of them, and the span has an error status."""
    with pytest.raises(RuntimeError, match="bad"), run("train", sinks=[either.url]):
        try:
            int("x")
        except ValueError as error:
            raise RuntimeError("bad") from error
    ((span, _),) = either.spans
    told, cause = [attributes(event) for event in span.events if event.name == "exception"]
    assert (told["exception.type"], told["exception.message"]) == ("RuntimeError", "bad")
    assert told["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert told["exception.stacktrace"].endswith("RuntimeError: bad")
    assert "int(" in cause["exception.stacktrace"]
    assert (cause["exception.type"], cause["runcard.exception.how"]) == ("ValueError", "cause")
    assert (span.status.code, span.status.message) == (2, "RuntimeError: bad")
    assert attributes(span)["error.type"] == "RuntimeError"
    assert attributes(span)["runcard.exit_code"] == 1


def test_metrics_are_gauges_at_the_times_they_were_logged(either, store):
    """Every point comes once, with its own time, its exact value and its step in the exemplar, not in the series."""
    with run("train", sinks=["file:", either.url]) as r:
        r.log(step=3, loss=0.1 + 0.2, count=2**53 + 1)
        r.log(step=1, loss=math.inf, count=2**64)
    points = either.points
    loss = [point for name, point in points if name == "loss"]
    assert [(value(point), step(point)) for point in loss] == [(0.1 + 0.2, 3), (math.inf, 1)]
    count = [point for name, point in points if name == "count"]
    assert [value(point) for point in count] == [2**53 + 1, float(2**64)]
    exact = {pair.key: plain(pair.value) for pair in count[1].exemplars[0].filtered_attributes}
    assert exact["runcard.exact"] == str(2**64)
    times = [point.time for point in store.history(r.run_id, "loss")]
    assert [point.time_unix_nano for point in loss] == pytest.approx([time * 1e9 for time in times], abs=500)
    series = {"runcard.run_id": r.run_id, "runcard.name": "train", "runcard.experiment": r.experiment}
    assert all(attributes(point) == series for _, point in points)
    assert loss[0].exemplars[0].span_id == hashlib.sha256(r.run_id.encode()).digest()[:8]


def test_the_step_is_an_attribute_when_asked_for(receiver):
    """With ?step=1 each point has its step among its attributes."""
    with run("train", sinks=[f"{receiver.url}?step=1"]) as r:
        r.log(step=7, loss=0.5)
    ((_, point),) = receiver.points
    assert attributes(point)["runcard.step"] == 7


def test_a_name_that_is_no_instruments_is_replaced_and_kept(receiver):
    """A metric's name with characters that OpenTelemetry does not take has them replaced; the whole is an attribute."""
    with run("train", sinks=[receiver.url]) as r:
        r.log({"train/loss": 1.0, "val loss %": 2.0, "1st": 3.0, "é": 4.0})
    named = {name: attributes(point).get("runcard.metric") for name, point in receiver.points}
    assert named == {"train/loss": None, "val_loss__": "val loss %", "metric_1st": "1st", "metric__": "é"}


def test_many_points_go_in_several_requests_in_their_order(receiver):
    """A long history is split into requests of bounded size; nothing is lost, and a series stays in its order."""
    with run("train", sinks=[receiver.url]) as r:
        for number in range(250):
            r.log({f"metric{index}": number for index in range(20)})
    assert [value(point) for name, point in receiver.points if name == "metric7"] == list(range(250))
    assert len(receiver.points) == 5_000
    assert max(message.ByteSize() for signal, message in receiver.requests) < 1_000_000


def test_notes_and_judgements_are_log_records(either):
    """Notes, given at the start or later, and decisions are logs of the run's span, with what tells them apart."""
    with run("train", notes="at first", sinks=[either.url]) as r:
        r.note("looks fine")
        r.tag("odd")
        r.discard("leak")
    logs = either.logs
    assert [entry.body.string_value for entry in logs] == ["at first", "looks fine", "tagged odd", "discard: leak"]
    assert [entry.event_name for entry in logs] == ["runcard.note", "runcard.note", "runcard.tag", "runcard.decision"]
    assert {entry.span_id for entry in logs} == {hashlib.sha256(r.run_id.encode()).digest()[:8]}
    told = [attributes(entry) for entry in logs]
    assert [(entry["runcard.writer"], entry["runcard.event"]) for entry in told] == [("journal", n) for n in range(4)]
    assert all(entry.time_unix_nano for entry in logs)


def test_console_lines_are_log_records_in_their_order(receiver):
    """What a run that captures its console printed comes line by line, and sorted by time it stays in order."""
    with run("train", sinks=["file:", receiver.url], capture=["console"]):
        print("one\n\nthree")
        print("error", file=sys.stderr)
    lines = sorted(receiver.logs, key=lambda entry: entry.observed_time_unix_nano)
    assert [entry.body.string_value for entry in lines] == ["one", "", "three", "error"]
    assert [attributes(entry)["runcard.line"] for entry in lines] == [1, 2, 3, 4]
    assert lines[-1].observed_time_unix_nano < receiver.span("train").end_time_unix_nano


PRINTING = """
import sys
from runcard import run
with run("x", sinks=["file:", sys.argv[1]], capture=sys.argv[2:]):
    print("printed")
"""


def test_output_and_changes_are_sent_only_when_asked_for(receiver, tmp_path, monkeypatch):
    """No patch is sent but with ?diff=1, no output but of runs that capture it, and none with ?output=0."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "new.py").write_text("changed = True\n")

    (tmp_path / "script.py").write_text(PRINTING)

    def run_script(query, *capture):
        receiver.forget()
        subprocess.run([sys.executable, "script.py", receiver.url + query, *capture], check=True, capture_output=True)
        assert receiver.spans
        return [(attributes(entry)["runcard.kind"], entry.body.string_value) for entry in receiver.logs]

    assert run_script("") == []
    assert run_script("", "console") == [("console", "printed")]
    assert run_script("?output=0", "console") == []
    ((_, diff),) = run_script("?diff=1")
    assert "+changed = True" in diff


def test_attributes_stay_within_limits_and_what_was_left_out_is_said(receiver, monkeypatch):
    """At most 128 attributes of at most 4,096 characters; the span says which were dropped and which were cut."""
    config = {"long": "x" * 10_000, **{f"name{number}": number for number in range(300)}}
    with run("train", config=config, sinks=[receiver.url]) as r:
        r.note("y" * 10_000)
    span = receiver.span("train")
    told = attributes(span)
    assert len(span.attributes) == 128
    assert told["runcard.config.long"] == "x" * 4_096
    assert told["runcard.cut_attributes"] == ["runcard.notes", "runcard.config.long"]
    assert told["runcard.dropped_attributes"][-1].startswith("and ")
    assert span.dropped_attributes_count > 170
    assert receiver.logs[0].body.string_value == "y" * 10_000
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "10")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5")
    with run("small", config=config, sinks=[f"{receiver.url}/"]):
        pass
    told = attributes(receiver.span("small"))
    assert len(told) == 10
    assert told["runcard.status"] == "finis"


def test_requests_are_compressed_when_the_variables_say_so(either, monkeypatch):
    """OTEL_EXPORTER_OTLP_COMPRESSION=gzip compresses by either protocol."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with run("train", sinks=[either.url]):
        pass
    (headers,) = either.headers
    assert [span.name for span, _ in either.spans] == ["train"]
    assert kind(either) == "grpc" or headers["Content-Encoding"] == "gzip"


def test_otlp_alone_is_what_the_variables_say(receiver, monkeypatch):
    """`otlp:` sends each signal to the endpoint and with the headers that OpenTelemetry's variables name."""
    address = receiver.url.removeprefix("otlp:")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{address}/base/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{address}/v1/metrics")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=vision%20lab, authorization=Bearer abcdef")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-team=metrics")
    with run("train", sinks=["otlp:"]) as r:
        r.log(loss=1)
    (first, second) = ({name.lower(): text for name, text in headers.items()} for headers in receiver.headers)
    assert ([signal for signal, _ in receiver.requests], first["x-team"]) == (["metrics", "traces"], "metrics")
    assert (second["x-team"], second["authorization"]) == ("vision lab", "Bearer abcdef")
    assert "authorization" not in first


def test_otlp_alone_speaks_grpc_when_the_variables_say_so(grpc_server, monkeypatch):
    """OTEL_EXPORTER_OTLP_PROTOCOL=grpc, with headers as metadata."""
    grpc_server.forget()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{grpc_server.port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cr3t-abc")
    with run("train", sinks=["otlp:"]):
        pass
    assert grpc_server.span("train")
    assert grpc_server.headers[0]["api-key"] == "s3cr3t-abc"


@pytest.mark.parametrize(
    ("url", "variables", "target", "secure"),
    [
        ("otlp:", {}, "http://localhost:4318/v1/traces", False),
        ("otlp:https://otlp.example.com", {}, "https://otlp.example.com/v1/traces", True),
        ("otlp:http://h:1/a/v1/traces", {}, "http://h:1/a/v1/traces", False),
        ("otlp:http://[::1]:4318", {}, "http://[::1]:4318/v1/traces", False),
        ("otlp:grpc://h", {}, "h:4317", False),
        ("otlp:grpcs://h", {}, "h:443", True),
        ("otlp:", {"PROTOCOL": "grpc"}, "localhost:4317", False),
        ("otlp:", {"PROTOCOL": "grpc", "ENDPOINT": "h:1"}, "h:1", True),
        ("otlp:", {"PROTOCOL": "grpc", "ENDPOINT": "h:1", "INSECURE": "true"}, "h:1", False),
        ("otlp:", {"PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf"}, "http://localhost:4318/v1/traces", False),
        ("otlp:", {"TRACES_ENDPOINT": "http://h:1"}, "http://h:1/", False),
        ("otlp:", {"TRACES_ENDPOINT": "", "ENDPOINT": "http://h:1/x"}, "http://h:1/x/v1/traces", False),
    ],
)
def test_where_it_goes_follows_from_url_and_variables(url, variables, target, secure):
    """A URL is the receiver's base; without one the variables are read as OpenTelemetry's specification says."""
    environ = {f"OTEL_EXPORTER_OTLP_{name}": text for name, text in variables.items()}
    endpoint = read(url, environ).endpoints["traces"]
    assert (endpoint.target, endpoint.secure) == (target, secure)


@pytest.mark.parametrize(("text", "seconds"), [("", 10), ("10", 10), ("2500", 2.5), ("600000", 60)])
def test_a_timeout_is_milliseconds_or_plainly_seconds(text, seconds):
    """The timeout is in milliseconds, one below 300 in the seconds of the Python SDK, and never above a minute."""
    assert read("otlp:", {"OTEL_EXPORTER_OTLP_TIMEOUT": text}).endpoints["logs"].timeout_s == seconds


@pytest.mark.parametrize(
    ("url", "variables", "says"),
    [
        ("otlp:localhost:4318", {}, "otlp:http://localhost:4318"),
        ("otlp:ftp://h", {}, "otlp:http://localhost:4318"),
        ("otlp://localhost:4317", {}, "otlp:http://localhost:4318"),
        ("otlp:http://", {}, "no valid host"),
        ("otlp:http://h:x", {}, "no valid host and port"),
        ("otlp:http://h?token=hunter2hunter2", {}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ("otlp:http://h?diff=perhaps", {}, "diff= .* 1 or 0"),
        ("otlp:http://h?signals=spans", {}, "signals=traces"),
        ("otlp:", {"ENDPOINT": "hunter2hunter2"}, "no http:// or https:// address"),
        ("otlp:", {"PROTOCOL": "http/json"}, "http/protobuf and grpc"),
        ("otlp:", {"HEADERS": "hunter2hunter2"}, "no name=value"),
        ("otlp:", {"HEADERS": "a=b%0d%0aevil: hunter2hunter2"}, "no name=value"),
        ("otlp:", {"COMPRESSION": "zstd"}, "gzip and none"),
        ("otlp:", {"TIMEOUT": "soon"}, "number of milliseconds"),
        ("otlp:", {"CERTIFICATE": "/no/such.pem"}, "which is no file"),
    ],
)
def test_what_is_not_accepted_is_said_at_configure(url, variables, says, monkeypatch):
    """A bad URL or variable is a SettingError that shows a right one and no secret."""
    for name, text in variables.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", text)
    registry._checked.clear()
    with pytest.raises(SettingError, match=says) as caught:
        configure(sinks=[url])
    assert "hunter2hunter2" not in str(caught.value)


def test_a_missing_extra_is_said(monkeypatch):
    """Without the protocol's package, or without gRPC's where it is wanted, the message has the pip command."""
    import importlib.util

    find_spec = importlib.util.find_spec
    for missing, url in (("opentelemetry.proto", "otlp:http://h"), ("grpc", "otlp:grpc://h")):

        def found(name, missing=missing):
            return None if name == missing else find_spec(name)

        monkeypatch.setattr(importlib.util, "find_spec", found)
        with pytest.raises(MissingExtra, match=r'pip install "runcard\[otlp\]"'):
            otlp.open_sink(url)
    otlp.open_sink("otlp:http://h")
