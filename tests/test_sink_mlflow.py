"""What a run becomes in MLflow, on a real server with SQLite."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest
from mlflow_server import CONFIG, train
from records import record

from runcard import configure, run
from runcard.record import History, Point, Status
from runcard.sinks import _mlflow_mapping, mlflow

pytestmark = pytest.mark.usefixtures("patient")


def test_a_run_is_in_mlflow_as_its_users_expect(mlflow_server, mlflow_url, name, store, tmp_path):
    """Name, params, metrics with steps and times, tags, status, git, notes, inputs and artifacts are in place."""
    (tmp_path / "data.csv").write_text("1,2")
    options = {"tags": ["quick", "mlflow.runName"], "notes": "a *note*", "inputs": [tmp_path / "data.csv"]}
    r = train(name, mlflow_url, objective="loss", direction="minimize", **options)
    here = store.get(r.run_id)
    (seen,) = mlflow_server.runs(name)
    assert (seen.info["run_name"], seen.info["status"]) == ("train", "FINISHED")
    assert seen.info["start_time"] == int(here.started_at.timestamp() * 1000)
    assert seen.info["end_time"] == int(here.ended_at.timestamp() * 1000)
    prompt = seen.params.pop("prompt")
    assert seen.params == {
        "lr": "0.1",
        "model.layers": "[1, {'units': 2}]",
        "model.deep.x.y": "None",
        "model.deep.flag": "True",
        "nan": "nan",
        "big": str(2**70),
        "empty": "{}",
        "odd name_": "1",
        "late": "x",
    }
    assert len(prompt) == 6_000
    assert prompt.endswith("… [cut by runcard: 7000 characters, whole in the artifact runcard/config.json]")
    logged = [point for point in here.metric_history if point.name == "loss"]
    assert seen.history("loss") == [(point.step, point.value, int(point.time * 1000)) for point in logged]
    limit = sys.float_info.max  # as MLflow keeps infinities in a database
    assert [seen.history(key)[0][:2] for key in ("up", "down", "big", "acc_1")] == [
        (-7, limit),
        (-7, -limit),
        (-7, limit),
        (-7, 0.5),
    ]
    assert seen.history("odd")[0][1] == "NaN"
    tags = seen.tags
    assert (tags["quick"], tags["better"], tags["mlflow.runName"]) == ("true", "true", "train")
    assert json.loads(tags["runcard.tags"]) == ["quick", "mlflow.runName", "better"]
    git = here.environment.git
    branch = tags.get("mlflow.source.git.branch")  # none in a clone whose head is detached
    assert (tags["mlflow.source.git.commit"], branch) == (git.commit, git.branch)
    assert tags["mlflow.source.git.dirty"] == str(git.dirty).lower()
    assert (tags["mlflow.note.content"], tags["mlflow.user"]) == ("a *note*", here.user)
    assert (tags["runcard.run_id"], tags["runcard.is_best"], tags["runcard.status"]) == (r.run_id, "true", "finished")
    assert (tags["runcard.decision"], tags["runcard.decision_reason"]) == ("keep", "good")
    assert tags["runcard.cut"] == "prompt"
    assert json.loads(tags["runcard.names.metrics.000"]) == {"acc_1": "acc@1"}
    assert "mlflow.source.git.diff" not in tags
    (dataset,) = seen.inputs
    assert (dataset["name"], json.loads(dataset["source"])) == ("data.csv", {"uri": str(tmp_path / "data.csv")})
    artifacts = seen.artifacts()
    assert artifacts["plots/roc.txt"] == b"a curve"
    assert artifacts["empty.bin"] == b""
    assert json.loads(artifacts["runcard/config.json"])["prompt"] == CONFIG["prompt"]
    assert json.loads(artifacts["runcard/record.json"]) == json.loads(json.dumps(here.to_dict(history=False)))
    assert set(artifacts) == {
        "plots/roc.txt",
        "empty.bin",
        *(f"runcard/{each}" for each in ("card.md", "config.json", "record.json", "requirements.txt")),
    }


def test_a_filter_finds_runs_by_what_people_know(mlflow_server, mlflow_url, name):
    """search_runs works by params, metrics, tags, status, name and note."""
    train(name, mlflow_url, tags=["quick"])
    for clause in (
        "params.lr = '0.1'",
        "params.`model.deep.flag` = 'True'",
        "metrics.loss < 0.34",
        "tags.quick = 'true'",
        "attributes.status = 'FINISHED'",
        "attributes.run_name = 'train'",
        "tags.`runcard.decision` = 'keep'",
    ):
        assert len(mlflow_server.runs(name, clause)) == 1, clause
        assert mlflow_server.runs(name, f"{clause} and params.lr = '7'") == []


def test_how_a_run_ended(mlflow_server, mlflow_url, name):
    """A failure is FAILED with the exception's text; an interruption is KILLED."""
    for error in (ValueError("boom"), KeyboardInterrupt()):
        with pytest.raises(type(error)), run("r", experiment=name, sinks=["file:", mlflow_url]):
            raise error
    failed, killed = mlflow_server.runs(name)
    assert (failed.info["status"], killed.info["status"]) == ("FAILED", "KILLED")
    assert failed.tags["runcard.error"] == "ValueError: boom"
    assert b"boom" in failed.artifacts()["runcard/card.md"]


def test_children_hang_below_their_parent(mlflow_server, mlflow_url, name):
    """A nested run names its parent in MLflow's own tag, also in an experiment of another name."""
    configure(sinks=["file:", mlflow_url])
    with run("outer", experiment=name), run("fold"):
        pass
    (outer,), (fold,) = mlflow_server.runs(name), mlflow_server.runs(f"{name}/fold")
    assert fold.tags["mlflow.parentRunId"] == outer.info["run_id"]
    assert "mlflow.parentRunId" not in outer.tags


def test_all_runs_may_go_into_one_experiment(mlflow_server, mlflow_url, name):
    """`?experiment=` names one for all, children included, which is where MLflow shows them as a tree."""
    configure(sinks=["file:", f"{mlflow_url}?experiment={name}"])
    with run("outer"), run("fold"):
        pass
    assert [seen.info["run_name"] for seen in mlflow_server.runs(name)] == ["outer", "fold"]
    (fold,) = mlflow_server.runs(name, "attributes.run_name = 'fold'")
    assert fold.tags["runcard.experiment"].endswith("/fold")
    assert mlflow.open_sink(f"{mlflow_url}?experiment={name}&diff=1").url == f"{mlflow_url}?experiment={name}"


def test_an_experiment_may_be_renamed_in_mlflow(mlflow_server, mlflow_url, name, store):
    """A run that was there before is found under the new name."""
    r = train(name, mlflow_url)
    (seen,) = mlflow_server.runs(name)
    mlflow_server.ask("experiments/update", experiment_id=seen.info["experiment_id"], new_name=f"{name}-new")
    sink = mlflow.open_sink(mlflow_url)
    sink.start(store.get(r.run_id))
    sink.finish(store.get(r.run_id))
    assert [each.info["run_id"] for each in mlflow_server.runs(f"{name}-new")] == [seen.info["run_id"]]
    assert mlflow_server.runs(name) == []


def test_a_parent_of_another_process_is_found(mlflow_server, mlflow_url, name, store):
    """A sink that never saw the parent's start asks MLflow for it."""
    configure(sinks=["file:", mlflow_url])
    with run("outer", experiment=name) as outer:
        pass
    sink = mlflow.open_sink(mlflow_url)
    sink.finish(record(1, experiment=name, parent_id=outer.run_id))
    first, second = mlflow_server.runs(name, "attributes.run_name != ''")[::-1]
    found = {seen.tags["runcard.run_id"]: seen for seen in (first, second)}
    child = next(seen for run_id, seen in found.items() if run_id != outer.run_id)
    assert child.tags["mlflow.parentRunId"] == found[outer.run_id].info["run_id"]


def test_a_returned_metric_is_the_last_word(mlflow_server, mlflow_url, name):
    """What the end brings stands at the last step of its name, so that MLflow takes it for the value."""
    sink = mlflow.open_sink(mlflow_url)
    given = record(2, experiment=name, status=Status.RUNNING)
    sink.start(given)
    log = {"kind": "log", "t": 1_795_000_000.0, "writer": "journal"}
    sink.append(given.run_id, {**log, "n": 0, "step": 5, "metrics": {"loss": 0.5}})
    sink.append(given.run_id, {**log, "n": 1, "kind": "end", "t": 1_795_000_009.0, "metrics": {"loss": 0.9, "new": 1}})
    (seen,) = mlflow_server.runs(name)
    assert seen.metrics == {"loss": 0.9, "new": 1.0}
    assert seen.info["status"] == "RUNNING"


def test_more_than_one_call_can_hold(mlflow_server, mlflow_url, name):
    """Hundreds of params, tags and metrics at a time arrive in full."""
    config = {f"p{number}": number for number in range(250)}
    with run("r", experiment=name, config=config, tags=[f"t{n}" for n in range(150)], sinks=["file:", mlflow_url]) as r:
        r.log({f"m{number}": number for number in range(1_700)})
        r.log({f"m{number}": -number for number in range(1_700)})
    (seen,) = mlflow_server.runs(name)
    assert len(seen.params) == 250
    assert [f"t{n}" in seen.tags for n in range(150)] == [True] * 150
    assert len(seen.metrics) == 1_700
    assert [value for _, value, _ in seen.history("m1699")] == [1699.0, -1699.0]
    assert "runcard.refused" not in seen.tags


def test_a_record_without_a_journal_keeps_its_points(mlflow_server, mlflow_url, name):
    """A run that no disk took is kept as far as its record tells it; a second time changes nothing."""
    history = History([Point("loss", 0, 2.0, 1_795_000_000.0), Point("loss", 1, 1.0, 1_795_000_001.0)])
    given = record(3, experiment=name, metrics={"loss": 1.0}, metric_history=history)
    for _ in range(2):
        mlflow.open_sink(mlflow_url).finish(given)
    (seen,) = mlflow_server.runs(name)
    assert [(step, value) for step, value, _ in seen.history("loss")] == [(0, 2.0), (1, 1.0)]


def test_the_points_of_other_ranks_stay_at_home(mlflow_server, mlflow_url, name):
    """MLflow has one history a metric: that of rank 0."""
    sink = mlflow.open_sink(mlflow_url)
    given = record(4, experiment=name)
    sink.start(given)
    event = {"n": 0, "kind": "log", "t": 1_795_000_000.0, "step": 0, "metrics": {"loss": 1.0}}
    sink.extend(given.run_id, [{**event, "writer": "journal-rank1"}, {**event, "writer": "journal"}])
    assert len(mlflow_server.runs(name)[0].history("loss")) == 1


def test_samples_of_the_machine_are_system_metrics(mlflow_server, mlflow_url, name):
    """They stand at the second of the run in which they were taken, under the prefix that MLflow's own tab shows."""
    sink = mlflow.open_sink(mlflow_url)
    given = record(5, experiment=name)
    sink.start(given)
    moment = given.started_at.timestamp() + 12.5
    sink.extend(
        given.run_id, [{"n": 0, "writer": "journal", "kind": "system", "t": moment, "metrics": {"system/cpu": 0.5}}]
    )
    assert mlflow_server.runs(name)[0].history("system/cpu") == [(12, 0.5, int(moment * 1000))]


def test_changes_and_output_go_there_only_when_asked_for(mlflow_server, mlflow_url, name, tmp_path, capfd):
    """`?diff=1&output=1` adds the patch, the function's text and what the run printed."""
    folder = tmp_path / "runcards" / "20260101T000000-aaaaaaaa"
    folder.mkdir(parents=True)
    (folder / "diff.patch").write_text("+ secret plan\n")
    (folder / "output.log").write_text("printed\n")
    function = {"qualname": "train", "source": "def train(): return 'secret plan'", "source_sha256": "0" * 64}
    given = record(6, experiment=name, run_id=folder.name, folder=str(folder), function=function)
    mlflow.open_sink(mlflow_url).finish(given)
    artifacts = mlflow_server.runs(name)[0].artifacts()
    assert {"runcard/diff.patch", "runcard/output.log"}.isdisjoint(artifacts)
    assert not any(b"secret plan" in content for content in artifacts.values())
    assert json.loads(artifacts["runcard/record.json"])["function"]["source_sha256"] == "0" * 64
    mlflow.open_sink(f"{mlflow_url}?diff=1&output=1").finish(given)
    artifacts = mlflow_server.runs(name)[0].artifacts()
    assert (artifacts["runcard/diff.patch"], artifacts["runcard/output.log"]) == (b"+ secret plan\n", b"printed\n")
    assert json.loads(artifacts["runcard/record.json"])["function"] == function


def test_no_two_names_become_one():
    """Names that MLflow does not take are changed, told apart, and the same again for whoever goes on."""
    keys = _mlflow_mapping.Keys("metrics")
    names = ["acc@1", "acc#1", "acc_1", "a//b", "a/b", "../x", "/", ".", "n" * 300, "n" * 299 + "m", "λ", "a b:c.d-e"]
    found = [keys.of(name) for name in names]
    assert len(set(found)) == len(names)
    assert found[0] == "acc_1"
    assert found[-2:] == names[-2:]
    for key in found:
        assert re.fullmatch(r"[/\w.\- :]+", key), key
        assert os.path.normpath(key) == key
        assert len(key) <= 250
    again = _mlflow_mapping.Keys("metrics", found, keys.told())
    assert [again.of(name) for name in reversed(names)] == found[::-1]


def test_many_changed_names_are_told_in_several_tags():
    """Each tag is as long as MLflow takes it, and all together give the names back."""
    keys = _mlflow_mapping.Keys("params")
    names = [f"{'n' * 100}@{number}" for number in range(300)]
    found = [keys.of(name) for name in names]
    told = keys.told()
    assert len(told) > 1
    assert max(len(value) for value in told.values()) <= 5_000
    assert [_mlflow_mapping.Keys("params", found, told).of(name) for name in names] == found
