"""Threads: every step lands in the run it belongs to, once, and nothing is kept on the function."""

from __future__ import annotations

import contextvars
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from programs import kinds, program, quietly

from runcard import Run, _run, current_run, log, run, tracked
from runcard.capture import snapshot
from runcard.errors import RuncardWarning
from runcard.journal import Journal
from runcard.record import Status


def together(count, function):
    """Call a function with 0 … count-1 in as many threads, begun at one moment; their results, or what they raised."""
    gate = threading.Barrier(count)

    def enter(number):
        gate.wait(30)
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(enter, range(count)))


def test_a_tracked_function_in_many_threads_has_a_run_a_call(store):
    """Sixteen threads in the same function at the same time: as many runs, each with its own steps and result."""

    @tracked
    def work(i):
        for step in range(20):
            log(value=i * 100 + step, step=step)
        return i

    assert together(16, work) == list(range(16))
    records = sorted(store.runs(), key=lambda record: record.config.i)
    assert [record.config.i for record in records] == list(range(16))
    for record in records:
        assert [p.value for p in record.metric_history] == [record.config.i * 100 + step for step in range(20)]
        assert record.metrics.result == record.config.i
        assert record.parent_id is None
        assert record.losses == {}


def test_threads_that_begin_together_share_one_snapshot(store, monkeypatch):
    """What surrounds them is looked at once for all of them; one whose turn does not come looks for itself."""
    taken = []
    take = snapshot._take
    monkeypatch.setattr(snapshot, "_take", lambda *given: time.sleep(0.05) or taken.append(1) or take(*given))
    snapshot.forget()

    def begin(_number):
        with run("begun"):
            pass

    together(8, begin)
    assert (len(taken), len(store.runs())) == (1, 8)

    monkeypatch.setattr(snapshot, "_PATIENCE_S", 0.01)
    snapshot.forget()
    with snapshot._turn:  # as in a child that was forked while a thread held it
        together(1, begin)
    assert (len(taken), len(store.runs())) == (2, 9)


def test_many_threads_log_into_one_run_without_tearing_a_line(store):
    """Eight threads log into one run: no point is lost, doubled or damaged, and the order is that of the journal."""
    with run("shared") as r:
        together(8, lambda number: [r.log({f"m{number}": float(step)}, step=step) for step in range(250)])
    (record,) = store.runs()
    points = [(p.name, p.step) for p in record.metric_history]
    assert len(points) == len(set(points)) == 2_000
    for number in range(8):
        assert [step for name, step in points if name == f"m{number}"] == list(range(250))
    assert record.losses == {}


def test_threads_that_count_one_metric_together_count_each_point_once(store):
    """Without `step` the points of one name are counted over all threads: no number is given twice."""
    with run("counted") as r:
        together(8, lambda _: [r.log(x=1.0) for _ in range(200)])
    (record,) = store.runs()
    assert [p.step for p in record.metric_history] == list(range(1_600))


def test_a_handed_down_context_says_which_run(store):
    """A context copied into a thread carries its run, and with it the run that begins there."""
    with run("a") as a, run("b"):
        inside = contextvars.copy_context()
    seen = []
    with run("c") as c:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: seen.append(current_run()),))
        thread.start()
        thread.join()
    assert seen == [c]
    assert inside.run(current_run) is None, "its runs have ended"
    assert a.status == "finished"


def test_a_thread_without_context_logs_into_the_run_around_all_that_are_open(store, alone):
    """Of nested open runs the deepest takes what a bare thread logs; of two side by side, what is around both."""
    with run("outer") as outer:
        assert alone(current_run) is outer
        with run("inner") as inner:
            assert alone(current_run) is inner
            alone(lambda: log(x=1.0))
        ready, over = threading.Event(), threading.Event()

        def beside(context):
            def body():
                with run("beside"):
                    ready.set()
                    over.wait(30)

            context.run(body)

        thread = threading.Thread(target=beside, args=(contextvars.copy_context(),))
        thread.start()
        ready.wait(30)
        with run("second"):
            assert alone(current_run) is outer
        over.set()
        thread.join()
    metrics = {record.name: record.metrics for record in store.runs()}
    assert metrics == {"outer": {}, "inner": {"x": 1.0}, "beside": {}, "second": {}}


def test_a_thread_beside_strangers_warns_once_and_is_counted(store, alone):
    """With two runs open that have nothing in common, a bare thread's step is nobody's: warned of, counted in each."""
    ready, over = threading.Barrier(3), threading.Event()

    def stranger(name):
        with run(name):
            ready.wait(30)
            over.wait(30)

    threads = [threading.Thread(target=stranger, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    ready.wait(30)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        alone(lambda: [log(x=1.0) for _ in range(3)])
    over.set()
    for thread in threads:
        thread.join()
    (message,) = [str(each.message) for each in said if each.category is RuncardWarning]
    assert message.startswith("log() did nothing: several runs are open and none is this thread's")
    assert [record.losses for record in store.runs()] == [{"unattributed": 3}] * 2
    assert [record.metrics for record in store.runs()] == [{}, {}]


def test_one_run_ended_by_many_threads_ends_once(store):
    """Sixteen threads call `end()` at once: one end event, one row, one status."""
    r = contextvars.copy_context().run(run("once").start)
    together(16, lambda number: r.end(ValueError(number) if number % 2 else None))
    (record,) = store.runs()
    assert kinds(record.folder)["end"] == 1
    assert (store.root / "leaderboard.csv").read_text().count(record.run_id) == 1
    assert record.status in (Status.FINISHED, Status.FAILED)
    assert current_run() is None


def test_steps_that_race_with_the_end_are_in_the_history_or_counted(store):
    """Threads log while the run ends: each step is there or counted as late, none is lost in silence."""
    r = run("racing").start()
    gate = threading.Barrier(5)
    logged = []

    def work(number):
        gate.wait(30)
        for step in range(200):
            r.log({f"m{number}": 1.0}, step=step)
        logged.append(200)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuncardWarning)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        gate.wait(30)
        r.end()
        for thread in threads:
            thread.join()
    (record,) = store.runs()
    there = len(list(record.metric_history))
    from runcard import _settling

    _settling._count_rest(r)  # what the process does at its exit
    r._late = 0
    late = store.get(record.run_id).losses.get("after_end", 0)
    assert there + late == sum(logged)
    assert kinds(record.folder)["end"] == 1


def test_a_step_that_finds_the_journal_closed_is_counted(store):
    """A thread is between its look at the run and its line when the run ends: that step is late, and counted."""
    r = run("racing").start()
    r.log(x=0.0, step=0)
    began, over = threading.Event(), threading.Event()

    class Metrics(dict):
        def items(self):
            began.set()
            assert over.wait(30)
            return super().items()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuncardWarning)
        thread = threading.Thread(target=r.log_points, args=(Metrics(x=1.0), 1))
        thread.start()
        assert began.wait(30)
        r.end()
        over.set()
        thread.join()
    record = store.get(r.run_id)
    assert (record.metrics, record.losses) == ({"x": 0.0}, {"after_end": 1})


def test_a_counted_step_that_finds_the_journal_closed_is_counted_as_late(store):
    """The same without a step, which waits for its turn while the run ends."""
    r = run("racing").start()
    began = threading.Event()

    class Metrics(dict):
        def items(self):
            began.set()
            return super().items()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuncardWarning)
        with r._journal.lock:
            thread = threading.Thread(target=r.log_points, args=(Metrics(x=1.0), None))
            thread.start()
            assert not began.wait(0.1), "it waits for the lock, past its look at the state"
            r.end()
        thread.join()
    record = store.get(r.run_id)
    assert began.is_set()
    assert (record.metrics, record.losses) == ({}, {"after_end": 1})


def test_a_mapping_that_another_thread_changes_is_logged_as_it_was_looked_at(store, monkeypatch):
    """What is put into the mapping between the look at a value and its line is no concern of that line."""
    metrics = {"x": 0.0}

    def changed(self, *points, real=Journal.append_points):
        metrics.update(x=float("nan"), other=object())
        return real(self, *points)

    monkeypatch.setattr(Journal, "append_points", changed)
    with run("shared") as r:
        for step in range(2):
            r.log(metrics, step=step)
            metrics = {"x": 1.0}
            log(metrics, step=step)
            metrics = {"x": 2.0}
    assert [point.value for point in store.history(r.run_id)] == [0.0, 1.0, 2.0, 1.0]


def test_a_step_that_begins_before_the_end_opens_no_way_past_it(store, monkeypatch):
    """A thread that looked at the run just before its end leaves nothing there by which later steps go in."""
    r = run("racing").start()
    journal = r._journal

    def open_then_ended(self, real=Run.is_open):
        monkeypatch.setattr(Run, "is_open", real)
        with journal.lock:
            self._leave()
        return True

    monkeypatch.setattr(Run, "is_open", property(open_then_ended))
    r.log(x=0.0, step=0)  # on its way when the run ended
    with pytest.warns(RuncardWarning, match="has ended"):
        r.log(x=1.0, step=1)
    r._state = _run._OPEN
    r.end()
    assert [point.step for point in store.history(r.run_id)] == [0]


def test_a_late_step_that_meets_the_journal_being_closed_is_counted(store, monkeypatch):
    """A late step sees the journal open, and the end closes it before its line: it goes beside, and is counted."""
    with run("racing") as r:
        pass
    monkeypatch.setattr(Journal, "closed", False)
    with pytest.warns(RuncardWarning, match="has ended"):
        r.log(x=1.0)
    assert store.get(r.run_id).losses == {"after_end": 1}


def test_the_context_of_a_pool_thread_is_clean_after_a_call(store):
    """A worker thread that ran a tracked function has no run left, also when it failed."""

    @tracked
    def work(i):
        if i % 2:
            raise ValueError(i)

    def call(i):
        with pytest.raises(ValueError, match=str(i)) if i % 2 else warnings.catch_warnings():
            work(i)
        return current_run()

    with ThreadPoolExecutor(1) as pool:
        assert list(pool.map(call, range(4))) == [None] * 4
    assert [record.parent_id for record in store.runs()] == [None] * 4


def test_a_generator_driven_from_many_threads_keeps_its_run(store):
    """Each `next` of a tracked generator comes from another thread: one run, with every step of the body."""

    @tracked
    def numbers():
        for i in range(5):
            log(i=i)
            yield i

    generator = numbers()
    got = []
    for _ in range(6):
        thread = threading.Thread(target=lambda: got.extend(x for x in [next(generator, None)] if x is not None))
        thread.start()
        thread.join()
    (record,) = store.runs()
    assert got == [p.value for p in record.metric_history] == list(range(5))
    assert record.status is Status.FINISHED


def test_a_daemon_thread_does_not_hold_the_exit(tmp_path, store):
    """A daemon thread inside a run when the program ends: the program ends at once, and that run reads crashed."""
    out = quietly(
        program(
            tmp_path,
            """
            import threading, time
            from runcard import run
            inside = threading.Event()
            def work():
                with run("daemon") as r:
                    r.log(x=1.0)
                    inside.set()
                    time.sleep(600)
            threading.Thread(target=work, daemon=True).start()
            inside.wait()
            print("over")
            """,
        )
    )
    assert out == "over\n"
    (record,) = store.runs()
    assert (record.status, record.metrics) == (Status.CRASHED, {"x": 1.0})
