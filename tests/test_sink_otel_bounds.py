"""What the OTLP sink keeps to itself: credentials, uncommitted changes, the program's own telemetry."""

from __future__ import annotations

import ssl
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from secrets import token_hex

import grpc
import pytest
from command_line import call
from otlp_receivers import GrpcReceiver, HttpReceiver, attributes

from runcard import RuncardWarning, configure, run
from runcard.errors import StoreError
from runcard.journal import encode
from runcard.sinks import otel
from runcard.sinks._otel_run import parent_on_disk

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


def test_a_parent_is_looked_for_by_a_runs_id_alone(tmp_path):
    """An id in a damaged or hostile record leads to no file outside the store."""
    event = {"n": 0, "kind": "start", "t": 1.0, "parent_id": "20260101T000000-aaaaaaaa"}
    for place in ("elsewhere", "store/20260101T000000-bbbbbbbb"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "journal.jsonl").write_bytes(encode(event))
    folder = str(tmp_path / "store" / "20260101T000000-cccccccc")
    assert parent_on_disk("20260101T000000-bbbbbbbb", folder) == "20260101T000000-aaaaaaaa"
    assert parent_on_disk("../elsewhere", folder) is None


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
