"""From a journal to the sinks: off the user's thread, each sink alone, within a deadline.

Every sink has one courier: a daemon thread that hands it records and events, one after the other. The end of a run
waits for its couriers a bounded time in all; a sink that used it up is set aside and not waited for again in
this process. A live sink is fed from the journal itself, by a cursor, so that a slow one costs the run nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from runcard.errors import describe, warn
from runcard.journal import decode
from runcard.sinks.registry import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runcard.events import Event
    from runcard.record import RunRecord

    Report = Callable[[str, str], None]

POLL_S = 0.2  # how often a live sink's journal is looked at while the run goes on
_couriers: dict[int, Courier] = {}  # by the sink's identity; a sink that is used again keeps its courier
_spent: dict[str, float] = {"s": 0.0}  # seconds this process has waited for its sinks


class Delivery:
    """One run's way to its sinks. Made at the run's start; `finish` at its end."""

    def __init__(self, sinks: list[Any], report: Report) -> None:
        """Take the sinks of one run.

        Args:
            sinks: Callables of a record, or objects with ``start``, ``append`` and ``finish``.
            report: Is told (sink's name, problem) for what a sink could not do.
        """
        self._couriers = [_courier(sink) for sink in sinks]
        self._report = report
        self._tickets: list[tuple[Courier, _Ticket]] = []

    def start(self, record: RunRecord, journal: Path | None) -> None:
        """Let live sinks follow the run from here on."""
        for courier in self._couriers:
            if courier.live:
                courier.put(_Ticket("start", record, journal, self._report))

    def finish(self, copies: Callable[[], RunRecord], journal: Path | None) -> None:
        """Hand over the finished record; each sink gets its own."""
        for courier in self._couriers:
            ticket = _Ticket("finish", copies(), journal, self._report)
            courier.put(ticket)
            self._tickets.append((courier, ticket))

    def wait(self, deadline_s: float, *, patience_s: float | None = None) -> bool:
        """Wait until every sink has the record or the deadline is spent; return whether all have it.

        The deadline is one budget for all sinks and all runs of the process that had to be waited for in vain.

        Args:
            deadline_s: The budget.
            patience_s: How long to wait here, when the deadline was waited for elsewhere, as in a coroutine's loop.
        """
        done = True
        for courier, ticket in self._tickets:
            if courier.aside:
                done = done and ticket.done.is_set()
                continue
            began = time.monotonic()
            patience = max(0.0, deadline_s - _spent["s"]) if patience_s is None else patience_s
            if not ticket.done.wait(patience):
                courier.aside = True
                _spent["s"] += time.monotonic() - began
                done = False
                problem = f"no answer within {deadline_s:g} s"
                warn(
                    f"the sink {courier.name} gave {problem}; it is set aside, the records stay in the run's folder",
                    once=f"sink {courier.name}",
                )
                self._report(courier.name, problem)
        return done

    @property
    def tickets(self) -> list[threading.Event]:
        """What is set once each sink has the record, for a coroutine that waits without blocking its loop."""
        return [ticket.done for courier, ticket in self._tickets if not courier.aside and not ticket.done.is_set()]


class _Ticket:
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
        name: The sink's name in messages.
    """

    def __init__(self, sink: Any) -> None:
        self.sink = sink
        self.name = getattr(sink, "url", None) or name_of(sink)
        self.live = callable(getattr(sink, "append", None))
        self.aside = False
        self._errands: deque[_Ticket] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._open: dict[str, _Tail] = {}

    def put(self, ticket: _Ticket) -> None:
        """Add an errand; the thread is started when there is none."""
        self._errands.append(ticket)
        self._wake.set()
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name=f"runcard {self.name}", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            self._wake.wait(POLL_S if self._open else None)
            self._wake.clear()
            while self._errands:
                ticket = self._errands.popleft()
                try:
                    self._run(ticket)
                finally:
                    ticket.done.set()
            for tail in list(self._open.values()):
                self._feed(tail)

    def _run(self, ticket: _Ticket) -> None:
        run_id = ticket.record.run_id
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
        for event in tail.new_events():
            self._call(tail.report, "append", tail.run_id, event)

    def _call(self, report: Report, method: str, *arguments: Any) -> None:
        """Call the sink; whatever it raises is its own affair, `SystemExit` included."""
        try:
            (getattr(self.sink, method) if method else self.sink)(*arguments)
        except BaseException as error:  # nothing a sink raises in its own thread may end that thread
            problem = f"{method or 'call'}: {describe(error)}"
            warn(f"the sink {self.name} failed at {problem}; the run is complete without it", once=f"sink {self.name}")
            report(self.name, problem)


class _Tail:
    """The new lines of a journal since the last look."""

    def __init__(self, run_id: str, path: Path | None, report: Report) -> None:
        self.run_id = run_id
        self.report = report
        self._path = path
        self._offset = 0

    def new_events(self) -> Iterator[Event]:
        if self._path is None:
            return
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # still being written: next time
                    self._offset += len(line)
                    event = decode(line)
                    if event is not None:
                        yield event
        except OSError:
            return  # the folder was removed: nothing more to follow


def _courier(sink: Any) -> Courier:
    courier = _couriers.get(id(sink))
    if courier is None or courier.sink is not sink:
        courier = _couriers[id(sink)] = Courier(sink)
    return courier


def _forget_threads() -> None:
    """In a forked child the threads are gone: every sink gets a new courier."""
    _couriers.clear()
    _spent["s"] = 0.0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
