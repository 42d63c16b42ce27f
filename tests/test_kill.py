"""SIGKILL at any moment: every step that was acknowledged is read back, and the run reads `crashed` at once."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import time

import pytest
from faults import calls_of, needs_strace, traced
from programs import program, started

from runcard import Status, open_store, run
from runcard.leaderboard import FILE

ENDLESS = """
    import os
    from runcard import run
    os.write(1, b"READY\\n")
    with run("victim", config={"lr": 0.1}) as r:
        step = 0
        while True:
            r.log({"loss": 1 / (step + 1), "step": step}, step=step)
            os.write(1, b"%d\\n" % step)
            step += 1
"""
SHORT = """
    import os
    from runcard import run
    os.write(1, b"READY\\n")
    with run("victim", config={"lr": 0.1}) as r:
        for step in range(4):
            r.log({"loss": 1 / (step + 1), "step": step}, step=step)
            os.write(1, b"%d\\n" % step)
        r.keep("good")
    os.write(1, b"END\\n")
"""


def acknowledged(out):
    """The steps whose number came through the pipe; a line cut by the kill is none."""
    lines = out.split("\n")[:-1]
    steps = [int(line) for line in lines if line.isdecimal()]
    assert steps == list(range(len(steps)))
    return len(steps), "END" in lines


def check(root, out):
    """What must hold of a store whose only running process was killed; the number of acknowledged steps."""
    steps, ended = acknowledged(out)
    store = open_store(root)
    victims = [record for record in store.runs() if record.folder and record.name in ("victim", "")]
    assert store.unreadable == 0
    assert len(victims) <= 1
    if steps or ended:
        (record,) = victims
        assert record.config == {"lr": 0.1}
    for record in victims:
        assert record.status is Status.FINISHED if ended else record.status in (Status.CRASHED, Status.FINISHED)
        assert set(record.losses) <= {"damaged"}
        points = [point for point in record.metric_history if point.name == "loss"]
        assert [point.step for point in points] == list(range(len(points)))
        assert [point.value for point in points] == [1 / (step + 1) for step in range(len(points))]
        assert steps <= len(points) <= steps + 1
        assert record.metric_summary == {} or record.metric_summary.loss.count == len(points)
        assert not ended or record.durability in ("process", "disk")
    with run("later", sinks=[f"file:{root}"], config={"lr": 0.2}) as later:
        later.log(loss=1.0)
    after = open_store(root)
    assert after.get("later").status is Status.FINISHED
    with (root / FILE).open(newline="") as file:
        rows = [row["run_id"] for row in csv.DictReader(file)]
    assert rows.count(later.run_id) == 1
    assert len(rows) == len(set(rows))
    after.rebuild_leaderboard()
    with (root / FILE).open(newline="") as file:
        assert {row["run_id"] for row in csv.DictReader(file)} == {record.run_id for record in after.runs()}
    return steps


def kill_at_random(tmp_path, count, seed):
    """Kill programs at random moments of their lives: opening, logging, closing. The acknowledged steps of each."""
    endless, short = program(tmp_path, ENDLESS, "endless.py"), program(tmp_path, SHORT, "short.py")
    chance = random.Random(seed)
    found = []
    for number in range(count):
        root = tmp_path / f"store{number}"
        opening = number % 3 == 0  # or else while it logs
        process = started(short if opening else endless, env={"RUNCARD_DIR": str(root)}, stderr=subprocess.DEVNULL)
        out = process.stdout.readline()
        if not opening:
            out += process.stdout.readline()
        time.sleep(chance.uniform(0, 0.5 if opening else 0.1))
        process.kill()
        out += process.stdout.read()
        process.stdout.close()
        assert process.wait(60) in (0, -signal.SIGKILL)
        assert out.startswith("READY\n")
        found.append(check(root, out))
    return found


def test_kills_at_random_moments_lose_no_acknowledged_step(tmp_path):
    """Twelve times: what came through the pipe is in the record, the run reads crashed, the next one is unaffected."""
    assert sum(kill_at_random(tmp_path, 12, seed=1)) > 100


@pytest.mark.slow
def test_two_hundred_kills_at_random_moments_lose_no_acknowledged_step(tmp_path):
    """Two hundred times, over the whole life of a run."""
    assert sum(kill_at_random(tmp_path, 200, seed=2)) > 2_000


CALLS = ("write", "fsync", "rename", "mkdir")


def kill_at_calls(tmp_path, stride):
    """Kill the short run at the entry of its n-th system call of each kind, every `stride`-th write; how many died."""
    short = program(tmp_path, SHORT)

    def fresh(name):
        root = tmp_path / name
        with run("first", sinks=[f"file:{root}"], config={"other": 1}):
            pass  # so that the leaderboard has to be written anew
        return {"RUNCARD_DIR": str(root), "RUNCARD_DURABILITY": "disk"}

    counts = calls_of(short, ",".join(CALLS), **fresh("count"))
    assert counts["write"] > 15
    assert counts["fsync"] == 4
    assert counts["rename"] >= 1  # the leaderboard, written anew for its new columns
    killed = 0
    for call in CALLS:
        for number in range(1, counts[call] + 1, stride if call == "write" else 1):
            variables = fresh(f"{call}{number}")
            done = traced(short, "-e", f"inject={call}:signal=SIGKILL:when={number}", **variables)
            assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), (call, number, done.stderr)
            check(tmp_path / f"{call}{number}", done.stdout)
            killed += 1
    return killed


@needs_strace
def test_a_kill_at_a_write_an_fsync_a_rename_loses_no_acknowledged_step(tmp_path):
    """At every fsync, rename and mkdir and every fourth write of a short run: nothing acknowledged is lost."""
    assert kill_at_calls(tmp_path, 4) > 10


@needs_strace
@pytest.mark.slow
def test_a_kill_at_every_write_fsync_and_rename_loses_no_acknowledged_step(tmp_path):
    """At each one of them."""
    assert kill_at_calls(tmp_path, 1) > 25


def test_a_process_that_leaves_without_a_word_reads_crashed(tmp_path, store):
    """`os._exit` in the middle: the steps are there, the run is crashed, with the duration up to the last of them."""
    process = started(
        program(
            tmp_path,
            """
            import os
            from runcard import run
            with run("gone") as r:
                r.log(loss=1.0)
                os._exit(3)
            """,
        )
    )
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 3
    record = store.get("gone")
    assert (record.status, record.metrics, record.ended_at) == (Status.CRASHED, {"loss": 1.0}, None)
    assert record.duration_s >= 0
    assert record.attempts[-1].status == "crashed"


def test_a_running_process_is_not_crashed(tmp_path, store):
    """As long as the process lives its run is running, and from the moment of its death it is not."""
    process = started(
        program(
            tmp_path,
            """
            import os, sys
            from runcard import run
            with run("alive"):
                os.write(1, b"OPEN\\n")
                sys.stdin.read()
            """,
        ),
        stdin=-1,
    )
    assert process.stdout.readline() == "OPEN\n"
    assert store.get("alive").status is Status.RUNNING
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert store.get("alive").status is Status.CRASHED
    assert [record.status for record in store.runs()] == [Status.CRASHED]
