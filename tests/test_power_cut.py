"""A power cut at any moment: what was called `disk` is there, and no state of the disk stops a reader."""

from __future__ import annotations

import random
import shutil

import orjson
import pytest
from faults import needs_strace, traced
from power_cuts import OPTIONS, Disk, Fate, operations
from programs import program

from runcard import Status, open_store, run
from runcard.__main__ import main

PROGRAM = """
    from runcard import open_store, run
    for number in range(2):
        with run(f"r{number}", config={f"c{number}": 1}) as r:
            for step in range(3):
                r.log(loss=step / 2, step=step)
            r.keep("good")
    open_store().tag("r0", "late")
    with run("r2") as r:
        r.log(loss=9.0)
"""
KINDS = ("lost", "kept", "zeros", "torn", "chance")


@pytest.fixture
def recorded(tmp_path):
    """The file operations of three runs with durability="disk", and where they were done."""
    base = tmp_path / "base"
    base.mkdir()
    path = program(tmp_path, PROGRAM)
    done = traced(path, *OPTIONS, RUNCARD_DIR=str(base / "runcards"), RUNCARD_DURABILITY="disk")
    assert (done.returncode, done.stderr) == (0, "")
    found = operations(path.with_suffix(".trace"), base)
    assert {operation[0] for operation in found} >= {"mkdir", "open", "write", "fsync", "rename", "link"}
    return base, found


def check(root, promised):
    """Read all of a store as a power cut may have left it; runs that were called `disk` are whole."""
    store = open_store(root)
    records = {record.run_id: record for record in store.runs()}
    assert store.unreadable == 0
    assert promised <= records.keys()
    for record in records.values():
        orjson.dumps(record.to_dict())
        assert repr(record)
        points = list(record.metric_history)
        assert all(point.value in (9.0, point.step / 2) for point in points)
        if record.durability == "disk" or record.run_id in promised:
            assert record.status is Status.FINISHED
            assert record.name in ("r0", "r1", "r2")
            assert [point.step for point in points] == ([0] if record.name == "r2" else [0, 1, 2])
            assert record.decision == (None if record.name == "r2" else "keep")
            assert record.config == ({} if record.name == "r2" else {f"c{record.name[1]}": 1})
    return store, records


def replayed(recorded, target, cuts, chances):
    """After each operation: every kind of loss, several times where chance decides; how many states were read."""
    base, found = recorded
    disk, promised, states = Disk(base), set(), 0
    for number, operation in enumerate(found):
        disk.apply(operation)
        if operation[0] == "write" and b'"kind":"durable"' in operation[2]:
            promised.add(operation[1].parent.name)
        if number % cuts:
            continue
        for kind in KINDS:
            for again in range(chances if kind in ("torn", "chance") else 1):
                disk.write(target, Fate(kind, random.Random(f"{number} {kind} {again}")))
                store, _ = check(target / "runcards", promised)
                if states % 25 == 0:
                    go_on(target / "runcards", store, promised)
                shutil.rmtree(target)
                states += 1
    assert len(promised) == 3
    return states


def go_on(root, store, promised):
    """A store after a power cut is worked with as ever: a new run, a judgement of an old one, the leaderboard."""
    with run("after", sinks=[f"file:{root}"]) as r:
        r.log(loss=9.0)
    assert store.get("after").status is Status.FINISHED
    for run_id in promised:
        assert store.tag(run_id, "judged").tags[-1] == "judged"
    store.rebuild_leaderboard()
    assert r.run_id in (root / "leaderboard.csv").read_text("utf-8")
    check(root, promised)


@needs_strace
def test_what_is_called_disk_survives_a_power_cut(recorded, tmp_path):
    """After every second operation: lost, kept, zero-filled, torn and reordered writes and names."""
    assert replayed(recorded, tmp_path / "after", cuts=2, chances=2) > 150


@needs_strace
@pytest.mark.slow
def test_what_is_called_disk_survives_a_power_cut_in_any_of_many_states(recorded, tmp_path):
    """After each operation, many states of each."""
    assert replayed(recorded, tmp_path / "after", cuts=1, chances=20) > 1_500


@needs_strace
def test_the_command_line_reads_a_store_after_a_power_cut(recorded, tmp_path, capsys, monkeypatch):
    """`ls --json` lists every state of the last moment: never a traceback."""
    base, found = recorded
    disk = Disk(base)
    for operation in found:
        disk.apply(operation)
    for kind in KINDS:
        target = tmp_path / kind
        disk.write(target, Fate(kind, random.Random(kind)))
        with pytest.raises(SystemExit) as left:
            monkeypatch.setattr("sys.argv", ["runcard", "--store", str(target / "runcards"), "ls", "--json"])
            main()
        assert left.value.code in (0, None)
        assert {"r0", "r1", "r2"} <= {each["name"] for each in orjson.loads(capsys.readouterr().out)}


@needs_strace
def test_the_recorded_operations_give_back_what_lies_on_the_disk(recorded, tmp_path):
    """The model itself: with nothing lost it holds, byte for byte, what the program wrote."""
    base, found = recorded
    disk = Disk(base)
    for operation in found:
        disk.apply(operation)
    disk.write(tmp_path / "model", Fate("kept", random.Random(0)))
    wrote = {path.relative_to(base): path.read_bytes() for path in base.rglob("*") if path.is_file()}
    model = {
        path.relative_to(tmp_path / "model"): path.read_bytes()
        for path in (tmp_path / "model").rglob("*")
        if path.is_file()
    }
    assert model == wrote
    assert len(wrote) > 20
