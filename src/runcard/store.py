"""Read runs back, and judge them later. Opening a store never starts the instrument.

A reference to a run is its id or a prefix of it, a prefix of its last eight characters, a name that only one
run has, ``latest``, a run's folder, or a zip of one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard import leaderboard, settings
from runcard._frames import Points, Runs
from runcard._listing import listing, ranking
from runcard._points import points
from runcard._ranking import At, metric_value, rank
from runcard._selecting import select
from runcard.errors import AmbiguousRun, RunNotFound, SettingError, StoreError
from runcard.events import mark
from runcard.identity import is_run_id
from runcard.record import RunRecord, Status
from runcard.sinks import registry
from runcard.sinks.files import FilesSource, read_run, readings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runcard.events import Event
    from runcard.index import Index
    from runcard.sinks.protocol import Source

_ZIP_LIMIT = 1 << 30  # bytes a zip of a run may unpack to


def open_store(url: str | os.PathLike[str] | None = None) -> Store:
    """Open a store to read it.

    Args:
        url: A folder, or the URL of any sink that can be read back. None means the setting `directory`.

    Raises:
        SettingError: When the URL's scheme is unknown or cannot be read back.

    >>> open_store("memory:example").runs()
    []
    """
    if url is None:
        return Store(FilesSource(settings.store_root(settings.current())))
    text = os.fspath(url)
    if isinstance(url, str) and is_url(text):
        source = registry.resolve(text)
        if not callable(getattr(source, "run_ids", None)):
            raise SettingError(f"{registry.name_of(text)} cannot be read back; open a folder or a database")
        return Store(source)
    return Store(FilesSource(Path(os.path.abspath(os.path.expanduser(text)))))


def is_url(text: str) -> bool:
    """Whether a text is a URL, and no folder."""
    scheme, colon, _ = text.partition(":")
    return bool(colon) and len(scheme) > 1 and os.sep not in scheme  # C:\ is a drive


class Store:
    """The runs of one place.

    Attributes:
        url: Where.
        root: The folder of a files store, else None.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.url = source.url
        self.root: Path | None = getattr(source, "root", None)

    @property
    def unreadable(self) -> int:
        """How many runs the last listing had to leave out for want of permission."""
        return int(getattr(self._source, "unreadable", 0))

    def runs(
        self,
        where: str | None = None,
        *,
        experiment: str | None = None,
        status: str | Status | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Runs:
        """The records that meet all conditions, running ones and children included, newest first.

        Args:
            where: A Python expression over the record: ``config.lr < 0.1 and "quick" in tags``.
            experiment: The experiment's name in full.
            status: One of `Status`.
            sort: A path such as ``metrics.val_loss``; a leading ``-`` puts the greatest first.
            limit: How many at most.

        Raises:
            QueryError: When ``where`` or ``sort`` cannot be understood; it points at the place.
        """
        index = self._index
        if index is None:
            found = self._own("listing", where, experiment, status, sort, limit)
            if found is not None:
                return found
            records = self._newest_first()
            return Runs(select(records, where=where, experiment=experiment, status=status, sort=sort, limit=limit))
        return Runs(self._listed(listing, index, where, experiment, status, sort, limit))

    def rank(
        self,
        metric: str,
        direction: str,
        *,
        at: At = "last",
        where: str | None = None,
        experiment: str | None = None,
        status: str | Status | None = None,
        limit: int | None = None,
    ) -> Runs:
        """The records that meet all conditions, best first; without a number for the metric, last.

        Args:
            metric: The metric's name.
            direction: ``minimize`` or ``maximize``.
            at: ``last`` goes by the last value, ``best`` by the best point of the history.
            where: As `runs`.
            experiment: As `runs`.
            status: As `runs`.
            limit: As `runs`.

        Raises:
            QueryError: When ``where`` cannot be understood; `SettingError` for another direction.
        """
        index = self._index
        if index is None:
            conditions: dict[str, Any] = {"where": where, "experiment": experiment, "status": status, "limit": limit}
            found = self._own("ranking", metric, direction, at=at, **conditions)
            if found is not None:
                return found
            records = select(self._newest_first(), where=where, experiment=experiment, status=status)
            return Runs(rank(records, metric, direction, at=at)[:limit])
        return Runs(
            self._listed(
                ranking, index, metric, direction, at=at, where=where, experiment=experiment, status=status, limit=limit
            )
        )

    @property
    def _index(self) -> Index | None:
        """The index of a files store; other sources are asked for all they have."""
        return self._source.index if isinstance(self._source, FilesSource) else None

    def _own(self, method: str, /, *arguments: Any, **options: Any) -> Runs | None:
        """The answer of a source that lists by itself; None when it does not, or not this time."""
        ask = getattr(self._source, method, None)
        found: Any = ask(*arguments, **options) if callable(ask) else None
        return None if found is None else Runs(found)

    def _listed(self, ask: Callable[..., list[RunRecord]], /, *arguments: Any, **options: Any) -> list[RunRecord]:
        try:
            return ask(*arguments, **options)
        except OSError as error:
            raise StoreError(f"the store {self.url} cannot be read: {error}") from error

    def get(self, ref: str) -> RunRecord:
        """One record, by any reference.

        Raises:
            RunNotFound: When no run answers to it.
            AmbiguousRun: When several do.
        """
        text = str(ref)
        if os.sep in text or text.endswith(".zip") or text in (".", ".."):
            return _from_path(Path(text))
        return self._source.record(self._run_id(text))

    def history(self, ref: str, name: str | None = None, *, rank: int | None = None) -> Points:
        """The points of a run in the order logged, of all metrics or of one; of rank 0, or of another.

        Raises:
            RunNotFound: When no run answers to the reference.
        """
        record = self.get(ref)
        if rank is None and (record.folder is None or self.root is None):  # the folder may have been a spool's
            return Points(point for point in record.metric_history if name is None or point.name == name)
        if record.folder is None:
            return Points(points(self._source.journals(record.run_id), name=name, rank=rank))
        return Points(points(readings(Path(record.folder)), name=name, rank=rank))

    def to_pandas(self) -> Any:
        """All runs as a pandas frame, a row each, with typed columns."""
        return self.runs().to_pandas()

    def to_polars(self) -> Any:
        """All runs as a polars frame, a row each, with typed columns."""
        return self.runs().to_polars()

    def best(
        self, experiment: str | None = None, metric: str | None = None, direction: str | None = None
    ) -> RunRecord | None:
        """Today's best run: by ``metric`` and ``direction``, else by the newest run's objective."""
        records = [record for record in self.runs(experiment=experiment) if record.status is Status.FINISHED]
        for record in records:
            metric, direction = metric or record.objective, direction or record.direction
            if metric and direction:
                break
        if not metric or not direction:
            return None
        ranked = rank(records, metric, direction)
        return ranked[0] if ranked and metric_value(ranked[0], metric) is not None else None

    def keep(self, ref: str, reason: str | None = None) -> RunRecord:
        """Judge a run: keep it, because."""
        return self._judge(ref, "keep", reason)

    def discard(self, ref: str, reason: str | None = None) -> RunRecord:
        """Judge a run: discard it, because. Its files stay until `runcard gc`."""
        return self._judge(ref, "discard", reason)

    def tag(self, ref: str, *add: str, remove: tuple[str, ...] | list[str] = ()) -> RunRecord:
        """Add and take away tags."""
        return self.append(ref, {"kind": "tag", "add": list(add), "remove": list(remove)})

    def note(self, ref: str, text: str) -> RunRecord:
        """Add a note."""
        return self.append(ref, {"kind": "note", "text": text})

    def rename(self, ref: str, name: str) -> RunRecord:
        """Give a run another name."""
        return self.append(ref, {"kind": "name", "name": name})

    def amend(self, ref: str, metrics: Mapping[str, float], reason: str) -> RunRecord:
        """Correct metrics by new values beside the old; both stay in the record."""
        return self.append(ref, {"kind": "amend", "metrics": mark(dict(metrics)), "reason": reason})

    def append(self, ref: str, event: Event) -> RunRecord:
        """Append a late event, with the time and who it is by; the new record.

        Raises:
            StoreError: When the store cannot take it.
        """
        import time

        from runcard.capture.host import user
        from runcard.redact import Redactor

        run_id = self.get(ref).run_id
        said: Any
        said, _ = Redactor(settings.current().redact_keep).tree(event)
        self._source.append(run_id, {"kind": event["kind"], "t": time.time(), **said, "by": user()})
        return self._source.record(run_id)

    def rebuild_leaderboard(self) -> Path:
        """Write the leaderboard anew from the run folders.

        Raises:
            StoreError: When this is no files store.
        """
        if self.root is None:
            raise StoreError(f"{self.url} has no leaderboard file")
        return leaderboard.rebuild(self.root, self._oldest_first())

    def _judge(self, ref: str, decision: str, reason: str | None) -> RunRecord:
        return self.append(ref, {"kind": "decision", "decision": decision, "reason": reason, "source": "later"})

    def _oldest_first(self) -> list[RunRecord]:
        return sorted(self._source.records(), key=_when)

    def _newest_first(self) -> list[RunRecord]:
        return sorted(self._source.records(), key=_when, reverse=True)

    def _run_id(self, text: str) -> str:
        if is_run_id(text):
            return text
        known = list(self._source.run_ids())
        if text == "latest":
            if not known:
                raise RunNotFound(f"there is no run in {self.url} yet")
            return max(self._newest_of(known), key=_when).run_id
        found = [run_id for run_id in known if run_id[-8:] == text.lower()]
        if not found:  # what somebody called a run goes before what chance did: `b` is a name before it is a prefix
            found = [record.run_id for record in self.runs(where=f"name == {text!r}")] if text else []
        if not found and text:
            found = [each for each in known if each.startswith(text) or each[-8:].startswith(text.lower())]
        if len(found) == 1:
            return found[0]
        if not found:
            raise RunNotFound(f"no run answers to {text!r} in {self.url}; `runcard ls` shows what there is")
        listed = ", ".join(sorted(found, reverse=True)[:5])
        raise AmbiguousRun(f"{len(found)} runs answer to {text!r}: {listed}{', …' if len(found) > 5 else ''}; say more")

    def _newest_of(self, known: list[str]) -> list[RunRecord]:
        """The records of the newest second, so that `latest` need not read a whole store."""
        newest = max(known)[:15]
        return [self._source.record(run_id) for run_id in known if run_id.startswith(newest)]

    def __repr__(self) -> str:
        return f"<Store {self.url}>"


def _when(record: RunRecord) -> tuple[float, str]:
    return (record.started_at.timestamp() if record.started_at else 0.0, record.run_id)


def _from_path(path: Path) -> RunRecord:
    """The record in a run's folder, or in a zip of one."""
    if path.suffix == ".zip":
        return _from_zip(path)
    folder = Path(os.path.abspath(path))
    if not (folder / "journal.jsonl").is_file():
        raise RunNotFound(f"{path} is no run's folder: it holds no journal.jsonl")
    return read_run(folder, folder.name if is_run_id(folder.name) else _id_within(folder))


def _from_zip(path: Path) -> RunRecord:
    """Unpack a zip of a run below the temporary folder, and read it there; it goes when the process ends."""
    import atexit
    import shutil
    import tempfile
    import zipfile

    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise RunNotFound(f"{path} cannot be read as a zip of a run: {error}") from error
    with archive:
        names = [info for info in archive.infolist() if not info.is_dir()]
        if sum(info.file_size for info in names) > _ZIP_LIMIT:
            raise StoreError(f"{path} would unpack to more than {_ZIP_LIMIT >> 20} MB; unpack it yourself first")
        target = Path(tempfile.mkdtemp(prefix="runcard-"))
        atexit.register(shutil.rmtree, target, ignore_errors=True)
        archive.extractall(target)  # zipfile keeps members inside the target: no links, no `..`
    journals = [found for found in target.rglob("journal.jsonl") if found.is_file()]
    if len(journals) != 1:
        raise RunNotFound(f"{path} holds {len(journals)} runs; a zip of one run's folder is wanted")
    return _from_path(journals[0].parent)


def _id_within(folder: Path) -> str:
    from runcard.journal import Reading

    for event in Reading(folder / "journal.jsonl"):
        if event["kind"] == "start" and is_run_id(str(event.get("run_id"))):
            return str(event["run_id"])
    raise RunNotFound(f"{folder} holds a journal without a readable start")
