"""``memory:``: finished records in this process, for tests and notebooks. ``memory:name`` keeps several apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runcard.errors import RunNotFound, StoreError
from runcard.record import History, RunRecord
from runcard.sinks.files import readings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard.events import Event

_kept: dict[str, dict[str, RunRecord]] = {}  # by URL, by run id


def open_sink(url: str) -> MemorySink:
    """The sink and source of one ``memory:`` URL; the same URL gives the same records."""
    return MemorySink(url)


class MemorySink:
    """Keeps whole records, history included, until the process ends or `clear` is called."""

    def __init__(self, url: str = "memory:") -> None:
        self.url = url
        self._records = _kept.setdefault(url, {})

    def __call__(self, record: RunRecord) -> None:
        """Keep a finished record; its history is read now, since the journal may go."""
        from dataclasses import replace

        self._records[record.run_id] = replace(record, metric_history=History(list(record.metric_history)))

    def clear(self) -> None:
        """Forget all records of this URL."""
        self._records.clear()

    def run_ids(self) -> list[str]:
        """The ids of the runs kept."""
        return list(self._records)

    def record(self, run_id: str) -> RunRecord:
        """One record. Raises `RunNotFound`."""
        try:
            return self._records[run_id]
        except KeyError:
            raise RunNotFound(f"no run {run_id} in {self.url}") from None

    def records(self) -> list[RunRecord]:
        """All records, in the order they ended."""
        return list(self._records.values())

    def journals(self, run_id: str) -> Mapping[str, list[Event]]:
        """The events: those in its folder while that is there, else what the record tells of them: the points."""
        record = self.record(run_id)
        if record.folder is not None and Path(record.folder).is_dir():
            return {writer: list(events) for writer, events in readings(Path(record.folder)).items()}
        return {
            "journal": [
                {"n": n, "kind": "log", "t": point.time, "step": point.step, "metrics": {point.name: point.value}}
                for n, point in enumerate(record.metric_history)
            ]
        }

    def append(self, run_id: str, event: Event) -> None:
        """Refuse: what is kept in memory is as it was when it ended."""
        raise StoreError(f"{self.url} cannot take a late {event.get('kind')} for {run_id}; use a files store")

    def folder(self, _run_id: str) -> Path | None:
        """None: memory keeps no files."""
        return None
