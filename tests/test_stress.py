"""Many processes, one store: every run is there, whole and once, and the leaderboard has each exactly once."""

from __future__ import annotations

import csv
from collections import Counter

import pytest
from programs import program, started

from runcard.record import Status

MANY = """
    import sys
    from runcard import log, run
    process, runs = int(sys.argv[1]), int(sys.argv[2])
    print("READY", flush=True)
    sys.stdin.readline()
    for number in range(runs):
        with run("many", config={"process": process, "number": number}, tags=[f"p{process}"]) as r:
            for step in range(5):
                log(loss=process * 1000 + number + step / 10, step=step)
            if process < 8:
                log({f"only {process} {number}": 1.0})  # a column that the leaderboard did not have
            r.keep(f"run {number} of {process}, \\"quoted\\"\\nand a line")
"""


def many(processes, runs, tmp_path, store):
    """Start processes that wait for each other, let them all begin, and check what they left."""
    path = program(tmp_path, MANY)
    environment = {"RUNCARD_CAPTURE": "-git,-packages"}
    begun = [started(path, str(number), str(runs), stdin=-1, env=environment) for number in range(processes)]
    for process in begun:
        assert process.stdout.readline() == "READY\n"
    for process in begun:
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=500) for process in begun]
    assert [(process.returncode, err) for process, (_, err) in zip(begun, ends, strict=True)] == [(0, "")] * processes
    records = store.runs()
    expected = {(process, number) for process in range(processes) for number in range(runs)}
    assert {(record.config.process, record.config.number) for record in records} == expected
    assert len(records) == len({record.run_id for record in records}) == processes * runs
    for record in records:
        process, number = record.config.process, record.config.number
        assert (record.status, record.losses, record.tags) == (Status.FINISHED, {}, [f"p{process}"])
        points = [p.value for p in record.metric_history if p.name == "loss"]
        assert points == [process * 1000 + number + step / 10 for step in range(5)]
    with (store.root / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["run_id"] for row in rows) == Counter(record.run_id for record in records)
    by_id = {record.run_id: record for record in records}
    for row in rows:
        record = by_id[row["run_id"]]
        assert float(row["metrics.loss"]) == record.metrics.loss
        assert int(row["config.number"]) == record.config.number
        own = {name: text for name, text in row.items() if name.startswith("metrics.only") and text}
        process, number = record.config.process, record.config.number
        assert own == ({} if process >= 8 else {f"metrics.only {process} {number}": "1.0"})
        assert (row["status"], row["decision"]) == ("finished", "keep")


def test_eight_processes_of_ten_runs_into_one_store(tmp_path, store):
    """80 runs from 8 processes at once: nothing lost, torn or interleaved, one row each."""
    many(8, 10, tmp_path, store)


@pytest.mark.slow
def test_sixty_four_processes_of_twenty_five_runs_into_one_store(tmp_path, store):
    """1,600 runs from 64 processes at once: nothing lost, torn or interleaved, one row each."""
    many(64, 25, tmp_path, store)
