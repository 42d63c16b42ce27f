"""Where OTLP goes and how: the sink's URL and OpenTelemetry's own variables, put together.

``otlp:`` alone is what ``OTEL_EXPORTER_OTLP_*`` say, signal by signal. A URL after the colon takes the place of the
endpoints and protocols; headers, certificates, compression and timeout are the variables' in either case.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from runcard.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNALS = ("traces", "metrics", "logs")
EXAMPLE = "otlp:http://localhost:4318, otlp:grpc://localhost:4317, or otlp: for OTEL_EXPORTER_OTLP_ENDPOINT"
_SCHEMES = {"http": ("http", False), "https": ("http", True), "grpc": ("grpc", False), "grpcs": ("grpc", True)}
_PORTS = {("grpc", False): 4317, ("grpc", True): 443}
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")  # of a header
_LONGEST_S = 60.0
_SECONDS_BELOW = 300  # OpenTelemetry's timeouts are milliseconds, but its Python SDK reads seconds: 10 is never 10 ms
_YES, _NO = ("", "1", "true", "yes", "on"), ("0", "false", "no", "off")


class Endpoint(NamedTuple):
    """Where one signal goes.

    Attributes:
        protocol: ``http`` (protobuf over HTTP) or ``grpc``.
        target: The full URL of the signal, or gRPC's ``host:port``; never with credentials.
        secure: Whether by TLS, which is always verified.
        headers: Sent with each request; their values are secrets.
        timeout_s: How long one request may take.
        gzip: Whether requests are compressed.
        certificate, client_certificate, client_key: Files: whom to trust, and who we are; None for the usual.
    """

    protocol: str
    target: str
    secure: bool
    headers: Mapping[str, str]
    timeout_s: float
    gzip: bool
    certificate: str | None
    client_certificate: str | None
    client_key: str | None

    def __repr__(self) -> str:
        return f"<Endpoint {self.target}>"


class Options(NamedTuple):
    """What a sink's URL asks for.

    Attributes:
        endpoints: By signal; a signal that is not wanted is not there.
        diff: Whether uncommitted changes are sent.
        output: Whether console output is sent, of runs that captured it.
        step: Whether the step is an attribute of each metric point.
    """

    endpoints: Mapping[str, Endpoint]
    diff: bool
    output: bool
    step: bool


def read(url: str, environ: Mapping[str, str] = os.environ) -> Options:
    """What a URL and the variables mean.

    Raises:
        SettingError: For what is not accepted; the message never holds a credential.
    """
    address, _, query = url.partition(":")[2].partition("?")
    asked = _query(query)
    chosen = asked.pop("signals", None)
    signals = SIGNALS if chosen is None else tuple(chosen.replace(",", " ").split())
    if not signals or not set(signals) <= set(SIGNALS):
        raise SettingError(f"signals= in an otlp: URL takes {', '.join(SIGNALS)}, several with +: signals=traces+logs")
    flags = {name: _flag(name, value) for name, value in asked.items()}
    endpoints = {signal: _endpoint(signal, address, environ) for signal in signals}
    return Options(endpoints, flags.get("diff", False), flags.get("output", True), flags.get("step", False))


def _query(query: str) -> dict[str, str]:
    asked = dict(parse_qsl(query, keep_blank_values=True))
    for name in asked:
        if name not in ("diff", "output", "step", "signals"):
            raise SettingError(
                "an otlp: URL takes diff=1, output=0, step=1 and signals=traces+metrics+logs after its ?, "
                "nothing else; credentials are given in OTEL_EXPORTER_OTLP_HEADERS"
            )
    return asked


def _flag(name: str, value: str) -> bool:
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise SettingError(f"{name}= in an otlp: URL is 1 or 0")


def _endpoint(signal: str, address: str, environ: Mapping[str, str]) -> Endpoint:
    protocol, location, secure, authority = _located(signal, address, environ)
    headers = _headers(signal, environ)
    if authority:
        headers["authorization"] = f"Basic {b64encode(authority.encode()).decode()}"
    certificate = _file(signal, "CERTIFICATE", environ)
    client = _file(signal, "CLIENT_CERTIFICATE", environ), _file(signal, "CLIENT_KEY", environ)
    if (client[0] is None) != (client[1] is None):
        raise SettingError("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY go together")
    compression = _variable(signal, "COMPRESSION", environ) or "none"
    if compression not in ("gzip", "none"):
        raise SettingError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {compression!r}; accepted are gzip and none")
    timeout_s = _timeout(signal, environ)
    return Endpoint(protocol, location, secure, headers, timeout_s, compression == "gzip", certificate, *client)


def _located(signal: str, address: str, environ: Mapping[str, str]) -> tuple[str, str, bool, str]:
    """Protocol, target, whether by TLS, and ``user:password`` when there are."""
    if address:
        scheme = address.partition("://")[0].lower()
        if "://" not in address or scheme not in _SCHEMES:
            raise SettingError(f"an otlp: URL names its receiver as in {EXAMPLE}")
        protocol, secure = _SCHEMES[scheme]
        place, authority, path = _split(address, protocol, secure=secure)
        if protocol == "grpc":
            return protocol, place, secure, authority
        for suffix in SIGNALS:  # the whole address of a signal, as other tools want it, means the same receiver
            path = path.removesuffix(f"/v1/{suffix}")
        return protocol, f"{scheme}://{place}{path}/v1/{signal}", secure, authority
    wanted = _variable(signal, "PROTOCOL", environ) or "http/protobuf"
    if wanted not in ("grpc", "http/protobuf"):
        raise SettingError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {wanted!r}; accepted are http/protobuf and grpc")
    protocol = "grpc" if wanted == "grpc" else "http"
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    found = own or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    found = found or ("http://localhost:4317" if protocol == "grpc" else "http://localhost:4318")
    if protocol == "grpc" and "://" not in found:
        plain = (_variable(signal, "INSECURE", environ) or "").lower() == "true"
        found = f"{'http' if plain else 'https'}://{found}"
    scheme = found.partition("://")[0].lower()
    if "://" not in found or scheme not in ("http", "https"):
        raise SettingError("OTEL_EXPORTER_OTLP_ENDPOINT is no http:// or https:// address, as http://localhost:4318")
    secure = scheme == "https"
    place, authority, path = _split(found, protocol, secure=secure)
    if protocol == "grpc":
        return protocol, place, secure, authority
    return protocol, f"{scheme}://{place}{path or '/' if own else f'{path}/v1/{signal}'}", secure, authority


def _split(address: str, protocol: str, *, secure: bool) -> tuple[str, str, str]:
    """``host:port``, ``user:password``, and the path without its last slash."""
    try:
        split = urlsplit(address)
        host, port = split.hostname, split.port
    except ValueError:
        raise SettingError(f"the address of an OTLP receiver has no valid host and port; write {EXAMPLE}") from None
    if not host or split.fragment or any(character.isspace() for character in address):
        raise SettingError(f"the address of an OTLP receiver has no valid host; write {EXAMPLE}")
    port = port or _PORTS.get((protocol, secure))
    place = f"[{host}]" if ":" in host else host
    user = unquote(split.username or "")
    authority = f"{user}:{unquote(split.password or '')}" if user or split.password else ""
    return (f"{place}:{port}" if port else place), authority, split.path.rstrip("/")


def _headers(signal: str, environ: Mapping[str, str]) -> dict[str, str]:
    headers = {}
    for entry in (_variable(signal, "HEADERS", environ) or "").split(","):
        if not entry.strip():
            continue
        name, equals, value = entry.partition("=")
        name, value = unquote(name).strip().lower(), unquote(value).strip()
        if not equals or not _NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
            raise SettingError("an entry of OTEL_EXPORTER_OTLP_HEADERS is no name=value; several go with commas")
        headers[name] = value
    return headers


def _file(signal: str, name: str, environ: Mapping[str, str]) -> str | None:
    path = _variable(signal, name, environ)
    if path is not None and not os.path.isfile(path):
        raise SettingError(f"OTEL_EXPORTER_OTLP_{name} names {path!r}, which is no file")
    return path


def _timeout(signal: str, environ: Mapping[str, str]) -> float:
    text = _variable(signal, "TIMEOUT", environ) or "10000"
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number > 0:
        raise SettingError(f"OTEL_EXPORTER_OTLP_TIMEOUT is {text!r}; it is a number of milliseconds, such as 10000")
    return min(_LONGEST_S, number if number < _SECONDS_BELOW else number / 1_000)


def _variable(signal: str, name: str, environ: Mapping[str, str]) -> str | None:
    """A variable, the signal's own first; an empty one is none, as OpenTelemetry has it."""
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "").strip()
    return own or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip() or None
