"""Sinks by URL: which scheme is whose, loaded by name on demand.

A plug-in registers an entry point of the group ``runcard.sinks``, named as its scheme, that takes the URL and gives
the sink. Our own are listed here too, since reading all entry points costs tens of milliseconds. What nobody claims
and fsspec knows as a file system is an object store; so is ``memory://``, which is fsspec's, unlike ``memory:``.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runcard import settings
from runcard.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_OWN = {
    "file": "runcard.sinks.files:open_sink",
    "memory": "runcard.sinks.memory:open_sink",
    "sqlite": "runcard.sinks.sql:open_sink",
    "postgresql": "runcard.sinks.sql:open_sink",
    "s3": "runcard.sinks.objectstore:open_sink",
    "mlflow": "runcard.sinks.mlflow:open_sink",
    "otlp": "runcard.sinks.otel:open_sink",
    "wandb": "runcard.sinks.wandb:open_sink",
}
_OBJECT_STORES = ("s3a", "gs", "gcs", "az", "abfs", "local", "hdfs", "sftp", "webdav")  # by what fsspec calls them
_USERINFO = re.compile(
    r"^((?:[A-Za-z][\w+.-]*:)++/{1,3}|[A-Za-z][\w+.-]*:(?=[^/]))"  # s3://, mlflow:http://, postgresql:
    r"[^/?#@:\s]*:(?!//)[^?]*@"  # a user, and what may be a password up to the last @
)
_BARE = re.compile(r"^(/{0,3})[^/?#@:\s]*:[^?]*@")
_EXAMPLES = {
    "file": "file:runcards",
    "memory": "memory:",
    "sqlite": "sqlite:///runs.db",
    "postgresql": "postgresql://user@host/database",
    "s3": "s3://bucket/prefix",
    "mlflow": "mlflow:http://localhost:5000",
    "otlp": "otlp:http://localhost:4318",
    "wandb": "wandb:project",
}


def scheme_of(url: str) -> str:
    """The scheme of a sink's URL, without a driver: ``postgresql+psycopg://…`` is ``postgresql``.

    Raises:
        SettingError: When the text has none.
    """
    scheme, colon, _ = url.partition(":")
    scheme = scheme.partition("+")[0]
    if not colon or not scheme.replace("-", "").replace("_", "").isalnum():
        raise SettingError(f"{without_credentials(url)!r} is no URL of a sink; accepted are {accepted()}")
    return scheme


def check(sink: Any) -> None:
    """Refuse a sink that cannot be had, without connecting to anything.

    Raises:
        SettingError: For an unknown scheme or a malformed URL; `MissingExtra` when its packages are not installed.
    """
    if isinstance(sink, str) and sink not in _checked:
        url_check = getattr(_factory(sink), "check", None)
        if url_check is not None:
            url_check(sink)
        _checked.add(sink)


def check_settings(sinks: Iterable[Any]) -> None:
    """As `check`, of the settings' sinks: the message names the variable or file that a refused one stands in."""
    for sink in sinks:
        try:
            check(sink)
        except SettingError as error:
            raise type(error)(f"{settings.named_by(sink)}{error}") from None


_checked: set[str] = set()  # URLs that were accepted: every run asks again


def resolve(sink: Any, *, root: Path | None = None) -> Any:
    """The sink that a URL names; a callable or an object is its own.

    Args:
        sink: A URL, a function of a record, or an object with ``start``, ``append`` and ``finish``.
        root: The store's root, which ``file:`` without a path means.

    Raises:
        SettingError: As `check`.
    """
    if not isinstance(sink, str):
        return sink
    if sink == "file:" and root is not None:
        sink = f"file:{root}"
    return _factory(sink)(sink)


def is_files(sink: Any) -> bool:
    """Whether a sink is the journal's own folder."""
    return isinstance(sink, str) and scheme_of(sink) == "file"


def path_of(url: str) -> str:
    """The absolute path in a ``file:`` URL: ``file:runcards``, ``file:/data``, ``file:///data``."""
    rest = url.partition(":")[2]
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            url, host = without_credentials(url), host.rpartition("@")[2]
            raise SettingError(f"{url!r} names the host {host!r}; write file:{host}/{path} for a relative path")
        rest = f"/{path}"
    if "\0" in rest:
        raise SettingError("a path holds no NUL character")
    return os.path.abspath(os.path.expanduser(rest))


def name_of(sink: Any) -> str:
    """What a sink is called in messages and in the spool: never with credentials."""
    if isinstance(sink, str):
        return without_credentials(sink)
    named = sink if hasattr(sink, "__qualname__") else type(sink)
    return f"{getattr(named, '__module__', '?')}:{getattr(named, '__qualname__', '?')}"


def without_credentials(url: str) -> str:
    """A URL with user, password and secret query values taken out; also where a slash in them was not escaped."""
    from runcard.redact import Redactor

    told = Redactor().url(url)
    scheme = told.partition(":")[0]
    if scheme in ("file", "memory", "sqlite"):
        return told  # a path, where an @ is no more than that
    is_ours = "://" in told or scheme in _OWN or scheme in _OBJECT_STORES
    return (_USERINFO if is_ours else _BARE).sub(r"\1", told)


def accepted() -> str:
    """The schemes there are, with an example each."""
    return ", ".join(_EXAMPLES.get(name, f"{name}:") for name in _OWN) + ", a plug-in's, or any callable"


def _factory(url: str) -> Callable[[str], Any]:
    scheme = scheme_of(url)
    is_address = url.startswith(f"{scheme}://")
    is_objects = scheme in _OBJECT_STORES or (is_address and scheme == "memory")
    target = _OWN.get("s3" if is_objects else scheme)
    if target is not None:
        return _loaded(target)
    from importlib.metadata import entry_points

    for entry in entry_points(group="runcard.sinks", name=scheme):
        loaded: Callable[[str], Any] = entry.load()
        return loaded
    if is_address and import_module("runcard.sinks.objectstore").knows(scheme):
        return _loaded(_OWN["s3"])
    close = get_close_matches(scheme, _OWN, 1)
    hint = f"did you mean {_EXAMPLES[close[0]]}? " if close else ""
    raise SettingError(f"no sink is known for {scheme!r}; {hint}accepted are {accepted()}")


def _loaded(target: str) -> Callable[[str], Any]:
    module, _, name = target.partition(":")
    factory: Callable[[str], Any] = getattr(import_module(module), name)
    return factory
