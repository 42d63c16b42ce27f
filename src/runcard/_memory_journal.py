"""Where a run's events go when no disk takes them: the interface of a journal, gone with the process."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard._reading import decode
from runcard.journal import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runcard.events import Event


class MemoryJournal:
    """Where events go when no disk takes them: the same interface, gone with the process."""

    def __init__(self) -> None:
        self.unwritten = 0
        self.path = Path(os.devnull)
        self.lock = threading.RLock()
        self._lines: list[bytes] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def append(self, event: Event) -> bool:
        """Keep the event, as its line, so that what is read back is what a file would give."""
        with self.lock:
            self._lines.append(encode({"n": len(self._lines), **event}))
        return True

    def append_points(self, now: float, step: Any, metrics: Mapping[str, Any]) -> bool:
        """Keep a ``log`` event."""
        return self.append({"kind": "log", "t": now, "step": step, "metrics": metrics})

    def events(self) -> list[Event]:
        """The events so far."""
        return [event for line in self._lines if (event := decode(line)) is not None]

    def sync(self) -> bool:
        """False: memory survives nothing."""
        return False

    def touch(self) -> None:
        """Nobody watches."""

    def close(self) -> None:
        """Take no more."""
        self._closed = True

    def after_fork(self) -> None:
        """A child's copy is its own."""
        self.lock = threading.RLock()

    def before_next(self, call: Callable[[], object]) -> None:
        """The pulse has nothing to show here."""
