"""From a run's end to its rest: the sinks take the record, by the deadline; what comes later is counted."""

from __future__ import annotations

import atexit
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from runcard import index
from runcard.errors import RuncardError, contained, say
from runcard.journal import Journal
from runcard.locks import locked
from runcard.record import History, RunRecord

if TYPE_CHECKING:
    import threading

    from runcard._opening import Life
    from runcard._run import Run

_finish_later: list[tuple[Run, Life]] = []  # ended in a coroutine, whose sinks are still to be settled with


def deliver(run: Run, life: Life, record: RunRecord, *, wait: bool) -> None:
    """Hand the record to the sinks, and wait for them unless a coroutine is to do that in its loop."""
    delivery = life.delivery
    if delivery is None:
        return
    place = life.place

    def copy() -> RunRecord:
        """A record of its own for every sink; the history of a journal that may go is read now."""
        own = own_copy(record)
        if not place.spooled and place.folder is not None:
            return own
        return replace(own, metric_history=History(list(record.metric_history)))

    delivery.finish(copy, place.journal_path)
    if not wait:
        _finish_later[:] = [each for each in _finish_later if each[1].waiting()]  # the others have come to rest alone
        _finish_later.append((run, life))
        return
    _settle(run, life, delivered=delivery.wait(life.settings.deadline))


def own_copy(record: RunRecord) -> RunRecord:
    """The record again, sharing nothing that can be changed; the history is only read."""
    data = orjson.loads(orjson.dumps(record.to_dict(history=False)))
    return RunRecord.from_dict(data, folder=record.folder, metric_history=record.metric_history)


def is_in_asyncio() -> bool:
    """Whether asyncio runs this coroutine: another loop, or who drives it by hand, knows nothing of our waiting."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


async def wait_in_loop(waiting: list[threading.Event], deadline_s: float = 5.0) -> None:
    """Let a coroutine wait for the sinks while its loop goes on."""
    asyncio = sys.modules["asyncio"]
    until = time.monotonic() + deadline_s
    pause = 0.0
    while not all(event.is_set() for event in waiting) and time.monotonic() < until:
        await asyncio.sleep(pause)
        pause = min(0.05, pause + 0.001)


def settle_async(run: Run, error: BaseException | None) -> None:
    """After a coroutine's wait: what a plain end does once its sinks have the record, without more waiting.

    What ``strict`` raises here is only said when ``error``, the user's own, is on its way.
    """
    for entry in [each for each in _finish_later if each[0] is run]:
        _finish_later.remove(entry)
        life = entry[1]
        try:
            delivered = life.delivery is None or life.delivery.wait(life.settings.deadline, patience_s=0.0)
            _settle(run, life, delivered=delivered)
        except RuncardError as failure:
            if error is None:
                raise
            say(str(failure))


def report_sink(run: Run, sink: str, problem: str) -> None:
    """Record what a sink could not do; after the run's end, under its lock."""
    life = run._life
    life.sink_problems += 1
    event = {"kind": "sink", "t": time.time(), "sink": sink, "problem": life.redactor.text(problem)[0][:500]}
    event["losses"] = {"sinks": 1}
    contained("record a sink's failure", _append, run, event)


def count_late(run: Run) -> None:
    """Count what came after the end: the first at once, the others when the process exits."""
    run._late += 1
    if run._late == 1:
        contained("count what came late", _append, run, _late_event(1))
        atexit.register(_count_rest, run)


def _settle_rest() -> None:
    """Coroutines that were closed could not wait for their sinks: the process does, before it exits."""
    while _finish_later:
        run, life = _finish_later.pop()
        delivered = life.delivery is None or life.delivery.wait(life.settings.deadline)
        contained("settle with the sinks", _settle, run, life, delivered=delivered)


atexit.register(_settle_rest)


def _settle(run: Run, life: Life, *, delivered: bool) -> None:
    """A spooled run that every sink has, and whose artifacts lie elsewhere, is done with."""
    place = life.place
    if place.folder is None or not place.spooled or not delivered or life.sink_problems:
        return
    elsewhere = life.delivery is not None and life.delivery.keeps_files
    if elsewhere or not any((place.folder / "artifacts").glob("*")):
        import shutil

        shutil.rmtree(place.folder, ignore_errors=True)
        run.folder = None


def _append(run: Run, event: dict[str, Any]) -> None:
    """Append to the run's journal, be it still open or not."""
    if not run._journal.closed and run._journal.append(event):
        return  # False also when the end, in another thread, closed it meanwhile
    path = run._life.place.journal_path
    if path is None or not path.exists():
        return
    with index.noted(run._life.place.root, run.run_id), locked(path):
        late = Journal(path, shared=True)
        try:
            late.append(event)
        finally:
            late.close()


def _count_rest(run: Run) -> None:
    if run._late > 1:
        contained("count what came late", _append, run, _late_event(run._late - 1))


def _late_event(count: int) -> dict[str, Any]:
    return {"kind": "loss", "t": time.time(), "losses": {"after_end": count}}
