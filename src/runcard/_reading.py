"""A journal as it is read: line by line, with what is torn, damaged, doubled or missing told apart from what is not."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zlib import crc32

import orjson

from runcard.events import OWNER, UNMARKED, Event, restore

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_LIMIT = 16 << 20  # a hostile line longer than this is not parsed
_DEPTH_LIMIT = 100  # `values` nests 8 deep
_SHORT = 1 << 16  # bytes of a journal that are read at once
_RESCUES = 100  # places in a damaged line where the next event is looked for
_START = b'{"crc":"'
_HEAD = len(_START) + len(b'00000000",')  # at most: leading zeros of the checksum may lack
_SHORT_FORM = b'"log":['


class Reading:
    """The events of one journal, and what was found wrong on the way.

    Iterate it once; then `damaged` counts lines that could not be read and `missing` the numbers never seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.missing = 0

    def __iter__(self) -> Iterator[Event]:
        seen = Numbers()
        try:
            file = _opened(self.path)
        except OSError:
            self.damaged += 1
            return
        with file:
            while line := file.readline(_LINE_LIMIT):
                event = decode(line)
                if event is None:
                    if line == b"\n":
                        continue
                    self.damaged += 1
                    event = rescued(line)
                if event is not None and seen.add(event["n"]):
                    yield event
        self.missing = max(0, seen.missing - self.damaged)


def last_events(path: Path, *, first: bool = False, limit: int = 1 << 16) -> list[Event]:
    """The events in the last ``limit`` bytes of a journal, or with ``first`` in its first line."""
    try:
        with path.open("rb") as file:
            if first:
                lines = [file.readline(_LINE_LIMIT)]
            else:
                file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
                lines = file.readlines()
    except OSError:
        return []
    return [event for line in lines if (event := decode(line)) is not None]


def writers(folder: Path) -> dict[str, Path]:
    """The journals in a run's folder, by writer."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("journal") and name.endswith(".jsonl") and entry.is_file(follow_symlinks=False):
                found[name[: -len(".jsonl")]] = Path(entry.path)
    return found


def is_alone(path: Path) -> bool:
    """Whether a journal is its folder's only one, and a run's owner's."""
    folder, name = os.path.split(path)
    return name == f"{OWNER}.jsonl" and not any(
        other != name and other.startswith(OWNER) and other.endswith(".jsonl") for other in os.listdir(folder)
    )


def decode(line: bytes) -> Event | None:
    """The event of one line, None when the line is torn, damaged or no event. It may lack its newline, nothing else."""
    at = line.find(b'",', len(_START), _HEAD) + 2
    end = len(line) - (line[-1:] == b"\n")
    if line[at : at + len(_SHORT_FORM)] == _SHORT_FORM and line[end - 1 : end] == b"}":
        body = line[at + len(_SHORT_FORM) - 1 : end - 1]
    else:
        body = b"{" + line[at:end]
    if line[: len(_START)] != _START or line[len(_START) : at - 2].zfill(8) != b"%08x" % crc32(body):
        return None
    try:
        event = orjson.loads(body)
    except ValueError:
        return None
    if type(event) is list and len(event) == 4:
        event = _log(*event)
    if type(event) is not dict or type(event.get("n")) is not int or type(event.get("kind")) is not str:
        return None
    if body.count(b"{") + body.count(b"[") > _DEPTH_LIMIT and _is_deep(event):
        return None
    return _unmarked(body, event)


def restored(body: bytes) -> Event:
    """The event that a line's body of our own tells."""
    event = orjson.loads(body)
    return _unmarked(body, _log(*event) if type(event) is list else event)


def _log(number: int, now: float, step: Any, metrics: Any) -> Event:
    """The ``log`` event that the short form of its line tells."""
    return {"n": number, "kind": "log", "t": now, "step": step, "metrics": metrics}


def _unmarked(body: bytes, event: Event) -> Event:
    if b"$" in body and b'{"$' in body:  # a single byte is found at a tenth of the cost
        return {name: value if name in UNMARKED else restore(value) for name, value in event.items()}
    return event


def _is_deep(value: Any) -> bool:
    """Whether a value is nested so deeply, by no writer of ours, that walking it may use up the stack."""
    level = [value]
    for _ in range(_DEPTH_LIMIT):
        level = [
            item
            for each in level
            for item in (each.values() if type(each) is dict else each)
            if type(item) in (dict, list)
        ]
        if not level:
            return False
    return True


def rescued(line: bytes) -> Event | None:
    """The whole event at the end of a line whose beginning is damaged, such as one that lost the newline before it."""
    at = 0
    for _ in range(_RESCUES):
        at = line.find(b'{"crc":"', at + 1)
        if at < 0:
            break
        event = decode(line[at:])
        if event is not None:
            return event
    return None


def _opened(path: Path) -> IO[bytes]:
    """A file to read lines from: a short one from memory, at half the cost."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    try:
        piece = os.read(fd, _SHORT)
        if len(piece) < os.fstat(fd).st_size:
            os.lseek(fd, 0, os.SEEK_SET)
            file, fd = open(fd, "rb"), -1  # noqa: SIM115 - the caller closes it
            return file
        return io.BytesIO(piece)
    finally:
        if fd >= 0:
            os.close(fd)


class Numbers:
    """Which event numbers were seen; a run of them costs one integer, so that a long journal costs nothing."""

    def __init__(self) -> None:
        self.next = 0
        self.gaps: set[int] = set()
        self.missing = 0

    def __contains__(self, number: int) -> bool:
        return number < self.next and number not in self.gaps

    def add(self, number: int) -> bool:
        """Take a number; False when it was seen before."""
        if number == self.next:
            self.next += 1
            return True
        if number < self.next:
            if number in self.gaps:  # written late: another thread, or a signal handler, came between
                self.gaps.remove(number)
                self.missing -= 1
                return True
            return False
        gap = number - self.next
        self.missing += gap
        if gap <= 100_000:
            self.gaps.update(range(self.next, number))
        self.next = number + 1
        return True
