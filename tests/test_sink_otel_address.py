"""Where OTLP goes: the sink's URL, OpenTelemetry's variables, and what is said of those that are wrong."""

from __future__ import annotations

import pytest
from command_line import call

from runcard import configure, run
from runcard.errors import MissingExtra, SettingError
from runcard.sinks import otel, registry
from runcard.sinks._otel_address import read


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
