"""The journal of a forked child inside its parent's run: a file of its own, made with its first event."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runcard.events import Event


class ForkedJournal:
    """Takes the events of a child that forked while a run was open. Most children write none, and leave no file."""

    def __init__(self, folder: Path | None, writer: str = "journal") -> None:
        """Made by `Run.adopt`.

        Args:
            folder: The run's.
            writer: Whose child this is: the name says of which rank and attempt the events are.
        """
        self._folder = folder
        self.writer = writer
        self._journal: Journal | None = None
        self.unwritten = 0
        self._closed = False
        self.lock = threading.RLock()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def path(self) -> Path:
        """Where the child writes."""
        return self._journal.path if self._journal is not None else Path(os.devnull)

    def append(self, event: Event) -> bool:
        """Write the event into the child's own file; a child that may not is counted among the lost."""
        with self.lock:
            if self._journal is None:
                if self._folder is None or self._closed:
                    self.unwritten += 1
                    return False
                name = f"{self.writer}-fork{os.getpid()}x{os.urandom(3).hex()}.jsonl"
                try:
                    self._journal = Journal(self._folder / name, exclusive=True)
                except OSError:
                    self.unwritten += 1
                    return False
            return self._journal.append(event)

    def append_points(self, now: float, step: Any, metrics: Mapping[str, Any]) -> bool:
        """Append a ``log`` event."""
        return self.append({"kind": "log", "t": now, "step": step, "metrics": metrics})

    def sync(self) -> bool:
        """The parent's end is what becomes durable."""
        return False

    def touch(self) -> None:
        """The parent's pulse beats for both."""

    def close(self) -> None:
        """Close the child's file."""
        self._closed = True
        if self._journal is not None:
            self._journal.close()

    def after_fork(self) -> None:
        """A child of the child has a file of its own too."""
        self.lock = threading.RLock()
        if self._journal is not None:
            self._journal.after_fork()
            self._journal = None

    def before_next(self, call: Callable[[], object]) -> None:
        """The pulse is the parent's affair."""
