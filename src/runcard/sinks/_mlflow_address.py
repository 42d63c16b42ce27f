"""``mlflow:`` and what follows it: MLflow's tracking URI, and our own settings in its query."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from runcard.errors import SettingError
from runcard.sinks.registry import without_credentials

EXAMPLES = "mlflow:http://localhost:5000, mlflow:sqlite:///mlflow.db, mlflow:./mlruns"
_OURS = ("diff", "experiment", "output")
_DATABASES = ("postgresql", "mysql", "mssql", "sqlite")


class Address(NamedTuple):
    """Where the runs go.

    Attributes:
        uri: MLflow's tracking URI, its paths absolute; with credentials.
        kind: ``http``, ``database``, ``files`` or ``other``.
        place: Where a folder, or SQLite's file, lies or will lie.
        user, password: In the URI.
        experiment: The one experiment for all runs; None means each its own.
        diff: Whether uncommitted changes go there.
        output: Whether what the run printed goes there.
    """

    uri: str
    kind: str
    place: Path | None = None
    user: str | None = None
    password: str | None = None
    experiment: str | None = None
    diff: bool = False
    output: bool = False

    @property
    def shown(self) -> str:
        """The address without credentials, with the one experiment: another one is another place."""
        mark = "&" if "?" in self.uri else "?"
        which = f"{mark}{urlencode({'experiment': self.experiment})}" if self.experiment else ""
        return without_credentials(f"mlflow:{self.uri}{which}")


def parse(url: str) -> Address:
    """The address in a sink's URL. Raises `SettingError`."""
    text, ours = _without_ours(url.partition(":")[2])
    text = text or os.environ.get("MLFLOW_TRACKING_URI") or _default()
    diff, output = (_switch(ours.get(name), name) for name in ("diff", "output"))

    def address(uri: str, kind: str, place: Path | None = None, *secrets: str | None) -> Address:
        user, password = secrets or (None, None)
        return Address(uri, kind, place, user, password, ours.get("experiment"), diff, output)

    def in_folder(path: str) -> Address:
        place = _absolute(path)
        return address(place.as_uri(), "files", place)

    scheme, colon, rest = text.partition(":")
    dialect = scheme.partition("+")[0]
    if scheme == "databricks":
        return address(text, "other")
    if text.startswith(("http/", "https/")):
        raise SettingError(f"{without_credentials(url)} lacks a colon after http; write {EXAMPLES}")
    if not colon or len(scheme) == 1:
        return in_folder(text)
    if scheme == "file":
        server, folder = _file_path(rest)
        if server not in ("", "localhost"):
            raise SettingError(f"{without_credentials(url)} names a host; write mlflow:file:/data/mlruns")
        return in_folder(folder)
    if dialect == "sqlite":
        if not rest.startswith("///") or not rest[3:].partition("?")[0] or rest[3:].startswith(":memory:"):
            raise SettingError(f"{without_credentials(url)} names no file; write mlflow:sqlite:///mlflow.db")
        name, mark, query = rest[3:].partition("?")
        file = _absolute(name)
        return address(f"{scheme}:///{file}{mark}{query}", "database", file)
    try:
        split = urlsplit(text)
        user, password, host = split.username, split.password, split.hostname
        _ = split.port
    except ValueError:
        raise SettingError(f"{without_credentials(url)} has no valid host and port; write {EXAMPLES}") from None
    if scheme in ("http", "https"):
        if not host:
            raise SettingError(f"{without_credentials(url)} names no host; write {EXAMPLES}")
        if split.query or split.fragment:
            names = ", ".join(name for name, _ in parse_qsl(split.query, keep_blank_values=True)) or "a fragment"
            raise SettingError(f"{without_credentials(url)} has {names}; settings are {', '.join(_OURS)}")
        kind = "other" if _needs_plugins() else "http"
    elif dialect in _DATABASES:
        kind = "database"
    elif _is_plugin(scheme):
        kind = "other"
    else:
        raise SettingError(f"MLflow has no store for {scheme!r}; write {EXAMPLES}")
    return address(text, kind, None, unquote(user) if user else None, unquote(password) if password else None)


def _without_ours(text: str) -> tuple[str, dict[str, str]]:
    """The tracking URI, and our own settings out of its query; a database's own stay."""
    head, mark, query = text.partition("?")
    if not mark:
        return text, {}
    pairs = parse_qsl(query, keep_blank_values=True)
    theirs = [(name, value) for name, value in pairs if name not in _OURS]
    return head + ("?" + urlencode(theirs) if theirs else ""), {name: value for name, value in pairs if name in _OURS}


def _switch(value: str | None, name: str) -> bool:
    if value is None or value.lower() in ("0", "false", "no", "off"):
        return False
    if value.lower() in ("", "1", "true", "yes", "on"):
        return True
    raise SettingError(f"{name}={value!r} is neither yes nor no; write {name}=1")


def _default() -> str:
    """As MLflow: a folder that has runs already, else a database."""
    if any(Path("mlruns").glob("[0-9]*/meta.yaml")):
        return "./mlruns"
    return "sqlite:///mlflow.db"


def _file_path(rest: str) -> tuple[str, str]:
    if not rest.startswith("//"):
        return "", unquote(rest)
    host, _, path = rest[2:].partition("/")
    return host, unquote(f"/{path}")


def _absolute(path: str) -> Path:
    if "\0" in path:
        raise SettingError("a path holds no NUL character")
    return Path(os.path.abspath(os.path.expanduser(path)))


def _needs_plugins() -> bool:
    """Whether MLflow's own client is needed to be let in to a server."""
    signed = os.environ.get("MLFLOW_TRACKING_AWS_SIGV4", "").lower() in ("true", "1")
    return signed or any(os.environ.get(name) for name in ("MLFLOW_TRACKING_AUTH", "MLFLOW_WORKSPACE"))


def _is_plugin(scheme: str) -> bool:
    from importlib.metadata import entry_points

    return bool(entry_points(group="mlflow.tracking_store", name=scheme))


def base_of(uri: str) -> str:
    """A server's address without user and password, which no request's URL shall hold."""
    split = urlsplit(uri)
    host = split.netloc.rpartition("@")[2]
    return urlunsplit((split.scheme, host, split.path, "", "")).rstrip("/")
