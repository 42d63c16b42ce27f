"""How OTLP requests travel: HTTP by the standard library, gRPC by grpcio, which is imported here alone.

One try a call and no retries: delivery tries again, later and later. Redirects are not followed, since headers hold
credentials, and a program's own instrumentation does not see these requests.
"""

from __future__ import annotations

import gzip
import http.client
import ipaddress
import re
import ssl
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import runcard
from runcard.errors import StoreError, describe
from runcard.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runcard.sinks._otel_address import Endpoint

_AGENT = f"runcard/{runcard.__version__}"
_ANSWER_LIMIT = 4 << 20  # bytes of an answer that are read
_METHODS = {
    signal: f"/opentelemetry.proto.collector.{package}.v1.{service}Service/Export"
    for signal, package, service in (
        ("traces", "trace", "Trace"),
        ("metrics", "metrics", "Metrics"),
        ("logs", "logs", "Logs"),
    )
}


class Refused(StoreError):  # noqa: N818 - reads as what it says: the receiver refused
    """The receiver will not take this data, however often it is sent."""


class NotServed(StoreError):  # noqa: N818 - likewise
    """There is nothing at the address that takes this signal."""


class Sender:
    """Sends requests, each to its signal's endpoint."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._openers: dict[str, Any] = {}
        self._channels: dict[tuple[Any, ...], Any] = {}

    def send(self, signal: str, body: bytes) -> bytes:
        """Send one request and give the answer.

        Raises:
            StoreError: When it did not arrive; `Refused` and `NotServed` when sending it again would not help.
        """
        endpoint = self._endpoints[signal]
        with _unseen():
            if endpoint.protocol == "grpc":
                return self._call(endpoint, _METHODS[signal], body)
            return self._post(endpoint, body)

    def _post(self, endpoint: Endpoint, body: bytes) -> bytes:
        headers = {"content-type": "application/x-protobuf", "user-agent": _AGENT, **endpoint.headers}
        if endpoint.gzip:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, 5)
        request = urllib.request.Request(endpoint.target, body, headers, method="POST")  # noqa: S310 - http and https only, by _otel_address
        try:
            with self._opener(endpoint).open(request, timeout=endpoint.timeout_s) as answer:
                content: bytes = answer.read(_ANSWER_LIMIT)
                return content
        except urllib.error.HTTPError as error:
            with error:
                said = _shown(_read(error))
            message = f"{endpoint.target} answered {error.code} {_shown(error.reason)}{f': {said}' if said else ''}"
            if error.code in (400, 413):
                raise Refused(message) from None
            raise (NotServed if error.code in (404, 405, 501) else StoreError)(message) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            said = describe(reason) if isinstance(reason, BaseException) else str(reason)
            raise StoreError(f"{endpoint.target} cannot be reached: {said}") from None

    def _opener(self, endpoint: Endpoint) -> Any:
        opener = self._openers.get(endpoint.target)
        if opener is None:
            opener = self._openers[endpoint.target] = _opener(endpoint)
        return opener

    def _call(self, endpoint: Endpoint, method: str, body: bytes) -> bytes:
        import grpc  # type: ignore[import-untyped]  # it comes without types

        key = (endpoint.target, endpoint.secure, endpoint.certificate, endpoint.client_certificate, endpoint.client_key)
        if key not in self._channels:
            self._channels[key] = _channel(grpc, endpoint)
        call = self._channels[key].unary_unary(method)
        try:
            answer: bytes = call(
                body,
                timeout=endpoint.timeout_s,
                metadata=tuple(endpoint.headers.items()),
                compression=grpc.Compression.Gzip if endpoint.gzip else None,
            )
            return answer
        except grpc.RpcError as error:
            self._channels.pop(key).close()  # a channel that failed waits long before it connects again: have a new one
            code = error.code()
            message = f"{endpoint.target} answered {code.name}: {_shown(error.details() or '')}"
            if code is grpc.StatusCode.INVALID_ARGUMENT:
                raise Refused(message) from None
            raise (NotServed if code is grpc.StatusCode.UNIMPLEMENTED else StoreError)(message) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is a failure."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """None: what makes the answer an error."""


def _opener(endpoint: Endpoint) -> Any:
    handlers: list[Any] = [_NoRedirects()]
    if _is_loopback(endpoint.target):
        handlers.append(urllib.request.ProxyHandler({}))  # no proxy knows this machine's own loopback
    if endpoint.secure:
        try:
            context = ssl.create_default_context(cafile=endpoint.certificate)
            if endpoint.client_certificate is not None:
                context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
        except OSError as error:
            raise StoreError(f"the certificates of OTEL_EXPORTER_OTLP_… cannot be used: {describe(error)}") from None
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _channel(grpc: Any, endpoint: Endpoint) -> Any:
    proxies = 0 if _is_loopback(f"//{endpoint.target}") else 1
    options = [
        ("grpc.primary_user_agent", _AGENT),
        ("grpc.use_local_subchannel_pool", 1),  # shared ones would keep to the waits of a channel that failed
        ("grpc.enable_http_proxy", proxies),
    ]
    if not endpoint.secure:
        return grpc.insecure_channel(endpoint.target, options=options)
    files = (endpoint.certificate, endpoint.client_key, endpoint.client_certificate)
    try:
        contents = [None if path is None else _content(path) for path in files]
    except OSError as error:
        raise StoreError(f"the certificates of OTEL_EXPORTER_OTLP_… cannot be read: {describe(error)}") from None
    return grpc.secure_channel(endpoint.target, grpc.ssl_channel_credentials(*contents), options=options)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@contextmanager
def _unseen() -> Iterator[None]:
    """Tell OpenTelemetry's instrumentation of HTTP and gRPC, where the program has any, to look away."""
    context = sys.modules.get("opentelemetry.context")
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    if context is None or key is None:
        yield
        return
    token = context.attach(context.set_value("suppress_instrumentation", True, context.set_value(key, True)))
    try:
        yield
    finally:
        context.detach(token)


def _read(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(10_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""


_UNPRINTABLE = re.compile(r"[^ -~]+")


def _shown(text: Any) -> str:
    """What a receiver says, as one short line without secrets; protobuf around the words is left out."""
    words = " ".join(_UNPRINTABLE.sub(" ", str(text)).split())
    return Redactor().text(words)[0][:200]
