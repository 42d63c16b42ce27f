"""The journal: how a run's events lie on disk.

One append-only file a writer, one line an event, one `os.write` a line; the points of one step in a short form::

    {"crc":"31a75208","n":4,"kind":"tag","t":1764000000.25,"add":["baseline"]}
    {"crc":"b0ce37b8","log":[5,1764000000.5,3,{"loss":0.5}]}

`crc` is the CRC-32 of the list, or else of the rest of the line from its second key on, with an opening brace. A line
that is torn, damaged or doubled costs itself alone, also where its newline is lost and the next one follows on the same
line; numbers that are missing tell how many events were lost. An appender that finds no final newline writes one first.
`os.write` hands the line to the kernel before the call returns, so that it survives the process; `Journal.sync` makes
it survive the machine.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from zlib import crc32

import orjson

from runcard._reading import Numbers, Reading, decode, is_alone, last_events, rescued, restored, writers
from runcard._retire import retire
from runcard._shared import open_to_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from runcard.events import Event

__all__ = [
    "Journal",
    "Known",
    "Numbers",
    "Reading",
    "Writer",
    "decode",
    "encode",
    "is_alone",
    "last_events",
    "rescued",
    "sync_folder",
    "writers",
]

_HELD = 64  # events of a short run that stay in memory, for its end
_dumps = orjson.dumps
_os_write = os.write


def encode(event: Mapping[str, Any]) -> bytes:
    """One event as its line, with checksum and newline."""
    return _line(_dumps(event))


def _line(body: bytes) -> bytes:
    return b'{"crc":"%x",%b\n' % (crc32(body), body[1:])


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
        """Append a ``log`` event: points of one step, or with None points without one."""
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

    def before_next(self, call: Callable[[], object]) -> None:
        """Call this once, before the next event."""


class Journal:
    """An open journal of one writer. Safe to use from threads, from signal handlers and after a fork.

    Once a run is long, points go in without the lock: each line has its number, and the system keeps lines apart.

    Attributes:
        unwritten: How many events the disk did not take.
        path: The file.
        lock: Held for what must stay in order. Re-entrant: a signal handler or ``__del__`` may log while a line is on
            its way.
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
        self.lock = threading.RLock()
        self._torn = False
        self._direct = False  # nothing is in the way of writing points without the lock
        self._held: list[bytes] | None = [] if exclusive else None
        self._before_next: Callable[[], object] | None = None
        self._fd = os.open(path, flags, mode)
        if mode & 0o070:
            open_to_group(self._fd, mode)
        start = 0
        if shared and os.fstat(self._fd).st_size:
            start, self._torn = _where_it_ends(path)
        self._number = _numbers(start)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._fd < 0

    def append(self, event: Event) -> bool:
        """Number the event, write its line, and return whether the kernel has all of it. Never raises `OSError`."""
        with self.lock:
            body = _dumps({"n": self._number(), **event})
            return self._write(_line(body), body)

    def append_points(self, now: float, step: Any, metrics: Mapping[str, Any]) -> bool:
        """Append a ``log`` event: `append` in its short form, and the hot path of a training."""
        if not self._direct:
            with self.lock:
                body = _dumps((self._number(), now, step, metrics))
                return self._write(b'{"crc":"%x","log":%b}\n' % (crc32(body), body), body)
        number = self._number
        body = _dumps((number(), now, step, metrics))
        line = b'{"crc":"%x","log":%b}\n' % (crc32(body), body)
        try:
            written = _os_write(self._fd, line)
        except OSError as error:
            _hand_on(error)
            written = 0
        if written == len(line):
            return True
        self._torn = self._torn or written > 0  # another thread's line may follow the piece, so not its rest
        with self.lock:
            return self._write(line, body)

    def held(self, known: Known | None = None) -> list[Event] | None:
        """All events of the file, when it is this writer's alone, all went in, and they are few; else None.

        Args:
            known: The last field of the first event, if it is that: then it is not parsed again.
        """
        held = self._held
        if not held or self.unwritten:
            return None
        if known is None or not held[0].endswith(known.text):
            return [restored(body) for body in held]
        first = restored(held[0][: -len(known.text)] + b"}")
        first[known.name] = known.value
        return [first, *map(restored, held[1:])]

    def _write(self, line: bytes, body: bytes) -> bool:
        """Write a line; the lock is held."""
        call = self._before_next
        if call is not None:
            self._before_next = None
            call()
        if self._held is not None:
            self._held.append(body)
            if len(self._held) > _HELD:
                self._held = None
        if self._torn:
            line = b"\n" + line
        try:
            written = _os_write(self._fd, line)
        except OSError as error:  # disk full, quota, file too large, closed: the number's gap tells the reader
            _hand_on(error)
            written = 0
        if written != len(line) and not self._finish_line(line, written):
            return False
        self._torn = False
        self._direct = self._held is None
        if self._before_next is not None:  # a fork, in another thread, since the look above
            self._direct = False
        return True

    def _finish_line(self, line: bytes, written: int) -> bool:
        """A short write: try once more; if that does not go in, the next line begins on a fresh one."""
        self._direct = False
        if written:
            self._torn = True
            # Once points go in without the lock, the line of another thread may follow the piece: so not its rest.
            again = line[written:] if self._held is not None else b"\n" + line
            try:
                if os.write(self._fd, again) == len(again):
                    return True
            except OSError as error:
                _hand_on(error)  # else it is counted below
        self.unwritten += 1
        return False

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
                retire(fd, Journal.append_points.__code__, self)

    def after_fork(self) -> None:
        """In a forked child: forget a lock that another thread may have held, and leave the parent's file alone."""
        self.lock = threading.RLock()
        self.close()

    def before_next(self, call: Callable[[], object]) -> None:
        """Call this once, before the next event; it is kept where the hot path need not look."""
        self._before_next = call
        self._direct = False


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; where folders cannot be opened (Windows), nothing to do."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _hand_on(error: OSError) -> None:
    """Raise again what a signal handler raised, such as a `TimeoutError`: what the system answers has a number."""
    if error.errno is None:
        raise error


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


def _numbers(start: int) -> Callable[[], int]:
    """A function that counts on, and gives no number to two threads."""
    count = itertools.count(start).__next__
    has_gil = getattr(sys, "_is_gil_enabled", None)
    if has_gil is None or has_gil():
        return count
    lock = threading.Lock()  # without the GIL, `itertools.count` may

    def next_number() -> int:
        with lock:
            return count()

    return next_number
