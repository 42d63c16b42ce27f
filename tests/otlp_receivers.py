"""Receivers of OTLP by HTTP and by gRPC that decode the real protobuf, and how tests read what they got."""

from __future__ import annotations

import gzip
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from runcard.journal import Reading

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


def sent(receiver):
    """What was sent, as far as it tells one delivery from another: nothing."""
    return sorted((signal, message.SerializeToString(deterministic=True)) for signal, message in receiver.requests)


def events_of(r):
    return [{**event, "writer": "journal"} for event in Reading(r.folder / "journal.jsonl")]
