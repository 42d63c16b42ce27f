"""`runcard import` of MLflow's runs: its folder, its database and its server, all written by MLflow itself."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from command_line import call, read
from mlflow_server import Server

from runcard import open_store, run
from runcard.importers.mlflow import read as read_param

WRITE = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow, numpy
from mlflow.tracking import MlflowClient

for uri in sys.argv[1:]:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("cats and dogs")
    name = "it's a \\"long\\" name: " + "word " * 20 + "end"
    with mlflow.start_run(run_name=name, description="first line\\nsecond line") as parent:
        mlflow.log_params({"lr": 0.1, "n": 16, "flag": True, "none": None, "opt": "adam"})
        mlflow.log_params({"model/depth": 3, "e": "1e-4"})
        client = MlflowClient()
        for step in range(4):
            client.log_metric(parent.info.run_id, "train/loss", 1 / (step + 1), 1_700_000_000_000 + step, 10 * step)
        mlflow.log_metrics({"nan": float("nan"), "system/cpu": 5.0})
        mlflow.set_tags({"stage": "dev", "api_key": "sk-" + "a1B2" * 10, "mlflow.source.git.commit": "0123456789" * 4})
        mlflow.log_text("hello", "plots/roc.txt")
        data = mlflow.data.from_numpy(numpy.zeros((2, 2)), source="http://x/y.csv", name="pixels")
        mlflow.log_input(data, context="train")
        with mlflow.start_run(nested=True, run_name="child"):
            mlflow.log_metric("a", 1)
    try:
        with mlflow.start_run(run_name="failed"):
            raise ValueError("no")
    except ValueError:
        pass
    experiment = parent.info.experiment_id
    client.create_run(experiment, run_name="running", start_time=1_600_000_000_000)
    client.set_terminated(client.create_run(experiment, run_name="killed").info.run_id, "KILLED")
    client.delete_run(client.create_run(experiment, run_name="deleted").info.run_id)
"""
NAME = 'it\'s a "long" name: ' + "word " * 20 + "end"


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A folder with ``mlruns`` and with the database of a server, the same runs in both; and the server's address."""
    folder = tmp_path_factory.mktemp("mlflow")
    server = Server(folder)
    (folder / "mlartifacts").symlink_to("artifacts")  # where a server keeps them that is told nothing else
    settings = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environ = {**os.environ, **settings, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    command = [sys.executable, "-P", "-c", WRITE, f"file://{folder}/mlruns", server.address]
    try:
        subprocess.run(command, env=environ, check=True)
        yield folder, server.address
    finally:
        server.stop()


def imported(source, into, *options):
    """The runs of a source by name, after an import into a store that is then there."""
    done = call("import", source, "--into", into, *options)
    assert done.exit_code == 0, done.stderr
    return {record.name: record for record in open_store(into).runs()}


@pytest.fixture(scope="session", params=["files", "database", "server"])
def came(request, written, tmp_path_factory):
    """The records that came of each of the three, and the store."""
    folder, address = written
    into = tmp_path_factory.mktemp("came") / "runs"
    if request.param == "server":  # in a process of its own, for MLflow's client warns of much
        command = [sys.executable, "-m", "runcard", "import", f"mlflow:{address}", "--into", str(into)]
        subprocess.run(command, check=True, capture_output=True)
        return {record.name: record for record in open_store(into).runs()}, open_store(into)
    source = folder / ("mlruns" if request.param == "files" else "mlflow.db")
    return imported(source, into), open_store(into)


def test_params_are_the_config(came):
    """What Python prints exactly so for a number, a boolean or None is read as that; any other text stays."""
    records, _ = came
    expected = {"lr": 0.1, "n": 16, "flag": True, "none": None, "opt": "adam", "model/depth": 3, "e": "1e-4"}
    assert records[NAME].config == expected
    assert type(records[NAME].config["n"]) is int


def test_metrics_come_with_all_points_steps_and_times(came):
    """The history is what was logged, the last value the metric; NaN is NaN."""
    records, store = came
    points = store.history(records[NAME].run_id, "train/loss")
    assert [tuple(point) for point in points] == [
        ("train/loss", 10 * step, 1 / (step + 1), (1_700_000_000_000 + step) / 1000) for step in range(4)
    ]
    assert records[NAME].metrics["train/loss"] == 0.25
    assert records[NAME].metrics["nan"] != records[NAME].metrics["nan"]


def test_samples_of_the_machine_are_no_metrics(came):
    """What MLflow names system/… goes where ours goes."""
    records, _ = came
    assert "system/cpu" not in records[NAME].metrics
    assert records[NAME].resources["system"]["system/cpu"]["last"] == 5.0


def test_who_what_and_why_come_along(came):
    """Experiment, tags, notes, user, commit and the origin are in the record."""
    records, _ = came
    record = records[NAME]
    assert record.experiment == "cats and dogs"
    assert "stage=dev" in record.tags
    assert record.notes == "first line\nsecond line"
    assert record.user
    assert record.environment.git.commit == "0123456789" * 4
    assert record.environment.git.incomplete is True
    assert record.environment.imported.kind == "mlflow"
    assert record.environment.imported.tags["stage"] == "dev"
    assert set(record.environment) == {"git", "imported"}


def test_a_secret_in_a_tag_is_taken_out(came):
    """The redactor sees what comes from elsewhere, too."""
    records, _ = came
    folder = Path(records[NAME].folder)
    assert not [path for path in folder.rglob("*") if path.is_file() and b"a1B2a1B2" in path.read_bytes()]
    assert records[NAME].losses["redacted"] >= 1


def test_statuses_are_those_of_mlflow(came):
    """Finished, failed and killed; a run without an end that has been silent for long has crashed."""
    records, _ = came
    told = {name: str(record.status) for name, record in records.items()}
    assert told == {NAME: "finished", "child": "finished", "failed": "failed", "killed": "killed", "running": "crashed"}
    assert records["child"].started_at >= records[NAME].started_at
    assert records["child"].duration_s is not None


def test_a_child_is_its_parents(came):
    """The parent's id is the one that the parent has here."""
    records, _ = came
    assert records["child"].parent_id == records[NAME].run_id


def test_artifacts_are_copied_with_their_hash(came):
    """The file lies in the run's folder."""
    records, _ = came
    (entry,) = records[NAME].artifacts
    assert (entry.name, entry.bytes) == ("plots/roc.txt", 5)
    assert (Path(records[NAME].folder) / entry.path).read_text() == "hello"
    assert entry.sha256.startswith("2cf24dba5fb0")


def test_a_dataset_is_an_input(came):
    """Its address, name, digest and context; there is no hash, and it does not say that there is."""
    records, _ = came
    (entry,) = records[NAME].inputs
    assert (entry.path, entry.name, entry.context, entry.hashed) == ("http://x/y.csv", "pixels", "train", False)
    assert entry.sha256 is None


def test_the_listing_the_ranking_and_the_leaderboard_have_them(came):
    """What is there after an import is what is there after runs."""
    records, store = came
    assert read("--store", store.root, "ls", "--where", 'environment.imported.kind == "mlflow"')
    ranked = read("--store", store.root, "rank", "train/loss", "--direction", "minimize")
    assert ranked[0]["run_id"] == records[NAME].run_id
    rows = (store.root / "leaderboard.csv").read_text().splitlines()
    assert len(rows) == 1 + 5
    assert (Path(records[NAME].folder) / "card.md").exists()


def test_the_same_run_is_the_same_from_wherever_it_comes(written, tmp_path):
    """The database of a server, and the folder that it was copied to, give one id each."""
    folder, _ = written
    first = imported(folder / "mlflow.db", tmp_path / "runs")
    shutil.copy(folder / "mlflow.db", tmp_path / "elsewhere.db")
    done = call("import", tmp_path / "elsewhere.db", "--into", tmp_path / "runs")
    assert done.stdout.splitlines()[0] == "0 runs imported, 5 already there, 1 passed over (deleted)"
    assert len(open_store(tmp_path / "runs").runs()) == len(first)


def test_deleted_runs_come_when_they_are_asked_for(written, tmp_path):
    """They are counted, and imported with --deleted."""
    folder, _ = written
    assert "1 passed over (deleted)" in call("import", folder / "mlruns", "--into", tmp_path / "runs").stdout
    assert "1 run imported" in call("import", folder / "mlruns", "--into", tmp_path / "runs", "--deleted").stdout
    assert "deleted" in {record.name for record in open_store(tmp_path / "runs").runs()}


def test_a_folder_that_was_moved_keeps_its_artifacts(written, tmp_path):
    """The files beside a run are its files, wherever MLflow thinks that they are."""
    folder, _ = written
    shutil.copytree(folder / "mlruns", tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / ".trash", ignore_errors=True)
    records = imported(tmp_path / "moved", tmp_path / "runs")
    assert str(tmp_path) in records[NAME].folder
    assert (Path(records[NAME].folder) / "artifacts" / "plots" / "roc.txt").exists()


def test_one_experiment_or_one_run_may_be_named(written, tmp_path):
    """A folder inside ``mlruns`` is enough."""
    folder, _ = written
    meta = next(path for path in (folder / "mlruns").glob("*/*/meta.yaml") if "run_name: failed" in path.read_text())
    assert list(imported(meta.parent, tmp_path / "one")) == ["failed"]
    assert len(imported(meta.parent.parent, tmp_path / "all")) == 5


def test_a_damaged_run_is_said_and_passed_over(written, tmp_path):
    """The others are imported, the exit code says it; a damaged line costs itself alone and is counted."""
    folder, _ = written
    shutil.copytree(folder / "mlruns", tmp_path / "mlruns")
    metas = {path: path.read_text() for path in (tmp_path / "mlruns").glob("*/*/meta.yaml")}
    bad = next(path for path, text in metas.items() if "run_name: failed" in text)
    bad.write_bytes(b"\0\xff{")
    torn = next(path.parent for path, text in metas.items() if "long" in text) / "metrics" / "train" / "loss"
    torn.write_text(torn.read_text() + "17000")
    done = call("import", tmp_path / "mlruns", "--into", tmp_path / "runs")
    assert done.exit_code == 2
    assert str(bad.parent) in done.stderr
    assert "1 run could not be imported" in done.stderr
    assert done.stdout.splitlines() == [
        "4 runs imported, 1 passed over (deleted)",
        "left out: 1 damaged lines of metrics",
    ]
    record = next(record for record in open_store(tmp_path / "runs").runs() if record.name == NAME)
    assert record.losses["damaged lines of metrics"] == 1
    assert len(record.metric_history) >= 4


def test_a_run_that_goes_on_is_brought_up_to_date(written, tmp_path):
    """What came after the first import is added by the next, the end too; judgements made here stay."""
    folder, _ = written
    shutil.copytree(folder / "mlruns", tmp_path / "mlruns")
    (running,) = (p.parent for p in (tmp_path / "mlruns").glob("*/*/meta.yaml") if "name: running" in p.read_text())
    record = imported(running, tmp_path / "runs")["running"]
    assert "1 already there" in call("import", running, "--into", tmp_path / "runs").stdout
    open_store(tmp_path / "runs").keep(record.run_id, "looks good")
    (running / "metrics" / "loss").write_text("1600000001000 0.5 1\n1600000002000 nan 2\n")
    (running / "params" / "late").write_text("7")
    assert "1 brought up to date" in call("import", running, "--into", tmp_path / "runs").stdout
    (running / "metrics" / "loss").write_text("1600000001000 0.5 1\n1600000002000 nan 2\n1600000003000 0.25 3\n")
    meta = running / "meta.yaml"
    meta.write_text(
        meta.read_text().replace("end_time: null", "end_time: 1600000004000").replace("status: 1", "status: 3")
    )
    assert "1 brought up to date" in call("import", running, "--into", tmp_path / "runs").stdout
    after = open_store(tmp_path / "runs").get(record.run_id)
    assert [point.step for point in after.metric_history] == [1, 2, 3]
    assert (str(after.status), after.duration_s, after.decision) == ("finished", 4.0, "keep")
    assert after.config == {"late": 7}
    assert after.losses == {}
    assert "1 already there" in call("import", running, "--into", tmp_path / "runs").stdout
    assert record.run_id in (tmp_path / "runs" / "leaderboard.csv").read_text()


def test_a_run_that_runcard_delivered_to_mlflow_keeps_its_id(store, tmp_path):
    """It is known here, and no second one."""
    with run("mine", tags=["a tag"], sinks=["file:"]) as r:
        r.log(loss=1)
    home = tmp_path / "mlruns" / "0" / ("f" * 32)
    (home / "tags").mkdir(parents=True)
    (home.parent / "meta.yaml").write_text("experiment_id: '0'\nname: Default\n")
    (home / "meta.yaml").write_text(
        "run_id: " + "f" * 32 + "\nstart_time: 1600000000000\nend_time: 1600000001000\nstatus: 5\n"
    )
    for name, text in {"runcard.run_id": r.run_id, "runcard.tags": '["a tag"]', "runcard.status": "crashed"}.items():
        (home / "tags" / name).write_text(text)
    assert "1 already there" in call("import", tmp_path / "mlruns", "--into", store.root).stdout
    other = imported(tmp_path / "mlruns", tmp_path / "other")
    (record,) = other.values()
    assert (record.run_id, record.tags, str(record.status)) == (r.run_id, ["a tag"], "crashed")


def test_links_among_artifacts_are_not_followed(written, tmp_path):
    """A link in somebody's folder leads to no file of this machine."""
    folder, _ = written
    shutil.copytree(folder / "mlruns", tmp_path / "mlruns")
    (tmp_path / "secret").write_text("hunter2")
    home = next((tmp_path / "mlruns").glob("*/*/artifacts/plots"))
    (home / "passwd").symlink_to(tmp_path / "secret")
    done = call("import", tmp_path / "mlruns", "--into", tmp_path / "runs")
    assert "1 links among the artifacts" in done.stdout
    assert list((tmp_path / "runs").rglob("passwd")) == []


def test_what_is_no_mlflow_database_is_said(tmp_path):
    """A database of another kind, and the folder that a database leaves its artifacts in, are refused with a hint."""
    import sqlite3

    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE x (y)")
    refused = call("import", tmp_path / "other.db", "--into", tmp_path / "runs")
    assert (refused.exit_code, "is no database of MLflow's" in refused.stderr) == (2, True)
    (tmp_path / "mlruns" / "1" / "a" / "artifacts").mkdir(parents=True)
    (tmp_path / "mlflow.db").touch()
    refused = call("import", tmp_path / "mlruns", "--into", tmp_path / "runs")
    assert (refused.exit_code, f"the runs are in {tmp_path}/mlflow.db" in refused.stderr) == (2, True)


def test_without_mlflow_its_folder_is_read_and_a_server_is_told_what_to_install(written, tmp_path, monkeypatch):
    """The folder and the database need nothing; a server names the extra, and no password of the URL."""
    folder, _ = written
    for name in ("mlflow", "mlflow.entities", "mlflow.exceptions", "mlflow.tracking", "yaml", "sqlalchemy"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(imported(folder / "mlruns", tmp_path / "a")) == len(imported(folder / "mlflow.db", tmp_path / "b"))
    refused = call("import", "mlflow:http://ana:hunter2@localhost:5000", "--into", tmp_path / "c")
    assert refused.exit_code == 2
    assert 'pip install "runcard[mlflow]"' in refused.stderr
    assert "hunter2" not in refused.stderr


EACH = """
import sys
from runcard.__main__ import main
into, *urls = sys.argv[1:]
for url in urls:
    try:
        sys.argv = ["runcard", "import", url, "--into", into]
        main()
    except SystemExit as ended:
        print(ended.code)
"""


def test_a_server_that_does_not_answer_is_said_without_its_password(tmp_path):
    """A server or a database, in one line with what it said, and at once; nothing is imported."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"ana:hunter2@127.0.0.1:{closed.getsockname()[1]}/runs"
        urls = [f"mlflow:{scheme}://{address}" for scheme in ("http", "postgresql+psycopg")]
        command = [sys.executable, "-c", EACH, str(tmp_path / "runs"), *urls]
        environ = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "2\n2\n"
    lines = done.stderr.splitlines()
    assert ["cannot be read" in line for line in lines] == [True, True], lines
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [("-3", -3), ("0.1", 0.1), ("1e-05", 1e-05), ("1e+22", 1e22), ("False", False), ("None", None)]
    + [(text, text) for text in ("1e-4", "016", "+1", "1_000", "nan", "inf", "true", "", "0x10", "[1, 2]", "1" * 400)],
)
def test_a_param_is_read_as_what_python_prints_so(text, value):
    """Exactly that text, or it stays a text."""
    assert json.dumps(read_param(text)) == json.dumps(value)
