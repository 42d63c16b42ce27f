"""Read runs back, and judge them later. Opening a store never starts the instrument.

A reference to a run is its id or a prefix of it, a prefix of its last eight characters, a name that only one
run has, ``latest``, a run's folder, or a zip of one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard import leaderboard, settings
from runcard._elsewhere import is_run_folder, looks_like_path, read_path
from runcard._frames import Points, Runs
from runcard._listing import listing, ranking
from runcard._points import points
from runcard._ranking import At, is_result, metric_value, rank
from runcard._selecting import select
from runcard.errors import AmbiguousRun, RunNotFound, SettingError, StoreError
from runcard.identity import is_run_id
from runcard.record import RunRecord, Status
from runcard.sinks import registry
from runcard.sinks.files import FilesSource, readings
from runcard.values import number, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runcard.events import Event
    from runcard.index import Index
    from runcard.sinks.protocol import Source


def open_store(url: str | os.PathLike[str] | None = None) -> Store:
    """Open a store to read it.

    Args:
        url: A folder, or the URL of any sink that can be read back. None and ``file:`` mean the setting `directory`.

    Raises:
        SettingError: When the name is empty, or the URL's scheme is unknown or cannot be read back.

    >>> open_store("memory:example").runs()
    []
    """
    if url is None or url == "file:":
        return Store(FilesSource(settings.store_root(settings.current())), "runcard ls")
    text = os.fspath(url)
    if not text.strip():
        raise SettingError("the store has no name; leave it out for the setting `directory`, or name a folder or a URL")
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

    def __init__(self, source: Source, listing: str | None = None) -> None:
        self._source = source
        self.url = source.url
        self._listing = listing  # the command that shows its runs, where that needs no --store
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
        return self._found(str(ref))[0]

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
        """Today's best run of an experiment; None when no finished run has a result.

        Args:
            experiment: Which; None: that of the newest finished run with the metric.
            metric: By which; None: the newest run's objective.
            direction: ``minimize`` or ``maximize``; None: as the runs say of their objective.

        Raises:
            SettingError: When the direction is another word.
        """
        records = [record for record in self.runs(experiment=experiment) if record.status is Status.FINISHED]
        metric = metric or next((record.objective for record in records if record.objective), None)
        said = (record.direction for record in records if record.objective == metric and record.direction)
        direction = direction or next(said, None)
        if metric is None or direction is None:
            return None
        ranked = rank(records, metric, direction)
        known = [record for record in ranked if is_result(metric_value(record, metric))]
        within = max((_when(record), record.experiment) for record in known)[1] if known else None
        return next((record for record in known if record.experiment == within), None)

    # What is said late is refused when it is no text or number: it is appended for ever, and would be read as nothing.

    def keep(self, ref: str, reason: str | None = None) -> RunRecord:
        """Judge a run: keep it, because."""
        return self._judge(ref, "keep", reason)

    def discard(self, ref: str, reason: str | None = None) -> RunRecord:
        """Judge a run: discard it, because. Its files stay until `runcard gc`."""
        return self._judge(ref, "discard", reason)

    def tag(self, ref: str, *add: str, remove: str | tuple[str, ...] | list[str] = ()) -> RunRecord:
        """Add and take away tags."""
        gone = [remove] if isinstance(remove, str) else list(remove)
        for each in (*add, *gone):
            _check_text(each, "a tag")
        return self.append(ref, {"kind": "tag", "add": list(add), "remove": gone})

    def note(self, ref: str, text: str) -> RunRecord:
        """Add a note."""
        return self.append(ref, {"kind": "note", "text": _check_text(text, "a note")})

    def rename(self, ref: str, name: str) -> RunRecord:
        """Give a run another name."""
        return self.append(ref, {"kind": "name", "name": _check_text(name, "a name")})

    def amend(self, ref: str, metrics: Mapping[str, float], reason: str) -> RunRecord:
        """Correct metrics by new values beside the old; both stay in the record."""
        values = {_check_text(name, "a metric's name"): number(value) for name, value in metrics.items()}
        wrong = [name for name, value in values.items() if value is None]
        if wrong or not values:
            raise SettingError(f"metrics= takes names with numbers{f'; {wrong[0]} has none' if wrong else ''}")
        _check_text(reason, "the reason of an amendment")
        return self.append(ref, {"kind": "amend", "metrics": values, "reason": reason})

    def append(self, ref: str, event: Event) -> RunRecord:
        """Append a late event, with the time and who it is by; the new record.

        Raises:
            StoreError: When the store cannot take it.
        """
        import time

        from runcard.capture.host import user
        from runcard.redact import Redactor

        record, by_path = self._found(str(ref))
        source = self._keeper(record, str(ref)) if by_path else self._source
        said: Any
        said, hidden = Redactor(settings.current().redact_keep).tree(_encodable(event))
        told = {"kind": event["kind"], "t": time.time(), **said, "by": user()}
        source.append(record.run_id, {**told, "losses": {"redacted": hidden}} if hidden else told)
        return source.record(record.run_id)

    def rebuild_leaderboard(self) -> Path:
        """Write the leaderboard anew from the run folders.

        Raises:
            StoreError: When this is no files store.
        """
        if self.root is None:
            raise StoreError(f"{self.url} has no leaderboard file")
        return leaderboard.rebuild(self.root, self._oldest_first())

    def _judge(self, ref: str, decision: str, reason: str | None) -> RunRecord:
        if reason is not None and not isinstance(reason, str):
            raise SettingError(f"a reason is a text, not {type(reason).__name__}")
        return self.append(ref, {"kind": "decision", "decision": decision, "reason": reason, "source": "later"})

    def _oldest_first(self) -> list[RunRecord]:
        return sorted(self._source.records(), key=_when)

    def _newest_first(self) -> list[RunRecord]:
        return sorted(self._source.records(), key=_when, reverse=True)

    def _found(self, text: str) -> tuple[RunRecord, bool]:
        """A record, and whether it was read from a path instead of from this store."""
        as_path = looks_like_path(text)
        try:
            return (read_path(Path(text)), True) if as_path else (self._source.record(self._run_id(text)), False)
        except RunNotFound:
            if as_path and self.runs(where=f"name == {text!r}", limit=1):  # a name may have a slash in it
                return self._source.record(self._run_id(text)), False
            if not as_path and is_run_folder(text):  # a folder of the working directory
                return read_path(Path(text)), True
            raise

    def _keeper(self, record: RunRecord, path: str) -> Source:
        """Where what is said of a run that a path named is kept: in the store in which it lies."""
        folder = Path(record.folder or "")
        if folder.name != record.run_id or not os.path.isdir(path):
            raise StoreError(f"{path} is a copy of {record.short_id}, in no store: judge the run where it was recorded")
        return self._source if folder.parent == self.root else FilesSource(folder.parent)

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
            import shlex

            listing = self._listing or shlex.join(["runcard", "ls", "--store", self.url])
            raise RunNotFound(f"no run answers to {text!r} in {self.url}; `{listing}` shows what there is")
        listed = ", ".join(sorted(found, reverse=True)[:5])
        raise AmbiguousRun(f"{len(found)} runs answer to {text!r}: {listed}{', …' if len(found) > 5 else ''}; say more")

    def _newest_of(self, known: list[str]) -> list[RunRecord]:
        """The records of the newest second, so that `latest` need not read a whole store."""
        newest = max(known)[:15]
        return [self._source.record(run_id) for run_id in known if run_id.startswith(newest)]

    def __repr__(self) -> str:
        return f"<Store {self.url}>"


def _check_text(text: str, what: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise SettingError(f"{what} is a text that is not empty, not {text!r}")
    return text


def _encodable(said: Any) -> Any:
    """What somebody says of a run, its texts as every store takes them: an argument of a command may be no UTF-8."""
    if isinstance(said, str):
        return plain_text(said)
    if isinstance(said, dict):
        return {plain_text(key): _encodable(value) for key, value in said.items()}
    return [_encodable(each) for each in said] if isinstance(said, list) else said


def _when(record: RunRecord) -> tuple[float, str]:
    return (record.started_at.timestamp() if record.started_at else 0.0, record.run_id)
