"""What all imports have in common: ids, the run's folder, repetition, choice, secrets, and what is said at the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from command_line import call, read
from hypothesis import given
from hypothesis import strategies as st

from runcard import configure, open_store
from runcard.errors import RuncardError, SettingError
from runcard.identity import is_run_id
from runcard.importers import Artifact, Aside, Damaged, Imported, Origin, import_runs, kind_of
from runcard.importers._mlflow_yaml import parse
from runcard.record import Point, Status

DOCS = Path(__file__).parents[1] / "docs"
BEGAN = 1_600_000_000.0


def a_run(key="one", **fields):
    """A run as a reader gives it."""
    points = [Point("loss", step, 1 / (step + 1), BEGAN + step) for step in range(3)]
    known = {"origin": Origin("mlflow", key, BEGAN), "source": "mlruns", "name": key, "experiment": "cats"}
    return Imported(**{**known, "points": points, "ended_at": BEGAN + 10, **fields})


@pytest.fixture
def came(monkeypatch, tmp_path):
    """A function that imports what is given as if a reader had found it; gives the report."""

    def bring(*found, into=tmp_path / "runs", **options):
        monkeypatch.setattr("runcard.importers.mlflow.runs", lambda _source: iter(found))
        return import_runs("mlflow:anywhere", into, **options)

    return bring


@pytest.fixture
def runs(tmp_path):
    """The store that `came` imports into."""
    return open_store(tmp_path / "runs")


def folder_of(root, number=3):
    """A folder of MLflow's with some runs, written by hand."""
    home = root / "mlruns" / "7"
    for index in range(number):
        folder = home / f"{index:032x}"
        (folder / "metrics").mkdir(parents=True)
        (folder / "params").mkdir()
        times = f"start_time: {int(BEGAN) + index}000\nend_time: {int(BEGAN) + index + 9}000\n"
        (folder / "meta.yaml").write_text(f"run_name: run {index}\n{times}status: 3\nlifecycle_stage: active\n")
        (folder / "metrics" / "loss").write_text(f"{int(BEGAN)}500 {index / 8} 1\n")
        (folder / "params" / "lr").write_text(f"{index / 4}")
    (home / "meta.yaml").write_text("experiment_id: '7'\nname: dogs\n")
    return root / "mlruns"


@given(st.sampled_from(["mlflow", "wandb"]), st.text(), st.floats())
def test_an_id_follows_from_the_origin_alone(kind, key, started):
    """Each time the same, valid whatever the key and the time are; another kind with that key is another run."""
    origin = Origin(kind, key, started)
    assert is_run_id(origin.run_id)
    assert origin.run_id == Origin(kind, key, started).run_id
    assert origin.run_id != Origin("tensorboard", key, started).run_id


def test_what_was_imported_is_a_run_like_any_other(came, runs):
    """Journal and record hold to their schemas; the views are there; the original times and values come back."""
    report = came(
        a_run(
            config={"lr": 0.1, "model": {"depth": 3}},
            points=[*a_run().points, Point("big", None, 2**70, BEGAN + 5), Point("nan", 1, float("nan"), BEGAN + 5)],
            metrics={"loss": 0.25},
            result={"best": "third"},
            status=Status.FAILED,
            error={"type": "ValueError", "message": "no"},
            exit_code=3,
            tags=["a", "b=c"],
            notes="said",
            user="ana",
            host="node",
            artifacts=[Artifact("m.txt", content=b"hello"), Artifact("far.bin", uri="s3://bucket/far.bin", bytes=7)],
            inputs=[{"path": "http://x/y.csv", "sha256": None, "hashed": False}],
            original={"id": "one", "status": "FAILED"},
            environment={"packages": {"numpy": "2.1.0"}},
            left_out={"images": 3},
        )
    )
    assert report.left_out == {"images": 3}
    (record,) = runs.runs()
    assert (record.metrics, record.config.model.depth) == ({"loss": 0.25, "big": 2**70, "nan": record.metrics.nan}, 3)
    assert (record.started_at.timestamp(), record.duration_s) == (BEGAN, 10.0)
    assert (str(record.status), record.error.type, record.exit_code) == ("failed", "ValueError", 3)
    assert (record.tags, record.notes, record.user, record.host) == (["a", "b=c"], "said", "ana", "node")
    assert (record.losses, record.result) == ({"images": 3}, {"best": "third"})
    assert [(entry.name, entry.get("uri")) for entry in record.artifacts] == [
        ("m.txt", None),
        ("far.bin", "s3://bucket/far.bin"),
    ]
    folder = Path(record.folder)
    names = {"journal.jsonl", "config.json", "metrics.json", "metric_history.csv", "record.json", "card.md"}
    assert set(os.listdir(folder)) == names | {"environment.json", "requirements.txt", "artifacts"}
    assert (folder / "requirements.txt").read_text() == "numpy==2.1.0\n"
    assert "imported from MLflow: one in mlruns" in (folder / "card.md").read_text()
    assert "rerun" not in (folder / "card.md").read_text()  # of what has no program here
    for name, lines in (
        ("record", [(folder / "record.json").read_text()]),
        ("event", (folder / "journal.jsonl").read_text().splitlines()),
    ):
        schema = json.loads((DOCS / "schema" / f"{name}.schema.json").read_text("utf-8"))
        for line in lines:
            jsonschema.validate(json.loads(line), schema)
    assert json.loads((folder / "record.json").read_text()) == json.loads(json.dumps(record.to_dict()))
    assert read("--store", runs.root, "show", record.run_id)["environment"]["imported"]["id"] == "one"


def test_points_of_one_step_and_time_are_one_event(came, runs):
    """And two values of one metric in them are two."""
    same = [Point(name, 1, value, BEGAN) for name, value in (("a", 1.0), ("b", 2.0), ("a", 3.0))]
    came(a_run(points=same))
    (record,) = runs.runs()
    lines = (Path(record.folder) / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["metrics"] for line in lines if '"log"' in line] == [{"a": 1.0, "b": 2.0}, {"a": 3.0}]
    assert [point[:3] for point in record.metric_history] == [("a", 1, 1.0), ("b", 1, 2.0), ("a", 1, 3.0)]


def test_a_second_import_makes_nothing_twice(came, runs):
    """The ids are known, nothing is written, and a judgement made meanwhile stays."""
    first = came(a_run("one"), a_run("two"))
    runs.keep(first.imported[0], "good")
    before = {path: path.read_bytes() for path in runs.root.rglob("*.jsonl")}
    again = came(a_run("one"), a_run("two"), a_run("three"))
    assert (len(again.imported), again.there) == (1, 2)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(runs.runs()) == 3
    assert len((runs.root / "leaderboard.csv").read_text().splitlines()) == 1 + 3


def test_one_that_was_broken_off_goes_on(came, runs):
    """A run that is half there is no run; the next import makes it whole."""

    def stopped():
        yield Point("loss", 0, 1.0, BEGAN)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        came(a_run("one"), a_run("two", points=stopped()))
    assert [record.name for record in runs.runs()] == ["one"]
    left = runs.root / f".{a_run('two').origin.run_id}.importing"  # as a kill leaves it
    left.mkdir()
    (left / "journal.jsonl").write_text("half")
    assert len(came(a_run("one"), a_run("two")).imported) == 1
    assert [len(record.metric_history) for record in runs.runs()] == [3, 3]
    assert not left.exists()


def test_one_that_ended_before_its_last_step_has_one_row(came, runs, monkeypatch):
    """Stopped between the leaderboard's row and the folder's name, the next import puts the row in its place."""
    replace = os.replace

    def stopped(source, target):
        if str(source).endswith(".importing"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        came(a_run())
    monkeypatch.setattr(os, "replace", replace)
    assert runs.runs() == []
    assert len(came(a_run()).imported) == 1
    assert len((runs.root / "leaderboard.csv").read_text().splitlines()) == 1 + 1


def test_a_run_that_another_import_made_meanwhile_is_there(came, runs, monkeypatch):
    """It is looked for again once it is our turn."""
    from runcard.importers import _writing

    def another_was_faster(path):
        (path.parent / a_run().origin.run_id).mkdir()
        return locked(path)

    locked = _writing.locked
    monkeypatch.setattr(_writing, "locked", another_was_faster)
    report = came(a_run())
    assert (report.there, report.problems) == (1, [])


def test_a_run_without_an_end_lives_by_its_last_word(came, runs):
    """Long silent it has crashed, at once; just heard of it runs; a last word to come makes it no younger than now."""
    now = time.time()
    for key, at in (("old", BEGAN), ("new", now - 60), ("odd", now + 1e6)):
        came(a_run(key, status=None, ended_at=None, points=[Point("loss", 1, 1.0, at)]))
    told = {record.name: str(record.status) for record in runs.runs()}
    assert told == {"old": "crashed", "new": "running", "odd": "running"}
    assert max(path.stat().st_mtime for path in runs.root.glob("*/journal.jsonl")) <= time.time()


def test_a_run_that_goes_on_gets_what_is_new_and_nothing_else(came, runs):
    """Points, samples of the machine and what was left out are there once, however often it is imported meanwhile."""
    now = time.time()
    points = [Point(name, step, 0.5, now + step) for step in range(3) for name in ("loss", "system/cpu")]
    points += [Point("free", None, 1.0, now), Point("bad", float("nan"), 1.0, float("nan"))]
    goes_on = {"status": None, "ended_at": None, "left_out": {"images": 3}}
    came(a_run(points=points, **goes_on))
    assert came(a_run(points=points, **goes_on)).there == 1
    more = [*points, Point("loss", 3, 0.25, now + 3), Point("system/cpu", 3, 0.75, now + 3)]
    assert len(came(a_run(points=more, **{**goes_on, "left_out": {"images": 4}})).brought_up_to_date) == 1
    assert came(a_run(points=more, **{**goes_on, "left_out": {"images": 4}})).there == 1
    assert len(came(a_run(points=more, left_out={"images": 5, "tables": 1})).brought_up_to_date) == 1
    (record,) = runs.runs()
    assert [point.step for point in record.metric_history if point.name == "loss"] == [0, 1, 2, 3]
    assert [len([point for point in record.metric_history if point.name == name]) for name in ("free", "bad")] == [1, 1]
    assert record.resources.system["system/cpu"]["count"] == 4
    assert record.losses == {"images": 5, "tables": 1, "bad_step": 1}


def test_packages_keep_their_versions_whatever_they_are_called(came, runs):
    """`google-auth` is no secret; a credential in what stands there for a version is."""
    token = "ghp_" + "a1B2c3D4e5F6" * 3
    came(a_run(environment={"packages": {"google-auth": "2.63.0", "mine": f"git+https://ana:{token}@x.org/mine"}}))
    (record,) = runs.runs()
    assert record.environment.packages["google-auth"] == "2.63.0"
    assert token not in record.environment.packages["mine"]
    assert record.losses == {"redacted": 1}


def test_two_imports_at_once_make_each_run_once(tmp_path):
    """Whoever comes second finds it there."""
    source = folder_of(tmp_path, 12)
    command = [sys.executable, "-m", "runcard", "import", str(source), "--into", str(tmp_path / "runs"), "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    told = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sum(len(each["imported"]) for each in told) == 12
    assert [each["problems"] for each in told] == [[], []]
    assert len(open_store(tmp_path / "runs").runs()) == 12
    assert len((tmp_path / "runs" / "leaderboard.csv").read_text().splitlines()) == 1 + 12


def test_a_run_that_cannot_be_read_keeps_no_other_back(came, runs):
    """What its reader says, and what goes wrong on the way, is a problem each; nothing of it is left."""

    def broken():
        yield Point("loss", 0, 1.0, BEGAN)
        raise OSError("the disk has a hole")

    report = came(a_run("one", points=broken()), Damaged("two", "no meta.yaml"), a_run("three"), Aside("traces", 4))
    assert [record.name for record in runs.runs()] == ["three"]
    assert report.problems == ["one (one): OSError: the disk has a hole", "two: no meta.yaml"]
    assert report.left_out == {"traces": 4}
    assert [name for name in os.listdir(runs.root) if name.endswith(".importing")] == []


def test_secrets_are_taken_out(came, runs):
    """From the config by name, from tags, notes, addresses and what came with it by shape; `redact_keep` holds."""
    token = "ghp_" + "a1B2c3D4e5F6" * 3
    configure(redact_keep=["not_api_key"])
    came(
        a_run(
            config={"api_key": token, "max_tokens": 5, "not_api_key": "kept-value"},
            tags=[f"url=https://ana:{token}@x.org"],
            notes=f"with {token}",
            original={"tags": {"password": token}},
            artifacts=[Artifact("a", uri=f"https://ana:{token}@x.org/a")],
            error={"type": "E", "message": token},
            status=Status.FAILED,
        )
    )
    (record,) = runs.runs()
    assert not [path for path in runs.root.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert record.config == {"api_key": "[redacted]", "max_tokens": 5, "not_api_key": "kept-value"}
    assert record.losses["redacted"] >= 5


def test_foreign_values_do_no_harm(came, runs):
    """Names that lead out of the folder, times that no calendar has, steps and values that are no numbers."""
    odd = [Point("a", float("nan"), 1.0, 1e300), Point("", 1, 1.0, BEGAN), Point("b", 2, "text", -1.0)]
    away = [Artifact(name, content=b"x") for name in ("../out", "/etc/out", "a\0b")]
    report = came(a_run(points=odd, artifacts=away, ended_at=1e300, config={"deep": [[[[[[[[[[1]]]]]]]]]]}))
    assert report.problems == []
    (record,) = runs.runs()
    assert [tuple(point) for point in record.metric_history] == [("a", None, 1.0, BEGAN)]
    assert record.artifacts == []
    expected = {"bad_step": 1, "bad_name": 1, "not_a_number": 1, "artifacts_refused": 3, "cut": 1}
    assert record.losses == expected
    assert list(runs.root.parent.rglob("out")) == []


def test_large_artifacts_are_referred_to(came, runs, tmp_path):
    """Beyond the limit the record has the address and the size; 0 copies none, and none copies all."""
    (tmp_path / "model.bin").write_bytes(b"x" * 1000)
    for limit, copied in ((999, False), (1000, True), (0, False), (None, True)):
        files = [Artifact("model.bin", path=tmp_path / "model.bin")]
        call_it = {"wishes": wishes(copy_limit=limit), "into": tmp_path / f"limit-{limit}"}
        came(a_run(artifacts=files), **call_it)
        (record,) = open_store(call_it["into"]).runs()
        (entry,) = record.artifacts
        assert entry.bytes == 1000
        assert ("path" in entry) is copied
        if not copied:
            assert entry.uri == (tmp_path / "model.bin").as_uri()


def wishes(**options):
    """What a person asks for."""
    from runcard.importers import Wishes

    return Wishes(**options)


def test_only_what_is_asked_for_comes(came, runs):
    """By experiment, by an expression over the record, and without what was deleted; the rest is counted by why."""
    found = [a_run("one"), a_run("two", experiment="dogs"), a_run("three", deleted=True), a_run("four", points=[])]
    report = came(*found, wishes=wishes(experiment="cats", where="metrics.loss < 1"))
    assert [record.name for record in runs.runs()] == ["one"]
    assert report.passed_over == {"of other experiments": 1, "deleted": 1, "not met by --where": 1}
    came(*found, wishes=wishes(rename="pets", deleted=True))
    assert {record.name: record.experiment for record in runs.runs()}["three"] == "pets"


def test_the_group_may_share_what_was_imported(came, tmp_path):
    """In a store that is shared, files and folders are the group's too."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o2770)
    came(a_run(artifacts=[Artifact("a/b", content=b"x")]))
    (record,) = open_store(tmp_path / "runs").runs()
    for path in Path(record.folder).rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o770 if path.is_dir() else 0o660), path


def test_a_dry_run_writes_nothing(tmp_path):
    """It says what would come, also what would be left out."""
    done = call("import", folder_of(tmp_path), "--into", tmp_path / "runs", "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "3 runs would be imported\n")
    assert not (tmp_path / "runs").exists()


def test_into_a_database(tmp_path):
    """Any store that can be read back is one to import into; again nothing twice."""
    source, url = folder_of(tmp_path), f"sqlite:///{tmp_path}/runs.db"
    assert call("import", source, "--into", url).stdout == "3 runs imported\n"
    assert call("--store", url, "import", source).stdout == "0 runs imported, 3 already there\n"
    assert {record.name: record.config.lr for record in open_store(url).runs()} == {
        f"run {index}": index / 4 for index in range(3)
    }


def test_a_run_that_goes_on_stays_out_of_a_database_until_it_has_ended(came, tmp_path):
    """A copy there would never be brought up to date: it is said, and the run comes once it has ended."""
    url = f"sqlite:///{tmp_path}/runs.db"
    young = {"status": None, "ended_at": None, "points": [Point("loss", 1, 1.0, time.time())]}
    for dry_run in (True, False):
        report = came(a_run("one"), a_run("two", **young), into=url, dry_run=dry_run)
        assert (len(report.imported), report.passed_over) == (1, {"still running": 1})
    assert [record.name for record in open_store(url).runs()] == ["one"]
    assert len(came(a_run("one"), a_run("two"), into=url).imported) == 1


def test_a_database_refers_to_the_files_where_they_lie(came, tmp_path):
    """It keeps none: the record has the address of the original, and what is in no file is left out."""
    url = f"sqlite:///{tmp_path}/runs.db"
    (tmp_path / "model.bin").write_bytes(b"x")
    files = [Artifact("model.bin", path=tmp_path / "model.bin"), Artifact("texts.jsonl", content=b"x")]
    assert came(a_run(artifacts=files), into=url).left_out == {"files that this store does not keep": 1}
    (record,) = open_store(url).runs()
    assert [entry.uri for entry in record.artifacts] == [(tmp_path / "model.bin").as_uri()]


def test_into_the_setting_without_a_word(tmp_path, store):
    """`runcard import mlruns` alone fills the store that `runcard ls` reads."""
    assert call("import", folder_of(tmp_path)).stdout == "3 runs imported\n"
    assert {entry["experiment"] for entry in read("ls")} == {"dogs"}
    assert len(store.runs()) == 3


def test_mlflows_points_are_put_into_the_order_of_their_times(tmp_path):
    """Whatever the order of the files and of their lines; at one time the steps tell, as in MLflow."""
    source = folder_of(tmp_path, 1)
    (folder,) = source.glob("7/*/metrics")
    (folder / "b").write_text("3000 3.0 3\n1000 1.0 1\n")
    (folder / "a").write_text("2000 2.5 9\n2000 2.0 2\n")
    (folder / "loss").unlink()
    call("import", source, "--into", tmp_path / "runs")
    (record,) = open_store(tmp_path / "runs").runs()
    assert [point.value for point in record.metric_history] == [1.0, 2.0, 2.5, 3.0]
    assert record.metrics == {"a": 2.5, "b": 3.0}


def test_the_report_as_json(tmp_path):
    """The ids and the counts."""
    told = read("import", folder_of(tmp_path), "--into", tmp_path / "runs")
    assert len(told["imported"]) == 3
    assert {**told, "imported": 3} == {
        "dry_run": False,
        "imported": 3,
        "brought_up_to_date": [],
        "there": 0,
        "passed_over": {},
        "left_out": {},
        "problems": [],
    }


def test_nothing_to_import_is_said(tmp_path):
    """No runs: exit code 1; no source: 2, with what may be named; a URL without its kind is told how to write it."""
    (tmp_path / "mlruns" / "7").mkdir(parents=True)
    (tmp_path / "mlruns" / "7" / "meta.yaml").write_text("name: dogs\n")
    empty = call("import", tmp_path / "mlruns")
    assert (empty.exit_code, "no runs were found in" in empty.stderr) == (1, True)
    for nothing in ("", " "):
        assert "name a folder" in call("import", nothing).stderr
    missing = call("import", tmp_path / "nowhere")
    assert (missing.exit_code, "there is nothing at" in missing.stderr) == (2, True)
    url = call("import", "http://ana:hunter2@localhost:5000")
    assert (url.exit_code, "write mlflow:http://localhost:5000" in url.stderr) == (2, True)
    for wrong, lines in ((["--copy-limit", "much"], 1), (["--where", "metrics.loss <"], 3), (["another/folder"], 1)):
        refused = call("import", tmp_path / "mlruns", *wrong)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, lines), wrong
    assert call("import", "mlflow", tmp_path / "mlruns").exit_code == 1


def test_the_kind_is_told_by_what_lies_there(tmp_path):
    """Folders and files of each; what is none of them is refused with what is looked for."""
    for name, kind in (
        ("a/7/meta.yaml", "mlflow"),  # an empty one: damaged
        ("b/offline-run-20261123_101112-x/run-x.wandb", "wandb"),
        ("c/train/events.out.tfevents.1.node", "tensorboard"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
        assert kind_of(str(tmp_path / name[0])) == kind
    assert kind_of("wandb:x") == "wandb"
    assert kind_of(str(tmp_path / "b/offline-run-20261123_101112-x/run-x.wandb")) == "wandb"
    (tmp_path / "b" / "offline-run-20261123_101112-x" / "files").mkdir()
    (tmp_path / "b" / "offline-run-20261123_101112-x" / "files" / "events.out.tfevents.1.node").touch()  # its copy
    assert kind_of(str(tmp_path / "b")) == "wandb"
    with pytest.raises(SettingError, match="holds runs of tensorboard and wandb; --format says which"):
        kind_of(str(tmp_path))
    (tmp_path / "d").mkdir()
    with pytest.raises(SettingError, match=re.escape("neither MLflow's (mlruns/, mlflow.db)")):
        kind_of(str(tmp_path / "d"))


def test_a_store_that_cannot_be_written_ends_the_import(came, tmp_path):
    """Said once, and not of each run."""
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RuncardError, match="cannot be"):
        came(a_run("one"), a_run("two"))


_SCALARS = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text() | st.text(" ab:'\"\n#-\\\t\x85é,")


@given(st.dictionaries(st.sampled_from(["name", "start_time", "a_b"]), _SCALARS, min_size=1))
def test_the_yaml_of_a_meta_file_is_read_as_it_was_written(data):
    """Whatever texts, numbers and breaks are in it, as PyYAML writes them for MLflow."""
    text = yaml.dump(data, default_flow_style=False, allow_unicode=True, Dumper=yaml.CSafeDumper)
    assert parse(text) == data
    nested = yaml.dump({"tags": data}, default_flow_style=False, allow_unicode=True, Dumper=yaml.CSafeDumper)
    assert parse(nested) == {"tags": data}


@given(st.binary(max_size=300))
def test_any_bytes_in_a_meta_file_are_refused_or_read(content):
    """A damaged file never does more than say that it is damaged."""
    try:
        assert isinstance(parse(content.decode("utf-8", "replace")), dict)
    except ValueError:
        pass
