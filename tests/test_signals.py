"""Signals, and the moments when Python runs our code between two others of ours: handlers, `__del__`, the exit."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from programs import finished, kinds, program, quietly, started

from runcard import _current, _pulse, current_run, journal, locks, run, tracked
from runcard.record import Status

READY = """
    import os, signal, sys, time
    from runcard import log, run, tracked

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and programs inherit that

    def ready():
        print("READY", flush=True)
        time.sleep(600)
"""


def signalled(path, number, *args, times=1, say="READY", **more):
    """Start a program, send it a signal each time it says a word, and return its exit code and standard error."""
    process = started(path, *args, **more)
    try:
        for _ in range(times):
            for line in process.stdout:
                if line.strip() == say:
                    break
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, err


def only(store):
    """The one record of a store."""
    (record,) = store.runs()
    return record


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_by_default_a_termination_signal_kills_as_before_and_reads_crashed(number, tmp_path, store):
    """No handler is installed: the program dies by the signal, every step is there, the next listing says crashed."""
    path = program(
        tmp_path,
        READY
        + """
    before = [signal.getsignal(number) for number in range(1, 20)]
    with run() as r:
        r.log(loss=1.0)
        assert [signal.getsignal(number) for number in range(1, 20)] == before
        ready()
""",
    )
    assert signalled(path, number) == (-number, "")
    assert (only(store).status, only(store).metrics, only(store).ended_at) == (Status.CRASHED, {"loss": 1.0}, None)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("os._exit(3)", 3),
        ("os.abort()", -signal.SIGABRT),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
        ("os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(4)'])", 4),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_an_end_without_a_last_word_reads_crashed(how, code, tmp_path, store):
    """`os._exit`, abort, a segfault, exec, SIGKILL: the exit code is the program's own; what it logged is there."""
    path = program(tmp_path, READY + f"\n    with run() as r:\n        r.log(loss=1.0)\n        {how}\n")
    assert finished(path).returncode == code
    assert (only(store).status, only(store).metrics) == (Status.CRASHED, {"loss": 1.0})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_writes_killed_and_dies_by_the_signal(number, tmp_path, store):
    """With `signals=` nested runs all read killed, with the signal's name, and the exit is the default's own."""
    path = program(
        tmp_path,
        READY
        + """
    with run("outer"), run("inner") as r:
        r.log(loss=1.0)
        ready()
""",
    )
    assert signalled(path, number, env={"RUNCARD_SIGNALS": "SIGTERM,SIGHUP"}) == (-number, "")
    records = {record.name: record for record in store.runs()}
    assert {name: record.status for name, record in records.items()} == dict.fromkeys(records, Status.KILLED)
    assert records["inner"].error.type == signal.Signals(number).name
    assert records["inner"].metrics == {"loss": 1.0}
    assert records["inner"].parent_id == records["outer"].run_id
    assert kinds(records["outer"].folder)["end"] == kinds(records["inner"].folder)["end"] == 1


@pytest.mark.parametrize(("handler", "code"), [("sys.exit(7)", 7), ("os._exit(8)", 8), ("raise ValueError", 1)])
def test_signals_hands_on_to_the_handler_that_was_there(handler, code, tmp_path, store):
    """The program's own handler runs as it would have, its exit code included; the run reads killed."""
    path = program(
        tmp_path,
        READY
        + f"""
    def mine(number, frame):
        print("MINE", number, frame.f_code.co_name, file=sys.stderr, flush=True)
        {handler}
    signal.signal(signal.SIGTERM, mine)
    with run(sinks=None) as r:
        r.log(loss=1.0)
        ready()
""",
    )
    returned, err = signalled(path, signal.SIGTERM, env={"RUNCARD_SIGNALS": "SIGTERM"})
    assert (returned, err.splitlines()[0]) == (code, "MINE 15 ready")
    record = only(store)
    assert (record.status, record.error.type, record.metrics) == (Status.KILLED, "SIGTERM", {"loss": 1.0})


def test_a_handler_that_lets_the_program_go_on_loses_no_step(tmp_path, store):
    """Where the earlier handler only takes note, the run goes on to its own end: all its steps, and it reads killed."""
    path = program(
        tmp_path,
        READY
        + """
    from runcard import configure
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    configure(signals=["SIGTERM"])
    with run() as r:
        r.log(step_before=1.0)
        print("READY", flush=True)
        while not asked:
            time.sleep(0.01)
        r.log(step_after=2.0)
    with run("next"):
        pass
    assert signal.getsignal(signal.SIGTERM).__name__ == "<lambda>"
""",
    )
    assert signalled(path, signal.SIGTERM) == (0, "")
    record = next(record for record in store.runs() if record.name != "next")
    assert record.status is Status.KILLED
    assert record.metrics == {"step_before": 1.0, "step_after": 2.0}
    assert record.losses == {}
    assert next(record for record in store.runs() if record.name == "next").status is Status.FINISHED


def test_an_ignored_signal_stays_ignored(tmp_path, store):
    """Under nohup SIGHUP is ignored: `signals=` does not make it deadly, nor end the run."""
    path = program(
        tmp_path,
        READY
        + """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with run() as r:
        r.log(loss=1.0)
        os.kill(os.getpid(), signal.SIGHUP)
        r.log(loss=2.0)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
""",
    )
    quietly(path, env={"RUNCARD_SIGNALS": "SIGHUP"})
    assert (only(store).status, only(store).metrics) == (Status.FINISHED, {"loss": 2.0})


def test_handlers_are_put_back_with_the_last_run(monkeypatch):
    """Ours are there while a run is open, and gone after it; a handler that somebody put in their place stays."""
    monkeypatch.setenv("RUNCARD_SIGNALS", "SIGTERM,SIGUSR1")
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]

    def replaced(number, frame):
        raise AssertionError

    try:
        with run("outer"):
            assert signal.getsignal(signal.SIGTERM) is not before[0]
            with run("inner"):
                pass
            assert signal.getsignal(signal.SIGTERM) is not before[0]
            signal.signal(signal.SIGUSR1, replaced)
        assert signal.getsignal(signal.SIGTERM) is before[0]
        assert signal.getsignal(signal.SIGUSR1) is replaced
    finally:
        signal.signal(signal.SIGUSR1, before[1])


@pytest.mark.parametrize("spelling", ["with run() as r:\n        body(r)", "tracked(body)()"])
def test_ctrl_c_once_is_killed_and_python_ends_as_ever(spelling, tmp_path, store):
    """SIGINT inside a run: KeyboardInterrupt goes through, the exit is that of the bare program, the run is killed."""
    path = program(
        tmp_path,
        READY
        + f"""
    def body(r=None):
        log(loss=1.0)
        ready()
    {spelling}
""",
    )
    bare = signalled(path, signal.SIGINT, env={"RUNCARD_DISABLED": "1"})
    code, err = signalled(path, signal.SIGINT)
    assert (code, err.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt") == (bare[0], bare[1].splitlines()[-1])
    record = only(store)
    assert (record.status, record.error.type, record.metrics) == (Status.KILLED, "KeyboardInterrupt", {"loss": 1.0})


@pytest.mark.parametrize(("first", "status"), [("ready()", Status.KILLED), ("pass", Status.FINISHED)])
def test_a_second_ctrl_c_aborts_the_flush(first, status, tmp_path, store):
    """SIGINT while a sink hangs and the deadline is an hour off: the program ends now; what was written is there."""
    path = program(
        tmp_path,
        READY
        + f"""
    import threading
    def hangs(record):
        print("READY", flush=True)
        threading.Event().wait()
    with run(sinks=["file:", hangs]) as r:
        r.log(loss=1.0)
        {first}
""",
    )
    times = 2 if first == "ready()" else 1
    code, err = signalled(path, signal.SIGINT, times=times, env={"RUNCARD_DEADLINE": "3600"})
    assert (code, err.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
    assert (only(store).status, only(store).metrics) == (status, {"loss": 1.0})


def interrupted(body, line):
    """Call ``body`` with a KeyboardInterrupt raised before the given line of the recorder's own; how far it came."""
    seen = itertools.count(1)
    raised = []

    def trace(frame, event, _argument):
        if not frame.f_globals.get("__name__", "").startswith("runcard"):
            return None
        if event == "line" and next(seen) == line:
            raised.append(f"{frame.f_code.co_filename.rpartition(os.sep)[2]}:{frame.f_lineno}")
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        body()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return raised


def interrupt_everywhere(stride, store):
    """Raise Ctrl-C before every ``stride``-th line of the recorder, from a run's opening to the end of its flush."""
    entered, left = [], []

    def body():
        with run("interrupted") as r:
            entered.append(r)
            r.log(loss=1.0)
            left.append(r)

    body()
    (known,) = store.runs()
    statuses = set()
    for line in itertools.count(1, stride):
        entered.clear()
        left.clear()
        where = interrupted(body, line)
        if not where:
            break
        _pulse._at_exit()  # Python may stop at the first line of a function: then the end is left to the exit
        assert not _current.open_runs, (line, where)
        assert current_run() is None, (line, where)
        assert "RUNCARD_PARENT" not in os.environ, (line, where)
        _current.here.set(None)
        for record in store.runs():
            if record.run_id == known.run_id:
                continue
            ended = kinds(record.folder)
            assert ended["end"] <= 1, (line, where)
            assert record.losses.get("damaged", 0) == 0, (line, where)
            assert record.status is not Status.RUNNING, (line, where)
            if left:
                assert record.status in (Status.FINISHED, Status.KILLED), (line, where, record.status)
                assert record.metrics == {"loss": 1.0}, (line, where)
            statuses.add(record.status)
            import shutil

            shutil.rmtree(record.folder)
    assert {Status.FINISHED, Status.KILLED} <= statuses
    return line


@pytest.fixture
def main(monkeypatch):
    """Calls a function in a thread that is taken for the main one: tracing leaves its marks on a thread for ever."""

    def call(function, *arguments):
        def within():
            with monkeypatch.context() as patched:
                patched.setattr(threading, "main_thread", threading.current_thread)
                return function(*arguments)

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(within).result()

    return call


# Between `open()` and its `with` Python itself leaves the file to the collector, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_at_any_line_of_the_recorder_leaves_nothing_open(store, main):
    """Ctrl-C between any two lines of ours: it goes through, no run stays open, none has two ends or a torn line."""
    assert main(interrupt_everywhere, 23, store) > 300


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_at_every_line_of_the_recorder_leaves_nothing_open(store, main):
    """The same, before each line in turn."""
    assert main(interrupt_everywhere, 1, store) > 300


def test_logging_from_a_signal_handler_tears_nothing(tmp_path, store):
    """A timer every 2 ms logs, warns and judges while the program logs: no deadlock, no point lost or doubled."""
    out = quietly(
        program(
            tmp_path,
            """
            import signal
            from runcard import log, run
            ticks = 0
            def tick(*_):
                global ticks
                ticks += 1
                log(tick=ticks, step=ticks)
                r.tag(f"t{ticks % 3}")
            steps = 0
            with run() as r:
                signal.signal(signal.SIGALRM, tick)
                signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
                while ticks < 150:
                    steps += 1
                    r.log(main=steps, step=steps)
                    r.log(counted=1.0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            print(ticks, steps)
            """,
        )
    )
    ticks, steps = map(int, out.split())
    record = only(store)
    points = [(p.name, p.step) for p in record.metric_history]
    assert sorted(step for name, step in points if name == "tick") == list(range(1, ticks + 1))
    assert [step for name, step in points if name == "main"] == list(range(1, steps + 1))
    assert [step for name, step in points if name == "counted"] == list(range(steps))
    assert record.losses == {}
    assert record.status is Status.FINISHED


@pytest.mark.parametrize("steps", [1, 100])
@pytest.mark.parametrize("kind", [KeyError, RuntimeError, TimeoutError])
def test_what_a_signal_handler_raises_in_the_middle_of_log_reaches_the_program(kind, steps, store, monkeypatch):
    """A timeout that a handler raises is the user's, whatever its kind, and the step is not written again for it."""
    mine = kind("too slow")

    def write(fd, line):
        os.write(fd, line)
        raise mine  # Python calls a handler when the system's call has returned

    with run("timed") as r:
        for step in range(steps):
            r.log(x=0.0, step=step)
        with monkeypatch.context() as patched:
            patched.setattr(journal, "_os_write", write)
            with pytest.raises(kind) as caught:
                r.log(x=1.0, step=steps)
        r.log(x=2.0, step=steps + 1)
        lines = (r.folder / "journal.jsonl").read_bytes().count(b'"x":1.0')
    assert caught.value is mine
    assert lines == 1
    assert [point.step for point in store.history(r.run_id)] == list(range(steps + 2))


def test_whole_runs_from_a_signal_handler(tmp_path, store):
    """A handler that opens and ends runs while the program does: every run ends once, none waits for another."""
    out = quietly(
        program(
            tmp_path,
            """
            import signal
            from runcard import log, run
            seen = []
            ticks = 0
            def tick(*_):
                global ticks
                ticks += 1
                with run("tick", sinks=["file:", seen.append]) as r:
                    r.log(tick=ticks)
            mains = 0
            signal.signal(signal.SIGALRM, tick)
            tick()
            while ticks < 25:
                if signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0):
                    signal.setitimer(signal.ITIMER_REAL, 0.002 + mains % 7 / 1000)
                mains += 1
                with run("main", sinks=["file:", seen.append]) as r:
                    r.log(main=mains)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert len(seen) == ticks + mains, (len(seen), ticks, mains)
            print(ticks, mains)
            """,
        ),
        env={"RUNCARD_CAPTURE": "-git,-packages"},
    )
    ticks, mains = map(int, out.split())
    records = store.runs()
    assert {record.status for record in records} == {Status.FINISHED}
    assert sorted(record.metrics.tick for record in records if record.name == "tick") == list(range(1, ticks + 1))
    assert sorted(record.metrics.main for record in records if record.name == "main") == list(range(1, mains + 1))
    assert (store.root / "leaderboard.csv").read_text().count("\n") == 1 + ticks + mains


def test_after_the_first_run_nothing_is_left_to_load(tmp_path, store):
    """A handler may come in the middle of an import, and would be served by half: a run imports nothing, no codec."""
    quietly(
        program(
            tmp_path,
            """
            import datetime, sys
            from pathlib import Path
            from runcard import log, run

            with run():
                pass
            loaded = set(sys.modules)
            given = {"path": Path("x"), "when": datetime.datetime.now(), "set": {1, 2}, "object": object(), "raw": b"x"}
            Path("artifact.txt").write_text("x")
            for ends in (len, "no function"):
                try:
                    with run("\x07 name", config=given, seed=1, inputs=["artifact.txt"], tags=["t"]) as r:
                        r.log(loss=1.0, hidden=float("nan"), big=2**100, step=datetime.timedelta(1))
                        r.log({"a": datetime.date.today()})
                        r.log_artifact("artifact.txt")
                        r.artifact_path("own.txt").write_text("x")
                        r.log_input("artifact.txt")
                        r.log_config(later=given)
                        r.tag("u"); r.note("n"); r.keep("k")
                        ends("x")
                except TypeError:
                    pass
                r.log(late=1.0)
            with run("outer", objective="x", direction="minimize", auto_decide=True), run("inner"):
                log(x=1.0)
            print(*sorted(set(sys.modules) - loaded))
            assert set(sys.modules) == loaded, set(sys.modules) - loaded
            """,
        ),
        options=("-W", "ignore"),
    )


WITHIN = """
    import sys
    from importlib.util import spec_from_loader
    from runcard import run, tracked

    @tracked
    def handler():
        with run("block") as r:
            r.log(x=1.0)
        return r.is_open

    class Within:
        def find_spec(self, name, path, target=None):
            if name != sys.argv[1]:
                return None
            sys.meta_path.remove(self)
            self.loader = sys.meta_path[-1].find_spec(name, path).loader
            return spec_from_loader(name, self, origin=self.loader.path)
        def create_module(self, spec):
            return None
        def exec_module(self, module):
            print(handler())
            self.loader.exec_module(module)

    sys.meta_path.insert(0, Within())
"""


@pytest.mark.parametrize("module", ["_recording", "_opening", "_closing", "_outcome", "journal", "_values_arrays"])
def test_a_run_that_begins_while_the_first_one_is_loaded_harms_nobody(module, tmp_path, store):
    """A handler's run in the middle of loading what records runs: it says that it is not recorded, its code runs on."""
    twice = """
    for name in ("first", "second"):
        with run(name) as r:
            r.log(loss=1.0)
"""
    done = finished(program(tmp_path, WITHIN + twice), f"runcard.{module}")
    assert (done.returncode, done.stdout) == (0, "False\n")
    told = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert len(told) == 1
    assert "began in a signal handler" in told[0]
    assert {r.name: (r.status, r.metrics) for r in store.runs()} == dict.fromkeys(
        ("first", "second"), (Status.FINISHED, {"loss": 1.0})
    )


def test_a_run_that_begins_while_datetime_is_imported(tmp_path, store):
    """The program's own imports are met by half too: orjson would end the process; such a run says why it is none."""
    done = finished(program(tmp_path, WITHIN + "\n    import datetime\n    with run('next'): pass\n"), "datetime")
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert "cannot import name 'datetime'" in done.stderr
    assert only(store).name == "next"


DYING = {
    "a global's __del__": """
        class Dying:
            def __del__(self):
                log(late=1.0)
                r.log(late=2.0)
        dying = Dying()
    """,
    "a cycle at the very end": """
        import builtins
        class Dying:
            def __init__(self):
                self.itself = self
            def __del__(self, log=log, r=r):
                log(late=1.0)
                r.log(late=2.0)
                r.keep("late")
        builtins.dying = Dying()
    """,
    "atexit after ours": """
        import atexit
        atexit.register(lambda: (log(late=1.0), r.log(late=2.0)))
    """,
    "a thread that is no daemon": """
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.2), log(late=1.0), r.log(late=2.0))).start()
    """,
    "weakref.finalize": """
        import weakref
        class Thing: pass
        thing = Thing()
        weakref.finalize(thing, lambda: (log(late=1.0), r.log(late=2.0)))
    """,
    "a generator that is never finished": """
        @tracked(name="generator")
        def numbers():
            try:
                while True:
                    yield 1
            finally:
                log(late=1.0)
        generator = numbers()
        next(generator)
    """,
}


@pytest.mark.parametrize("how", DYING)
def test_logging_while_the_interpreter_shuts_down(how, tmp_path, store):
    """Whatever logs after the run and as late as can be: the program ends as it would, without a traceback."""
    import textwrap

    head = "from runcard import log, run, tracked\nwith run('first') as r:\n    r.log(loss=1.0)\n"
    done = finished(program(tmp_path, head + textwrap.dedent(DYING[how])))
    assert done.returncode == 0
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    first = next(record for record in store.runs() if record.name == "first")
    assert (first.status, first.metrics) == (Status.FINISHED, {"loss": 1.0})
    assert {record.status for record in store.runs()} == {Status.FINISHED}


def test_atexit_before_and_after_a_run_that_was_started(tmp_path, store):
    """A run left open by `start()` ends at exit: what was registered after it logs into it, what was before is late."""
    done = finished(
        program(
            tmp_path,
            """
            import atexit
            atexit.register(lambda: log(before=1.0))
            from runcard import log, run
            r = run("notebook").start()
            atexit.register(lambda: log(after=1.0))
            r.log(loss=1.0)
            """,
        )
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (only(store).status, only(store).metrics) == (Status.FINISHED, {"loss": 1.0, "after": 1.0})


def test_a_run_inside_del_during_a_log(store):
    """The collector may run in the middle of `log()`, and what it finalizes may log: no deadlock, all points there."""

    class Dying:
        def __del__(self):
            inner.log(died=1.0)

    class Number(float):
        def item(self):
            Dying()
            return 1.0

    @tracked(name="nested")
    def nested():
        return 1

    class Runs:
        def __del__(self):
            nested()

    with run("outer") as inner:
        for step in range(20):
            Runs()
            inner.log({"x": Number(1.0)}, step=step)
            Dying()
    record = next(record for record in store.runs() if record.name == "outer")
    assert record.metric_summary.x.count == 20
    assert record.metrics.died == 1.0
    assert len([each for each in store.runs() if each.name == "nested"]) == 20


def test_a_lock_never_waits_for_its_own_thread(tmp_path, monkeypatch, alone):
    """What a signal handler locks while its own thread holds the lock is refused at once; another thread waits."""
    waited = []
    monkeypatch.setattr(locks.time, "sleep", waited.append)
    path = tmp_path / "lock"
    with locks.locked(path) as held, locks.locked(path, 0.01) as again:
        assert (held, again, waited) == (True, False, [])
        assert alone(locks.locked(path, 0.01).__enter__) is False
        assert waited
    with locks.locked(path) as held:
        assert held
