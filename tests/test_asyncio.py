"""Tasks of one loop: each has its own run, cancellation is told, and the end of a run never blocks the loop."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings

import pytest
from programs import program, quietly

from runcard import configure, current_run, log, run, tracked
from runcard.errors import RuncardWarning
from runcard.record import Status


def test_a_hundred_tasks_have_a_run_each_below_the_one_around_them(store):
    """Tasks interleave at every await; each step is in the run of its own task, each run below the open one."""

    @tracked
    async def work(i):
        for step in range(5):
            log(value=i * 10 + step, step=step)
            await asyncio.sleep(0)
        return i

    async def main():
        async with run("outer"):
            return await asyncio.gather(*(work(i) for i in range(100)))

    assert asyncio.run(main()) == list(range(100))
    (outer,) = [record for record in store.runs() if record.name == "outer"]
    records = [record for record in store.runs() if record is not outer and record.name != "outer"]
    assert sorted(record.config.i for record in records) == list(range(100))
    for record in records:
        assert [p.value for p in record.metric_history] == [record.config.i * 10 + step for step in range(5)]
        assert record.parent_id == outer.run_id
    assert outer.metrics == {}


def test_async_with_spans_the_awaits_and_tells_the_failure(store):
    """`async with run()` is open across awaits, not open in a task made before it, and hands its exception on."""
    seen = []
    boom = ValueError("boom")

    async def beside(go):
        await go.wait()
        seen.append(current_run())

    async def main():
        go = asyncio.Event()
        task = asyncio.create_task(beside(go))
        await asyncio.sleep(0)
        async with run("block") as r:
            await asyncio.sleep(0)
            seen.append(current_run() is r)
            go.set()
            await task
            raise boom

    with pytest.raises(ValueError, match="boom") as caught:
        asyncio.run(main())
    assert caught.value is boom
    assert seen == [True, None]
    (record,) = store.runs()
    assert (record.status, record.error.type, record.error.message) == (Status.FAILED, "ValueError", "boom")


@pytest.mark.parametrize("how", ["cancel", "timeout", "gather", "taskgroup"])
def test_cancellation_is_killed_and_goes_on(how, store):
    """A cancelled task's run reads killed, and the cancellation reaches the one who asked, as it would untracked."""

    @tracked
    async def work():
        log(x=1.0)
        await asyncio.sleep(600)

    async def fails():
        await asyncio.sleep(0)
        raise ValueError("sibling")

    async def main():
        if how == "timeout":
            await asyncio.wait_for(work(), 0.05)
        elif how == "taskgroup":
            async with asyncio.TaskGroup() as group:
                group.create_task(work())
                group.create_task(fails())
        elif how == "gather":
            await asyncio.gather(work(), fails())
        else:
            task = asyncio.create_task(work())
            await asyncio.sleep(0.01)
            task.cancel("enough")
            await task

    expected = {"cancel": asyncio.CancelledError, "timeout": TimeoutError, "gather": ValueError}
    with pytest.raises(expected.get(how, ExceptionGroup)) as caught:
        asyncio.run(main())
    if how == "cancel":
        assert caught.value.args in (("enough",), ())  # Python 3.11 and later hand the message on
    (record,) = store.runs()
    assert (record.status, record.metrics) == (Status.KILLED, {"x": 1.0})
    assert record.error.type.endswith("CancelledError")


def test_a_shielded_cancellation_that_is_swallowed_is_a_normal_end(store):
    """What the coroutine itself makes of a cancellation is its own: a swallowed one finishes the run."""

    @tracked
    async def stubborn():
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            return {"saved": 1}

    async def main():
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == {"saved": 1}
    (record,) = store.runs()
    assert (record.status, record.metrics) == (Status.FINISHED, {"saved": 1})


def test_a_slow_sink_does_not_block_the_loop(store):
    """While a run's end waits for its sink, other tasks of the loop go on; the sink has the record in the end."""
    let_go = threading.Event()
    got = []

    def slow(record):
        let_go.wait(30)
        got.append(record.name)

    @tracked(sinks=["file:", slow])
    async def work():
        return 1

    async def other():
        await asyncio.sleep(0.05)
        let_go.set()  # runs only when the loop is free
        return "free"

    async def main():
        return await asyncio.gather(work(), other())

    assert asyncio.run(main()) == [1, "free"]
    assert len(got) == 1
    assert store.runs()[0].status is Status.FINISHED


@pytest.mark.parametrize("kind", ["coroutine", "block", "generator"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_hung_sink_costs_a_coroutine_the_deadline_and_keeps_nothing(kind, fails, store):
    """A sink that never answers: the loop stays free, the end comes by the deadline, and the run is let go of."""
    from runcard import _settling

    let_go = threading.Event()
    configure(deadline=0.2)
    beats = []

    def hangs(record):
        let_go.wait(60)

    def body():
        if fails:
            raise ValueError("mine")

    @tracked(sinks=["file:", hangs])
    async def coroutine():
        body()

    async def block():
        async with run(sinks=["file:", hangs]):
            body()

    @tracked(sinks=["file:", hangs])
    async def numbers():
        yield 1
        body()

    async def generator():
        async for _ in numbers():
            pass

    async def heart(task):
        while not task.done():
            beats.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def main():
        task = asyncio.ensure_future({"coroutine": coroutine, "block": block, "generator": generator}[kind]())
        await heart(task)
        await task

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(2):
                if fails:
                    with pytest.raises(ValueError, match="mine"):
                        asyncio.run(main())
                else:
                    asyncio.run(main())
    finally:
        let_go.set()
    assert len(beats) > 2, "the loop stood still"
    assert _settling._finish_later == []
    assert [record.status for record in store.runs()] == [Status.FAILED if fails else Status.FINISHED] * 2
    messages = [str(each.message) for each in said if each.category is RuncardWarning]
    assert len(messages) == 1
    assert "no answer within 0.2 s" in messages[0]


async def following(generator):
    """What `anext` gives, as a coroutine that a task can be made of."""
    return await generator.__anext__()


def test_async_generators_across_tasks(store):
    """A tracked async generator begun in one task, driven by a second and closed by a third is one finished run."""

    @tracked
    async def numbers():
        for i in range(100):
            log(i=i)
            yield i

    async def main():
        generator = numbers()
        first = await asyncio.create_task(following(generator))
        assert current_run() is None
        second = await asyncio.create_task(following(generator))
        await asyncio.create_task(generator.aclose())
        return first, second

    assert asyncio.run(main()) == (0, 1)
    (record,) = store.runs()
    assert record.status is Status.FINISHED
    assert [p.value for p in record.metric_history] == [0, 1]


def test_an_abandoned_async_generator_ends_with_the_loop(store):
    """An async generator left half way is closed by the loop's own shutdown: a normal end."""

    @tracked
    async def numbers():
        while True:
            log(x=1.0)
            yield 1

    async def main():
        async for _ in numbers():
            break

    asyncio.run(main())
    (record,) = store.runs()
    assert (record.status, record.metrics) == (Status.FINISHED, {"x": 1.0})


def test_to_thread_carries_the_run(store):
    """`asyncio.to_thread` hands its context down: what it logs is the task's."""

    async def one(name):
        with run(name):
            await asyncio.to_thread(log, {name: 1.0})

    async def main():
        await asyncio.gather(one("a"), one("b"))

    asyncio.run(main())
    assert {record.name: record.metrics for record in store.runs()} == {"a": {"a": 1.0}, "b": {"b": 1.0}}


def test_two_loops_in_two_threads_do_not_meet(store):
    """A loop a thread, each with runs of its own: no parent between them."""

    @tracked
    async def work(i):
        log(i=i)
        await asyncio.sleep(0.01)

    threads = [threading.Thread(target=lambda i=i: asyncio.run(work(i))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = store.runs()
    assert sorted(record.metrics.i for record in records) == list(range(4))
    assert {record.parent_id for record in records} == {None}


def test_a_closed_coroutine_cannot_wait_so_the_exit_does(tmp_path, store):
    """`close()` on a coroutine leaves no time for its sinks: the sink is not set aside, and has the record at exit."""
    out = quietly(
        program(
            tmp_path,
            """
            import asyncio, time
            from runcard import tracked
            def slow(record):
                time.sleep(0.3)
                print(record.name, record.status.value, flush=True)
            @tracked(name="closed", sinks=["file:", slow])
            async def work():
                await asyncio.sleep(600)
            async def main():
                coroutine = work()
                coroutine.send(None)
                coroutine.close()
            asyncio.run(main())
            print("exit", flush=True)
            """,
        )
    )
    assert out == "exit\nclosed finished\n"
    assert store.runs()[0].losses == {}


@pytest.mark.parametrize("imported", ["asyncio", "time"])
def test_a_coroutine_that_asyncio_does_not_run_is_not_made_to_wait(imported, tmp_path, store):
    """Driven by hand, or by another loop, it ends as without us, undelayed; its sinks have the record at exit."""
    out = quietly(
        program(
            tmp_path,
            f"""
            import time, {imported}
            from runcard import run, tracked
            def slow(record):
                time.sleep(0.3)
                print(record.name, record.status.value, flush=True)
            @tracked(name="function", sinks=["file:", slow])
            async def work():
                return 7
            async def block():
                async with run("block", sinks=["file:", slow]):
                    pass
                return 8
            for coroutine in (work(), block()):
                try:
                    coroutine.send(None)
                except StopIteration as stop:
                    print(stop.value, flush=True)
            """,
        )
    )
    assert sorted(out.split("\n")) == ["", "7", "8", "block finished", "function finished"]
    assert [record.losses for record in store.runs()] == [{}, {}]
