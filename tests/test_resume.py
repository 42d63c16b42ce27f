"""Going on with a run: the same id, another attempt, all points kept, the latest attempt's in the summaries."""

from __future__ import annotations

import os
import signal

import pytest
from programs import finished, kinds, program, quietly, started

from runcard import run, tracked
from runcard.errors import RuncardError, RunNotFound, RunStateError
from runcard.record import Status

TRAIN = """
    import os, signal, sys
    from runcard import log, tracked

    @tracked(name="train", resume=os.environ.get("REF"))
    def train(lr, first, last):
        for step in range(first, last):
            log(loss=step + lr, step=step)
        if "HOW" in os.environ:
            exec(os.environ["HOW"])
        return {"done": last}

    train(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
"""
DEATHS = {
    "crashed": "os.kill(os.getpid(), signal.SIGKILL)",
    "failed": "raise ValueError('first')",
    "killed": "raise KeyboardInterrupt",
}


def only(store):
    """The one record of a store."""
    (record,) = store.runs()
    return record


@pytest.mark.parametrize(
    ("how", "by"), [("crashed", "id"), ("failed", "short"), ("killed", "name"), ("crashed", "latest")]
)
def test_resume_goes_on_with_the_same_run(how, by, tmp_path, store):
    """A crashed, failed or killed run goes on by any reference: one record, two attempts, finished, no error left."""
    path = program(tmp_path, TRAIN)
    finished(path, "0.5", "0", "3", env={"HOW": DEATHS[how]})
    before = only(store)
    assert before.status == how
    ref = {"id": before.run_id, "short": before.run_id[-8:], "name": "train", "latest": "latest"}[by]
    quietly(path, "0.25", "2", "5", env={"REF": ref})
    record = only(store)
    assert record.run_id == before.run_id
    assert (record.status, record.error, record.exit_code) == (Status.FINISHED, None, None)
    assert [(each.attempt, each.status) for each in record.attempts] == [(1, how), (2, "finished")]
    assert [(p.step, p.value, p.attempt) for p in record.metric_history] == [
        (0, 0.5, 1),
        (1, 1.5, 1),
        (2, 2.5, 1),
        (2, 2.25, 2),
        (3, 3.25, 2),
        (4, 4.25, 2),
    ]
    assert record.metrics == {"loss": 4.25, "done": 5}
    summary = record.metric_summary.loss
    assert (summary.count, summary.last, summary.last_step, summary.min) == (5, 4.25, 4, 0.5)
    assert record.started_at == before.started_at
    assert kinds(record.folder)["start"] == 2
    assert (store.root / "leaderboard.csv").read_text().count(record.run_id) == 1


def test_an_earlier_steps_value_counts_no_more_once_it_is_done_over(tmp_path, store):
    """The minimum of a step that a later attempt logged again is the later one's; the history keeps both."""
    path = program(tmp_path, TRAIN)
    finished(path, "-9", "0", "1", env={"HOW": DEATHS["crashed"]})
    quietly(path, "1", "0", "2", env={"REF": "latest"})
    record = only(store)
    assert [p.value for p in record.metric_history] == [-9.0, 1.0, 2.0]
    assert (record.metric_summary.loss.min, record.metric_summary.loss.count) == (1.0, 2)


def test_three_attempts_in_turn(tmp_path, store):
    """Each attempt has a journal of its own and a number; the record is in the order they were made."""
    path = program(tmp_path, TRAIN)
    finished(path, "0", "0", "2", env={"HOW": DEATHS["crashed"]})
    finished(path, "0", "2", "4", env={"HOW": DEATHS["failed"], "REF": "latest"})
    quietly(path, "0", "4", "6", env={"REF": "latest"})
    record = only(store)
    assert [(each.attempt, each.status) for each in record.attempts] == [(1, "crashed"), (2, "failed"), (3, "finished")]
    assert [p.step for p in record.metric_history] == list(range(6))
    assert [p.attempt for p in record.metric_history] == [1, 1, 2, 2, 3, 3]


def test_a_resumed_run_that_dies_reads_so(tmp_path, store):
    """The latest attempt says how the run stands: crashed again after a failure."""
    path = program(tmp_path, TRAIN)
    finished(path, "0", "0", "2", env={"HOW": DEATHS["failed"]})
    finished(path, "0", "2", "4", env={"HOW": DEATHS["crashed"], "REF": "latest"})
    record = only(store)
    assert (record.status, record.error) == (Status.CRASHED, None)


def test_what_cannot_be_resumed_is_refused_before_the_users_code(store):
    """A finished run, a running one, and one that is not there: an error with what to do, and nothing is called."""
    called = []

    with run("done") as done:
        pass
    with pytest.raises(RunStateError, match="is finished"), run(resume=done.run_id):
        called.append(1)
    with run("open") as still, pytest.raises(RunStateError, match="still goes on"):
        tracked(resume=still.run_id)(lambda: called.append(1))()
    with pytest.raises(RunNotFound, match="no run answers"), run(resume="nowhere"):
        called.append(1)
    assert called == []
    assert sorted((record.name, record.status.value) for record in store.runs()) == [
        ("done", "finished"),
        ("open", "finished"),
    ]


def test_auto_takes_the_newest_unfinished_run_of_the_same_experiment_and_config(tmp_path, store):
    """`resume="auto"`: another config, a finished run or none at all begins anew; an unfinished one goes on."""
    path = program(tmp_path, TRAIN)
    auto = {"RUNCARD_RESUME": "auto"}
    quietly(path, "1", "0", "1", env=auto)  # nothing to go on with
    quietly(path, "1", "0", "1", env=auto)  # and what is finished stays so
    finished(path, "2", "0", "1", env={"HOW": DEATHS["crashed"]})
    finished(path, "3", "0", "1", env={"HOW": DEATHS["crashed"]})
    assert len(store.runs()) == 4
    quietly(path, "2", "0", "1", env=auto)
    records = store.runs()
    assert len(records) == 4
    by_lr = {record.config.lr: record for record in records}
    assert (by_lr[2.0].status, len(by_lr[2.0].attempts)) == (Status.FINISHED, 2)
    assert (by_lr[3.0].status, len(by_lr[3.0].attempts)) == (Status.CRASHED, 1)


def test_what_the_variable_names_wrongly_is_said_to_come_from_it(store, monkeypatch):
    """A run that is not there, or is finished: RUNCARD_RESUME is named, `resume=` is in the traceback."""
    with run("done", sinks=["file:"]):
        pass
    for ref in ("nosuch", "done"):
        monkeypatch.setenv("RUNCARD_RESUME", ref)
        with pytest.raises(RuncardError, match=r"\ARUNCARD_RESUME: "):
            run("next").start()
        with pytest.raises(RuncardError, match=r"\A(?!RUNCARD_RESUME)"):
            run("next", resume=ref).start()


def test_auto_leaves_a_run_that_goes_on_alone(tmp_path, store):
    """A second start while the first still runs is a run of its own."""
    path = program(tmp_path, TRAIN)
    process = started(path, "1", "0", "1", env={"HOW": "print('READY', flush=True); sys.stdin.read()"}, stdin=-1)
    try:
        assert process.stdout.readline() == "READY\n"
        quietly(path, "1", "0", "1", env={"RUNCARD_RESUME": "auto"})
    finally:
        process.communicate(timeout=60)
    assert [len(record.attempts) for record in store.runs()] == [1, 1]


SLURM = {"SLURM_JOB_ID": "123", "SLURM_JOB_NAME": "train", "RUNCARD_RESUME": "auto"}


def test_a_requeued_job_goes_on_though_its_earlier_attempt_seems_alive(tmp_path, store):
    """SLURM_RESTART_COUNT proves the earlier attempt of the job dead: no waiting for ten minutes of silence."""
    path = program(tmp_path, TRAIN)
    finished(path, "1", "0", "2", env={**SLURM, "HOW": DEATHS["crashed"]})
    record = only(store)
    elsewhere = record.run_id
    pretend_another_host(store)
    assert only(store).status is Status.RUNNING, "for want of ten minutes of silence"
    quietly(path, "1", "0", "2", env={**SLURM, "SLURM_JOB_ID": "124"})
    assert len(store.runs()) == 2, "another job does not go on with it"
    quietly(path, "1", "0", "2", env={**SLURM, "SLURM_RESTART_COUNT": "1"})
    record = store.get(elsewhere)
    assert (record.status, len(record.attempts)) == (Status.FINISHED, 2)
    assert [(p.step, p.attempt) for p in record.metric_history] == [(0, 1), (1, 1), (0, 2), (1, 2)]


def pretend_another_host(store):
    """Rewrite the start event of the one run as another host would have written it."""
    from runcard.journal import Reading, encode

    path = store.root / only(store).run_id / "journal.jsonl"
    events = list(Reading(path))
    events[0]["alive"]["host"] = "another"
    path.write_bytes(b"".join(encode(event) for event in events))


def test_array_tasks_of_one_job_go_on_with_their_own(tmp_path, store):
    """Two tasks of an array have one job id and their own runs: each requeued task finds its own."""
    path = program(tmp_path, TRAIN)
    for task in "12":
        env = {**SLURM, "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": task, "HOW": DEATHS["crashed"]}
        finished(path, "1", "0", task, env=env)
    first = {record.config.last: record.run_id for record in store.runs()}
    env = {**SLURM, "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "1", "SLURM_RESTART_COUNT": "1"}
    quietly(path, "1", "0", "1", env=env)
    assert store.get(first[1]).status is Status.FINISHED
    assert store.get(first[2]).status is Status.CRASHED


def test_two_that_resume_at_once_have_an_attempt_each(tmp_path, store):
    """Two processes resume one run at the same time: no attempt is shared, no line torn."""
    path = program(
        tmp_path,
        """
        import sys
        from runcard import run
        print("READY", flush=True)
        sys.stdin.readline()
        try:
            with run("train", resume="latest") as r:
                r.log(x=1.0)
        except Exception as error:
            print(type(error).__name__)
        """,
    )
    finished(program(tmp_path, TRAIN, "first.py"), "1", "0", "1", env={"HOW": DEATHS["crashed"]})
    processes = [started(path, stdin=-1) for _ in range(2)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60) for process in processes]
    record = only(store)
    refused = sum(out == "RunStateError\n" for out, _ in said)
    assert [err for _, err in said] == ["", ""]
    assert len(record.attempts) == 3 - refused
    assert len({each.attempt for each in record.attempts}) == len(record.attempts)
    assert record.losses == {}


def test_a_resumed_run_still_dies_by_a_signal(tmp_path, store):
    """Nothing of the resuming stays in the way of a signal's own course."""
    path = program(tmp_path, TRAIN)
    finished(path, "1", "0", "1", env={"HOW": DEATHS["crashed"]})
    done = finished(path, "1", "1", "2", env={"REF": "latest", "HOW": "os.kill(os.getpid(), signal.SIGTERM)"})
    assert done.returncode == -signal.SIGTERM
    assert only(store).status is Status.CRASHED
    assert os.environ.get("RUNCARD_PARENT") is None
