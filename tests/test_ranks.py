"""Ranks of one launch share one run, without waiting for each other; independent workers never do."""

from __future__ import annotations

import signal

import pytest
from programs import program, quietly, started

from runcard.record import Status

RANK = """
    import json, os, signal, sys, time
    from runcard import log, run, tracked

    def wait_for(name):
        while not os.path.exists(name):
            time.sleep(0.01)

    def rank():
        return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ["OMPI_COMM_WORLD_RANK"])
"""


def torchrun(rank, size=4, port="29500", **more):
    """The variables that torchrun gives a rank."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        **more,
    }


def launch(path, environments):
    """Start a process an environment, all at once; their exit codes and what they said on standard error."""
    processes = [started(path, env=variables) for variables in environments]
    ends = [process.communicate(timeout=90) for process in processes]
    return [process.returncode for process in processes], [err for _, err in ends]


WORK = """
    @tracked(name="train")
    def train(lr=0.1):
        for step in range(5):
            log(loss=100.0 * rank() + step, step=step)
        open(f"done{rank()}", "w").close()
        for each in range(4):
            wait_for(f"done{each}")
        return {"rank": rank()}
    train()
"""


def test_four_ranks_are_one_run(tmp_path, store):
    """Torchrun's four processes make one run: rank 0's metrics, every rank's points, one end, one row."""
    assert launch(program(tmp_path, RANK + WORK), [torchrun(rank) for rank in range(4)]) == ([0] * 4, [""] * 4)
    (record,) = store.runs()
    assert (record.status, record.name, record.config) == (Status.FINISHED, "train", {"lr": 0.1})
    assert record.metrics == {"loss": 4.0, "rank": 0}
    for rank in range(4):
        points = store.history(record.run_id, "loss", rank=rank)
        assert [(p.step, p.value) for p in points] == [(step, 100.0 * rank + step) for step in range(5)]
    assert store.history(record.run_id, "loss") == store.history(record.run_id, "loss", rank=0)
    assert record.losses == {}
    assert (store.root / "leaderboard.csv").read_text().count(record.run_id) == 1
    assert sorted(each.process_rank for each in record.attempts) == [0, 1, 2, 3]


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_rank_costs_its_own_end_alone(victim, tmp_path, store):
    """One of four is killed: its steps are there. Rank 0's end is the run's: without it the run reads crashed."""
    path = program(
        tmp_path,
        RANK
        + f"""
    with run("train") as r:
        r.log(loss=float(rank()), step=0)
        open(f"logged{{rank()}}", "w").close()
        for each in range(4):
            wait_for(f"logged{{each}}")
        if rank() == {victim}:
            os.kill(os.getpid(), signal.SIGKILL)
        r.log(loss=10.0 + rank(), step=1)
""",
    )
    codes, _ = launch(path, [torchrun(rank) for rank in range(4)])
    assert codes == [-signal.SIGKILL if rank == victim else 0 for rank in range(4)]
    (record,) = store.runs()
    assert record.status is (Status.CRASHED if victim == 0 else Status.FINISHED)
    for rank in range(4):
        points = [(p.step, p.value) for p in store.history(record.run_id, rank=rank)]
        assert points == [(0, float(rank)), (1, 10.0 + rank)][: 1 if rank == victim else 2]
    assert record.metrics == {"loss": 0.0 if victim == 0 else 10.0}


def test_two_launches_with_the_same_address_are_two_runs(tmp_path, store):
    """The same port and name again, after the first launch ended or was killed: a run of its own, in full."""
    path = program(
        tmp_path,
        RANK
        + """
    with run("train") as r:
        r.log(loss=float(rank()))
        if os.environ["DIES"] == os.environ["RANK"]:
            os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    for dies in ("", "0", ""):
        launch(path, [torchrun(rank, 3, DIES=dies) for rank in range(3)])
    records = store.runs()
    assert [record.status for record in records] == [Status.FINISHED, Status.CRASHED, Status.FINISHED]
    for record in records:
        assert [store.history(record.run_id, rank=rank)[0].value for rank in range(3)] == [0.0, 1.0, 2.0]


def test_a_rank_that_never_came_is_not_made_up_for_by_the_next_launch(tmp_path, store):
    """Rank 1 of the first launch died before its run: rank 1 of the second does not join the first's run."""
    path = program(tmp_path, RANK + "\n    with run('train') as r:\n        r.log(loss=1.0)\n")
    launch(path, [torchrun(0, 2)])
    launch(path, [torchrun(0, 2), torchrun(1, 2)])
    second, first = store.runs()
    assert list(store.history(first.run_id, rank=1)) == []
    assert [p.value for p in store.history(second.run_id, rank=1)] == [1.0]


def test_a_rank_that_comes_when_rank_0_is_done_still_belongs(tmp_path, store):
    """No barrier: a rank of the same launch that is so slow that the run has ended writes beside it all the same."""
    path = program(
        tmp_path,
        RANK
        + """
    if rank() == 1:
        wait_for("over")
    with run("train") as r:
        r.log(loss=float(rank()))
    if rank() == 0:
        open("over", "w").close()
""",
    )
    assert launch(path, [torchrun(rank, 2) for rank in range(2)]) == ([0, 0], ["", ""])
    (record,) = store.runs()
    assert (record.status, record.metrics) == (Status.FINISHED, {"loss": 0.0})
    assert [p.value for p in store.history(record.run_id, rank=1)] == [1.0]


def test_a_restart_of_the_launch_is_another_run(tmp_path, store):
    """Torchrun's own restarts count: each has a run of its own."""
    path = program(tmp_path, RANK + "\n    with run('train') as r:\n        r.log(loss=1.0)\n")
    for count in "01":
        launch(path, [torchrun(rank, 2, TORCHELASTIC_RESTART_COUNT=count) for rank in range(2)])
    assert len(store.runs()) == 2


SLURM = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "3"}
MPI = {"PMIX_NAMESPACE": "prterun-1", "OMPI_COMM_WORLD_SIZE": "3"}
LAUNCHERS = {
    "slurm": [{**SLURM, "SLURM_PROCID": str(rank)} for rank in range(3)],
    "mpi": [{**MPI, "OMPI_COMM_WORLD_RANK": str(rank)} for rank in range(3)],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("asked", [True, False])
def test_slurm_and_mpi_share_a_run_only_when_asked(launcher, asked, tmp_path, store):
    """`srun` also starts independent workers: its processes are one run with `ranks=`, and separate ones without."""
    option = f"ranks={launcher!r}" if asked else ""
    path = program(tmp_path, RANK + f"\n    with run('work', {option}) as r:\n        r.log(x=float(rank()))\n")
    assert launch(path, LAUNCHERS[launcher])[0] == [0] * 3
    records = store.runs()
    if asked:
        (record,) = records
        assert [store.history(record.run_id, rank=rank)[0].value for rank in range(3)] == [0.0, 1.0, 2.0]
    else:
        assert sorted(record.metrics.x for record in records) == [0.0, 1.0, 2.0]
        assert {record.parent_id for record in records} == {None}
        assert {record.process_rank for record in records} <= {None}
    assert {record.status for record in records} == {Status.FINISHED}


def test_several_runs_in_turn_in_each_rank_meet_in_order(tmp_path, store):
    """The second run of a name in each rank is the same second run, and those of another name do not shift it."""
    path = program(
        tmp_path,
        RANK
        + """
    for turn in range(3):
        with run("fold", config={"turn": turn}) as r:
            r.log(x=10.0 * turn + rank())
        if rank() == 1:
            with run(f"only rank 1, {turn}"):
                pass
""",
    )
    assert launch(path, [torchrun(rank, 2) for rank in range(2)])[0] == [0, 0]
    folds = sorted((each for each in store.runs() if each.name == "fold"), key=lambda each: each.config.turn)
    assert [each.config.turn for each in folds] == [0, 1, 2]
    for turn, record in enumerate(folds):
        for rank in range(2):
            assert [p.value for p in store.history(record.run_id, rank=rank)] == [10.0 * turn + rank]


def test_runs_inside_a_rank_are_each_ranks_own(tmp_path, store):
    """Nested runs and those of subprocesses within a rank are children of the shared run, not shared themselves."""
    program(tmp_path, "from runcard import run\nwith run('below') as r:\n    r.log(x=1.0)\n", "below.py")
    path = program(
        tmp_path,
        RANK
        + """
    import subprocess
    with run("train") as r:
        with run("evaluate", config={"rank": rank()}) as inner:
            inner.log(x=float(rank()))
        subprocess.run([sys.executable, "below.py"], check=True)
        open(f"done{rank()}", "w").close()
        for each in range(2):
            wait_for(f"done{each}")
""",
    )
    assert launch(path, [torchrun(rank, 2) for rank in range(2)])[0] == [0, 0]
    (train,) = [record for record in store.runs() if record.name == "train"]
    for name in ("evaluate", "below"):
        inner = [record for record in store.runs() if record.name == name]
        assert len(inner) == 2
        assert {record.parent_id for record in inner} == {train.run_id}
        assert {record.status for record in inner} == {Status.FINISHED}
    assert sorted(record.metrics.x for record in store.runs() if record.name == "evaluate") == [0.0, 1.0]


def test_a_rank_that_comes_first_has_children_too(tmp_path, store):
    """A subprocess of rank 1 belongs to the shared run, in its experiment, before rank 0 has written a word."""
    program(tmp_path, "from runcard import run\nwith run('below'):\n    pass\n", "below.py")
    path = program(
        tmp_path,
        RANK
        + """
    import subprocess
    if rank() == 0:
        wait_for("below")
    with run("train", experiment="e") as r:
        if rank() == 1:
            subprocess.run([sys.executable, "below.py"], check=True)
            open("below", "w").close()
""",
    )
    assert launch(path, [torchrun(rank, 2) for rank in range(2)])[0] == [0, 0]
    records = {record.name: record for record in store.runs()}
    assert records["below"].parent_id == records["train"].run_id
    assert records["below"].experiment == "e/below"


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": "x", "WORLD_SIZE": "4"},
        {"RANK": "4", "WORLD_SIZE": "4"},
        {"RANK": "1"},
    ],
)
def test_what_is_no_launch_of_several_is_an_ordinary_run(variables, tmp_path, store):
    """One rank alone, or variables that make no sense: a run like any other, with an end of its own."""
    quietly(program(tmp_path, "from runcard import run\nwith run() as r:\n    r.log(x=1.0)\n"), env=variables)
    (record,) = store.runs()
    assert (record.status, record.metrics, record.process_rank) == (Status.FINISHED, {"x": 1.0}, None)


def test_a_failing_rank_fails_alone_and_keeps_its_exit_code(tmp_path, store):
    """Rank 1 raises: its process exits 1 as ever, the run is rank 0's, and the failure is told in its attempt."""
    path = program(
        tmp_path,
        RANK
        + """
    with run("train") as r:
        open(f"in{rank()}", "w").close()
        wait_for(f"in{1 - rank()}")
        if rank() == 1:
            raise ValueError("rank 1")
""",
    )
    codes, said = launch(path, [torchrun(rank, 2) for rank in range(2)])
    assert codes == [0, 1]
    assert said[1].endswith("ValueError: rank 1\n")
    (record,) = store.runs()
    assert record.status is Status.FINISHED
    assert {each.process_rank: each.status for each in record.attempts} == {0: "finished", 1: "failed"}


def test_a_fork_in_a_rank_writes_beside_it(tmp_path, store):
    """A DataLoader's worker forked in rank 1 belongs to rank 1: its points are not taken for rank 0's."""
    path = program(
        tmp_path,
        RANK
        + """
    with run("train") as r:
        r.log(own=float(rank()))
        child = os.fork()
        if child == 0:
            r.log(forked=float(rank()))
            os._exit(0)
        os.waitpid(child, 0)
        open(f"done{rank()}", "w").close()
        wait_for(f"done{1 - rank()}")
""",
    )
    assert launch(path, [torchrun(rank, 2) for rank in range(2)])[0] == [0, 0]
    (record,) = store.runs()
    assert record.metrics == {"own": 0.0, "forked": 0.0}
    assert {p.name: p.value for p in store.history(record.run_id, rank=1)} == {"own": 1.0, "forked": 1.0}


def test_a_failure_of_rank_0_is_told_whatever_the_others_say(tmp_path, store):
    """Rank 0 fails and rank 1 ends well: the run has failed, with rank 0's error."""
    path = program(
        tmp_path,
        RANK
        + """
    with run("train") as r:
        open(f"in{rank()}", "w").close()
        wait_for(f"in{1 - rank()}")
        if rank() == 0:
            raise ValueError("rank 0")
""",
    )
    assert launch(path, [torchrun(rank, 2) for rank in range(2)])[0] == [1, 0]
    (record,) = store.runs()
    assert (record.status, record.error.message, record.exit_code) == (Status.FAILED, "rank 0", 1)
