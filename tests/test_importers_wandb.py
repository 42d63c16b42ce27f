"""Reading W&B's folders: runs that wandb itself wrote offline, runs that the sink delivered, and damaged files."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import zlib
from importlib import metadata
from pathlib import Path

import pytest
from command_line import call
from hypothesis import given
from hypothesis import strategies as st
from programs import finished, program
from wandb_logs import at_home, messages, records

from runcard import open_store, run
from runcard.errors import SettingError
from runcard.importers import import_runs, kind_of, wandb
from runcard.importers._wandb_file import Message, RecordFile
from runcard.importers._wandb_records import Gathered
from runcard.record import Point

WRITER = """
import os, sys, wandb
from pathlib import Path

quiet = dict(silent=True, console="off", x_disable_stats=True)
first = dict(project="cats", entity="team", id="abc123", name="baseline", notes="why", tags=["a", "b"], group="g")
r = wandb.init(**first, config={"lr": 0.1, "model": {"layers": [1, 2]}}, settings=wandb.Settings(**quiet))
r.define_metric("loss", summary="min")
for step in range(3):
    r.log({"loss": [0.5, 0.25, 0.75][step], "inner": {"acc": step}, "epoch": step}, step=step * 10)
r.log({"odd": float("nan"), "big": 2**53 + 1, "flag": True, "word": "hello", "hist": wandb.Histogram([1, 2, 3])})
r.log({"table": wandb.Table(columns=["a"], data=[[1]])})
r.config.update({"later": 7})
r.summary["best"] = 0.25
r.summary["verdict"] = "fine"
artifact = wandb.Artifact("weights", "model")
Path("weights.bin").write_bytes(b"weights")
artifact.add_file("weights.bin")
artifact.add_reference("s3://bucket/far.bin", name="far.bin", checksum=False)
r.log_artifact(artifact)
Path(r.dir, "output.log").write_text("printed")
r.finish()
r = wandb.init(project="cats", entity="team", id="abc123", resume="allow", settings=wandb.Settings(**quiet))
r.log({"loss": 0.125, "_timestamp": 4e9}, step=40)
r.finish(exit_code=1)
r = wandb.init(project="cats", id="stopped", settings=wandb.Settings(**quiet))
r.finish(exit_code=255)
r = wandb.init(project="cats", id="killed", settings=wandb.Settings(**quiet))
for step in range(2000):
    r.log({"loss": step})
import time; time.sleep(0.5)
os._exit(9)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder in which wandb has worked offline: a run that was resumed, one that was stopped, one that was killed."""
    with pytest.MonkeyPatch.context() as patch:
        home = at_home(patch, tmp_path_factory.mktemp("wandb") / "home")
        program(home, WRITER)
        subprocess.run([sys.executable, "-W", "ignore", "program.py"], cwd=home, check=False, capture_output=True)
        return home / "wandb"


@pytest.fixture
def imported(written, store):
    """The records that come of it, by name."""
    report = import_runs(str(written), store.url.partition(":")[2])
    return report, {found.name: found for found in store.runs()}


def test_a_run_of_wandbs_own_is_whole(imported, store):
    """Config, history with steps and times, summary, tags, notes, project, files and surroundings come along."""
    report, found = imported
    record = found["baseline"]
    assert (record.experiment, record.tags, record.notes) == ("cats", ["a", "b"], "why")
    assert record.config == {"lr": 0.1, "model": {"layers": [1, 2]}, "later": 7}
    points = [(point.name, point.step, point.value) for point in record.metric_history]
    assert [point[1:] for point in points if point[0] == "loss"] == [(0, 0.5), (10, 0.25), (20, 0.75), (40, 0.125)]
    assert [point[1:] for point in points if point[0] == "inner.acc"] == [(0, 0), (10, 1), (20, 2)]
    odd = {point[0]: point[2] for point in points}
    assert math.isnan(odd["odd"])
    assert (odd["big"], odd["flag"]) == (2**53 + 1, 1)
    assert (record.metrics["loss"], record.metrics["best"], record.metrics["inner.acc"]) == (0.125, 0.25, 2)
    assert record.result == {"verdict": "fine", "word": "hello"}
    assert (record.status, record.exit_code) == ("failed", 1)
    assert record.metric_history[-1].time == 4e9
    assert record.started_at < record.ended_at
    files = {artifact.name: artifact for artifact in record.artifacts}
    assert files["weights/weights.bin"].bytes == 7
    assert (Path(record.folder) / files["weights/weights.bin"].path).read_bytes() == b"weights"
    assert files["weights/far.bin"].uri == "s3://bucket/far.bin"
    assert files["files/output.log"].bytes == len("printed")
    assert any(name.startswith("files/media/table/") for name in files)
    assert record.environment.python.version == ".".join(map(str, sys.version_info[:3]))
    packages = record.environment.packages
    assert list(packages) == sorted(packages)
    assert packages["gitpython"] == metadata.version("GitPython")  # called as a run of our own calls it
    assert Path(record.environment.command.entry).name == "program.py"
    told = record.environment.imported
    assert (told["kind"], told["id"], told["entity"], told["group"]) == ("wandb", "abc123", "team", "g")
    assert {what: record.losses[what] for what in ("histograms", "tables", "texts in the history")} == {
        "histograms": 1,
        "tables": 1,
        "texts in the history": 1,
    }
    assert report.problems == []


def test_how_a_run_ended_is_told_by_its_exit_code(imported):
    """255 is what wandb writes for a Ctrl-C; a run without an exit has no last word."""
    _, found = imported
    assert (found["stopped"].status, found["stopped"].exit_code) == ("killed", 255)
    assert found["killed"].status in ("crashed", "running")
    assert found["killed"].ended_at is None
    assert len(found["killed"].metric_history) > 0


def test_a_second_import_makes_nothing_twice(written, imported, store):
    """All runs are known again, also from another place; one file of them is enough of a source."""
    report = import_runs(str(written.parent), store.url.partition(":")[2])
    assert (report.imported, report.there) == ([], 3)
    (path,) = written.glob("*-stopped/*.wandb")
    assert import_runs(str(path), store.url.partition(":")[2]).there == 1
    assert kind_of(str(written)) == kind_of(str(path)) == "wandb"


def test_what_the_sink_delivered_comes_back_as_it_was(tmp_path, monkeypatch, store):
    """A run of runcard's own keeps its id, steps, exact numbers, times, parent and end on the way through W&B."""
    home = at_home(monkeypatch, tmp_path / "home")
    monkeypatch.setenv("RUNCARD_DEADLINE", "60")
    monkeypatch.chdir(tmp_path)
    with run("parent", config={"lr": 1e-300}, sinks=["file:", "wandb:p"], notes="n", tags=["t"], experiment="e") as r:
        r.log(step=3, loss=0.1, big=2**70, _own=1)
        r.log(step=1, loss=math.inf)
        r.log(a=2)
        with run("child", sinks=["file:", "wandb:p"]) as child:
            pass
        r.artifact_path("w.bin").write_bytes(b"w")
    report = import_runs(str(home / "wandb"), str(tmp_path / "back"))
    assert sorted(report.imported) == sorted([r.run_id, child.run_id])
    there, here = open_store(tmp_path / "back").get(r.run_id), store.get(r.run_id)
    for name in (
        "name",
        "experiment",
        "config",
        "metrics",
        "tags",
        "notes",
        "status",
        "started_at",
        "ended_at",
        "host",
    ):
        assert getattr(there, name) == getattr(here, name), name
    assert there.duration_s == pytest.approx(here.duration_s, abs=1e-3)
    assert sorted(there.metric_history) == sorted(here.metric_history)
    assert [(each.name, each.sha256) for each in there.artifacts] == [
        (each.name, each.sha256) for each in here.artifacts
    ]
    assert open_store(tmp_path / "back").get(child.run_id).parent_id == r.run_id


def test_a_run_of_ours_that_was_broken_off_has_no_last_word(tmp_path):
    """What the sink closed because its process was gone has its own steps, and no end."""
    read = Gathered()
    read.run = {"id": "20261123T101112-7k3f9q2m", "project": "p"}
    read.started_at, read.exit_code = 1.0, 1
    read.rows = [(0, 2.0, {"step": 7, "a": 1, "big": 1e30, "big.exact": hex(10**30)})]
    found = wandb.imported(read, str(tmp_path))
    assert (found.status, found.ended_at) == (None, None)
    assert list(found.points) == [Point("a", 7, 1, 2.0), Point("big", 7, 10**30, 2.0)]
    assert found.origin.run_id == "20261123T101112-7k3f9q2m"


def test_nothing_of_wandb_is_loaded(written, tmp_path):
    """A folder is read without wandb, which nobody has to install for it."""
    code = f"""
        import sys
        sys.modules["wandb"] = sys.modules["google.protobuf"] = None
        from runcard.importers import import_runs
        print(len(import_runs({str(written)!r}, {str(tmp_path / "into")!r}).imported))
    """
    assert finished(program(tmp_path, code)).stdout == "3\n"


def test_the_command_line_says_what_came_and_what_did_not(written, store):
    """`runcard import wandb` finds the kind by itself, counts, and names a file that cannot be read."""
    done = call("import", str(written))
    assert done.exit_code == 0
    assert "3 runs imported" in done.output
    assert "1 histograms" in done.output


def test_a_file_that_is_none_is_a_problem_and_the_others_come(written, tmp_path, store):
    """A damaged run is named and passed over."""
    folder = tmp_path / "wandb" / "offline-run-20260101_000000-bad"
    folder.mkdir(parents=True)
    (folder / "run-bad.wandb").write_bytes(b"no such thing")
    (tmp_path / "wandb" / "other").symlink_to(written)
    (stopped,) = written.glob("*-stopped")
    os.symlink(stopped, tmp_path / "wandb" / "latest-run")
    (tmp_path / "wandb" / stopped.name).mkdir()
    (tmp_path / "wandb" / stopped.name / "run-stopped.wandb").write_bytes(next(stopped.glob("*.wandb")).read_bytes())
    report = import_runs(str(tmp_path / "wandb"), store.url.partition(":")[2])
    assert len(report.imported) == 1
    assert "run-bad.wandb" in report.problems[0]


@pytest.mark.parametrize("source", ["absent", "empty"])
def test_where_nothing_lies_it_is_said(tmp_path, source):
    """A folder without runs, and one that is not there, are refused with what to name."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match=r"run-\*\.wandb"):
        list(wandb.runs(str(tmp_path / source)))


def test_an_artifacts_file_must_be_the_one_that_was_logged(tmp_path, written, store):
    """A path in a folder from elsewhere takes no other file of this machine along."""
    source = next(path for path in sorted(written.glob("*-abc123/*.wandb")) if b"weights.bin" in path.read_bytes())
    (tmp_path / "secret").write_bytes(b"another")  # of the same size
    target = tmp_path / "wandb" / "offline-run-20260101_000000-abc123"
    target.mkdir(parents=True)
    (target / source.name).write_bytes(_with_artifact_at(source, tmp_path / "secret"))
    report = import_runs(str(tmp_path / "wandb"), store.url.partition(":")[2])
    (record,) = store.runs()
    assert report.left_out["missing artifacts"] == 2  # the table is one too
    assert "weights/weights.bin" not in {artifact.name for artifact in record.artifacts}


def _with_artifact_at(source, path):
    """The file, with another place for the files of its artifacts."""
    data = bytearray(source.read_bytes()[:7])
    for record in records(source.read_bytes()):
        for entry in record.artifact.manifest.contents if record.HasField("artifact") else ():
            if entry.local_path:
                entry.local_path = str(path)
        _append(data, record.SerializeToString())
    return bytes(data)


def _append(data, payload):
    """Add a record to a log, in as many chunks as its blocks want."""
    first = True
    while first or payload:
        room = 32_768 - len(data) % 32_768
        if room < 7:
            data += bytes(room)
            continue
        piece, payload = payload[: room - 7], payload[room - 7 :]
        kind = {(True, False): 1, (True, True): 2, (False, True): 3, (False, False): 4}[first, bool(payload)]
        data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
        first = False


@given(st.lists(st.binary(max_size=60) | st.integers(32_000, 70_000), max_size=8), st.integers(0), st.integers(1, 255))
def test_a_log_is_read_around_its_damage(tmp_path_factory, lengths, place, change):
    """A whole log gives every message; of one with a byte changed, no message that was never written, and no error."""
    path = tmp_path_factory.mktemp("log") / "run-x.wandb"
    payloads = [bytes([length % 251]) * length if isinstance(length, int) else length for length in lengths]
    content = bytearray(b":W&B\xe1\xbe\x00")
    for payload in payloads:
        _append(content, payload)
    path.write_bytes(content)
    log = RecordFile(path)
    assert list(log._payloads()) == payloads
    assert log.damaged == 0
    if payloads:
        at = 7 + place % (len(content) - 7)
        path.write_bytes(content[:at])
        found = list(log._payloads())
        assert found == payloads[: len(found)]
        content[at] ^= change
        path.write_bytes(content)
        assert all(each in payloads for each in log._payloads())
        assert log.damaged or list(log._payloads()) != payloads


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_value_error(data):
    """The reader of messages meets hostile bytes with nothing but ValueError."""
    try:
        message = Message(data)
        for number in range(8):
            message.text(number), message.integer(number), message.zigzag(number), message.double(number)
    except ValueError:
        return


def test_messages_are_read_as_protobuf_writes_them():
    """Our reader and the module that wandb ships agree on numbers, texts, times and inner messages."""
    pb = messages()
    record = pb.Record()
    record.run.run_id, record.run.display_name = "id", "é😀"
    record.run.tags.extend(["a", ""])
    record.run.start_time.FromNanoseconds(1_700_000_000_123_456_789)
    record.run.config.update.add(nested_key=["a", "b"], value_json=json.dumps({"x": 1}))
    own = Message(record.SerializeToString())
    found = own.message(17)
    assert (found.text(1), found.text(8), found.texts(10)) == ("id", "é😀", ["a", ""])
    assert found.time(17) == pytest.approx(1_700_000_000.123456789)
    assert found.message(4).messages(1)[0].texts(2) == ["a", "b"]
    item = pb.HistoryRecord()
    for value in (0, -1, 2**63 - 1, -(2**63)):
        item.item.add(integer=value)
    item.item.add(number=-0.5)
    values = Message(item.SerializeToString()).messages(1)
    assert [value.zigzag(5) for value in values[:4]] == [0, -1, 2**63 - 1, -(2**63)]
    assert values[4].double(6) == -0.5
    stop = pb.RunExitRecord(exit_code=-9)
    assert Message(stop.SerializeToString()).integer(1) == -9
