"""What users and plug-in writers test with: captured runs, the contract of a sink, a clock that stands still.

Nothing here is loaded by a run; import it from a test.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, overload

import orjson

from runcard import errors, settings
from runcard._block import run
from runcard.errors import RunNotFound
from runcard.record import RunRecord
from runcard.store import Store, open_store

if TYPE_CHECKING:
    from runcard.events import Event

_ANSWER_S = 30.0  # how long `check_sink` waits for one call of a sink


class Captured(Sequence[RunRecord]):
    """The records of the runs captured so far, in the order they began; read anew at each look.

    Attributes:
        store: The store they lie in, for histories and late judgements.
    """

    def __init__(self, folder: Path) -> None:
        self.store: Store = open_store(folder)
        self._kept: list[RunRecord] | None = None

    def _records(self) -> list[RunRecord]:
        return self.store.runs()[::-1] if self._kept is None else self._kept

    def keep(self) -> None:
        """Read everything into memory, since the folder is about to go."""
        records = self._records()
        for record in records:
            len(record.metric_history)  # the points are read now
        self._kept = records

    @property
    def last(self) -> RunRecord:
        """The record of the run that began last. Raises `LookupError` when there is none."""
        return self._records()[-1]

    @overload
    def __getitem__(self, index: int) -> RunRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[RunRecord]: ...
    def __getitem__(self, index: int | slice) -> RunRecord | list[RunRecord]:
        return self._records()[index]

    def __len__(self) -> int:
        return len(self._records())

    def __repr__(self) -> str:
        return f"<Captured {self._records()!r}>"


@contextmanager
def captured_runs(directory: str | os.PathLike[str] | None = None) -> Iterator[Captured]:
    """Record every run of the block, of its threads and subprocesses too, in a store of its own, and nowhere else.

    Whatever sinks the settings and the options name, none is opened. Recording is on, also where
    ``RUNCARD_DISABLED`` is set, for functions that were decorated without it. Settings are put back at the end.

    Args:
        directory: Where to keep the runs; by default a temporary folder that goes when the block ends. The records
            stay usable, the files of artifacts do not.

    >>> from runcard import tracked
    >>> @tracked
    ... def double(x):
    ...     return 2 * x
    >>> with captured_runs() as runs:
    ...     value = double(21)
    >>> runs[0].config, runs[0].metrics, runs[0].status.value
    ({'x': 21}, {'result': 42}, 'finished')
    """
    with tempfile.TemporaryDirectory(prefix="runcard-test-", ignore_cleanup_errors=True) as temporary:
        folder = Path(os.path.abspath(temporary if directory is None else directory))
        sinks = (f"file:{folder}",)
        read = settings.current

        def current(**arguments: Any) -> settings.Settings:
            return read(**{**arguments, "sinks": sinks})

        variables = {"RUNCARD_DIR": str(folder), "RUNCARD_SINKS": sinks[0], "RUNCARD_DISABLED": "0"}
        before = {name: os.environ.get(name) for name in variables}
        configured, said = dict(settings._configured), set(errors._said)
        captured = Captured(folder)
        os.environ.update(variables)
        settings._configured.update(directory=folder, sinks=sinks)
        errors._said.clear()
        settings.current = current
        try:
            yield captured
        finally:
            settings.current = read
            settings._configured.clear()
            settings._configured.update(configured)
            errors._said |= said
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            captured.keep()


class FakeClock:
    """A clock for the times of runs: it stands still until it is told to go on, and may go back.

    Attributes:
        now: Seconds since the epoch.
    """

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        """What `time.time` is for runcard."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Go on, or back."""
        self.now += seconds


@contextmanager
def fake_clock(now: float = 1_700_000_000.0) -> Iterator[FakeClock]:
    """Let runcard, and nothing else, take the time of day from a clock that a test moves.

    Durations are measured by another clock, which cannot jump, and stay real.

    >>> with captured_runs() as runs, fake_clock(0.0) as clock:
    ...     with run("timed") as r:
    ...         r.log(loss=1.0)
    ...         clock.advance(60)
    >>> runs[0].started_at.isoformat(), runs[0].ended_at.isoformat()
    ('1970-01-01T00:00:00+00:00', '1970-01-01T00:01:00+00:00')
    """
    from runcard import _actions, _beside, _closing, _metrics, _opening, _run, _settling, identity

    clock = FakeClock(now)
    shown = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("_")})
    shown.time = clock.time
    shown.gmtime = lambda seconds=None: time.gmtime(clock.now if seconds is None else seconds)
    modules: list[Any] = [_actions, _beside, _closing, _metrics, _opening, _settling, identity]
    before = [module.time for module in modules]
    hot: Any = _run  # its log() holds the clock itself
    log_time = hot._time
    for module in modules:
        module.time = shown
    hot._time = clock.time
    try:
        yield clock
    finally:
        hot._time = log_time
        for module, real in zip(modules, before, strict=True):
            module.time = real


def check_sink(factory: Callable[[], Any]) -> None:
    """Hold a sink to the contract: any record, any number of times, from another thread, faults included.

    Args:
        factory: Gives a new sink that writes to the same place each time, as a new process would: a function of a
            record, or an object with ``start``, ``append`` and ``finish``. With ``run_ids`` and ``record`` it is
            read back too.

    Raises:
        AssertionError: With the rule that the sink breaks.
    """
    with captured_runs() as runs:
        _make_runs()
    records = [_own(record) for record in runs]
    outside = _outside()
    for record in records:
        _hand_over(factory(), record, "a new sink")
    sink = factory()
    for record in records:
        _hand_over(sink, record, "the same sink again")
    _hand_over(sink, RunRecord(run_id=records[0].run_id[:15] + "-00000000"), "a record with nothing but its id")
    _check_fault(factory, records[0])
    _check_live(factory(), records[0])
    _check_reading(factory(), records)
    assert _outside() == outside, "a sink changes neither the environment, the working directory nor standard output"


def _make_runs() -> None:
    values = {
        "nan": float("nan"),
        "inf": float("inf"),
        "big": 2**100,
        "text": "ü\n\U0001f600 =1+1",
        "deep": [{"a": {}}],
    }
    with run("rich", config=values, tags=["a b", "ü"], notes="line\nline", objective="loss", direction="minimize") as r:
        for step in (3, 1, 2):
            r.log({"loss": 1.0 / step, "odd/name with spaces": float("nan")}, step=step)
        r.log(big=2**100, infinite=float("-inf"))
        r.artifact_path("model.bin").write_bytes(b"weights")
        r.keep("because")
    with run("bare"):
        pass
    run("failed", config={"lr": 0.1}).start().end(error=ValueError("a message\nof two lines"))


def _own(record: RunRecord) -> RunRecord:
    """The record again, sharing nothing that can be changed, and with its points in memory."""
    return RunRecord.from_dict(orjson.loads(orjson.dumps(record.to_dict())))


def _hand_over(sink: Any, record: RunRecord, when: str) -> None:
    before = orjson.dumps(record.to_dict())
    failure = _call(sink, "finish", record)
    assert failure is None, f"{when}: the run {record.name!r} was refused with {failure!r}"
    assert orjson.dumps(record.to_dict()) == before, f"{when}: the sink changed the record it was given"


def _call(sink: Any, method: str, *arguments: Any) -> BaseException | None:
    """Call the sink as a run does, in another thread, and wait for it; what it raised."""
    failures: list[BaseException] = []

    def call() -> None:
        try:
            (getattr(sink, method, None) or sink)(*arguments)
        except BaseException as error:  # whatever a sink raises is what is looked at
            failures.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(_ANSWER_S)
    assert not thread.is_alive(), f"the sink did not come back from {method} within {_ANSWER_S:g} s"
    return failures[0] if failures else None


class _BrokenHistory(Sequence[Any]):
    """Points that cannot be read: the disk is gone in the middle of a delivery."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        raise OSError("the journal cannot be read")


def _check_fault(factory: Callable[[], Any], record: RunRecord) -> None:
    from dataclasses import replace

    sink = factory()
    failure = _call(sink, "finish", replace(record, metric_history=_BrokenHistory()))
    assert failure is None or isinstance(failure, Exception), f"a fault ends nobody's process: {failure!r}"
    _hand_over(sink, record, "after a delivery that failed half-way")
    _hand_over(factory(), replace(record, folder=os.path.join(os.sep, "nowhere")), "a record whose folder is gone")


def _check_live(sink: Any, record: RunRecord) -> None:
    if not all(callable(getattr(sink, method, None)) for method in ("start", "append", "finish")):
        return
    events: list[Event] = [
        {"n": 0, "kind": "start", "t": 0.0, "run_id": record.run_id, "writer": "journal"},
        {"n": 1, "kind": "log", "t": 1.0, "step": 0, "metrics": {"loss": float("nan")}, "writer": "journal"},
        {"n": 2, "kind": "of a later version", "t": 2.0, "writer": "journal"},
        {"n": 0, "kind": "log", "t": 3.0, "step": None, "metrics": {"loss": 1}, "writer": "journal-attempt2"},
    ]
    assert _call(sink, "start", record) is None, "start() takes a record"
    for event in [*events, *events]:
        failure = _call(sink, "append", record.run_id, event)
        assert failure is None, f"append() takes any event, and one that comes again: {failure!r}"
    _hand_over(sink, record, "the end of a run that was followed")


def _check_reading(sink: Any, records: list[RunRecord]) -> None:
    if not (callable(getattr(sink, "run_ids", None)) and callable(getattr(sink, "record", None))):
        return
    ids = list(sink.run_ids())
    for record in records:
        assert ids.count(record.run_id) == 1, f"{record.name!r} was delivered several times and is there once"
        found = sink.record(record.run_id).to_dict()
        for name, value in record.to_dict().items():
            assert found[name] == value, f"{record.name!r}: {name} comes back as it went in"
    try:
        sink.record("20000101T000000-00000000")
    except RunNotFound:
        return
    raise AssertionError("record() of an unknown id raises RunNotFound")


def _outside() -> tuple[Any, ...]:
    return (dict(os.environ), os.getcwd(), sys.stdout, sys.stderr)
