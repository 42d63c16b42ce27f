"""`runcard import` of TensorBoard's event files, written by tensorboardX and by TensorBoard's own writer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from command_line import call
from tensorboard.summary import Writer
from tensorboardX import SummaryWriter

from runcard import open_store


def imported(source, into):
    """The runs of a log folder by name, after an import into a store."""
    done = call("import", source, "--into", into)
    assert done.exit_code == 0, done.stderr
    return {record.name: record for record in open_store(into).runs()}


@pytest.fixture
def logs(tmp_path):
    """A log folder with one run of tensorboardX's."""
    with SummaryWriter(str(tmp_path / "logs" / "a" / "b")) as writer:
        for step in range(4):
            writer.add_scalar("train/loss", 1 / (step + 1), 10 * step, walltime=1_700_000_000.5 + step)
    return tmp_path / "logs"


def write(folder, suffix, *points):
    """One more event file, with scalars."""
    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for name, value, step, time in points:
            writer.add_scalar(name, value, step, walltime=time)


def test_scalars_are_the_history(logs, tmp_path):
    """All points with their steps and times; a value is the float32 that the file holds."""
    records = imported(logs, tmp_path / "runs")
    (record,) = records.values()
    assert (record.name, record.experiment) == ("a/b", "logs")
    assert [tuple(point) for point in record.metric_history] == [
        ("train/loss", 10 * step, float(np.float32(1 / (step + 1))), 1_700_000_000.5 + step) for step in range(4)
    ]
    assert record.started_at.timestamp() == 1_700_000_000.5
    assert record.ended_at.timestamp() == 1_700_000_003.5
    assert record.duration_s == 3.0
    assert record.environment.imported.kind == "tensorboard"


def test_scalars_as_tensors_are_scalars_too(tmp_path):
    """TensorFlow 2's form, which TensorBoard's own writer gives."""
    writer = Writer(str(tmp_path / "logs"))
    for step in range(3):
        writer.add_scalar("acc", np.float32(0.5) * step, step)
    writer.close()
    (record,) = imported(tmp_path / "logs", tmp_path / "runs").values()
    assert [(point.step, point.value) for point in record.metric_history] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert record.name == "logs"


def test_a_status_that_nobody_wrote_is_said(logs, tmp_path):
    """Event files have none: the run is put down as finished, and the record and the report say that it was unknown."""
    done = call("import", logs, "--into", tmp_path / "runs")
    assert done.stdout == "1 run imported\nleft out: 1 unknown statuses\n"
    (record,) = open_store(tmp_path / "runs").runs()
    assert str(record.status) == "finished"
    assert record.losses == {"unknown statuses": 1}
    assert record.environment.imported.status == "unknown"


def test_steps_that_a_restart_wrote_again_come_twice(tmp_path):
    """Nothing that was recorded is thrown away; files are read in the order of their names."""
    folder = tmp_path / "logs"
    write(folder, ".1", ("loss", 3.0, 0, 1e9), ("loss", 2.0, 1, 1e9 + 1))
    (first,) = folder.iterdir()
    first.rename(folder / "events.out.tfevents.1000000000.node.1")
    write(folder, ".2", ("loss", 2.5, 1, 1e9 + 9), ("loss", 1.5, 2, 1e9 + 10))
    (record,) = imported(folder, tmp_path / "runs").values()
    assert [(point.step, point.value) for point in record.metric_history] == [(0, 3.0), (1, 2.0), (1, 2.5), (2, 1.5)]
    assert record.host == "node"


def test_hyperparameters_are_the_config_of_the_run_they_lie_in(logs, tmp_path):
    """`add_hparams` writes them below the run, as TensorBoard shows them: a child with config, metrics and its end."""
    with SummaryWriter(str(logs / "a" / "b"), filename_suffix=".h") as writer:
        writer.add_hparams({"lr": 0.1, "layers": 3, "opt": "adam", "bias": True}, {"hparam/acc": 0.5}, name="trial")
    records = imported(logs, tmp_path / "runs")
    assert records["a/b/trial"].config == {"bias": True, "layers": 3.0, "lr": 0.1, "opt": "adam"}
    assert records["a/b/trial"].metrics == {"hparam/acc": 0.5}
    assert records["a/b/trial"].parent_id == records["a/b"].run_id
    assert records["a/b/trial"].losses == {}
    assert records["a/b"].config == {}


def test_texts_are_notes_or_a_file(logs, tmp_path):
    """A short one that its tag has once is a note; as soon as there are others, a file has all of them."""
    with SummaryWriter(str(logs / "noted")) as writer:
        writer.add_text("args", "lr=0.1", 0)
    with SummaryWriter(str(logs / "sampled")) as writer:
        writer.add_text("args", "lr=0.1", 0)
        for step in range(2):
            writer.add_text("sample", f"Once upon {step}", step)
    records = imported(logs, tmp_path / "runs")
    assert records["noted"].notes == "args: lr=0.1"
    assert records["noted"].artifacts == []
    assert records["sampled"].notes == "args: lr=0.1"
    (entry,) = records["sampled"].artifacts
    lines = [orjson.loads(line) for line in (Path(records["sampled"].folder) / entry.path).read_bytes().splitlines()]
    assert [(line["tag"], line["step"], line["text"]) for line in lines] == [
        ("args", 0, "lr=0.1"),
        ("sample", 0, "Once upon 0"),
        ("sample", 1, "Once upon 1"),
    ]


def test_what_is_left_out_is_counted(logs, tmp_path):
    """Images and histograms, in the run's losses and in the report; a folder with nothing else is no run."""
    with SummaryWriter(str(logs / "a" / "b"), filename_suffix=".media") as writer:
        for step in range(2):
            writer.add_image("digit", np.zeros((3, 4, 4), dtype=np.uint8), step)
        writer.add_histogram("weights", np.arange(10.0), 0)
    with SummaryWriter(str(logs / "pictures")) as writer:
        writer.add_image("digit", np.zeros((3, 4, 4), dtype=np.uint8), 0)
    done = call("import", logs, "--into", tmp_path / "runs")
    assert done.stdout.splitlines() == [
        "1 run imported",
        "left out: 1 folders without scalars, texts or hyperparameters, 1 histograms, 2 images, 1 unknown statuses",
    ]
    (record,) = open_store(tmp_path / "runs").runs()
    assert record.losses == {"images": 2, "histograms": 1, "unknown statuses": 1}


def test_a_second_import_adds_what_came_since(logs, tmp_path):
    """The same folder is the same run, wherever it lies; more points are added, each once."""
    (first,) = imported(logs, tmp_path / "runs").values()
    logs.rename(tmp_path / "moved")
    folder = tmp_path / "moved" / "a" / "b"
    assert "1 already there" in call("import", tmp_path / "moved", "--into", tmp_path / "runs").stdout
    write(folder, ".2", ("train/loss", 0.125, 40, 1_700_000_010.0))
    assert "1 brought up to date" in call("import", tmp_path / "moved", "--into", tmp_path / "runs").stdout
    (record,) = open_store(tmp_path / "runs").runs()
    assert record.run_id == first.run_id
    assert [point.step for point in record.metric_history] == [0, 10, 20, 30, 40]
    assert record.duration_s == 9.5
    assert record.losses == {"unknown statuses": 1}
    assert "1 already there" in call("import", tmp_path / "moved", "--into", tmp_path / "runs").stdout


def test_of_a_damaged_file_what_stands_before_the_damage_is_read(logs, tmp_path):
    """A torn end is counted; a file without any event is said, passed over, and the exit code says it."""
    (path,) = (logs / "a" / "b").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    (logs / "broken").mkdir()
    (logs / "broken" / "events.out.tfevents.1700000000.node").write_bytes(b"no event" * 10)
    done = call("import", logs, "--into", tmp_path / "runs")
    assert done.exit_code == 2
    assert f"{logs / 'broken'}: no event of its files can be read" in done.stderr
    (record,) = open_store(tmp_path / "runs").runs()
    assert [point.step for point in record.metric_history] == [0, 10, 20]
    assert record.losses == {"damaged event files": 1, "unknown statuses": 1}


def test_a_file_that_nothing_was_written_to_is_no_damage(logs, tmp_path):
    """A training that ended before its first step leaves one; there is no run in it."""
    (logs / "died").mkdir()
    (logs / "died" / "events.out.tfevents.1700000000.node").touch()
    done = call("import", logs, "--into", tmp_path / "runs")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "1 folders without scalars, texts or hyperparameters" in done.stdout


def test_a_scalar_that_is_none_costs_itself_alone(tmp_path):
    """A vector, or a text, where the scalars' plugin says that there is one number: counted, and the others come."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.scalar import metadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(tmp_path / "logs"))
    kind = metadata.create_summary_metadata(display_name="", description="")
    for tag, told in (("good", np.float32(1)), ("vector", np.arange(3.0)), ("word", b"x"), ("none", np.zeros(0))):
        entry = Summary.Value(tag=tag, tensor=make_tensor_proto(told), metadata=kind)
        writer.add_event(Event(wall_time=1e9, step=1, summary=Summary(value=[entry])))
    writer.close()
    (record,) = imported(tmp_path / "logs", tmp_path / "runs").values()
    assert record.metrics == {"good": 1.0}
    assert record.losses == {"not_a_number": 3, "unknown statuses": 1}


def test_a_file_alone_may_be_named(logs, tmp_path):
    """One event file is a run of its folder's name."""
    (path,) = (logs / "a" / "b").iterdir()
    assert list(imported(path, tmp_path / "runs")) == ["b"]


def test_without_tensorboard_the_extra_is_named(logs, tmp_path, monkeypatch):
    """Its reader is used, so it has to be there."""
    for name in ("tensorboard.backend.event_processing", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    refused = call("import", logs, "--into", tmp_path / "runs")
    assert (refused.exit_code, 'pip install "runcard[tensorboard]"' in refused.stderr) == (2, True)
