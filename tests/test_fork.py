"""Forks and other processes: each run is recorded once, each step once, and nobody waits for a lock for ever."""

from __future__ import annotations

import threading

import pytest
from programs import finished, kinds, program, quietly

from runcard import _threads
from runcard.record import Status


def by_name(store, name):
    """The only run of that name."""
    (found,) = [record for record in store.runs() if record.name == name]
    return found


POOLS = """
    import multiprocessing, os, sys
    from concurrent.futures import ProcessPoolExecutor
    from runcard import log, run, tracked

    @tracked
    def work(i):
        log(i=i, pid=os.getpid())
        return i * i

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        with run("outer") as outer:
            with context.Pool(2) as pool:
                assert pool.map(work, range(4)) == [i * i for i in range(4)]
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                assert list(pool.map(work, range(4, 8))) == [i * i for i in range(4, 8)]
            process = context.Process(target=work, args=(8,))
            process.start()
            process.join()
            assert process.exitcode == 0
        print(os.getpid())
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pools_record_each_call_once_as_a_child_of_the_run_around_them(method, tmp_path, store):
    """Pool, ProcessPoolExecutor and Process: one finished run a call, in another process, below the open run."""
    pid = int(quietly(program(tmp_path, POOLS), method))
    outer = by_name(store, "outer")
    work = [record for record in store.runs() if record.name == "work"]
    assert sorted(record.config.i for record in work) == list(range(9))
    assert all(record.metrics.i == record.config.i for record in work)
    assert all(record.metrics.result == record.config.i**2 for record in work)
    assert {record.status for record in store.runs()} == {Status.FINISHED}
    assert {record.parent_id for record in work} == {outer.run_id}
    assert pid not in {record.metrics.pid for record in work}
    assert outer.metrics == {}
    assert kinds(outer.folder)["end"] == 1
    assert [record.losses for record in store.runs()] == [{}] * 10


def test_a_pool_older_than_the_run_is_below_it_by_its_token(tmp_path, store):
    """Workers that were forked before the run began know of it by `attach(token)` and by `parent=`."""
    out = quietly(
        program(
            tmp_path,
            """
            import multiprocessing
            from runcard import attach, run, tracked

            @tracked
            def work(i):
                return i

            def attached(token):
                with attach(token):
                    return work(1)

            def given(token):
                with run("given", parent=token):
                    pass

            if __name__ == "__main__":
                with multiprocessing.get_context("fork").Pool(1) as pool:
                    pool.apply(work, (0,))
                    with run("outer") as outer:
                        pool.apply(attached, (outer.token(),))
                        pool.apply(given, (outer.token(),))
                    pool.apply(attached, (outer.token(),))
            """,
        )
    )
    assert out == ""
    outer = by_name(store, "outer")
    alone, within, after = sorted(
        (record for record in store.runs() if record.name == "work"), key=lambda record: record.started_at
    )
    assert (alone.parent_id, alone.launched_by) == (None, None)
    assert within.parent_id == outer.run_id
    assert by_name(store, "given").parent_id == outer.run_id
    assert (after.parent_id, after.launched_by) == (None, outer.run_id)


@pytest.mark.parametrize(
    ("leaves", "code"),
    [
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("raise ValueError('child')", 1),
        ("pass", 0),
        ("r.end(); sys.exit(5)", 5),
    ],
)
def test_a_child_that_leaves_the_block_ends_nothing(leaves, code, tmp_path, store):
    """Fork inside a run, and leave in the child: its own exit code, one end, and the end is the parent's."""
    done = finished(
        program(
            tmp_path,
            f"""
            import os, sys
            from runcard import run
            with run("outer") as r:
                r.log(loss=1.0)
                child = os.fork()
                if child == 0:
                    r.log(child=1.0)
                    {leaves}
                else:
                    _, status = os.waitpid(child, 0)
                    r.log(loss=0.5)
                    print(os.waitstatus_to_exitcode(status))
            """,
        )
    )
    assert (done.returncode, done.stdout) == (0, f"{code}\n"), done.stderr
    record = by_name(store, "outer")
    assert record.status is Status.FINISHED
    assert record.error is None
    assert record.decision is None
    assert kinds(record.folder)["end"] == 1
    assert [(p.name, p.value) for p in record.metric_history] == [("loss", 1.0), ("child", 1.0), ("loss", 0.5)]
    assert record.metric_summary.loss.count == 2


def test_steps_of_children_and_grandchildren_are_never_twice(tmp_path, store):
    """Each process of a tree of forks logs beside the others; every point is there once, whole."""
    quietly(
        program(
            tmp_path,
            """
            import os
            from runcard import log, run
            with run("outer") as r:
                tree = [0]
                for level in (1, 2, 3):
                    child = os.fork()
                    if child == 0:
                        tree.append(level)
                    else:
                        tree.append(-level)
                    for step in range(50):
                        log({f"p{tree}": float(step)}, step=step)
                    if child:
                        assert os.waitpid(child, 0)[1] == 0
                if 1 in tree or 2 in tree or 3 in tree:
                    os._exit(0)
            """,
        )
    )
    record = by_name(store, "outer")
    points = [(point.name, point.step) for point in record.metric_history]
    assert len(points) == len(set(points)) == 50 * (2 + 4 + 8)
    assert record.losses == {}


def test_a_run_begun_in_a_child_is_a_run_of_its_own(tmp_path, store):
    """A forked child's own run has its own id, its own end, and the run it was forked in as its parent."""
    quietly(
        program(
            tmp_path,
            """
            import os, random
            from runcard import run
            random.seed(1)
            with run("outer"):
                children = []
                for _ in range(4):
                    child = os.fork()
                    if child == 0:
                        with run("inner", config={"pid": os.getpid()}) as r:
                            r.log(x=1.0)
                        os._exit(0)
                    children.append(child)
                for child in children:
                    assert os.waitpid(child, 0)[1] == 0
            """,
        )
    )
    inner = [record for record in store.runs() if record.name == "inner"]
    assert len({record.run_id for record in inner}) == len({record.config.pid for record in inner}) == 4
    assert {record.parent_id for record in inner} == {by_name(store, "outer").run_id}
    assert {record.status for record in inner} == {Status.FINISHED}


HOLDERS = {
    "the journal's lock": "r._journal.lock",
    "the lock of the end": "r._closing",
    "a courier's lock": "next(iter(_courier._couriers.values()))._starting",
}


@pytest.mark.parametrize("what", HOLDERS)
def test_a_lock_held_by_another_thread_does_not_stop_the_child(what, tmp_path, store):
    """Fork while another thread is inside the recorder: the child logs, runs and ends within its alarm."""
    done = finished(
        program(
            tmp_path,
            f"""
            import os, signal, sys, threading
            os.register_at_fork(after_in_child=lambda: signal.alarm(10))  # before ours, which must not hang either
            from runcard import _courier, log, run
            seen = []
            sink = seen.append
            with run("outer", sinks=["file:", sink]) as r:
                held, over = threading.Event(), threading.Event()
                def hold():
                    with {HOLDERS[what]}:
                        held.set()
                        over.wait(60)
                thread = threading.Thread(target=hold)
                thread.start()
                held.wait()
                child = os.fork()
                if child == 0:
                    log(child=1.0)
                    with run("inner", sinks=["file:", sink]):
                        log(inner=2.0)
                    assert [each.name for each in seen] == ["inner"], seen
                    sys.exit(7)
                status = os.waitpid(child, 0)[1]
                over.set()
                thread.join()
                print(os.waitstatus_to_exitcode(status))
            """,
        ),
        options=("-W", "ignore::DeprecationWarning"),
    )
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
    assert by_name(store, "outer").metrics == {"child": 1.0}
    assert by_name(store, "inner").metrics == {"inner": 2.0}
    assert {record.status for record in store.runs()} == {Status.FINISHED}


def test_a_fork_finds_no_thread_of_ours(tmp_path):
    """A program with a run forks as quietly as one without: no thread of the pulse is there at the fork."""
    out = quietly(
        program(
            tmp_path,
            """
            import os, threading
            os.register_at_fork(before=lambda: print(threading.active_count(), flush=True))
            from runcard import run
            with run("outer"):
                for _ in range(2):
                    child = os.fork()
                    if child == 0:
                        os._exit(0)
                    os.waitpid(child, 0)
            """,
        ),
        options=("-W", "error::DeprecationWarning"),
    )
    assert out == "1\n1\n"


def test_a_thread_has_ended_when_the_system_says_so_too(monkeypatch):
    """Python 3.12 asks the system how many threads there are, and a thread that was joined may still be among them."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    looks = iter([True, True, False])
    asked = []
    monkeypatch.setattr(_threads.os.path, "exists", lambda path: asked.append(path) or next(looks))
    _threads.await_end(thread, 30)
    assert asked == [f"/proc/self/task/{thread.native_id}"] * 3


def test_a_thread_that_does_not_end_is_not_waited_for_for_ever(monkeypatch):
    """A fork goes on, whatever hangs."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    _threads.await_end(thread, 0.01)
    assert thread.is_alive()
    over.set()
    thread.join()
    monkeypatch.setattr(_threads.os.path, "exists", lambda _path: True)
    _threads.await_end(thread, 0.01)


def test_the_pulse_goes_on_after_a_fork(tmp_path):
    """The parent shows signs of life again from its next event on; the child never beats for it."""
    out = quietly(
        program(
            tmp_path,
            """
            import os, threading
            from runcard import log, run
            def beats():
                return [thread.name for thread in threading.enumerate() if "runcard" in thread.name]
            with run("outer"):
                print(beats())
                if os.fork() == 0:
                    log(child=1.0)
                    print(beats(), flush=True)
                    os._exit(0)
                os.wait()
                log(parent=1.0)
                print(beats())
            """,
        )
    )
    assert out.splitlines() == ["['runcard pulse']", "[]", "['runcard pulse']"]


def test_a_child_that_outlives_the_run_never_reopens_it(tmp_path, store):
    """A forked child that logs after the parent's end leaves the run as it ended."""
    quietly(
        program(
            tmp_path,
            """
            import os
            from runcard import run
            reading, writing = os.pipe()
            with run("outer") as r:
                child = os.fork()
                if child == 0:
                    os.read(reading, 1)
                    r.log(late=1.0)
                    os._exit(0)
                r.log(loss=1.0)
            os.write(writing, b".")
            assert os.waitpid(child, 0)[1] == 0
            """,
        )
    )
    record = by_name(store, "outer")
    assert record.status is Status.FINISHED
    assert kinds(record.folder)["end"] == 1
    assert record.metrics["loss"] == 1.0
    assert record.ended_at is not None


@pytest.mark.heavy
def test_a_data_loader_with_workers_inside_a_run(tmp_path, store):
    """PyTorch's DataLoader forks workers inside a run: every batch arrives, what workers log is kept, one end."""
    quietly(
        program(
            tmp_path,
            """
            import torch
            from torch.utils.data import DataLoader, Dataset
            from runcard import log, run

            class Squares(Dataset):
                def __len__(self):
                    return 40
                def __getitem__(self, i):
                    log(item=i, step=i)
                    return torch.tensor(i * i)

            if __name__ == "__main__":
                with run("train") as r:
                    for epoch in range(2):
                        for workers in (0, 2):
                            loader = DataLoader(Squares(), batch_size=8, num_workers=workers)
                            total = sum(int(batch.sum()) for batch in loader)
                            r.log(total=total, step=epoch * 2 + workers // 2)
            """,
        )
    )
    (record,) = store.runs()
    assert record.status is Status.FINISHED
    assert [p.value for p in record.metric_history if p.name == "total"] == [sum(i * i for i in range(40))] * 4
    assert sorted(p.step for p in record.metric_history if p.name == "item") == sorted([*range(40)] * 4)
    assert kinds(record.folder)["end"] == 1


CLUSTERS = {
    "joblib loky": """
        from joblib import Parallel, delayed
        def everywhere(function, values):
            return Parallel(n_jobs=2)(delayed(function)(value) for value in values)
    """,
    "joblib threads": """
        from joblib import Parallel, delayed
        def everywhere(function, values):
            return Parallel(n_jobs=2, backend="threading")(delayed(function)(value) for value in values)
    """,
    "dask": """
        from dask.distributed import Client, LocalCluster
        def everywhere(function, values):
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                with Client(cluster) as client:
                    return client.gather(client.map(function, list(values), pure=False))
    """,
    "ray": """
        import ray
        def everywhere(function, values):
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            remote = ray.remote(function)
            try:
                return ray.get([remote.remote(value) for value in values])
            finally:
                ray.shutdown()
    """,
}


@pytest.mark.heavy
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_clusters_record_each_task_once_below_the_submitter(cluster, tmp_path, store):
    """joblib, Dask and Ray run a tracked function of `__main__` for real: one run a task, below the token's run."""
    head = CLUSTERS[cluster]
    body = """
        import os
        from runcard import attach, log, run, tracked

        @tracked
        def work(i):
            log(i=i)
            return i * i

        def below(token):
            def task(i):
                with attach(token):
                    return work(i)
            return task

        if __name__ == "__main__":
            assert list(everywhere(work, range(4))) == [0, 1, 4, 9]
            with run("outer") as outer:
                assert list(everywhere(below(outer.token()), range(4, 8))) == [16, 25, 36, 49]
    """
    import textwrap

    done = finished(
        program(tmp_path, textwrap.dedent(head) + textwrap.dedent(body)),
        timeout=180,
        env={"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
    )
    assert done.returncode == 0, done.stderr
    outer = by_name(store, "outer")
    work = sorted((record for record in store.runs() if record.name == "work"), key=lambda record: record.config.i)
    assert [record.config.i for record in work] == list(range(8))
    assert [record.metrics.i for record in work] == list(range(8))
    assert {record.status for record in store.runs()} == {Status.FINISHED}
    assert {record.parent_id for record in work[4:]} == {outer.run_id}
    assert outer.run_id not in {record.parent_id for record in work[:4]}
