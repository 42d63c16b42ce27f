"""``s3://bucket/prefix``, ``gs://…`` and every other URL that fsspec knows: run folders as objects.

A finished run's folder is uploaded, large files in parts. Uncommitted code and console output leave the machine only
when the URL asks for them: ``s3://bucket/prefix?diff=1&output=1``. So that a listing needs few requests, each record
goes into ``index/`` too, where many small objects are gathered into one by whoever writes::

    prefix/20261123T101112-7k3f9q2m/journal.jsonl …     the run's folder
    prefix/index/one-<stamp>-<run id>.jsonl             a record that has just come
    prefix/index/many-<hash>.jsonl                      gathered ones

Objects cannot be appended to: a late judgement is a journal of its own. fsspec is imported when used.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from runcard import settings
from runcard._folding import points
from runcard.errors import MissingExtra, RunNotFound, SettingError, StoreError, describe
from runcard.identity import is_run_id
from runcard.journal import decode, encode, rescued
from runcard.record import History, RunRecord, fold
from runcard.sinks._download import fetch, found_below
from runcard.sinks._extras import need
from runcard.sinks._upload import protocols, put
from runcard.sinks.registry import scheme_of, without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar

    from runcard.events import Event

    T = TypeVar("T")

LOOKS = 5  # how often a listing is tried while others gather
GATHER = 50  # so many small objects of one kind are made one
_ON_REQUEST = {"diff": "diff.patch", "output": "output.log"}  # option → file
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_FLAT = frozenset((*_PACKAGES, "oss", "oci", "tos"))  # they have no folders, and their buckets are there
_NO_PLACES = frozenset(  # fsspec's that are only read, or are a way of looking at another
    (
        *("http", "https", "data", "git", "github", "gist", "wandb", "dvc", "zip", "tar", "libarchive", "reference"),
        *("generic", "dir", "cached", "blockcache", "filecache", "simplecache", "async_wrapper", "asyncwrapper"),
    )
)
_HERE = frozenset(("file", "local", "memory"))  # what goes there stays on this machine


def open_sink(url: str) -> ObjectStoreSink:
    """The sink and source of one prefix; it connects when it is first used."""
    return ObjectStoreSink(url)


def knows(scheme: str) -> bool:
    """Whether fsspec, when it is there, has a file system of that name that a folder can be put into."""
    try:
        from fsspec.registry import known_implementations, registry  # type: ignore[import-untyped]  # no types
    except ImportError:
        return False
    return scheme not in _NO_PLACES and (scheme in registry or scheme in known_implementations)


def _check(url: str) -> None:
    """Refuse what cannot work, without connecting."""
    address, _ = _parsed(url)
    scheme, rest = scheme_of(address), address.partition("://")[2]
    bucket = rest.partition("/")[0] if scheme in _PACKAGES else rest.strip("/")
    if not bucket and scheme != "memory":
        raise SettingError(f"{without_credentials(url)!r} names no bucket; write {scheme}://bucket/prefix")
    for package in ("fsspec", _PACKAGES.get(scheme, "fsspec")):
        need(package, "runcard[s3]" if package in ("fsspec", "s3fs") else package)
    if scheme not in _PACKAGES:
        from fsspec import get_filesystem_class  # type: ignore[import-untyped]  # it comes without types

        try:
            get_filesystem_class(scheme)
        except ImportError as error:  # it says what to install
            raise MissingExtra(f"{scheme}:// needs one more package. {error}") from None


open_sink.check = _check  # type: ignore[attr-defined]  # what `registry.check` asks of a factory


class ObjectStoreSink:
    """Uploads finished runs and reads them back.

    Attributes:
        url: Where, without credentials.
        keeps_files: The artifacts are here too: a spool need not keep them.
    """

    keeps_files = True

    def __init__(self, url: str) -> None:
        _check(url)
        self._address, self._withheld = _parsed(url)
        self.url = without_credentials(self._address)
        self._opened: tuple[Any, str] | None = None

    def start(self, record: RunRecord) -> None:
        """Nothing: a folder is uploaded once it is complete."""

    def append(self, run_id: str, event: Event) -> None:
        """Keep a late judgement; the events of a run that goes on come with its folder. Raises `StoreError`."""
        if "writer" not in event:
            self._tried(lambda: self._judge(run_id, event))

    def extend(self, run_id: str, events: list[Event]) -> None:
        """Nothing: they come with the folder."""

    def finish(self, record: RunRecord) -> None:
        """Upload a run's folder and its record. Raises `StoreError`."""
        self._tried(lambda: self._upload(record))

    def probe(self) -> None:
        """Write an object and take it away. Raises `StoreError`."""

        def work() -> None:
            system, base = self._system
            path = f"{base}/index/.probe-{time.time_ns()}"
            _put(system, path, b"")
            system.rm_file(path)

        self._tried(work)

    def run_ids(self) -> list[str]:
        """The ids of all runs."""
        return list(self._latest())

    def record(self, run_id: str) -> RunRecord:
        """One record. Raises `RunNotFound`."""
        found = self._latest(run_id).get(run_id)
        if found is None:
            raise RunNotFound(f"no run {run_id!r} in {self.url}")
        return self._from(found)

    def records(self) -> list[RunRecord]:
        """All records."""
        return [self._from(entry) for entry in self._latest().values()]

    def journals(self, run_id: str) -> dict[str, list[Event]]:
        """The events of one run by writer."""
        if not is_run_id(run_id):
            raise RunNotFound(f"no run {run_id!r} in {self.url}")
        return self._tried(lambda: self._journals(run_id))

    def folder(self, _run_id: str) -> None:
        """None: the files lie elsewhere."""
        return

    def fetch(self, run_id: str, folder: Path) -> None:
        """Download a run's folder, all that is here of it. Raises `StoreError`, and `RunNotFound` for another id."""
        if not is_run_id(run_id):
            raise RunNotFound(f"no run {run_id!r} in {self.url}")
        system, base = self._system
        self._tried(lambda: fetch(system, f"{base}/{run_id}", folder))

    @property
    def _system(self) -> tuple[Any, str]:
        if self._opened is None:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # it comes without types

            system, base = url_to_fs(self._address, use_listings_cache=False)
            self._opened = (system, base.rstrip("/"))
        return self._opened

    def _tried(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (StoreError, MemoryError):
            raise
        except Exception as error:  # each of fsspec's many back ends raises its own
            raise StoreError(f"{self.url}: {without_credentials(describe(error))}") from None

    def _from(self, entry: dict[str, Any]) -> RunRecord:
        run_id = str(entry["record"]["run_id"])
        return RunRecord.from_dict(entry["record"], metric_history=History(lambda: points(self.journals(run_id))))

    def _upload(self, record: RunRecord) -> None:
        """The files first, the record last: a run that is listed is there whole."""
        if record.folder is None:
            raise StoreError(f"the run {record.short_id} lies in no folder that could be uploaded")
        system, base = self._system
        folder, large = Path(record.folder), settings.current().large_artifact
        withheld = frozenset[str]() if protocols(system) & _HERE else self._withheld
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if name.as_posix() in withheld:
                continue
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                target = f"{base}/{record.run_id}/{name.as_posix()}"
                _make_parent(system, target)
                put(system, path, target, large=large)
        there = found_below(system, f"{base}/{record.run_id}")
        if any(name.startswith("journal-late-") for name in there):
            record = fold(record.run_id, self._journals(record.run_id))  # it was judged here meanwhile
        self._list(record, there)

    def _judge(self, run_id: str, event: Event) -> None:
        if run_id not in self._latest(run_id):
            raise RunNotFound(f"no run {run_id!r} in {self.url}")
        system, base = self._system
        _put(system, f"{base}/{run_id}/journal-late-{time.time_ns():x}.jsonl", encode({"n": 0, **event}))
        self._list(fold(run_id, self._journals(run_id)), found_below(system, f"{base}/{run_id}"))

    def _journals(self, run_id: str) -> dict[str, list[Event]]:
        system, base = self._system
        paths = [path for path in _names(system, f"{base}/{run_id}") if _is_journal(path)]
        found = {}
        for path, content in _contents(system, paths).items():
            events = [decode(line) or rescued(line) for line in content.splitlines(keepends=True)]
            found[_last(path).removesuffix(".jsonl")] = [event for event in events if event is not None]
        return found

    def _list(self, record: RunRecord, there: Collection[str]) -> None:
        """Put a record into the index, with the URI of each file that is there, and gather what has come together."""
        system, base = self._system
        data = record.to_dict(history=False)
        where = self.url + "/" + record.run_id
        data["artifacts"] = [
            {**entry, "uri": f"{where}/{entry['path']}"} if entry.get("path") in there else entry
            for entry in record.artifacts
        ]
        stamp = time.time_ns()
        line = orjson.dumps({"stamp": stamp, "record": data}, option=orjson.OPT_APPEND_NEWLINE)
        _put(system, f"{base}/index/one-{stamp:020d}-{record.run_id}.jsonl", line)
        for kind in ("one", "many"):
            paths = [path for path in _names(system, f"{base}/index") if _last(path).startswith(f"{kind}-")]
            if len(paths) >= GATHER:
                self._gather(system, base, paths)

    def _gather(self, system: Any, base: str, paths: list[str]) -> None:
        """Make many objects one; two that do so at once make the same, or what a reader takes for the same."""
        latest = _newest(_contents(system, paths).values())
        content = b"".join(orjson.dumps(latest[run_id], option=orjson.OPT_APPEND_NEWLINE) for run_id in sorted(latest))
        name = hashlib.sha256(content).hexdigest()[:24]
        _put(system, f"{base}/index/many-{name}.jsonl", content)
        for path in paths:
            if _last(path) != f"many-{name}.jsonl":
                try:
                    system.rm_file(path)
                except FileNotFoundError:
                    pass  # another process gathered it too

    def _latest(self, run_id: str | None = None) -> dict[str, dict[str, Any]]:
        """The newest entry of each run, or of one."""

        def work() -> dict[str, dict[str, Any]]:
            system, base = self._system
            contents: dict[str, bytes] = {}
            for _ in range(LOOKS):
                paths = [path for path in _names(system, f"{base}/index") if _last(path).endswith(".jsonl")]
                if run_id is not None:
                    paths = [path for path in paths if _last(path).startswith("many-") or run_id in _last(path)]
                contents = _contents(system, paths)
                if len(contents) == len(paths):
                    break  # else some were gathered between the listing and the reading: the new one has them
            return _newest(contents.values())

        return self._tried(work)

    def __repr__(self) -> str:
        return f"<ObjectStoreSink {self.url}>"


def _newest(contents: Any) -> dict[str, dict[str, Any]]:
    latest: dict[str, dict[str, Any]] = {}
    for content in contents:
        for line in content.splitlines():
            entry = orjson.loads(line)
            run_id = str(entry["record"]["run_id"])
            if run_id not in latest or latest[run_id]["stamp"] < entry["stamp"]:
                latest[run_id] = entry
    return latest


def _names(system: Any, folder: str) -> list[str]:
    try:
        return sorted(str(path) for path in system.ls(folder, detail=False))
    except FileNotFoundError:
        return []


def _contents(system: Any, paths: list[str]) -> dict[str, bytes]:
    """The objects' contents, fetched many at once; one that was gathered by another meanwhile is left out."""
    if not paths:
        return {}
    found = system.cat(paths, recursive=False, on_error="return")
    for value in found.values():
        if isinstance(value, Exception) and not isinstance(value, FileNotFoundError):
            raise value
    return {path: value for path, value in found.items() if isinstance(value, bytes)}


def _put(system: Any, path: str, content: bytes) -> None:
    _make_parent(system, path)
    system.pipe_file(path, content)


def _make_parent(system: Any, path: str) -> None:
    """Folders are made where the file system has them; on this machine for their owner alone, or the group."""
    parent = path.rpartition("/")[0]
    if protocols(system) & {"file", "local"}:
        bits = 0o770 if settings.current().mode == "group" else 0o700
        missing = [folder for folder in (Path(parent), *Path(parent).parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=bits, exist_ok=True)
    elif not protocols(system) & _FLAT:
        system.makedirs(parent, exist_ok=True)


def _parsed(url: str) -> tuple[str, frozenset[str]]:
    """The address without its options, and the files of a run that nobody asked for. Raises `SettingError`."""
    address, _, query = url.partition("?")
    wanted = dict(parse_qsl(query, keep_blank_values=True))
    if not all(name in _ON_REQUEST and value in ("0", "1") for name, value in wanted.items()):
        raise SettingError(
            f"{without_credentials(url)!r} has an option that is not known; there are diff=1 and output=1, "
            "as in s3://bucket/prefix?diff=1"
        )
    return address.rstrip("/"), frozenset(file for name, file in _ON_REQUEST.items() if wanted.get(name) != "1")


def _is_journal(path: str) -> bool:
    return _last(path).startswith("journal") and path.endswith(".jsonl")


def _last(path: str) -> str:
    return path.rpartition("/")[2]
