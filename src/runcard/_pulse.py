"""What watches over open runs: signs of life for other hosts, termination signals, forks, and the process's exit.

One daemon thread a process touches the journals of runs older than a minute, once a minute. It stops before a fork,
so that a program with runcard forks as quietly as one without, and begins again with the next run or event.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from runcard import _current
from runcard._threads import await_end
from runcard.errors import warn

if TYPE_CHECKING:
    from runcard._run import Run

BEAT_S = 60.0


class _Pulse:
    """The thread that beats, and what stops it."""

    thread: threading.Thread | None = None
    stop = threading.Event()


_started: dict[int, float] = {}  # by `id` of the run: when it was opened, by the monotonic clock
_handlers: dict[int, Any] = {}  # signal → the handler that was there before ours


def watch(run: Run, signals: tuple[str, ...]) -> None:
    """Watch over a run from here until it is forgotten."""
    _started[id(run)] = time.monotonic()
    _beat()
    if signals:
        _catch(signals)


def forget(run: Run) -> None:
    """The run has ended."""
    _started.pop(id(run), None)
    if not _current.open_runs and _handlers:
        _release()


def _beat() -> None:
    if _Pulse.thread is not None and _Pulse.thread.is_alive():
        return
    _Pulse.stop.clear()
    thread = threading.Thread(target=_work, name="runcard pulse", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads, or the interpreter is shutting down: runs are known by their pid alone
        return
    _Pulse.thread = thread


def _work() -> None:
    """Beat until there has been no open run for a whole minute."""
    while not _Pulse.stop.wait(BEAT_S):
        if not _current.open_runs:
            return
        beat_once(time.monotonic())


def beat_once(now: float) -> None:
    """Touch the journals of the runs that are older than a minute."""
    for run in list(_current.open_runs.values()):
        if now - _started.get(id(run), now) >= BEAT_S:
            try:
                run._journal.touch()
            except OSError:
                continue  # the next beat may do; on this host the pid tells all the same


def _before_fork() -> None:
    """Leave no thread of ours behind: a fork of a process with threads is warned of, and rightly."""
    thread, _Pulse.thread = _Pulse.thread, None
    if thread is not None and thread is not threading.current_thread():
        _Pulse.stop.set()
        await_end(thread, 1.0)


def _after_fork_in_parent() -> None:
    """The next event brings the pulse back. Beginning at once would be a thread too early for Python's own warning."""
    for run in list(_current.open_runs.values()):
        run._journal.before_next(_beat)


def _after_fork_in_child() -> None:
    """In a child the open runs are the parent's: its steps go beside, under its own name, and it ends nothing."""
    _Pulse.stop = threading.Event()  # another thread may have held the old one's lock
    _started.clear()
    for run in list(_current.open_runs.values()):
        run.adopt()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _catch(names: tuple[str, ...]) -> None:
    if threading.current_thread() is not threading.main_thread():
        warn("signals= needs the first run to begin in the main thread; they are not recorded", once="signals")
        return
    for name in names:
        number = getattr(signal, name, None)
        if number is None or number in _handlers:
            continue
        before = signal.getsignal(number)
        if before is signal.SIG_IGN or before is None:
            continue  # ignored it stays, as under nohup; what is no Python function cannot be handed on to
        _handlers[number] = before
        signal.signal(number, _on_signal)


def _release() -> None:
    """Put back the handlers that were there, where nobody else has replaced ours."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number, before in list(_handlers.items()):
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, before)
        del _handlers[number]


def _on_signal(number: int, frame: Any) -> None:
    """Write the last word of every open run, then let the signal take its course."""
    from runcard._closing import asked_to_stop, killed_by

    before = _handlers.get(number, signal.SIG_DFL)
    for run in reversed(list(_current.open_runs.values())):
        (asked_to_stop if callable(before) else killed_by)(run, signal.Signals(number).name)
    if callable(before):
        before(number, frame)
    else:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _at_exit() -> None:
    """Runs that were started and never ended, and generators never finished, end with the process.

    So does a run of the main thread whose block was left without its end: a Ctrl-C fell into the gap before it.
    """
    error = getattr(sys, "last_value", None)
    main = threading.main_thread().ident
    for run in reversed(list(_current.open_runs.values())):
        if run.is_ambient or run.hidden or run.thread == main:
            run._close(error if isinstance(error, BaseException) and not run.hidden else None)


atexit.register(_at_exit)
