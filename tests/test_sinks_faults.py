"""A sink that raises, exits, hangs or is slow costs the run nothing: same result, same exit code, same output."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from runcard import RuncardWarning, _courier, configure, delivery, log, open_store, run, tracked
from runcard.errors import RuncardError

FAULTS = """
import threading

class Broken(Exception):
    def __str__(self):
        raise RuntimeError("not even a message")
    __repr__ = __str__

def hang():
    threading.Event().wait()

def raiser(error):
    def fault():
        raise error
    return fault

FAULTS = {
    "exception": raiser(Exception("sink")),
    "oserror": raiser(OSError(28, "No space left on device")),
    "memory": raiser(MemoryError()),
    "exit": raiser(SystemExit(9)),
    "interrupt": raiser(KeyboardInterrupt()),
    "generator": raiser(GeneratorExit()),
    "broken": raiser(Broken()),
    "hang": hang,
}

class Sink:
    '''A live sink whose nth call of one method fails.'''

    def __init__(self, fault, method, nth):
        self.fault, self.method, self.nth, self.calls = FAULTS[fault], method, nth, 0
        self.done = []

    def _call(self, method):
        if method == self.method:
            self.calls += 1
            if self.calls >= self.nth if self.nth < 0 else self.calls == self.nth:
                self.fault()
        self.done.append(method)

    def start(self, record):
        self._call("start")

    def append(self, run_id, event):
        self._call("append")

    def finish(self, record):
        self._call("finish")
"""
namespace: dict = {}
exec(FAULTS, namespace)  # the same text runs in subprocesses
Sink, Broken = namespace["Sink"], namespace["Broken"]
RAISING = [name for name in namespace["FAULTS"] if name != "hang"]


@pytest.mark.parametrize("fault", RAISING)
@pytest.mark.parametrize(("method", "nth"), [("start", 1), ("append", 1), ("append", 3), ("finish", 1)])
def test_whatever_a_sink_raises_at_any_call(store, fault, method, nth):
    """The result and the record are as without the sink; one warning; the failure is recorded; others complete."""
    sink, healthy, marker = Sink(fault, method, nth), [], object()

    @tracked(sinks=["file:", sink, healthy.append])
    def train(lr):
        log(x=lr)
        return marker

    with pytest.warns(RuncardWarning, match=f"failed at {method}") as said:
        assert train(0.1) is marker
    assert len(said) == 1
    assert said[0].filename == __file__
    (record,) = store.runs()
    assert (record.status, record.config, record.losses) == ("finished", {"lr": 0.1}, {"sinks": 1})
    assert [each.run_id for each in healthy] == [record.run_id]
    train(0.2)
    assert len(healthy) == 2
    assert sink.done.count("finish") == (1 if method == "finish" else 2)


def test_a_sink_that_refuses_every_event_is_told_once_a_run(store):
    """Its failure is recorded, which is an event again, which it refuses too: that is not recorded once more."""

    class Refusing:
        def start(self, record):
            pass

        def append(self, run_id, event):
            raise OSError("no")

        finish = start

    with pytest.warns(RuncardWarning, match="failed at append: OSError: no") as said, run(sinks=["file:", Refusing()]):
        for _ in range(5):
            log(x=1)
            time.sleep(0.1)  # it is looked at every 0.2 s
    assert len(said) == 1
    (record,) = store.runs()
    assert record.losses == {"sinks": 1}
    lines = (store.root / record.run_id / "journal.jsonl").read_bytes().splitlines()
    assert sum(b'"kind":"sink"' in line for line in lines) == 1


@pytest.mark.parametrize("fault", RAISING)
def test_a_function_that_raises_each_time(store, fault):
    """A broken function warns once a process, however many runs it fails in; each run records it."""
    sink = namespace["FAULTS"][fault]
    with pytest.warns(RuncardWarning, match="failed at call") as said:
        for _ in range(3):
            with run("r", sinks=["+memory:", lambda _: sink()]):
                pass
    assert len(said) == 1
    assert [record.losses for record in store.runs()] == [{"sinks": 1}] * 3
    assert len(open_store("memory:").runs()) == 3


def test_the_users_exception_goes_through_a_broken_sink(store):
    """The user's own exception object comes out, without context added by us."""
    error = ValueError("mine")

    @tracked(sinks=["file:", lambda _: 1 / 0])
    def train():
        raise error

    with pytest.warns(RuncardWarning), pytest.raises(ValueError, match="mine") as caught:
        train()
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert store.runs()[0].error.message == "mine"


def test_strict_raises_a_sinks_failure_at_the_end(store):
    """Under strict the failure is the user's to see, in their own thread; the record is complete."""
    configure(strict=True)
    with pytest.raises(RuncardError, match="failed at call: ZeroDivisionError"), run("r", sinks=["+memory:", _divide]):
        pass
    (record,) = store.runs()
    assert record.status == "finished"
    assert len(open_store("memory:").runs()) == 1


def test_strict_never_replaces_the_users_exception(store):
    """Where the block raised, what strict would raise is said instead; the exception stays the user's, untouched."""
    configure(strict=True)
    error = ValueError("mine")
    told = pytest.warns(RuncardWarning, match="ZeroDivisionError")
    with told, pytest.raises(ValueError, match="mine") as caught, run("r", sinks=["file:", _divide]):
        raise error
    assert (caught.value is error, error.__context__, getattr(error, "__notes__", None)) == (True, None, None)
    assert [record.status for record in store.runs()] == ["failed"]

    async def task():
        async with run("a", sinks=["file:", _divide]):
            raise error

    with pytest.raises(ValueError, match="mine") as caught:
        asyncio.run(task())
    assert (caught.value is error, error.__context__) == (True, None)


def test_strict_raises_for_every_run_that_a_sink_does_not_get(store):
    """A sink that was set aside fails the next strict run too, not the first one alone."""
    configure(strict=True, deadline=0.1)
    stuck = threading.Event()
    for _ in range(2):
        with pytest.raises(RuncardError, match="no answer"), run("r", sinks=["file:", lambda _record: stuck.wait(9)]):
            pass
    stuck.set()


def _divide(_record):
    1 / 0  # noqa: B018 - raises


def test_a_sinks_message_that_is_no_utf_8_is_recorded(store):
    """A file's name in it, for example, is escaped."""

    def sink(record):
        raise FileNotFoundError("\udcff.csv")

    with pytest.warns(RuncardWarning, match="udcff"), run(sinks=["file:", sink]):
        pass
    assert store.runs()[0].losses == {"sinks": 1}


def test_a_secret_in_a_sinks_message_is_not_recorded(store):
    """What a sink says is redacted as all text is."""

    def fails(_record):
        raise ConnectionError("postgresql://ana:hunter2secret@db/runs refused")

    with pytest.warns(RuncardWarning), run("r", sinks=["+memory:", fails]) as r:
        pass
    assert b"hunter2secret" not in (r.folder / "journal.jsonl").read_bytes()
    assert b"refused" in (r.folder / "journal.jsonl").read_bytes()


@pytest.fixture
def patience(monkeypatch):
    """Sinks that never answer, by a clock that only waiting moves: the seconds each wait was ready to wait."""
    waits, clock = [], [1_000.0]

    class Done:
        """Never set."""

        def is_set(self):
            return False

        def set(self):
            pass

        def wait(self, seconds):
            waits.append(round(seconds, 6))
            clock[0] += seconds
            return False

    made = _courier.Ticket.__init__

    def init(self, *arguments):
        made(self, *arguments)
        self.done = Done()

    monkeypatch.setattr(_courier.Ticket, "__init__", init)
    monkeypatch.setattr(delivery.time, "monotonic", lambda: clock[0])
    return waits


def test_a_hung_sink_is_waited_for_once(patience):
    """The deadline is spent once a process: the second and all later runs do not wait for the sink at all."""
    configure(deadline=5, sinks=["file:", _nothing])
    with pytest.warns(RuncardWarning, match=r"no answer within 5 s") as said:
        for _ in range(4):
            with run("r"):
                pass
    assert len(said) == 1
    assert sum(patience) == 5


def _nothing(_record):
    """A sink that is taken for hung."""


def test_a_ctrl_c_just_before_a_wait_is_heard_of_long_before_the_deadline(patience):
    """A signal between Python's look and the system's wait interrupts nothing: no wait is longer than a moment."""
    configure(deadline=3_600, sinks=["file:", _nothing])
    with pytest.warns(RuncardWarning, match=r"no answer within 3600 s"), run("r"):
        pass
    assert (sum(patience), max(patience)) == (3_600, delivery.PIECE_S)


def test_several_hung_sinks_share_one_deadline(patience):
    """All sinks of a run are waited for at the same time, not one after the other."""
    configure(deadline=5)
    sinks = [type("Sink", (), {"url": f"hung:{number}", "__call__": _nothing})() for number in range(3)]
    with pytest.warns(RuncardWarning, match="no answer"), run("r", sinks=["file:", *sinks]):
        pass
    assert sum(patience) == 5


def test_the_healthy_sink_has_every_record_beside_a_hung_one(store):
    """A sink that hangs keeps no other from its records, and each run it missed says so."""
    configure(deadline=0.2)
    never, healthy = threading.Event(), []
    configure(sinks=["file:", lambda _: never.wait(60), healthy.append])
    with pytest.warns(RuncardWarning, match="no answer"):
        for _ in range(3):
            with run("r"):
                pass
    never.set()
    assert len(healthy) == 3
    assert store.runs()[-1].losses == {"sinks": 1}


def test_a_sink_made_anew_for_each_run_has_no_new_deadline():
    """A hung function written inline is the same sink by its name: its deadline is spent once too."""
    configure(deadline=0.2)
    never = threading.Event()
    with pytest.warns(RuncardWarning, match="no answer"):
        for _ in range(3):
            with run("r", sinks=["file:", lambda _: never.wait(60)]):
                pass
    never.set()
    assert list(delivery._spent.values()) == [0.2]


def test_another_sinks_deadline_is_its_own():
    """A healthy sink configured after one that hung is waited for as ever."""
    configure(deadline=0.3)
    never, slow = threading.Event(), []

    def hung(_record):
        never.wait(60)

    def later(record):
        time.sleep(0.1)
        slow.append(record.run_id)

    with pytest.warns(RuncardWarning, match="no answer"):
        with run("r", sinks=["file:", hung]):
            pass
        with run("r", sinks=["file:", later]) as r:
            pass
    never.set()
    assert slow == [r.run_id]


def test_a_hung_live_sink_costs_a_log_nothing(store):
    """While a sink hangs in start(), the hot path only writes to the journal."""
    configure(deadline=0.2)
    sink = Sink("hang", "start", 1)
    with pytest.warns(RuncardWarning, match="no answer"), run("r", sinks=["file:", sink]) as r:
        for step in range(200):
            r.log(x=1.0, step=step)
        assert store.get("latest").metric_summary["x"].count == 200
        assert sink.done == []


def test_a_deadline_of_zero_waits_for_nobody(store):
    """With deadline=0 the end does not wait; the record is in the store all the same."""
    configure(deadline=0)
    never = threading.Event()
    with pytest.warns(RuncardWarning), run("r", sinks=["file:", lambda _: never.wait(60)]):
        pass
    never.set()
    assert store.runs()[0].status == "finished"


def test_a_coroutines_end_never_blocks_the_loop(store):
    """While a coroutine waits for a slow sink, the other tasks of the loop go on."""
    began, seen = threading.Event(), []

    def slow(record):
        began.set()
        release.wait(10)
        seen.append(record.run_id)

    release = threading.Event()

    @tracked(sinks=["file:", slow])
    async def train():
        return 7

    async def other():
        while not began.is_set():  # noqa: ASYNC110 - set by a thread, not by the loop
            await asyncio.sleep(0)  # each turn of the loop
        release.set()  # only a loop that still turns can come here

    async def both():
        return (await asyncio.gather(train(), other()))[0]

    assert asyncio.run(both()) == 7
    assert seen == [store.runs()[0].run_id]


def test_a_spooled_run_stays_when_its_sink_fails(tmp_path):
    """Without a files sink, what was not delivered stays in the spool."""
    with pytest.warns(RuncardWarning), run("r", sinks=[_divide]) as r:
        r.log(x=1.0)
    (folder,) = (tmp_path / "spool").glob("2*")
    assert folder.name == r.run_id
    assert open_store(tmp_path / "spool").get(r.run_id).metrics == {"x": 1.0}


PROGRAM = """
import sys
{faults}
{decoration}
def train(how):
    print("training")
    print("careful", file=sys.stderr)
    if how == "raise":
        raise ValueError("mine")
    if how == "exit":
        sys.exit(5)
    return 3

value = train(sys.argv[1])
print("value", value)
"""


def _program(folder, text, name, how, **environment):
    path = folder / name
    path.write_text(text)
    return subprocess.run(
        [sys.executable, str(path), how],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("how", ["return", "raise", "exit"])
@pytest.mark.parametrize(
    ("fault", "method"), [("exit", "finish"), ("hang", "finish"), ("broken", "append"), ("hang", "start")]
)
def test_a_program_is_the_same_but_for_one_warning(tmp_path, store, how, fault, method):
    """Exit code, standard output and error are those of the undecorated program, but for one warning."""
    decoration = f"from runcard import tracked\nsink = Sink({fault!r}, {method!r}, 1)\n@tracked(sinks=['file:', sink])"
    plain = _program(tmp_path, PROGRAM.format(faults="", decoration=""), "p.py", how)
    with_sink = _program(
        tmp_path, PROGRAM.format(faults=FAULTS, decoration=decoration), "q.py", how, RUNCARD_DEADLINE="0.3"
    )
    assert with_sink.returncode == plain.returncode
    assert with_sink.stdout == plain.stdout
    lines = _without_frames(with_sink.stderr)
    warned = [line for line in lines if "RuncardWarning" in line]
    assert len(warned) == 1, with_sink.stderr
    assert [line for line in lines if "RuncardWarning" not in line] == _without_frames(plain.stderr)
    (record,) = store.runs()
    assert record.status == {"return": "finished"}.get(how, "failed")
    assert record.exit_code == {"return": None, "raise": 1, "exit": 5}[how]
    assert record.losses["sinks"] >= 1


def _without_frames(text):
    """What was written to standard error, without file names, line numbers and source lines."""
    return [
        line
        for line in text.splitlines()
        if (line and not line.startswith(("  ", "Traceback"))) or "RuncardWarning" in line
    ]


@pytest.mark.parametrize("option", ["error", "ignore"])
def test_warnings_as_errors_change_nothing(tmp_path, store, option):
    """Under `-W error` our warning is a line on standard error, never an exception."""
    code = textwrap.dedent("""
        from runcard import tracked
        @tracked(sinks=["file:", lambda record: 1 / 0])
        def train():
            return 3
        print(train())
    """)
    done = subprocess.run(
        [sys.executable, "-W", option, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert len(done.stderr.splitlines()) == (1 if option == "error" else 0)
    assert store.runs()[0].losses == {"sinks": 1}


def test_a_process_with_a_hung_sink_ends(tmp_path, store):
    """Five runs with a sink that never answers cost one deadline, and the process exits."""
    code = textwrap.dedent("""
        import threading
        from runcard import run
        for _ in range(5):
            with run("r", sinks=["file:", lambda record: threading.Event().wait()]):
                pass
    """)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "RUNCARD_DEADLINE": "0.5"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(store.runs()) == 5
    assert {record.status for record in store.runs()} == {"finished"}
