"""What a sink is, and what can be read back.

The simplest sink is any function of a `RunRecord`. One that wants to see the run live has `start`, `append` and
`finish`; its `append` is given each event with the run's id, at least once and in order, off the user's thread.
A sink is called from one thread at a time, may raise and may hang: it fails alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from runcard.events import Event
    from runcard.record import RunRecord

    Sink = Callable[[RunRecord], Any]


@runtime_checkable
class LiveSink(Protocol):
    """A sink that follows a run from its start."""

    def start(self, record: RunRecord) -> None:
        """A run began; the record holds what is known at its start."""

    def append(self, run_id: str, event: Event) -> None:
        """The next event of a run; an event seen before, by (run_id, writer, n), must change nothing."""

    def finish(self, record: RunRecord) -> None:
        """A run ended; the record is complete."""


class Source(Protocol):
    """A sink that can be read back: what `open_store` needs of it."""

    url: str

    def run_ids(self) -> Iterable[str]:
        """The ids of all runs, in any order."""
        ...

    def record(self, run_id: str) -> RunRecord:
        """One record, its status derived. Raises `RunNotFound`."""
        ...

    def records(self) -> list[RunRecord]:
        """All records, in any order."""
        ...

    def journals(self, run_id: str) -> Mapping[str, Iterable[Event]]:
        """The events of one run by writer."""
        ...

    def append(self, run_id: str, event: Event) -> None:
        """Add a late event: a decision, a tag, a note, a name, a correction."""
        ...

    def folder(self, run_id: str) -> Path | None:
        """The run's folder, when the source keeps one."""
        ...
