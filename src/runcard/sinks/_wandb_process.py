"""The process that speaks to wandb for us, seen from the user's process.

wandb in the user's own process would set its excepthook, start a service that is waited for at exit, and give our runs
to a user who calls `wandb.init` too. So it is imported in a process of its own, `_wandb_program`, which reads one
request a line and answers each with a line. It ends when its input does, however the user's process ended.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.errors import StoreError, describe
from runcard.redact import Redactor

if TYPE_CHECKING:
    from runcard.sinks._wandb_place import Place

START_S = 120.0  # to import wandb on a slow disk, start its service and reach its server
ANSWER_S = 60.0
FINISH_S = 660.0  # wandb itself gives up 60 s earlier
_running: weakref.WeakSet[Process] = weakref.WeakSet()
_started: list[subprocess.Popen[bytes]] = []  # until they are reaped: a `Popen` that is dropped before warns


class ProcessEnded(StoreError):  # noqa: N818 - reads as what it says
    """The process is gone; what it had of a run must be told again."""


class Process:
    """One such process, for one environment of wandb's and one working directory."""

    def __init__(self, place: Place) -> None:
        """Start it; it imports wandb when it is first asked for something.

        Raises:
            StoreError: When no process can be had.
        """
        program = Path(__file__).with_name("_wandb_program.py")
        command = [sys.executable, "-P", "-W", "ignore", str(program)]
        inward, self._requests = os.pipe()  # no file objects: whenever they are dropped, nobody is warned
        self._answers, outward = os.pipe()
        try:
            self._popen: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=inward,
                stdout=outward,
                stderr=subprocess.DEVNULL,
                cwd=place.cwd,
                env=place.variables(),
                start_new_session=True,  # a Ctrl-C in the terminal is the user's program's, not this one's
            )
        except OSError as error:
            self._let_go()
            raise StoreError(f"no process for wandb could be started: {describe(error)}") from None
        finally:
            os.close(inward)
            os.close(outward)
        _reap()
        _started.append(self._popen)
        self.place = place
        self._unread = b""
        _running.add(self)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self in _running

    def ask(self, request: dict[str, Any], seconds: float = ANSWER_S) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            StoreError: With what wandb said; `ProcessEnded` when there is nobody left to ask.
        """
        line = memoryview(json.dumps(request).encode("utf-8", "surrogatepass") + b"\n")
        try:
            while line:
                line = line[os.write(self._requests, line) :]
            answer: dict[str, Any] = json.loads(self._line(time.monotonic() + seconds))
        except TimeoutError:
            self._popen.kill()
            self.close()
            raise ProcessEnded(f"wandb gave no answer within {seconds:g} s") from None
        except (OSError, ValueError):
            self.close()
            raise ProcessEnded("the process that speaks to wandb ended") from None
        if "error" in answer:
            raise StoreError(Redactor().text(str(answer["error"]))[0])
        return answer

    def close(self) -> None:
        """Let it end: it finishes what it is about by itself."""
        _running.discard(self)
        self._let_go()
        _reap()

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._let_go()

    def _let_go(self) -> None:
        for descriptor in (self._requests, self._answers):
            if descriptor >= 0:
                os.close(descriptor)
        self._requests = self._answers = -1

    def _line(self, until: float) -> bytes:
        while b"\n" not in self._unread:
            if not _is_readable(self._answers, until - time.monotonic()):
                raise TimeoutError
            some = os.read(self._answers, 1 << 16)
            if not some:
                raise ValueError("no more output")
            self._unread += some
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def __del__(self) -> None:
        if getattr(self, "_answers", -1) >= 0:
            self.close()


def _is_readable(descriptor: int, seconds: float) -> bool:
    if sys.platform == "win32":
        return True  # a pipe cannot be waited for there
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(max(0.0, seconds)))


def _reap() -> None:
    _started[:] = [popen for popen in _started if popen.poll() is None]


def _disown() -> None:
    """Let what still runs end by itself, without being waited for."""
    for process in list(_running):
        process.close()
    for popen in _started:
        popen.returncode = 0
    _started.clear()


def _after_fork_in_child() -> None:
    for process in list(_running):
        process.forget()
    _running.clear()
    for popen in _started:
        popen.returncode = 0
    _started.clear()


atexit.register(_disown)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
