"""The OTLP sink against receivers that decode the real protobuf, by HTTP and by gRPC."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import ssl
import subprocess
import sys
import threading
import time
import warnings
from base64 import b64encode
from concurrent import futures
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from secrets import token_hex

import grpc
import pytest
from command_line import call
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from records import BEGAN, record

from runcard import RuncardWarning, attach, configure, log, open_store, run
from runcard.errors import MissingExtra, SettingError, StoreError
from runcard.journal import Reading, encode
from runcard.record import History, Point, Status
from runcard.sinks import otel, registry
from runcard.sinks._otel_address import read
from runcard.sinks._otel_run import parent_on_disk
from runcard.testing import check_sink

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
        self.says = "not today"

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


def wait_until(condition):
    """Wait for what another thread does; a test that waits in vain fails at what it asserts."""
    for _ in range(1_000):
        if condition():
            return
        time.sleep(0.01)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["content-length"]))
        signal = self.path.rpartition("/")[2]
        status = receiver.trouble_with(signal)
        answer = receiver.says.encode()
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


class HttpReceiver(Receiver):
    """By HTTP, on a port of its own; it can go down and come up again."""

    def __init__(self):
        super().__init__()
        self.port = 0
        self.up()
        self.url = f"otlp:http://127.0.0.1:{self.port}"

    def up(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), _Handler)
        self.server.receiver = self
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self):
        self.server.shutdown()
        self.server.server_close()


class _Services(grpc.GenericRpcHandler):
    def __init__(self, receiver):
        self.receiver = receiver

    def service(self, details):
        signal = METHODS.get(details.method)
        metadata = dict(details.invocation_metadata)

        def export(body, context):
            status = self.receiver.trouble_with(signal)
            if status is not None:
                context.abort(status, self.receiver.says)
            return self.receiver.take(signal, metadata, body)

        return grpc.unary_unary_rpc_method_handler(export) if signal else None


class GrpcReceiver(Receiver):
    """The same by gRPC."""

    def __init__(self):
        super().__init__()
        self.port = 0
        self.up()
        self.url = f"otlp:grpc://127.0.0.1:{self.port}"

    def up(self, credentials=None):
        self.server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(_Services(self),))
        address = f"127.0.0.1:{self.port}"
        add = self.server.add_secure_port if credentials else self.server.add_insecure_port
        self.port = add(address, *([credentials] if credentials else []))
        self.server.start()

    def down(self):
        self.server.stop(None).wait(5)


@pytest.fixture
def receiver():
    """A receiver by HTTP; its `url` is the sink's."""
    found = HttpReceiver()
    yield found
    found.down()


@pytest.fixture
def grpc_receiver():
    """A receiver by gRPC."""
    found = GrpcReceiver()
    yield found
    found.down()


@pytest.fixture(params=["http", "grpc"])
def either(request):
    """A receiver by HTTP, and one by gRPC."""
    return request.getfixturevalue("receiver" if request.param == "http" else "grpc_receiver")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """The machine's own settings of OpenTelemetry are not under test."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


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
    assert told["service.name"] == "runcard"
    assert told["telemetry.sdk.language"] == "python"
    assert told["host.name"] == here.host
    assert told["process.pid"] == os.getpid()
    assert told["process.runtime.version"] == here.environment.python.version
    assert told["process.command_args"] == here.environment.command.orig_argv
    assert told["os.type"] == "linux"
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


def test_many_points_go_in_several_requests_in_their_order(receiver, store):
    """A long history is split into requests of bounded size; nothing is lost, and a series stays in its order."""
    with run("train", sinks=["file:"]) as r:
        for number in range(250):
            r.log({f"metric{index}": number for index in range(40)})
    otel.open_sink(receiver.url).extend(r.run_id, events_of(r))
    assert [value(point) for name, point in receiver.points if name == "metric7"] == list(range(250))
    assert len(receiver.points) == 10_000
    assert max(message.ByteSize() for _, message in receiver.requests) < 1_000_000
    assert len(receiver.requests) == 5


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
    assert len({entry.observed_time_unix_nano for entry in lines}) == 4
    assert lines[-1].observed_time_unix_nano < receiver.span("train").end_time_unix_nano


def test_the_code_is_told_by_commit_branch_and_repository(receiver, tmp_path):
    """A function's repository is in the resource without its credentials, the function in the span."""

    def git(*arguments):
        who = ("-c", "user.name=ana", "-c", "user.email=ana@example.com")
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    (tmp_path / "script.py").write_text(TRACKED)
    git("init", "-q", "-b", "trunk")
    git("remote", "add", "origin", "https://ana:hunter2@git.example.com/lab/model.git")
    git("add", "script.py")
    git("commit", "-q", "-m", "first")
    subprocess.run([sys.executable, "script.py", receiver.url], cwd=tmp_path, check=True, capture_output=True)
    ((span, told),) = receiver.spans
    assert told["vcs.ref.head.revision"] == git("rev-parse", "HEAD")
    assert (told["vcs.ref.head.name"], told["vcs.ref.head.type"]) == ("trunk", "branch")
    assert told["vcs.repository.url.full"] == "https://git.example.com/lab/model.git"
    said = attributes(span)
    assert said["code.function.name"] == "__main__.Trainer.train"
    assert said["code.file.path"].endswith("script.py")
    assert said["code.line.number"] == 5


TRACKED = """
import sys
from runcard import configure, tracked
class Trainer:
    @tracked
    def train(self, lr=0.1):
        return {"loss": lr}
configure(sinks=["file:", sys.argv[1]])
Trainer().train()
"""

PRINTING = """
import sys
from runcard import run
with run("x", sinks=["file:", sys.argv[1]], capture=sys.argv[2:]):
    print("printed")
"""


def test_a_long_output_goes_in_several_requests(receiver, store):
    """Lines are split into requests of bounded size, whatever their number."""
    with run("train", sinks=["file:"], capture=["console"]) as r:
        for number in range(2_000):
            print(f"{number} {'x' * 500}")
    otel.open_sink(receiver.url).finish(store.get(r.run_id))
    assert [int(entry.body.string_value.split()[0]) for entry in receiver.logs] == list(range(2_000))
    assert max(message.ByteSize() for _, message in receiver.requests) < 1_000_000


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
    assert "grpc" in either.url or headers["Content-Encoding"] == "gzip"


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


def test_otlp_alone_speaks_grpc_when_the_variables_say_so(grpc_receiver, monkeypatch):
    """OTEL_EXPORTER_OTLP_PROTOCOL=grpc, with headers as metadata."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{grpc_receiver.port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cr3t-abc")
    with run("train", sinks=["otlp:"]):
        pass
    assert grpc_receiver.span("train")
    assert grpc_receiver.headers[0]["api-key"] == "s3cr3t-abc"


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


def test_signals_are_chosen_in_the_url():
    """Several go with a plus, since a comma parts the sinks of a setting."""
    assert list(read("otlp:http://h?signals=traces+logs", {}).endpoints) == ["traces", "logs"]
    assert list(read("otlp:", {}).endpoints) == ["traces", "metrics", "logs"]


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
        with pytest.raises(MissingExtra, match=r'pip install "runcard\[otel\]"'):
            otel.open_sink(url)
    otel.open_sink("otlp:http://h")


def sent(receiver):
    """What was sent, as far as it tells one delivery from another: nothing."""
    return sorted((signal, message.SerializeToString(deterministic=True)) for signal, message in receiver.requests)


def events_of(r):
    return [{**event, "writer": "journal"} for event in Reading(r.folder / "journal.jsonl")]


def test_nothing_is_lost_while_the_receiver_is_down(either):
    """What a run could not deliver comes with `runcard sync` when the receiver is up again, all of it and in order."""
    either.down()
    configure(sinks=["file:", either.url], deadline=0.2)
    with pytest.warns(RuncardWarning, match="took not all of the run"), run("train") as r:
        for number in range(20):
            r.log(loss=number)
        r.note("by hand")
    assert call("doctor", either.url).exit_code == 2
    either.up()
    done = call("sync")
    assert (done.exit_code, "1 run delivered" in done.stdout) == (0, True), done
    assert {value(point): step(point) for _, point in either.points} == {number: number for number in range(20)}
    assert {entry.body.string_value for entry in either.logs} == {"by hand"}
    assert {span.span_id for span, _ in either.spans} == {hashlib.sha256(r.run_id.encode()).digest()[:8]}
    assert call("sync").stdout == "0 runs delivered\n"


@pytest.mark.parametrize("trouble", [429, 500, 502, 503])
def test_an_answer_that_asks_for_patience_is_tried_again(receiver, trouble):
    """A receiver that is too busy for a while gets everything later, within the same run, and no point twice."""
    receiver.trouble = {"all": trouble}
    with run("train", sinks=["file:", receiver.url]) as r:
        for number in range(5):
            r.log(loss=number)
        wait_until(lambda: receiver.asked >= 2)
        receiver.trouble = {}
    assert [value(point) for _, point in receiver.points] == [0, 1, 2, 3, 4]
    assert len(receiver.spans) == 1


KILLED = """
import os, signal, sys
from runcard import run
with run("killed", sinks=["file:", sys.argv[1]]) as r:
    for number in range(10):
        r.log(loss=number)
    r.note("last words")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_process_delivers_what_a_killed_one_left(either):
    """A run that was killed is a span with an error, its points and notes with it, from the next run with the sink."""
    assert subprocess.run([sys.executable, "-c", KILLED, either.url], check=False).returncode == -9
    assert either.spans == []
    configure(sinks=["file:", either.url])
    with run("next"):
        pass
    wait_until(lambda: len(either.spans) == 2)
    killed = either.span("killed")
    assert (killed.status.code, killed.status.message) == (2, "crashed: the run ended with no last word")
    assert attributes(killed)["runcard.status"] == "crashed"
    assert killed.end_time_unix_nano >= killed.start_time_unix_nano + 1
    assert {value(point) for _, point in either.points} == set(range(10))
    assert "last words" in [entry.body.string_value for entry in either.logs]


def test_a_second_delivery_in_a_process_sends_no_event_again(receiver, store):
    """Events that were sent change nothing when they come again; new ones among them are sent."""
    with run("train", sinks=["file:"]) as r:
        r.log(loss=1.0)
        r.log(loss=2.0)
        r.note("n")
    sink, events = otel.open_sink(receiver.url), events_of(r)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, events[:2])
    sink.append(r.run_id, events[1])
    sink.extend(r.run_id, events)
    sink.extend(r.run_id, events)
    assert [value(point) for _, point in receiver.points] == [1.0, 2.0]
    assert len(receiver.logs) == 1


def test_what_another_process_sends_again_is_the_same_to_the_byte(receiver, store):
    """A new sink, as after a kill, sends what the first one sent: ids, times and attributes follow from the run."""
    with run("top", sinks=["file:"]), run("train", sinks=["file:"], capture=["console"]) as r:
        r.log(loss=1.0)
        r.note("n")
        print("printed")
    told = []
    for _ in range(2):
        receiver.forget()
        sink = otel.open_sink(receiver.url)
        sink.start(store.get(r.run_id))
        sink.extend(r.run_id, events_of(r))
        sink.finish(store.get(r.run_id))
        told.append(sent(receiver))
    assert told[0] == told[1]
    assert len(told[0]) == 4


def test_a_finish_that_is_tried_again_prints_no_line_twice(receiver, store):
    """When the span is not taken, the second try leaves out the lines that were."""
    with run("train", sinks=["file:"], capture=["console"]) as r:
        print("printed")
    sink = otel.open_sink(receiver.url)
    receiver.trouble = {"traces": 503}
    with pytest.raises(StoreError, match="answered 503 Service Unavailable: not today"):
        sink.finish(store.get(r.run_id))
    receiver.trouble = {}
    sink.finish(store.get(r.run_id))
    assert [entry.body.string_value for entry in receiver.logs] == ["printed"]
    assert len(receiver.spans) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_an_answer_that_a_person_can_mend_is_kept_for_later(receiver, store, status):
    """A wrong key or address is a failure, so that the run stays until it is mended; a redirect is not followed."""
    with run("train", sinks=["file:"]) as r:
        r.log(loss=1.0)
    receiver.trouble = {"all": status}
    sink = otel.open_sink(receiver.url)
    with pytest.raises(StoreError, match=str(status)):
        sink.extend(r.run_id, events_of(r))
    with pytest.raises(StoreError, match=str(status)):
        sink.finish(store.get(r.run_id))
    receiver.trouble = {}
    sink.extend(r.run_id, events_of(r))
    assert len(receiver.points) == 1


REFUSED = {"http": 400, "grpc": grpc.StatusCode.INVALID_ARGUMENT}


def test_what_is_refused_for_good_is_said_and_holds_nothing_up(either, capsys):
    """Data that the receiver will never take is warned of once; everything after it still comes."""
    either.trouble = {"metrics": REFUSED["grpc" if "grpc" in either.url else "http"]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with run("train", sinks=["file:", either.url]) as r:
            r.log(loss=1.0)
            wait_until(lambda: either.asked)
            r.log(loss=2.0)
    told = [str(warning.message) for warning in caught]
    assert [text for text in told if "refused metrics for good" in text and "not today" in text] == told
    assert len(told) == 1
    assert len(either.spans) == 1


def test_a_partial_success_is_said(receiver):
    """What a receiver says it did not keep is warned of, with its reason, and not sent again."""
    receiver.rejects = {"metrics": "rejected_data_points"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with run("train", sinks=["file:", receiver.url]) as r:
            r.log(loss=1.0)
    assert [str(warning.message) for warning in caught] == [
        f"the sink {receiver.url} did not keep 3 of the metrics: too old"
    ]
    assert len(receiver.points) == 1


ABSENT = {"http": 404, "grpc": grpc.StatusCode.UNIMPLEMENTED}


def test_a_receiver_of_traces_alone_gets_the_traces(either):
    """Where only traces are served, the span comes, what is not taken is said once, and ?signals=traces is the cure."""
    absent = ABSENT["grpc" if "grpc" in either.url else "http"]
    either.trouble = {"metrics": absent, "logs": absent}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with run("train", notes="n", sinks=["file:", either.url]) as r:
            r.log(loss=1.0)
    assert len(either.spans) == 1
    said = "it takes no logs and no metrics; write ?signals=traces after its URL"
    assert [str(warning.message).partition(": ")[2] for warning in caught] == [said]
    asked = either.asked
    with run("second", notes="n", sinks=["file:", either.url]) as r:
        r.log(loss=1.0)
    assert either.asked == asked + 1
    done = call("doctor", either.url)
    assert (done.exit_code, "write ?signals=traces after its URL" in done.stdout) == (2, True)
    assert call("doctor", f"{either.url}?signals=traces").exit_code == 0
    with run("again", notes="n", sinks=["file:", f"{either.url}?signals=traces"]) as r:
        r.log(loss=1.0)
    assert either.span("again")


def test_doctor_says_whether_it_can_be_reached(either):
    """`runcard doctor URL` sends nothing but empty requests, and says what is wrong."""
    done = call("doctor", either.url)
    assert (done.exit_code, "can be reached and written" in done.stdout) == (0, True)
    assert either.spans == either.points == either.logs == []
    assert [signal for signal, _ in either.requests] == ["traces", "metrics", "logs"]
    either.down()
    done = call("doctor", either.url)
    assert (done.exit_code, "refused" in done.stdout) == (2, True)
    either.up()


def test_no_credential_is_recorded_or_said(receiver, tmp_path, monkeypatch, capfd):
    """Headers and the password of a URL reach the receiver, and neither files, messages, errors nor `repr`."""
    secret = token_hex(8)  # made here, lest it stands in the changes of a repository
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-key={secret}-in-a-header")
    url = receiver.url.replace("http://", f"http://ana:{secret}-in-the-url@")
    configure(sinks=["file:", url], deadline=0.3)
    with run("fine") as r:
        r.log(loss=1.0)
    headers = {name.lower(): text for name, text in receiver.headers[0].items()}
    assert headers["x-key"] == f"{secret}-in-a-header"
    assert headers["authorization"] == "Basic " + b64encode(f"ana:{secret}-in-the-url".encode()).decode()
    receiver.trouble = {"all": 503}
    with pytest.warns(RuncardWarning) as caught, run("waits"):
        pass
    assert list((tmp_path / "runcards" / ".pending").iterdir())
    sink = otel.open_sink(url)
    with pytest.raises(StoreError) as failure:
        sink.probe()
    said = [str(warning.message) for warning in caught]
    said += [repr(sink), repr(vars(sink)), str(failure.value), call("doctor", url).stdout, *capfd.readouterr()]
    written = b"".join(path.read_bytes() for path in (tmp_path / "runcards").rglob("*") if path.is_file())
    assert not any(secret in text for text in said)
    assert secret.encode() not in written
    receiver.trouble = {}
    assert call("sync").exit_code == 0


def test_headers_do_not_follow_a_redirect(receiver, monkeypatch):
    """A receiver that points elsewhere gets no second request with the headers."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    receiver.trouble = {"logs": 302}
    with pytest.raises(StoreError, match="302"):
        otel.open_sink(f"{receiver.url}?signals=logs").probe()
    assert (receiver.asked, receiver.requests) == (1, [])


def make_certificate(folder):
    """A certificate for 127.0.0.1 that nobody signed but itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain_key = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain_key))
    return certificate, private


@pytest.mark.parametrize("protocol", ["https", "grpcs"])
def test_a_certificate_is_verified_and_one_of_ones_own_can_be_named(protocol, tmp_path, monkeypatch):
    """TLS is verified whatever a repository's files say; OTEL_EXPORTER_OTLP_CERTIFICATE names whom to trust."""
    certificate, key = make_certificate(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.runcard]\nverify = false\n[tool.otel]\ninsecure = true\n")
    if protocol == "https":
        receiver = HttpReceiver()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        receiver.server.socket = context.wrap_socket(
            receiver.server.socket, server_side=True, do_handshake_on_connect=False
        )
        receiver.server.handle_error = lambda *_: None  # a client that does not trust it hangs up
    else:
        receiver = GrpcReceiver()
        pair = (key.read_bytes(), certificate.read_bytes())
        receiver.down()
        receiver.up(grpc.ssl_server_credentials([pair]))
    url = f"otlp:{protocol}://127.0.0.1:{receiver.port}"
    try:
        with pytest.raises(StoreError, match=r"(?i)certificate|handshake|unavailable"):
            otel.open_sink(url).probe()
        assert receiver.requests == []
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate))
        otel.open_sink(url).probe()
        assert len(receiver.requests) == 3
    finally:
        receiver.down()


OWN_TELEMETRY = """
import sys, urllib.request
from opentelemetry import context, metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from runcard import run

kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
plain = urllib.request.OpenerDirector.open

def instrumented(self, *arguments, **options):
    if not context.get_value("suppress_instrumentation"):
        with trace.get_tracer("http").start_as_current_span("POST"):
            return plain(self, *arguments, **options)
    return plain(self, *arguments, **options)

urllib.request.OpenerDirector.open = instrumented
with trace.get_tracer("mine").start_as_current_span("outer") as outer:
    with run("train", sinks=["file:", sys.argv[1]]) as r:
        r.log(loss=1.0)
        assert trace.get_current_span() is outer
assert trace.get_tracer_provider() is provider
assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
print([span.name for span in kept.get_finished_spans()])
"""


def test_the_programs_own_telemetry_is_left_alone(receiver):
    """A program's tracer, current span and instrumentation see nothing of a run's export."""
    done = subprocess.run(
        [sys.executable, "-c", OWN_TELEMETRY, receiver.url], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("['outer']\n", "")
    assert receiver.span("train").parent_span_id == b""


def test_nothing_of_opentelemetry_is_loaded_before_it_is_used():
    """Naming the sink loads neither protobuf's classes nor grpcio, and a sink by HTTP never loads the SDK or grpcio."""
    code = """
import sys, runcard
runcard.configure(sinks=["otlp:http://127.0.0.1:9", "otlp:grpc://127.0.0.1:9"])
heavy = ("opentelemetry.proto.trace", "opentelemetry.sdk", "grpc", "google.protobuf")
print([name for name in heavy if name in sys.modules])
import runcard.sinks._otel_messages
print([name for name in ("opentelemetry.sdk", "grpc", "requests") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


def test_the_contract_of_sinks_holds(receiver):
    """Any record, any number of times, from other threads, with faults and without a journal."""
    check_sink(lambda: otel.open_sink(receiver.url))


def test_a_record_without_a_journal_brings_its_points(receiver):
    """A run that no disk took is exported as far as its record tells it."""
    given = record(1, notes="n", metric_history=History([Point("loss", 0, 2.0, 1_795_000_000.5)]))
    otel.open_sink(receiver.url).finish(given)
    ((name, point),) = receiver.points
    assert (name, value(point), point.time_unix_nano) == ("loss", 2.0, 1_795_000_000_500_000_000)
    assert [entry.body.string_value for entry in receiver.logs] == ["n"]
    assert len(receiver.spans) == 1


def test_a_run_whose_events_were_delivered_brings_no_points_again(receiver, store):
    """When only the end was missing, the next process sends the end alone."""
    with run("train", sinks=["file:"]) as r:
        r.log(loss=1.0)
    otel.open_sink(receiver.url).finish(store.get(r.run_id))
    assert (receiver.points, len(receiver.spans)) == ([], 1)


def test_another_ranks_points_are_a_series_of_their_own(receiver, store):
    """What rank 3 of a launch logged carries its rank; the owner's points carry none."""
    with run("train", sinks=["file:"]) as r:
        r.log(loss=1.0)
    sink, events = otel.open_sink(receiver.url), events_of(r)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, events)
    sink.extend(r.run_id, [{**event, "writer": "journal-rank3"} for event in events])
    assert [attributes(point).get("runcard.rank") for _, point in receiver.points] == [None, 3]


def test_a_forked_child_exports_through_a_connection_of_its_own(either):
    """After a fork both sides go on exporting, by gRPC too."""
    configure(sinks=["file:", either.url])
    with run("before"):
        pass
    child = os.fork()
    if child == 0:
        with run("child"):
            pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with run("after"):
        pass
    assert {span.name for span, _ in either.spans} == {"before", "child", "after"}


def test_a_store_is_copied_with_its_late_judgements(receiver, store):
    """`runcard sync FROM otlp:…` exports every ended run, children in their traces, and what was said later."""
    with run("top", sinks=["file:"]) as top, run("middle", sinks=["file:"]), run("inner", sinks=["file:"]) as r:
        r.log(loss=1.0)
    store.keep(r.run_id, "on second thoughts")
    assert call("sync", store.root, receiver.url).stdout == "3 runs copied\n"
    assert {span.trace_id for span, _ in receiver.spans} == {hashlib.sha256(top.run_id.encode()).digest()[:16]}
    assert attributes(receiver.span("inner"))["runcard.decision"] == "keep"
    assert [entry.body.string_value for entry in receiver.logs] == ["keep: on second thoughts"]
    assert len(receiver.points) == 1


def test_runs_without_folders_find_their_trace_by_those_before(receiver):
    """Where there are no journals to look at, as in a copy from a database, the runs that came before are known."""
    sink = otel.open_sink(receiver.url)
    top = record(1, name="top")
    middle = record(2, name="middle", parent_id=top.run_id)
    for each in (top, middle, record(3, name="inner", parent_id=middle.run_id)):
        sink.start(each)
        sink.finish(each)
    assert {span.trace_id for span, _ in receiver.spans} == {hashlib.sha256(top.run_id.encode()).digest()[:16]}


def test_it_cannot_be_read_back(receiver):
    """A receiver takes and never gives: opening it as a store says so."""
    with pytest.raises(SettingError, match="cannot be read back"):
        open_store(receiver.url)


def test_many_events_never_crowd_out_the_exception(receiver):
    """Of more than 128 events the exception stays, and the count of the dropped is told."""
    files = [{"name": f"f{number}", "path": f"artifacts/f{number}"} for number in range(200)]
    error = {"type": "ValueError", "message": "bad", "traceback": "x" * 50_000, "causes": []}
    otel.open_sink(receiver.url).finish(record(1, status=Status.FAILED, artifacts=files, error=error))
    span = receiver.span("train")
    (told,) = [attributes(event) for event in span.events if event.name == "exception"]
    assert (len(span.events), span.dropped_events_count) == (128, 73)
    assert len(told["exception.stacktrace"]) < 17_000
    assert told["exception.stacktrace"].endswith("x\nValueError: bad")


def test_a_renamed_run_goes_on_in_its_series(receiver):
    """The name among a point's attributes is the first one: another would begin another series."""
    sink = otel.open_sink(receiver.url)
    given = record(1)
    log_event = {"n": 1, "kind": "log", "t": 1_795_000_000.0, "writer": "journal", "metrics": {"loss": 1.0}}
    sink.start(given)
    sink.extend(given.run_id, [log_event])
    sink.start(record(1, name="better"))
    sink.extend(given.run_id, [{**log_event, "n": 2}])
    assert [attributes(point)["runcard.name"] for _, point in receiver.points] == ["train", "train"]


def test_a_parent_is_looked_for_by_a_runs_id_alone(tmp_path):
    """An id in a damaged or hostile record leads to no file outside the store."""
    event = {"n": 0, "kind": "start", "t": 1.0, "parent_id": "20260101T000000-aaaaaaaa"}
    for place in ("elsewhere", "store/20260101T000000-bbbbbbbb"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "journal.jsonl").write_bytes(encode(event))
    folder = str(tmp_path / "store" / "20260101T000000-cccccccc")
    assert parent_on_disk("20260101T000000-bbbbbbbb", folder) == "20260101T000000-aaaaaaaa"
    assert parent_on_disk("../elsewhere", folder) is None


def test_no_span_ends_before_it_began(receiver):
    """When the clock was set back during a run, and when a run crashed, the end follows from the duration."""
    sink = otel.open_sink(receiver.url)
    sink.finish(record(1, ended_at=BEGAN - timedelta(hours=1), duration_s=2.5))
    sink.finish(record(2, ended_at=None, duration_s=3.0, status=Status.CRASHED))
    lengths = [span.end_time_unix_nano - span.start_time_unix_nano for span, _ in receiver.spans]
    assert lengths == [2_500_000_000, 3_000_000_000]


def test_no_proxy_stands_between_a_program_and_its_own_machine(either, monkeypatch):
    """A receiver on the loopback is reached though a proxy is set for everything."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    otel.open_sink(either.url).probe()
    assert len(either.requests) == 3


def test_what_a_receiver_says_is_shown_short_and_without_secrets(either):
    """An error quotes the receiver in one line of printable characters, with secrets taken out."""
    either.trouble = {"all": 401 if "http:" in either.url else grpc.StatusCode.UNAUTHENTICATED}
    either.says = "bad key\n\x1b[31m Authorization: Bearer abcdefghijklmnop0123456789 " + "x" * 1_000
    with pytest.raises(StoreError) as caught:
        otel.open_sink(either.url).probe()
    told = str(caught.value)
    assert "bad key" in told
    assert "abcdefghijklmnop" not in told
    assert told.isprintable()
    assert len(told) < 300


def test_texts_and_numbers_that_protobuf_cannot_hold_arrive_all_the_same(receiver):
    """Lone surrogates are escaped; an integer beyond every float is infinite, with its digits beside it."""
    history = History([Point("big", 0, 10**400, 1_795_000_000.0), Point("small", 0, -(10**400), 1_795_000_000.0)])
    otel.open_sink(receiver.url).finish(record(1, name="a\udc80", tags=["\udc80"], metric_history=history))
    assert attributes(receiver.span("a\\udc80"))["runcard.tags"] == ["\\udc80"]
    assert [value(point) for _, point in receiver.points] == [math.inf, -math.inf]
    told = {pair.key: plain(pair.value) for pair in receiver.points[0][1].exemplars[0].filtered_attributes}
    assert told["runcard.exact"] == str(10**400)


def test_what_is_remembered_of_runs_is_bounded(receiver, monkeypatch):
    """A process of many runs keeps what it knows of the latest alone."""
    monkeypatch.setattr(otel, "_REMEMBERED", 3)
    sink = otel.open_sink(receiver.url)
    for number in range(10):
        sink.start(record(number))
    assert list(sink._followed) == [record(number).run_id for number in (7, 8, 9)]


def test_one_answer_of_not_found_loses_nothing(receiver, monkeypatch):
    """When a signal is served after all, as where a proxy was being set up, its data is kept and sent again."""
    sink = otel.open_sink(receiver.url)
    receiver.trouble = {"metrics": 404}
    with pytest.raises(StoreError, match="404"):
        monkeypatch.setattr(sink, "_absent", set)
        sink.finish(record(1, metric_history=History([Point("loss", 0, 2.0, 1_795_000_000.5)])))
    receiver.trouble = {}
    sink.finish(record(1, metric_history=History([Point("loss", 0, 2.0, 1_795_000_000.5)])))
    assert len(receiver.points) == 1
