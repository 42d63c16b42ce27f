"""``mlflow:http://localhost:5000``, ``mlflow:sqlite:///mlflow.db``, ``mlflow:./mlruns``: runs in MLflow.

A run is found again by the tag ``runcard.run_id``. What it was given is counted in the tag ``runcard.delivered``,
written in the same call as the points: whoever delivers the rest, be it another process, leaves out what is there. The
end puts in place whatever the events had brought before. `docs/sinks-mlflow.md` has what becomes what.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runcard.errors import StoreError
from runcard.identity import is_run_id
from runcard.locks import locked
from runcard.record import RunRecord, Status
from runcard.sinks import _mlflow_mapping as mapping
from runcard.sinks._extras import need
from runcard.sinks._mlflow_address import base_of, parse
from runcard.sinks._mlflow_run import OpenRun
from runcard.sinks._mlflow_service import Gone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runcard.events import Event
    from runcard.sinks._mlflow_client import ClientService
    from runcard.sinks._mlflow_service import Found, Service

LOCK_S = 30.0  # how long another process may take to make a run


def open_sink(url: str) -> MlflowSink:
    """The sink of one tracking URI; it connects when it is first used."""
    return MlflowSink(url)


def _check(url: str) -> None:
    """Refuse what cannot work, without connecting."""
    parse(url)
    need("mlflow", "runcard[mlflow]")


open_sink.check = _check  # type: ignore[attr-defined]  # what `registry.check` asks of a factory


class MlflowSink:
    """Writes runs into MLflow while they go on.

    Attributes:
        url: Where, without credentials.
        keeps_files: The artifacts are here too: a spool need not keep them.
    """

    keeps_files = True

    def __init__(self, url: str) -> None:
        _check(url)
        self._address = parse(url)
        self.url = self._address.shown
        self._service: Service | None = None
        self._beside: ClientService | None = None
        self._experiments: dict[str, str] = {}
        self._records: dict[str, RunRecord] = {}  # what each run began with
        self._runs: dict[str, OpenRun | None] = {}  # None: it lies in MLflow's trash, where somebody put it

    def start(self, record: RunRecord) -> None:
        """Find the run or make it, and tell what is known of it. Raises `StoreError`."""
        self._records[record.run_id] = record
        run = self._open(record)
        if run is not None:
            run.begin(record, self._parent(record))

    def append(self, run_id: str, event: Event) -> None:
        """Take the next event. Raises `StoreError`."""
        self.extend(run_id, [event])

    def extend(self, run_id: str, events: Sequence[Event]) -> None:
        """Take the next events; those it has change nothing. Raises `StoreError`, `Gone` for a run it has not."""
        if run_id not in self._runs:
            if run_id in self._records:
                self.start(self._records[run_id])
            else:
                self._runs[run_id] = self._known(run_id)
        run = self._runs[run_id]
        if run is not None:
            try:
                run.take(events)
            except Gone:  # not thrown away, but lost: it is made anew when this comes again
                del self._runs[run_id]
                raise

    def finish(self, record: RunRecord) -> None:
        """Put everything in place as the record has it. Raises `StoreError`."""
        run = self._runs[record.run_id] if record.run_id in self._runs else self._open(record)
        if run is not None:
            if not run.delivered:  # a run without a journal: its points are all there is
                run.take(_from_history(record))
            run.end(record, self._parent(record), diff=self._address.diff, output=self._address.output)
        if record.status is not Status.RUNNING:
            self._runs.pop(record.run_id, None)
            self._records.pop(record.run_id, None)

    def probe(self) -> None:
        """Connect and see whether it may be written, leaving nothing behind. Raises `StoreError`."""
        place = self._address.place
        if place is None or place.exists():
            self._asked.probe()
            return
        above = next(path for path in place.parents if path.exists())  # MLflow would make it, only to be asked
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise StoreError(f"{above} cannot be written, where {place.name} would be made")

    @property
    def _asked(self) -> Service:
        if self._service is None:
            address = self._address
            if address.kind == "http":
                from runcard.sinks._mlflow_rest import RestService

                self._service = RestService(base_of(address.uri), address.user, address.password, self._client)
            else:
                self._service = self._client()
        return self._service

    def _client(self) -> ClientService:
        """MLflow's own client; one, however often it is asked for."""
        if self._beside is None:
            from runcard.sinks._mlflow_client import ClientService

            address = self._address
            folder = address.place.parent if address.kind == "database" and address.place is not None else None
            self._beside = ClientService(address.uri, folder, address.password)
        return self._beside

    def _open(self, record: RunRecord) -> OpenRun | None:
        """The run in MLflow, made when it is not there; None when it was thrown away there."""
        if not is_run_id(record.run_id):
            raise StoreError(f"{record.run_id!r} is no run id")
        name = self._address.experiment or record.experiment or "Default"
        try:
            with _alone(record):
                experiment = self._experiment(name)
                found = self._asked.find([experiment], record.run_id)
                if found is None and (record.status is not Status.RUNNING or len(record.attempts) > 1):
                    found = self._anywhere(record.run_id)  # it was here before: the experiment may have been renamed
                known = found is not None
                if found is None:
                    started = mapping.milliseconds(record.started_at)
                    found = self._asked.create(experiment, record.name, started, mapping.tags(record))
        except StoreError:
            self._experiments.pop(name, None)  # it may have been deleted, or renamed
            raise
        run = None if found.deleted else OpenRun(self._asked, found, known=known, folder=record.folder)
        self._runs[record.run_id] = run
        return run

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._asked.experiment(name)
        return self._experiments[name]

    def _known(self, run_id: str) -> OpenRun | None:
        found = self._anywhere(run_id)
        if found is None:
            raise Gone(f"{self.url} has no run {run_id}")
        return None if found.deleted else OpenRun(self._asked, found, known=True, folder=None)

    def _anywhere(self, run_id: str) -> Found | None:
        experiments = self._asked.experiments() if is_run_id(run_id) else []
        return self._asked.find(experiments, run_id) if experiments else None

    def _parent(self, record: RunRecord) -> str | None:
        """MLflow's id of the run that this one is a child of, when it is there already."""
        if record.parent_id is None:
            return None
        parent = self._runs.get(record.parent_id)
        if parent is not None:
            return parent.id
        own = self._runs.get(record.run_id)
        if own is not None and own.parent is not None:
            return own.parent
        found = self._anywhere(record.parent_id)
        return found.id if found is not None else None

    def __repr__(self) -> str:
        return f"<MlflowSink {self.url}>"


@contextmanager
def _alone(record: RunRecord) -> Iterator[None]:
    """Keep another process that delivers the same run from making it too."""
    pending = Path(record.folder).parent / ".pending" if record.folder is not None else None
    if pending is None or not pending.is_dir():
        yield
        return
    path = pending / f".{record.run_id}.mlflow"
    with locked(path, LOCK_S) as held:
        try:
            yield
        finally:
            if held:
                path.unlink(missing_ok=True)  # whoever waits for it makes a new one


def _from_history(record: RunRecord) -> Iterator[Event]:
    for n, point in enumerate(record.metric_history):
        metrics = {point.name: point.value}
        yield {"writer": "record", "n": n, "kind": "log", "t": point.time, "step": point.step, "metrics": metrics}
