"""From a journal to the sinks: off the user's thread, each sink alone, within a deadline.

Every sink has one courier, a thread of its own. The end of a run waits for its couriers a bounded time in all; a sink
that used it up is set aside and not waited for again in this process. A live sink is fed from the journal itself, by a
cursor, so that a slow one costs the run nothing.

A live sink that was named by its URL can be reached again: what it did not take is tried again, and stays noted beside
the journal until it has it, for the next process to go on with.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from runcard import _courier, _open_sinks
from runcard._courier import Courier, Ticket, courier_of
from runcard.errors import contained, warn

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from runcard._courier import Report
    from runcard.record import RunRecord

PIECE_S = 0.5  # how long a Ctrl-C may go unheard
_spent: dict[str, float] = {}  # by the sink's name: seconds this process has waited for it in vain


class Delivery:
    """One run's way to its sinks. Made at the run's start; `finish` at its end."""

    def __init__(self, sinks: list[Any], report: Report) -> None:
        """Take the sinks of one run.

        Args:
            sinks: Callables of a record, or objects with ``start``, ``append`` and ``finish``.
            report: Is told (sink's name, problem) for what a sink could not do.
        """
        self._couriers = [courier_of(sink) for sink in sinks]
        self._report = report
        self._tickets: list[tuple[Courier, Ticket]] = []

    def start(self, copies: Callable[[], RunRecord], journal: Path | None, *, spooled: bool = False) -> None:
        """Let live sinks follow the run from here on; each gets its own record.

        Args:
            copies: Gives a record that nobody else has.
            journal: The owner's journal; its folder has the others.
            spooled: Whether that folder goes once all is delivered.
        """
        for courier in self._couriers:
            if courier.live:
                ticket = Ticket("start", copies(), journal, self._report)
                if courier.lasting:
                    contained("note what is to be delivered", courier.announce, ticket, spooled=spooled)
                courier.put(ticket)

    def finish(self, copies: Callable[[], RunRecord], journal: Path | None) -> None:
        """Hand over the finished record; each sink gets its own."""
        for courier in self._couriers:
            ticket = Ticket("finish", copies(), journal, self._report)
            courier.put(ticket)
            self._tickets.append((courier, ticket))

    def wait(self, deadline_s: float, *, patience_s: float | None = None) -> bool:
        """Wait until every sink has the record or the deadline is spent; return whether all have it.

        A sink's deadline is spent once a process, and all sinks of a run are waited for at the same time.

        Args:
            deadline_s: The budget.
            patience_s: How long to wait here, when the deadline was waited for elsewhere, as in a coroutine's loop.
        """
        done = True
        until = time.monotonic() + deadline_s
        for courier, ticket in self._tickets:
            began = time.monotonic()
            if patience_s is None:
                patience = max(0.0, min(until - began, deadline_s - _spent.get(courier.name, 0.0)))
            else:
                patience = patience_s
            if not _is_done(ticket.done, patience):
                courier.aside = True
                _spent[courier.name] = deadline_s
                done = False
                if courier.lasting:
                    courier.leave(ticket, deadline_s)
                    continue
                problem = f"no answer within {deadline_s:g} s"
                self._report(courier.name, problem)
                warn(
                    f"the sink {courier.name} gave {problem}; it is set aside, the records stay in the run's folder",
                    once=f"sink {courier.name}",
                )
        for courier in self._couriers:
            courier.say()
        return done

    @property
    def keeps_files(self) -> bool:
        """Whether one of the sinks has the run's artifacts too, once it has the run."""
        return any(getattr(courier.sink, "keeps_files", False) for courier in self._couriers)

    @property
    def tickets(self) -> list[threading.Event]:
        """What is set once each sink has the record, for a coroutine that waits without blocking its loop."""
        return [ticket.done for courier, ticket in self._tickets if not courier.aside and not ticket.done.is_set()]


def _is_done(done: threading.Event, patience_s: float) -> bool:
    """Wait for a courier, in pieces: a Ctrl-C that comes just before a wait begins is heard of when that is over."""
    until = time.monotonic() + patience_s
    while not done.wait(max(0.0, min(until - time.monotonic(), PIECE_S))):
        if time.monotonic() >= until:
            return False
    return True


def forget() -> None:
    """Begin as a process does that has delivered nothing, with every sink opened anew."""
    _courier.forget()
    _open_sinks.forget()
    _spent.clear()


if hasattr(os, "register_at_fork"):
    # In a forked child the threads are gone, and a connection must not be shared.
    os.register_at_fork(after_in_child=forget)
