"""The journal: how a run's events lie on disk.

One append-only file a writer, one line an event, one `os.write` a line::

    {"crc":"9d3c1a7e","n":4,"kind":"log","t":1764000000.25,"step":3,"metrics":{"loss":0.5}}

`crc` is the CRC-32 of the rest of the line, from its second key on, with an opening brace. A line that is torn,
damaged or doubled costs itself alone, also where its newline is lost and the next one follows on the same line;
numbers that are missing tell how many events were lost. An appender that finds no final newline writes one first.
`os.write` hands the line to the kernel before the call returns, so that it survives the process; `Journal.sync` makes
it survive the machine.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from zlib import crc32

import orjson

from runcard._reading import Reading, decode, is_alone, last_events, restored, writers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard.events import Event

__all__ = [
    "Journal",
    "Known",
    "MemoryJournal",
    "Reading",
    "Writer",
    "decode",
    "encode",
    "is_alone",
    "last_events",
    "open_to_group",
    "sync_folder",
    "writers",
]

_HELD = 64  # events of a short run that stay in memory, for its end
_dumps = orjson.dumps
_os_write = os.write


def encode(event: Mapping[str, Any]) -> bytes:
    """One event as its line, with checksum and newline."""
    body = orjson.dumps(event)
    return b'{"crc":"%08x",%b\n' % (crc32(body), body[1:])


class Known(NamedTuple):
    """A long field that ends many events, and is known to the reader: its name, its value, and the text of both."""

    name: str
    value: Any
    text: bytes


class Writer(Protocol):
    """What a run appends its events to: a file, memory, or a forked child's own file."""

    unwritten: int
    lock: threading.RLock

    @property
    def path(self) -> Path:
        """The file, when there is one."""
        ...

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        ...

    def append(self, event: Event) -> bool:
        """Number and keep the event; whether it is safe from the process's end."""
        ...

    def append_points(self, now: float, step: Any, metrics: Mapping[str, Any]) -> bool:
        """Append a ``log`` event; the caller holds `lock`."""
        ...

    def sync(self) -> bool:
        """Make it survive the machine's end; False when that cannot be promised."""
        ...

    def touch(self) -> None:
        """Show that the writer lives."""

    def close(self) -> None:
        """Take no more."""

    def after_fork(self) -> None:
        """In a forked child: let go of what is the parent's."""


class Journal:
    """An open journal of one writer. Safe to use from threads, from signal handlers and after a fork.

    Attributes:
        unwritten: How many events the disk did not take.
        path: The file.
    """

    def __init__(self, path: Path, *, shared: bool = False, exclusive: bool = False, mode: int = 0o600) -> None:
        """Open or create the file.

        Args:
            path: Where; its folder must exist.
            shared: Others may append too: numbers go on from what the file holds, look before each append.
            exclusive: Refuse a file that is already there.
            mode: The file's permissions.

        Raises:
            OSError: When it cannot be opened.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        if exclusive:
            flags |= os.O_EXCL
        self.path = path
        self.unwritten = 0
        self.lock = threading.RLock()  # re-entrant: a signal handler or __del__ may log while a line is on its way
        self._next = 0
        self._torn = False
        self._held: list[bytes] | None = [] if exclusive else None
        self._fd = os.open(path, flags, mode)
        if mode & 0o070:
            open_to_group(self._fd, mode)
        if shared and os.fstat(self._fd).st_size:
            self._next, self._torn = _where_it_ends(path)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._fd < 0

    def append(self, event: Event) -> bool:
        """Number the event, write its line, and return whether the kernel has all of it. Never raises `OSError`."""
        with self.lock:
            number = self._next
            self._next = number + 1
            return self._write(_dumps({"n": number, **event}))

    def append_points(self, now: float, step: Any, metrics: Mapping[str, Any]) -> bool:
        """Append a ``log`` event; the caller holds `lock`. The same as `append`, without its detours."""
        number = self._next
        self._next = number + 1
        return self._write(_dumps({"n": number, "kind": "log", "t": now, "step": step, "metrics": metrics}))

    def held(self, known: Known | None = None) -> list[Event] | None:
        """All events of the file, when it is this writer's alone, all went in, and they are few; else None.

        Args:
            known: The last field of the first event, if it is that: then it is not parsed again.
        """
        held = self._held
        if not held or len(held) != self._next or self.unwritten:
            return None
        if known is None or not held[0].endswith(known.text):
            return [restored(body) for body in held]
        first = restored(held[0][: -len(known.text)] + b"}")
        first[known.name] = known.value
        return [first, *map(restored, held[1:])]

    def _write(self, body: bytes) -> bool:
        line = b'{"crc":"%08x",%b\n' % (crc32(body), body[1:])
        if self._next < _HELD and self._held is not None:
            self._held.append(body)
        if self._torn:
            line = b"\n" + line
        try:
            written = _os_write(self._fd, line)
        except OSError:  # disk full, quota, file too large, closed: the number's gap tells the reader
            self.unwritten += 1
            return False
        if written == len(line):
            self._torn = False
            return True
        return self._finish_line(line, written)

    def _finish_line(self, line: bytes, written: int) -> bool:
        """A short write: try the rest once; if it does not go in, the next line begins on a fresh one."""
        try:
            written += os.write(self._fd, line[written:])
        except OSError:
            pass  # counted below
        self._torn = written != len(line)
        self.unwritten += self._torn
        return not self._torn

    def sync(self) -> bool:
        """Make the file survive a power cut, with its name; False when the system could not promise it.

        The run's folder, its store and the store itself may all be new: a name is safe when its folder was synced.
        """
        try:
            os.fsync(self._fd)
            for folder in self.path.absolute().parents[:3]:
                sync_folder(folder)
        except OSError:
            return False
        return True

    def touch(self) -> None:
        """Show that the writer lives, to readers on other hosts."""
        os.utime(self._fd if os.utime in os.supports_fd else self.path)

    def close(self) -> None:
        """Close the file; further events are refused."""
        with self.lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def after_fork(self) -> None:
        """In a forked child: forget a lock that another thread may have held, and leave the parent's file alone."""
        self.lock = threading.RLock()
        self.close()


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


def open_to_group(fd: int, mode: int) -> None:
    """Give a shared store's file its permissions, past the umask; a file that is another's has them already."""
    if hasattr(os, "fchmod"):
        try:
            os.fchmod(fd, mode)
        except OSError:
            pass  # made by another of the group


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; where folders cannot be opened (Windows), nothing to do."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _where_it_ends(path: Path) -> tuple[int, bool]:
    """The number after the last event of a journal, and whether its last line lacks its newline."""
    number = damaged = 0
    reading = Reading(path)
    for event in reading:
        number, damaged = max(number, event["n"] + 1), reading.damaged
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        # Damaged lines at the end had numbers too, which sinks may know by now.
        return number + reading.damaged - damaged, file.read(1) != b"\n"
