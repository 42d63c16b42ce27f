"""What the run printed, in ``output.log``, while the terminal shows it as ever.

`sys.stdout` and `sys.stderr` are wrapped while at least one console listens; overlapping runs share the wrapper and
each gets its own log. What programs write past Python (C code, subprocesses, ``sys.stdout.buffer``) is not seen.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from runcard._shared import open_to_group
from runcard.capture.probe import probe
from runcard.errors import contained

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from runcard.redact import Redactor

_Name = Literal["stdout", "stderr"]
_MOST = 10_000_000
_LONGEST_LINE = 65_536
_changing = threading.RLock()


class Console:
    """A log of standard output and error for one run.

    Lines are redacted; a progress bar, redrawn with carriage returns, becomes its last state; colours and other
    terminal sequences are left out; at ``limit`` bytes the log ends with a line that says so. A log that cannot be
    written is given up with one warning. Secrets of several lines are known by the first: PEM blocks of private
    keys.

    Args:
        path: The log; lines are appended.
        redactor: Takes secrets out of each line.
        limit: The most bytes to write.
        mode: The log's permissions.
    """

    def __init__(self, path: Path, redactor: Redactor, *, limit: int = _MOST, mode: int = 0o600) -> None:
        self.path = path
        self.bytes = 0
        self.redacted = 0
        self.cut = False
        self._redactor = redactor
        self._limit = limit
        self._mode = mode
        self._descriptor: int | None = None
        self._tees: list[_Tee] = []
        self._waiting: deque[tuple[_Name, str]] = deque()
        self._writing = threading.Lock()
        self._pid = 0
        self._lines: dict[_Name, _Line] = {}
        self._in_key: set[_Name] = set()

    def start(self) -> Console:
        """Begin to listen; a stream that is None is left alone."""
        contained("open the console log", self._open)
        if self._descriptor is not None:
            with _changing:
                self._tees = [tee for name in ("stdout", "stderr") if (tee := _listen(name, self)) is not None]
        return self

    def stop(self) -> None:
        """Write the last unfinished lines, close the log, and put back the streams that nobody replaced since."""
        with _changing:
            for tee in self._tees:
                _unlisten(tee, self)
            self._tees = []
        if self._descriptor is not None:
            contained("finish the console log", self._finish)

    def feed(self, name: _Name, text: str) -> None:
        """Take what was printed. Called by any thread, in signal handlers and in forked children: waits for nobody."""
        if self._descriptor is None:
            return
        if os.getpid() != self._pid:  # a forked child: the lock and the unfinished lines are the parent's
            self._begin()
        self._waiting.append((name, text))
        # Whoever holds the lock writes for all; the check after it is let go sees what came meanwhile.
        while self._waiting and self._writing.acquire(blocking=False):
            try:
                self._drain()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._give_up(error)
            finally:
                self._writing.release()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(self.path, flags, self._mode)
        if self._mode != 0o600:
            open_to_group(self._descriptor, self._mode)
        self.bytes = os.fstat(self._descriptor).st_size
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._waiting.clear()
        self._writing = threading.Lock()
        self._lines = {"stdout": _Line(), "stderr": _Line()}
        self._in_key = set()

    def _drain(self) -> None:
        out: list[str] = []
        while self._waiting:
            name, text = self._waiting.popleft()
            out += [self._clean(name, line) for line in self._lines[name].take(text)]
        self._write(out)

    def _finish(self) -> None:
        held = self._writing.acquire(timeout=1.0)  # another thread's print may be on its way
        try:
            if self._descriptor is None:
                return
            self._drain()
            self._write([self._clean(name, line.rest()) for name, line in self._lines.items() if line.rest()])
        finally:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)
            if held:
                self._writing.release()

    def _clean(self, name: _Name, line: str) -> str:
        if "-----BEGIN" in line and "PRIVATE KEY" in line:
            self._in_key.add(name)
        if name in self._in_key:
            if "-----END" in line:
                self._in_key.discard(name)
            self.redacted += 1
            return "[redacted]"
        answer = probe(self._redactor.text, line)
        if answer is None:
            self.redacted += 1
            return "[redacted]"
        self.redacted += answer[1]
        text = answer[0]
        return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}… [line cut]"

    def _write(self, lines: list[str]) -> None:
        if not lines or self._descriptor is None or self.cut:
            return
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        if self.bytes + len(data) > self._limit:
            self.cut = True
            data = data[: max(0, self._limit - self.bytes)]
            data = data[: data.rfind(b"\n") + 1] + f"[cut: the log ends at {self._limit} bytes]\n".encode()
        while data:
            written = os.write(self._descriptor, data)
            self.bytes += written
            data = data[written:]

    def _give_up(self, error: BaseException) -> None:
        descriptor = self._descriptor
        self._descriptor = None
        if descriptor is not None:
            probe(os.close, descriptor)

        def fail() -> None:
            raise error

        contained("write the console log", fail)


class _Line:
    """The line of one stream that has not ended yet, as a terminal would show it."""

    def __init__(self) -> None:
        self._text = ""
        self._cut = False

    def take(self, text: str) -> list[str]:
        """Add ``text``; the lines that it has ended."""
        *ended, last = text.split("\n")
        lines = []
        for part in ended:
            self._add(part)
            lines.append(self.rest())
            self._text, self._cut = "", False
        self._add(last)
        return lines

    def rest(self) -> str:
        return _shown(self._text)

    def _add(self, text: str) -> None:
        if self._cut and "\r" not in text:
            return
        whole = self._text + text
        if "\r" in whole:
            whole = _last_state(whole)
        # what is kept beyond the longest line lets the redactor see a secret that lies across the cut
        self._cut = len(whole) > _LONGEST_LINE + 4096
        self._text = whole[: _LONGEST_LINE + 4096] if self._cut else whole


_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # OSC and other strings: titles, links
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)


def _last_state(text: str) -> str:
    """From the last carriage return that something follows: what came before was drawn over."""
    place = text.rstrip("\r").rfind("\r")
    shown = text[place + 1 :] if place >= 0 else text
    if place < 0 or _SEQUENCE.sub("", shown).strip():
        return shown
    # blanks that wipe a bar out: what they wiped out is what a person saw last
    return _last_state(text[:place]) + "\r"


def _shown(text: str) -> str:
    return _SEQUENCE.sub("", _last_state(text).rstrip("\r"))


class _Tee:
    """A stream that does all that the one beneath does, and lets consoles hear what is written."""

    __slots__ = ("_consoles", "_name", "_stream")

    _consoles: tuple[Console, ...]
    _name: _Name
    _stream: Any

    def __init__(self, name: _Name, stream: Any) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_stream", stream)
        object.__setattr__(self, "_consoles", ())

    def write(self, text: str) -> int:
        try:
            written: int = self._stream.write(text)
        finally:  # a terminal that is gone raises as ever, and the log has the text
            if type(text) is str:
                for console in self._consoles:
                    console.feed(self._name, text)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._stream, name)

    def __enter__(self) -> _Tee:  # noqa: PYI034 - as a stream does: itself
        self._stream.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._stream.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __next__(self) -> Any:
        return next(self._stream)

    def __repr__(self) -> str:
        return repr(self._stream)


def _listen(name: _Name, console: Console) -> _Tee | None:
    stream = getattr(sys, name)
    if stream is None:
        return None
    tee = stream if type(stream) is _Tee else _Tee(name, stream)
    object.__setattr__(tee, "_consoles", (*tee._consoles, console))  # noqa: SLF001 - a stream's own names are free
    setattr(sys, name, tee)
    return tee


def _unlisten(tee: _Tee, console: Console) -> None:
    left = tuple(other for other in tee._consoles if other is not console)  # noqa: SLF001 - as above
    object.__setattr__(tee, "_consoles", left)
    if not left and getattr(sys, tee._name) is tee:  # noqa: SLF001 - as above
        setattr(sys, tee._name, tee._stream)  # noqa: SLF001 - as above
