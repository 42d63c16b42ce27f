"""A process that records all day: its memory stays flat and it leaves no descriptor, thread or file behind."""

from __future__ import annotations

import json

import pytest
from programs import program, quietly

CALLS = """
    import gc, json, os, sys, threading, time
    import psutil
    from runcard import log, tracked
    calls = int(sys.argv[1])
    me = psutil.Process()
    seen = []

    def plain(i):
        log(loss=i / 2)
        return {"i": i}

    def with_a_fresh_sink(i):
        return tracked(sinks=["file:", lambda record: seen.append(record)])(plain)(i)

    work = with_a_fresh_sink if "sinks" in sys.argv else tracked(plain)

    def world():
        time.sleep(0.2)  # idle threads end
        gc.collect()
        return me.memory_info().rss, me.num_fds(), threading.active_count()

    for i in range(calls // 10):  # a warm-up, with caches of every kind
        work(i)
    seen.clear()
    before = world()
    for i in range(calls):
        work(i)
        seen.clear()
        if i % 1000 == 999:  # the journals are not what is measured
            import shutil
            for entry in os.scandir(os.environ["RUNCARD_DIR"]):
                if entry.is_dir() and entry.name.startswith("20"):
                    shutil.rmtree(entry.path)
            for name in ("leaderboard.csv",):
                try:
                    os.unlink(os.path.join(os.environ["RUNCARD_DIR"], name))
                except FileNotFoundError:
                    pass
    print(json.dumps([before, world()]))
"""
STEPS = """
    import gc, json, sys, threading
    import psutil
    from runcard import run
    steps = int(sys.argv[1])
    me = psutil.Process()

    def world():
        gc.collect()
        return me.memory_info().rss, me.num_fds(), threading.active_count()

    with run("soak") as r:
        for step in range(steps // 10):
            r.log(loss=0.5, step=step)
        before = world()
        for step in range(steps // 10, steps):
            r.log(loss=step / 7, step=step)
        after = world()
    (peak,) = [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(json.dumps([before, after, (peak, *world()[1:])]))
"""
MB = 1_000_000


def soaked(code, tmp_path, *args):
    """The worlds (bytes of memory, descriptors, threads) that a program measured, in turn."""
    path = program(tmp_path, code)
    return json.loads(quietly(path, *args, timeout=900, env={"RUNCARD_CAPTURE": "-git,-packages"}))


def check_calls(calls, tmp_path, *args):
    before, after = soaked(CALLS, tmp_path, str(calls), *args)
    assert after[0] - before[0] < 20 * MB, f"memory grew by {(after[0] - before[0]) / MB:.1f} MB"
    assert after[1] <= before[1], f"{after[1] - before[1]} descriptors were left open"
    assert after[2] <= before[2] + 1, "threads were left"


def check_steps(steps, tmp_path, store):
    before, after, ended = soaked(STEPS, tmp_path, str(steps))
    assert after[0] - before[0] < 20 * MB, f"memory grew by {(after[0] - before[0]) / MB:.1f} MB"
    assert ended[0] - before[0] < 20 * MB, f"the end took {(ended[0] - before[0]) / MB:.1f} MB"
    assert ended[1] < before[1], "the journal was left open"
    (record,) = store.runs()
    assert record.metric_summary.loss.count == steps
    assert (record.metric_summary.loss.last_step, record.losses) == (steps - 1, {})


@pytest.mark.parametrize("sinks", ["", "sinks"])
def test_hundreds_of_calls_leave_memory_flat(sinks, tmp_path):
    """Hundreds of tracked calls, with a fresh sink each or without: no growth, no descriptor and no thread is left."""
    check_calls(300, tmp_path, sinks)


def test_a_hundred_thousand_steps_leave_memory_flat(tmp_path, store):
    """A run of a hundred thousand steps costs no memory a step, neither while it goes on nor when it ends."""
    check_steps(100_000, tmp_path, store)


@pytest.mark.slow
def test_a_hundred_thousand_calls_leave_memory_flat(tmp_path):
    """The same for a hundred thousand calls in one process."""
    check_calls(100_000, tmp_path)


@pytest.mark.slow
def test_ten_million_steps_leave_memory_flat(tmp_path, store):
    """The same for ten million steps in one run."""
    check_steps(10_000_000, tmp_path, store)
