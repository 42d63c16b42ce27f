"""A sink's courier: the daemon thread that hands it records and events, one after the other.

It ends when there is nothing to do. What a live sink with an address did not take is tried again, later and later, from
the journal itself. What went wrong in the thread is said in the user's, at the run's end.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from runcard._open_sinks import has_address, is_live, name_of_sink
from runcard._parcels import Parcel, batches, notes
from runcard._threads import await_end
from runcard.errors import describe, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runcard.events import Event
    from runcard.record import RunRecord

    Report = Callable[[str, str], None]

POLL_S = 0.2  # how often a live sink's journal is looked at while the run goes on
IDLE_S = 0.05  # how long a courier waits for the next errand before its thread ends
AGAIN_S = 0.1, 30.0  # how long a courier waits after a sink's first failure, and at most
TOUCH_S = 60.0  # how often a sink is shown that a run with nothing to say goes on
STOP_S = 0.2  # how long a fork waits for a courier to come out of its sink
_couriers: dict[int, Courier] = {}  # by the sink's identity, while there is something to do; of hung ones for ever


class Ticket:
    """One errand: a method of a sink, the record it is given, and the journal it reads on the way."""

    __slots__ = ("done", "journal", "method", "record", "report")

    def __init__(self, method: str, record: RunRecord, journal: Path | None, report: Report) -> None:
        self.method = method
        self.record = record
        self.journal = journal
        self.report = report
        self.done = threading.Event()


class Courier:
    """The thread of one sink.

    Attributes:
        aside: Whether the sink once used up the deadline.
        live: Whether it follows runs from their start.
        lasting: Whether what it does not take is kept for it.
        name: The sink's name in messages.
    """

    def __init__(self, sink: Any) -> None:
        self.sink = sink
        self.name = name_of_sink(sink)
        self.live = is_live(sink)
        self.lasting = has_address(sink)
        self.aside = False
        self._problems: deque[str] = deque(maxlen=1_000)
        self._errands: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()  # safe in signal handlers too
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._open: dict[str, _Tail] = {}
        self._parcels: dict[str, tuple[Parcel, list[Ticket]]] = {}  # by run, the next to be tried first
        self._left: list[Path] = []  # notes of what earlier processes left behind
        self._looked: set[Path] = set()  # the stores whose notes were read
        self._pause = 0.0  # after failures
        self._due = 0.0  # when the next try is
        self._touched = 0.0

    def announce(self, ticket: Ticket, *, spooled: bool) -> None:
        """Begin a parcel, noted before the run goes on."""
        parcel = self._parcel(ticket)
        parcel.spooled = spooled
        parcel.announce()
        if parcel.note is not None and parcel.note.parent not in self._looked:
            self._looked.add(parcel.note.parent)
            self._left += [note for note in notes(parcel.note.parent.parent, self.name) if note != parcel.note]

    def leave(self, ticket: Ticket, deadline_s: float) -> None:
        """Say what stays behind when the deadline is spent."""
        waiting = self._parcels.get(ticket.record.run_id)
        problem = "no answer"
        if waiting is not None:
            waiting[0].late = True
            problem = waiting[0].problem or problem
        warn(
            f"the sink {self.name} took not all of the run within {deadline_s:g} s ({problem}); what is missing "
            "is kept, and delivered by the next run with this sink or by `runcard sync`",
            once=f"sink {self.name}",
        )

    def put(self, ticket: Ticket) -> None:
        """Add an errand; the thread is started when there is none."""
        self._errands.put(ticket)
        self.go_on()

    @property
    def has_work(self) -> bool:
        """Whether there are errands to do or runs to follow."""
        return bool(self._open or self._parcels or self._left) or not self._errands.empty()

    def go_on(self) -> None:
        """Start the thread when there is none and something to do."""
        with self._starting:
            if self._thread is not None or not self.has_work:
                return
            thread = self._thread = threading.Thread(target=self._work, name=f"runcard {self.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is shutting down
                self._thread = None
                self._give_up(describe(error))

    def stop(self) -> None:
        """End the thread, unless it is in the sink's own code: a fork of a process with threads is warned of."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and not self.aside:
            self._errands.put(None)
            await_end(thread, STOP_S)

    def say(self) -> None:
        """Warn, in the thread that calls, of what went wrong since the last time."""
        while self._problems:
            problem = self._problems.popleft()
            warn(f"the sink {self.name} failed at {problem}; the run is complete without it", once=f"sink {self.name}")

    def _work(self) -> None:
        stopped = False
        while not stopped:
            try:
                ticket = self._errands.get(timeout=self._patience())
            except queue.Empty:
                stopped = not (self._open or self._parcels or self._left)
            else:
                stopped = ticket is None
                if ticket is not None:
                    self._do(ticket)
            if not stopped:
                for tail in list(self._open.values()):
                    self._feed(tail)
                self._send()
        with self._starting:
            self._thread = None
            if not self.has_work and _couriers.get(id(self.sink)) is self:
                del _couriers[id(self.sink)]
        self.go_on()  # an errand may have come in between

    def _do(self, ticket: Ticket) -> None:
        try:
            self._run(ticket)
        except BaseException as error:  # not even a broken report may end the thread that others wait for
            self._problems.append(describe(error))
        finally:
            if not self.lasting:
                ticket.done.set()

    def _patience(self) -> float:
        """How long to wait for the next errand."""
        if self._left and not self._pause:
            return 0.0
        return POLL_S if self._open or self._parcels or self._left else IDLE_S

    def _parcel(self, ticket: Ticket) -> Parcel:
        run_id = ticket.record.run_id
        if run_id not in self._parcels:
            folder = ticket.journal.parent if ticket.journal is not None else None
            self._parcels[run_id] = (Parcel(self.name, folder, ticket.record), [])
        return self._parcels[run_id][0]

    def _send(self) -> None:
        """Hand over what is due; a sink that fails is left alone for a while, and the run that failed comes last."""
        if time.monotonic() < self._due:
            return
        if self._left and not any(parcel.ended for parcel, _ in list(self._parcels.values())):
            left = Parcel.left_behind(self._left.pop(0))
            if left is not None:
                self._parcels.setdefault(left.record.run_id, (left, []))
        for run_id, (parcel, tickets) in list(self._parcels.items()):
            try:
                done = parcel.advance(self.sink)
            except BaseException as error:  # nothing a sink raises in its own thread may end that thread
                parcel.problem = describe(error)
                self._pause = min(AGAIN_S[1], self._pause * 2 or AGAIN_S[0])
                self._due = time.monotonic() + self._pause
                self._parcels[run_id] = self._parcels.pop(run_id)
                return
            self._pause = 0.0
            if done:
                del self._parcels[run_id]
                for ticket in tickets:
                    ticket.done.set()
        self._touch()

    def _touch(self) -> None:
        touch = getattr(self.sink, "touch", None)
        if not callable(touch) or time.monotonic() - self._touched < TOUCH_S:
            return
        self._touched = time.monotonic()
        for run_id in list(self._parcels):
            try:
                touch(run_id)
            except BaseException:  # what it means will be told when there is something to deliver
                return

    def _give_up(self, problem: str) -> None:
        """There is no thread to be had: the errands are not done, and say so instead of being waited for."""
        self._problems.append(problem)
        while not self._errands.empty():
            ticket = self._errands.get()
            if ticket is not None:
                ticket.report(self.name, problem)
                ticket.done.set()

    def _run(self, ticket: Ticket) -> None:
        run_id = ticket.record.run_id
        if self.lasting:
            parcel = self._parcel(ticket)
            if ticket.method == "finish":
                parcel.record, parcel.ended = ticket.record, True
                self._parcels[run_id][1].append(ticket)
                self._due = 0.0  # the user waits
            return
        if ticket.method == "start":
            self._open[run_id] = _Tail(run_id, ticket.journal, ticket.report)
            self._call(ticket.report, "start", ticket.record)
            return
        tail = self._open.pop(run_id, None)
        if tail is not None:
            self._feed(tail)
        finish = getattr(self.sink, "finish", None)
        self._call(ticket.report, "finish" if callable(finish) else "", ticket.record)

    def _feed(self, tail: _Tail) -> None:
        """Hand over what is new; the first failure is told for all: telling it is an event, which comes here too."""
        for event in tail.new_events():
            fine = self._call(None if tail.has_failed else tail.report, "append", tail.run_id, event)
            tail.has_failed = tail.has_failed or not fine

    def _call(self, report: Report | None, method: str, *arguments: Any) -> bool:
        """Call the sink, and whether that went well; what it raises is its own affair, `SystemExit` included."""
        try:
            (getattr(self.sink, method) if method else self.sink)(*arguments)
        except BaseException as error:  # nothing a sink raises in its own thread may end that thread
            if report is not None:
                problem = f"{method or 'call'}: {describe(error)}"
                self._problems.append(problem)
                report(self.name, problem)
            return False
        return True


class _Tail:
    """The new lines of a journal since the last look."""

    def __init__(self, run_id: str, path: Path | None, report: Report) -> None:
        self.run_id = run_id
        self.report = report
        self.has_failed = False
        self._path = path
        self._offset = 0

    def new_events(self) -> Iterator[Event]:
        if self._path is None:
            return
        try:
            for events, offset in batches(self._path, self._path.stem, self._offset):
                self._offset = offset
                yield from events
        except OSError:
            return  # the folder was removed: nothing more to follow


def courier_of(sink: Any) -> Courier:
    """The one courier of a sink."""
    courier = _couriers.get(id(sink))
    if courier is None or courier.sink is not sink:
        courier = _couriers[id(sink)] = Courier(sink)
    return courier


def _before_fork() -> None:
    for courier in list(_couriers.values()):
        courier.stop()


def _after_fork_in_parent() -> None:
    for courier in list(_couriers.values()):
        if courier.has_work:
            courier.go_on()


def forget() -> None:
    """Their threads are gone, or not ours to know of any more."""
    _couriers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
