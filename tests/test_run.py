"""The life of a run from the user's side: blocks, steps, config, artifacts, inputs, judgements, nesting."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import hashlib
import json
import math
import os
import random
import re
import stat
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pydantic
import pytest

import runcard
from runcard import RuncardWarning, attach, configure, current_run, log, open_store, run, tracked
from runcard.errors import RunStateError, SettingError


def only(store):
    """The one record of a store."""
    (record,) = store.runs()
    return record


def test_a_block_leaves_a_finished_record(store):
    """A `with` block records name, config, tags, notes, metrics, and how it ended."""
    with run("baseline", config={"seed": 7}, tags=["quick"], notes="a first look") as r:
        assert current_run() is r
        assert r.status == "running"
        r.log(accuracy=0.9)
    record = only(store)
    assert (record.name, record.status, record.config, record.tags) == ("baseline", "finished", {"seed": 7}, ["quick"])
    assert (record.notes, record.metrics, record.exit_code, record.error) == (
        "a first look",
        {"accuracy": 0.9},
        None,
        None,
    )
    assert record.experiment == r.experiment
    assert record.run_id == r.run_id
    assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-hjkmnp-tv-z]{8}", r.run_id)
    assert record.started_at <= record.ended_at
    assert record.started_at.tzinfo is not None
    assert record.losses == {}
    assert current_run() is None


def test_run_over_a_function_says_what_to_write_instead(store):
    """`run()` is for blocks: as a decorator, with brackets or without, it names `@tracked`."""
    with pytest.raises(TypeError, match=r"@run\(\.\.\.\): .* @tracked\(name=\.\.\.\)"):

        @run("x")
        def f():
            pass

    with pytest.raises(TypeError, match=r"@run: .* @tracked"):

        @run
        def g():
            pass

    assert store.runs() == []


def test_the_exception_that_leaves_is_the_users_own(store):
    """The same exception object comes out; the record has it as data."""
    error = ValueError("no such luck")
    with pytest.raises(ValueError, match="no such luck") as caught, run("fails"):
        raise error
    assert caught.value is error
    assert caught.value.__context__ is None
    record = only(store)
    assert (record.status, record.exit_code, record.error.type, record.error.message) == (
        "failed",
        1,
        "ValueError",
        "no such luck",
    )
    assert "no such luck" in record.error.traceback or "raise error" in record.error.traceback
    assert "runcard/_run" not in record.error.traceback


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (KeyboardInterrupt(), "killed", None),
        (SystemExit(0), "finished", 0),
        (SystemExit(), "finished", 0),
        (SystemExit(3), "failed", 3),
        (SystemExit("out of cheese"), "failed", 1),
        (SystemExit(-(2**70)), "failed", -1),
        (asyncio.CancelledError(), "killed", None),
        (GeneratorExit(), "finished", None),
    ],
)
def test_how_it_ended(store, error, status, code):
    """Each way out has its status and exit code, and goes on as it came."""
    with pytest.raises(type(error)) as caught, run("ends"):
        raise error
    assert caught.value is error
    record = only(store)
    assert (record.status, record.exit_code) == (status, code)


def test_an_async_block(store):
    """`async with` records as `with` does, and each task has its own current run."""

    async def one(name):
        async with run(name) as r:
            for step in range(3):
                await asyncio.sleep(0)
                assert current_run() is r
                log(loss=float(step), step=step)

    async def both():
        await asyncio.gather(one("left"), one("right"))

    asyncio.run(both())
    left, right = sorted(store.runs(), key=lambda record: record.name)
    assert (left.name, right.name) == ("left", "right")
    assert left.parent_id is None
    assert right.parent_id is None
    assert [point.value for point in left.metric_history] == [0.0, 1.0, 2.0]
    assert [point.value for point in right.metric_history] == [0.0, 1.0, 2.0]


def test_an_async_block_with_an_exception(store):
    """The exception of the awaited body is the user's own."""
    error = OSError("gone")

    async def fails():
        async with run("fails"):
            raise error

    with pytest.raises(OSError, match="gone") as caught:
        asyncio.run(fails())
    assert caught.value is error
    assert only(store).status == "failed"


def test_start_and_end_where_no_block_fits(store):
    """A run that was started is current until it is ended; a second end does nothing."""
    r = run("hooks").start()
    assert current_run() is r
    log(loss=1.0)
    r.end()
    r.end()
    assert current_run() is None
    assert only(store).status == "finished"


def test_end_with_an_error(store):
    """A framework's hook can hand over the exception it was told of."""
    r = run("hooks").start()
    r.end(error=RuntimeError("hook"))
    record = only(store)
    assert (record.status, record.error.message) == ("failed", "hook")


def test_end_before_start_is_refused():
    """Ending what never began says what to do."""
    with pytest.raises(RunStateError, match="start"):
        run("never").end()


def test_a_run_begins_once(store):
    """A run object is one run: a second `with` is refused, not recorded twice."""
    with run("once") as r:
        pass
    with pytest.raises(RunStateError, match="begins once"), r:
        raise AssertionError("entered twice")
    assert len(store.runs()) == 1


def test_a_notebooks_cells(store):
    """A run started in one cell is current in the next, whose code runs in a fresh context, until it is ended."""
    namespace = {"run": run, "log": log, "runcard": runcard}

    def cell(source):
        """Run as IPython does: each cell's code in a copy of the context."""
        import contextvars

        contextvars.copy_context().run(exec, compile(source, "<cell>", "exec"), namespace)

    cell("r = run('notebook').start()")
    cell("log(loss=2.0)")
    cell("with run('inner'): log(loss=3.0)")
    cell("runcard.keep('looks right')")
    cell("r.end()")
    inner, outer = sorted(store.runs(), key=lambda record: record.name)
    assert (outer.name, outer.metrics, outer.decision) == ("notebook", {"loss": 2.0}, "keep")
    assert (inner.name, inner.metrics, inner.parent_id) == ("inner", {"loss": 3.0}, outer.run_id)


def test_a_run_left_open_ends_with_the_process(store, tmp_path):
    """A started run that nobody ended is finished at the process's exit."""
    import subprocess

    code = "from runcard import run\nr = run('left').start()\nr.log(loss=1)\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert only(store).status == "finished"


def test_log_without_steps_counts_the_points_of_each_name(store):
    """Each name has its own count, also when names come and go."""
    with run("counts") as r:
        r.log(a=1.0)
        r.log(a=2.0, b=3.0)
        r.log({"a": 4.0}, b=5.0)
    assert [(p.name, p.step, p.value) for p in only(store).metric_history] == [
        ("a", 0, 1.0),
        ("a", 1, 2.0),
        ("b", 0, 3.0),
        ("a", 2, 4.0),
        ("b", 1, 5.0),
    ]


def test_steps_come_back_as_they_were_given(store):
    """Steps out of order, twice, negative and fractional stay as given, in the order logged."""
    steps = [5, 1, 1, -3, 2.5, 10**15, np.int64(7)]
    with run("steps") as r:
        for step in steps:
            r.log(x=1.0, step=step)
    assert [point.step for point in only(store).metric_history] == [5, 1, 1, -3, 2.5, 10**15, 7]


class Scalar:
    """A zero-dimensional tensor, as PyTorch's looks from outside."""

    shape = ()
    ndim = 0

    def __init__(self, value):
        self._value = value

    def item(self):
        return self._value

    def __repr__(self):
        raise AssertionError("a metric's repr was asked for")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (1, 1),
        (True, 1),
        (0.1, 0.1),
        (-0.0, -0.0),
        (1e308, 1e308),
        (5e-324, 5e-324),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (2**53 + 1, 2**53 + 1),
        (2**63, 2**63),
        (-(2**63), -(2**63)),
        (-(2**63) - 1, -(2**63) - 1),
        (10**30, 10**30),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.float16(0.5), 0.5),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.array(2.5), 2.5),
        (np.bool_(True), 1),
    ],
)
def test_a_metrics_value_comes_back_as_it_went_in(store, given, stored):
    """Every kind of number round-trips exactly, in the history, in metrics, through to_dict and JSON."""
    with run("value") as r:
        r.log(x=given)
    record = only(store)
    assert record.metrics["x"] == stored
    assert math.copysign(1, record.metrics["x"]) == math.copysign(1, stored)
    assert [point.value for point in record.metric_history] == [stored]
    again = runcard.RunRecord.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))
    assert again.metrics["x"] == stored
    assert record.losses == {}


def test_nan_comes_back_and_is_never_least_or_most(store):
    """NaN is kept exactly and left out of min and max."""
    with run("nan") as r:
        for value in (2.0, math.nan, 1.0, math.nan):
            r.log(x=value)
    record = only(store)
    summary = record.metric_summary["x"]
    assert math.isnan(record.metrics["x"])
    assert (summary.min, summary.min_step, summary.max, summary.max_step, summary.count) == (1.0, 2, 2.0, 0, 4)
    assert [math.isnan(point.value) for point in record.metric_history] == [False, True, False, True]


def test_torch_like_scalars(store):
    """A 0-d tensor is read with item(), in log() alone: a config value never is."""
    torch_like = type("Tensor", (Scalar,), {"__module__": "torch"})

    class Never(torch_like):
        """One whose item() would move it between devices."""

        def item(self):
            raise AssertionError("a config value was read")

    with run("tensor", config={"weight": Never(1.0)}) as r:
        r.log(loss=torch_like(0.25), n=torch_like(3), flag=torch_like(True))
    record = only(store)
    assert record.metrics == {"loss": 0.25, "n": 3, "flag": 1}


@pytest.mark.parametrize("value", ["0.5", None, [1.0], {"a": 1}, object(), 1 + 2j, np.zeros(3)])
def test_what_is_no_number_is_counted_and_never_raises(store, value):
    """One warning with the metric's name; the loss is counted; the other metrics of the call stay."""
    with run("odd") as r, pytest.warns(RuncardWarning, match="'x'"):
        r.log(x=value, y=1.0)
    record = only(store)
    assert record.metrics == {"y": 1.0}
    assert record.losses == {"not_a_number": 1}


@pytest.mark.parametrize("name", [3, None, b"x", "", ("a", "b")])
def test_a_metrics_name_is_a_text(store, name):
    """Another key is left out, counted and said."""
    with run("names") as r, pytest.warns(RuncardWarning, match="name"):
        r.log({name: 1.0, "ok": 2.0})
    record = only(store)
    assert record.metrics == {"ok": 2.0}
    assert record.losses == {"bad_name": 1}


@pytest.mark.parametrize(
    "name", ["train/loss", "ключ", "a b", "x" * 300, "nul\x00", "lone\ud800", "=1+1", "step", "self"]
)
def test_odd_names_are_kept(store, name):
    """Any text is a metric's name; what cannot be encoded is escaped, and names never collide with our parameters."""
    with run("names") as r:
        r.log({name: 1.0})
        r.log({name: 2.0})
    record = only(store)
    (kept,) = record.metrics
    assert record.metrics[kept] == 2.0
    assert [point.step for point in record.metric_history] == [0, 1]
    kept.encode("utf-8")


@pytest.mark.parametrize("step", ["first", object(), None, math.nan, [1]])
def test_a_step_that_is_no_number(store, step):
    """The point is kept whatever the step is."""
    import warnings

    with run("steps") as r, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuncardWarning)
        r.log(x=1.0, step=step)
    record = only(store)
    assert [point.value for point in record.metric_history] == [1.0]
    json.dumps(record.to_dict(), allow_nan=False)


def test_the_callers_mapping_is_left_alone(store):
    """log() neither keeps nor changes what it was given."""
    metrics = {"a": 1.0}
    with run("alone") as r:
        r.log(metrics, b=2.0)
        metrics["a"] = 99.0
        r.log(metrics)
    assert metrics == {"a": 99.0}
    assert [(p.name, p.value) for p in only(store).metric_history] == [("a", 1.0), ("b", 2.0), ("a", 99.0)]


def test_an_acknowledged_step_is_in_the_file_at_once(store):
    """When log() returns, the line is in the kernel's hands: a reader of the file sees it."""
    with run("live") as r:
        r.log(x=1.5)
        assert b'"x":1.5' in (r.folder / "journal.jsonl").read_bytes()
        assert store.get("latest").metrics == {"x": 1.5}
        assert store.get("latest").status == "running"


def test_config_is_taken_before_the_block(store):
    """What the code changes later is not in the record."""
    config = {"lr": 0.1, "layers": [1, 2]}
    with run("before", config=config):
        config["lr"] = 99
        config["layers"].append(3)
    assert only(store).config == {"lr": 0.1, "layers": [1, 2]}


@dataclasses.dataclass
class Config:
    """A configuration as many write it."""

    lr: float = 0.1
    name: str = "net"


@pytest.mark.parametrize(
    "config", [{"lr": 0.1, "name": "net"}, Config(), __import__("argparse").Namespace(lr=0.1, name="net")]
)
def test_configuration_objects(store, config):
    """A mapping, a dataclass and a namespace are the config themselves."""
    with run("kinds", config=config):
        pass
    assert only(store).config == {"lr": 0.1, "name": "net"}


def test_configs_of_other_packages(store):
    """attrs, pydantic and OmegaConf are read as the config; an OmegaConf's own references are resolved."""
    import attrs
    import omegaconf
    import pydantic

    made = attrs.make_class("Made", {"lr": attrs.field(default=0.1)})
    model = pydantic.create_model("Model", lr=(float, 0.1))
    tree = omegaconf.OmegaConf.create({"base": 0.1, "lr": "${base}"})
    for config, expected in ((made(), {"lr": 0.1}), (model(), {"lr": 0.1}), (tree, {"base": 0.1, "lr": 0.1})):
        with run("packages", config=config) as r:
            pass
        assert store.get(r.run_id).config == expected


def test_ignore_takes_dotted_paths(store):
    """What `ignore` names is left out, at any depth, with its types."""
    config = {"lr": 0.1, "data": {"path": Path("x"), "rows": 3}, "debug": True}
    with run("ignores", config=config, ignore=["debug", "data.path", "absent.too"]):
        pass
    record = only(store)
    assert record.config == {"lr": 0.1, "data": {"rows": 3}}
    assert record.config_types == {}


def test_log_config_adds_and_never_changes(store):
    """Later keys are added; a key once set keeps its value, with a warning and a count."""
    with run("frozen", config={"lr": 0.1}) as r:
        r.log_config({"batch": 32}, model="net")
        r.log_config(lr=0.1)
        with pytest.warns(RuncardWarning, match="'lr' is set already"):
            r.log_config(lr=0.2, momentum=0.9)
        assert r.config == {"lr": 0.1, "batch": 32, "model": "net", "momentum": 0.9}
    record = only(store)
    assert record.config == {"lr": 0.1, "batch": 32, "model": "net", "momentum": 0.9}
    assert record.losses == {"config_frozen": 1}
    assert json.loads((r.folder / "config.json").read_text("utf-8")) == record.config


def test_log_config_notes_types_of_what_it_adds_alone(store):
    """A key that stays what it was keeps its type too, whatever was offered."""
    with run("types", config={"lr": 0.1, "a.b": 1, "$x": 1}) as r, pytest.warns(RuncardWarning):
        r.log_config({"lr": Path("x"), "a.b": (1,), "$x": (1,), "out": Path("y")}, lr=(1, [Path("z")]))
    record = only(store)
    assert record.config == {"lr": 0.1, "a.b": 1, "$$x": 1, "out": "y"}
    assert record.config_types == {"out": "pathlib:PosixPath"}


def test_log_config_keeps_marks_out_of_the_names(store):
    """A mapping without names of its own stands under `config`, as it does when it is given at the start."""
    with run("pairs", config={"lr": 0.1}) as r:
        r.log_config({1: "a"})
    assert store.get(r.run_id).config == {"lr": 0.1, "config": {"$pairs": [[1, "a"]]}}
    with run("given", config={1: (2,)}) as r:
        pass
    assert store.get(r.run_id).config == {"config": {"$pairs": [[1, [2]]]}}
    assert store.get(r.run_id).config_types == {"config[0][1]": "builtins:tuple"}


def test_log_config_counts_secrets_wherever_they_are_given(store):
    """A secret by keyword and a hidden field count as those of a mapping do."""
    with run("Bearer a1B2c3D4e5F6", config={"word": pydantic.SecretStr("x")}, experiment="secrets") as r:
        r.log_config({"api_key": "correct horse"}, hf_token="battery staple")
        r.log({"use " + "gh" + "p_" + "a1B2c3D4e5F6" * 3: 1.0})
    record = only(store)
    assert set(record.config.values()) == {"[redacted]"}
    assert record.name == "Bearer [redacted]"
    assert record.losses == {"redacted": 5}


def test_equal_configs_have_equal_hashes(store):
    """The hash says whether two runs had the same config, in whichever steps and order it was given."""
    with run("a", config={"lr": 0.1, "n": 3}) as a:
        pass
    with run("b", config={"n": 3}) as b:
        b.log_config(lr=0.1)
    with run("c", config={"lr": 0.2, "n": 3}) as c:
        pass
    first, second, third = (store.get(each.run_id).config_hash for each in (a, b, c))
    assert first == second
    assert first != third
    assert first


@pytest.mark.parametrize("odd", [3, [1], {1}, b"x", object(), 2**80, float("nan")])
def test_log_config_refuses_what_is_no_config(store, odd):
    """What has no names is no config: said and counted."""
    with run("odd") as r, pytest.warns(RuncardWarning, match="mapping"):
        r.log_config(odd)
    assert only(store).config == {}
    assert only(store).losses == {"refused": 1}


def test_an_artifact_is_copied_with_its_hash(store, tmp_path):
    """log_artifact keeps a copy: what happens to the original later is no matter."""
    path = tmp_path / "plot.png"
    path.write_bytes(b"pixels")
    with run("files") as r:
        r.log_artifact(path)
        r.log_artifact(path, "plots/roc.png", transient=True)
        path.write_bytes(b"others")
    first, second = only(store).artifacts
    assert (first.path, first.bytes, first.sha256, first.transient) == (
        "artifacts/plot.png",
        6,
        hashlib.sha256(b"pixels").hexdigest(),
        False,
    )
    assert (second.path, second.transient) == ("artifacts/plots/roc.png", True)
    assert (Path(r.folder) / second.path).read_bytes() == b"pixels"


def test_an_artifact_left_where_it_lies(store, tmp_path):
    """copy=False records the place and the hash, and copies nothing."""
    path = tmp_path / "big.bin"
    path.write_bytes(b"x" * 10)
    with run("files") as r:
        r.log_artifact(path, copy=False)
    (found,) = only(store).artifacts
    assert found.uri == path.as_uri()
    assert found.sha256 == hashlib.sha256(b"x" * 10).hexdigest()
    assert "path" not in found
    assert list((Path(r.folder) / "artifacts").glob("*")) == []


def test_a_folder_is_kept_with_all_in_it(store, tmp_path):
    """Each file below a folder is an artifact; links are not followed."""
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w")
    (folder / "deep" / "vocab").write_bytes(b"v")
    (folder / "link").symlink_to("/etc/passwd")
    with run("files") as r:
        r.log_artifact(folder)
    assert sorted(found.path for found in only(store).artifacts) == [
        "artifacts/model/deep/vocab",
        "artifacts/model/weights",
    ]
    assert not (Path(r.folder) / "artifacts" / "model" / "link").exists()


def test_artifact_path_is_recorded_when_the_run_ends(store):
    """What was written to a path given out is recorded with its hash; what never came is no loss."""
    with run("files") as r:
        path = r.artifact_path("checkpoints/model.pt")
        path.write_bytes(b"weights")
        runcard.artifact_path("never.pt")
        folder = r.artifact_path("logs", transient=True)
        folder.mkdir()
        (folder / "a.txt").write_text("a")
        assert path.is_relative_to(r.folder)
    record = only(store)
    assert [(found.path, found.transient) for found in record.artifacts] == [
        ("artifacts/checkpoints/model.pt", False),
        ("artifacts/logs/a.txt", True),
    ]
    assert record.artifacts[0].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert record.losses == {}


def test_a_file_that_is_in_its_place_already_is_recorded_there(store):
    """`log_artifact` of a path that `artifact_path` gave copies nothing onto itself, and records it at once."""
    with run("r") as r:
        for name in ("model.pt", "folder"):
            path = r.artifact_path(name)
            (path if name == "model.pt" else path / "inner").parent.mkdir(exist_ok=True)
            (path if name == "model.pt" else path / "inner").write_bytes(b"1")
            r.log_artifact(path)
        assert [entry.name for entry in store.get(r.run_id).artifacts] == ["model.pt", "folder/inner"]
    assert {entry.name for entry in store.get(r.run_id).artifacts} == {"model.pt", "folder/inner"}


def test_artifacts_of_a_failed_run_are_recorded(store):
    """A checkpoint written before the crash is the one that matters."""
    with pytest.raises(ZeroDivisionError), run("fails") as r:
        r.artifact_path("model.pt").write_bytes(b"w")
        1 / 0  # noqa: B018 - raises
    assert [found.path for found in only(store).artifacts] == ["artifacts/model.pt"]


HOSTILE = [
    "../x",
    "a/../../x",
    "/etc/x",
    "//host/share/x",
    "\\\\host\\share\\x",
    "C:\\x",
    "C:x",
    "a\\..\\..\\x",
    "..",
    ".",
    "",
    "a//b",
    "a/./b",
    "a/",
    "nul\0x",
    "line\nbreak",
    "esc\x1b[31m",
    "del\x7f",
    " lead",
    "trail ",
    "dot.",
    "lone\ud800",
    "x" * 300,
    "a/" + "é" * 150,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_the_runs_folder(store, tmp_path, name):
    """Each hostile name is refused with one warning and a count; a writable path is given all the same."""
    source = tmp_path / "source.bin"
    source.write_bytes(b"s")
    before = {path for path in tmp_path.rglob("*") if "runcards" not in path.parts}
    with run("hostile") as r:
        with pytest.warns(RuncardWarning, match="not accepted"):
            path = r.artifact_path(name)
        path.write_bytes(b"x")
        with pytest.warns(RuncardWarning, match="not accepted"):
            r.log_artifact(source, name)
    record = only(store)
    assert record.artifacts == []
    assert record.losses == {"artifacts_refused": 2}
    assert {path for path in tmp_path.rglob("*") if "runcards" not in path.parts} == before
    assert not path.is_relative_to(r.folder)


def test_links_in_the_runs_folder_are_not_followed(store, tmp_path):
    """A link planted in the artifacts' folder, at the end or on the way, leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    source = tmp_path / "s"
    source.write_bytes(b"s")
    with run("links") as r:
        r.artifact_path("first").write_bytes(b"1")
        (r.folder / "artifacts" / "way").symlink_to(outside)
        (r.folder / "artifacts" / "end").symlink_to(outside / "file")
        with pytest.warns(RuncardWarning, match="link"):
            r.log_artifact(source, "way/file")
        with pytest.warns(RuncardWarning, match="link"):
            r.log_artifact(source, "end")
    assert list(outside.iterdir()) == []
    assert [found.path for found in only(store).artifacts] == ["artifacts/first"]


def test_a_path_given_out_and_turned_into_a_link_is_not_followed(store, tmp_path):
    """A link put where a file was expected is not read at the end: its target is none of the run's."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"not yours")
    with run("links") as r:
        r.artifact_path("model.pt").symlink_to(outside)
        with pytest.warns(RuncardWarning, match="is a link"):
            r.end()
    record = only(store)
    assert record.artifacts == []
    assert record.losses == {"artifacts_refused": 1}


def test_a_missing_artifact_is_said(store, tmp_path):
    """What is not there is a warning and a count, never an exception."""
    with run("missing") as r, pytest.warns(RuncardWarning, match="there is no such file"):
        r.log_artifact(tmp_path / "absent")
    assert only(store).losses == {"artifacts_refused": 1}


def test_a_large_artifact_is_known_by_size_and_time(store, tmp_path):
    """Above the limit the size and the time stand for the hash."""
    configure(input_limit=10)
    path = tmp_path / "large"
    path.write_bytes(b"x" * 11)
    with run("large", inputs=[path]) as r:
        r.log_artifact(path)
    record = only(store)
    for found in (record.artifacts[0], record.inputs[0]):
        assert found.bytes == 11
        assert found.get("sha256") is None
        assert found.mtime


def test_inputs_are_hashed(store, tmp_path):
    """`inputs=` and log_input() record path, size and hash; a Path argument that names a file by itself."""
    data = tmp_path / "train.csv"
    data.write_bytes(b"a,b\n")
    more = tmp_path / "more.csv"
    more.write_bytes(b"c\n")

    @tracked(inputs=["named"])
    def train(source: Path, named: str, other: str):
        runcard.log_input(more)

    train(data, str(more), "text")
    with run("inputs", inputs=[data]) as r:
        r.log_input(more)
    first, second = store.runs()
    for record in (first, second):
        found = {Path(entry.path).name: entry for entry in record.inputs}
        assert set(found) == {"train.csv", "more.csv"}
        assert found["train.csv"].sha256 == hashlib.sha256(b"a,b\n").hexdigest()
        assert found["train.csv"].bytes == 4


def test_a_folder_is_an_input_like_a_file(store, tmp_path):
    """A folder given at the start, or named later, stands in the record with its files' number, size and hash."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("hi")
    with run("first", inputs=[tmp_path / "data"]):
        pass
    with run("later") as r:
        r.log_input(tmp_path / "data")
    for name in ("first", "later"):
        (found,) = store.get(name).inputs
        assert (found.type, found.files, found.bytes, len(found.sha256)) == ("folder", 1, 2, 64)


def test_a_missing_input_never_stops_the_run(store, tmp_path):
    """An input that is not there is recorded as such, or counted; the run goes on."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuncardWarning)
        with run("inputs", inputs=[tmp_path / "absent"]) as r:
            r.log_input(tmp_path / "absent too")
            r.log(x=1.0)
    assert only(store).metrics == {"x": 1.0}


def test_an_input_that_cannot_be_read_says_why(store):
    """The reason stands in the record, given before the run or in it, and no line counts as damaged."""
    with run("inputs", inputs=["a\0b"]) as r:
        r.log_input("c\0d")
    record = only(store)
    assert [entry.error for entry in record.inputs] == ["ValueError"] * 2
    assert record.losses == {}


def test_tags_notes_and_decisions(store):
    """All judgements stay in `decisions`, the last one stands; tags are a set in order; notes add up."""
    with run("judged", tags=["a"], notes="first") as r:
        r.tag("b", "a", "c")
        r.note("second")
        r.discard("too slow")
        runcard.tag("d")
        runcard.note("third")
        runcard.keep("no, it is fine")
    record = only(store)
    assert record.tags == ["a", "b", "c", "d"]
    assert record.notes == "first\nsecond\nthird"
    assert (record.decision, record.decision_reason) == ("keep", "no, it is fine")
    assert [(entry.decision, entry.reason) for entry in record.decisions] == [
        ("discard", "too slow"),
        ("keep", "no, it is fine"),
    ]


class Pruned(Exception):
    """A search's way to stop a trial."""


def test_expected_exceptions_are_a_normal_end(store):
    """`expected` gives finished, discard and the reason; the exception goes on as ever."""
    error = Pruned("worse than the median")
    with pytest.raises(Pruned) as caught, run("trial", expected=(Pruned,)):
        raise error
    assert caught.value is error
    record = only(store)
    assert (record.status, record.decision, record.decision_reason, record.error) == (
        "finished",
        "discard",
        "worse than the median",
        None,
    )


def test_is_best_and_auto_decide(store):
    """Best is what beats every run of its experiment that had ended before; ties and later runs change nothing."""
    scores = [0.5, 0.4, 0.45, 0.4, math.nan, 0.3]
    for score in scores:
        with run("search", experiment="e", objective="loss", direction="minimize", auto_decide=True) as r:
            r.log(loss=score)
    with run("other", experiment="other", objective="loss", direction="minimize") as r:
        r.log(loss=99.0)
    records = store.runs(experiment="e")[::-1]
    assert [record.is_best for record in records] == [True, True, False, False, False, True]
    assert [record.decision for record in records] == ["keep", "keep", "discard", "discard", "discard", "keep"]
    assert all(record.decision_reason for record in records)
    assert "0.4" in records[2].decision_reason
    assert store.runs(experiment="other")[0].is_best is True
    assert store.best("e").metrics["loss"] == 0.3


def test_a_failed_run_is_never_best(store):
    """What did not finish is compared with nothing."""
    with pytest.raises(ZeroDivisionError), run("f", objective="acc", direction="maximize", auto_decide=True) as r:
        r.log(acc=1.0)
        1 / 0  # noqa: B018 - raises
    record = only(store)
    assert (record.is_best, record.decision, record.decision_reason) == (False, "discard", "the run failed")


def test_the_users_decision_stands_over_the_automatic_one(store):
    """auto_decide does not overrule what the code said itself."""
    with run("own", objective="acc", direction="maximize", auto_decide=True) as r:
        r.log(acc=1.0)
        r.discard("leaked labels")
    record = only(store)
    assert (record.decision, record.decision_reason, record.is_best) == ("discard", "leaked labels", True)


def test_seed_makes_the_run_repeatable(store):
    """seed= seeds random and NumPy at the start, and is recorded."""
    drawn = []
    for _ in range(2):
        with run("seeded", seed=13):
            drawn.append((random.random(), np.random.random()))  # noqa: NPY002 - the global generator is the case
    assert drawn[0] == drawn[1]
    assert "13" in json.dumps(store.runs()[0].to_dict()["seed"])


def test_without_seed_the_generators_are_left_alone():
    """A run draws no number and seeds nothing by itself."""
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generator is the case
    expected = (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002 - likewise
    with run("quiet", config={"x": 1}) as r:
        r.log(x=1.0)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == expected  # noqa: NPY002 - likewise


def test_nested_runs_are_children(store):
    """A run inside another is its child, in the experiment `parent/name`; the outer goes on after it."""
    with run("train", experiment="net") as outer:
        for fold in range(2):
            with run("fold", config={"fold": fold}) as inner:
                log(loss=float(fold))
            assert inner.parent_id == outer.run_id
        log(done=1)
    records = store.runs()
    assert [record.name for record in records].count("fold") == 2
    assert {record.experiment for record in records} == {"net", "net/fold"}
    parent = store.get(outer.run_id)
    assert parent.metrics == {"done": 1}
    assert parent.parent_id is None


def test_a_tracked_functions_names(store):
    """The name is the qualified name without <locals>; options set both."""

    @tracked
    def train():
        @tracked
        def fold():
            pass

        fold()

    @tracked(name="called", experiment="explicit")
    def other():
        pass

    train()
    other()
    other_, fold, train_ = store.runs()
    assert train_.name == "test_a_tracked_functions_names.train"
    assert train_.experiment == "test_a_tracked_functions_names.train"
    assert fold.experiment == f"{train_.experiment}/{fold.name}"
    assert (other_.name, other_.experiment) == ("called", "explicit")


def test_a_token_makes_children_elsewhere(store, alone):
    """run(parent=token), @tracked(parent=…) and attach() make children of an open run."""
    with run("parent") as r:
        token = r.token()

        def work():
            with run("by option", parent=token):
                pass
            with attach(token), run("by attach"):
                pass
            tracked(name="by decorator", parent=token)(lambda: None)()

        alone(work)
    children = [record for record in store.runs() if record.parent_id == r.run_id]
    assert sorted(record.name for record in children) == ["by attach", "by decorator", "by option"]


def test_a_token_of_a_run_that_has_ended_gives_launched_by(store):
    """A late child is no child: it was launched by the run."""
    with run("parent") as r:
        token = r.token()
    with run("late", parent=token) as late:
        pass
    record = store.get(late.run_id)
    assert (record.parent_id, record.launched_by) == (None, r.run_id)


@pytest.mark.parametrize("token", ["nonsense", "20261123T101112-7k3f9q2m", "../../x@/tmp", ""])
def test_what_is_no_token_is_refused(token):
    """A wrong token fails at once and says where one comes from."""
    with pytest.raises(SettingError, match="token"):
        attach(token)
    if token:
        with pytest.raises(SettingError, match="token"), run("child", parent=token):
            raise AssertionError("entered")


def test_the_outermost_run_exports_its_token(store):
    """RUNCARD_PARENT holds while the outermost run is open, and is put back as it was."""
    assert "RUNCARD_PARENT" not in os.environ
    with run("outer") as outer:
        exported = os.environ["RUNCARD_PARENT"]
        assert exported == outer.token()
        with run("inner"):
            assert os.environ["RUNCARD_PARENT"] == exported
    assert "RUNCARD_PARENT" not in os.environ
    configure(export_parent=False)
    with run("quiet"):
        assert "RUNCARD_PARENT" not in os.environ


def test_without_a_run_the_functions_warn_once(tmp_path):
    """log() and its like outside of any run warn once and do nothing; artifact_path is writable all the same."""
    with pytest.warns(RuncardWarning, match="no run is open"):
        log(x=1.0)
    log(x=2.0)
    with pytest.warns(RuncardWarning, match="gave a temporary path"):
        path = runcard.artifact_path("model.pt")
    path.write_bytes(b"w")
    for act in (runcard.keep, runcard.discard, lambda: runcard.tag("a"), lambda: runcard.note("a")):
        with pytest.warns(RuncardWarning):
            act()
    assert not (tmp_path / "runcards").exists()


def test_log_after_the_end_is_dropped_and_counted(store):
    """A point that comes too late never reopens the run; the record counts it."""
    with run("ended") as r:
        r.log(x=1.0)
    with pytest.warns(RuncardWarning, match="has ended"):
        r.log(x=2.0)
    r.log(x=3.0)
    r.note("late")
    record = only(store)
    assert record.status == "finished"
    assert record.metrics == {"x": 1.0}
    assert record.losses == {"after_end": 1}
    assert record.notes == ""


def test_a_run_that_was_not_started_says_so():
    """Logging on it is a warning with what to do."""
    with pytest.warns(RuncardWarning, match="was not started"):
        run("new").log(x=1.0)


def test_a_thread_without_context_finds_its_run(store, alone):
    """A helper thread's log() goes to the one open run."""
    with run("one"):
        alone(lambda: log(x=1.0))
    assert only(store).metrics == {"x": 1.0}


def test_threads_of_their_own_keep_apart(store):
    """Runs in parallel threads do not mix, and have no parents."""
    barrier = threading.Barrier(3)

    def work(number):
        with run(f"t{number}") as r:
            barrier.wait(10)
            for step in range(20):
                log(x=number, step=step)
            assert current_run() is r
            barrier.wait(10)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for record in store.runs():
        assert {point.value for point in record.metric_history} == {int(record.name[1:])}
        assert len(record.metric_history) == 20
        assert record.parent_id is None


def test_what_a_run_looks_like(store):
    """The repr names the run and its state; the notebook's form is escaped HTML."""
    r = run("<b>bold</b>")
    assert "new" in repr(r)
    with r:
        r.log(loss=0.5)
        assert r.run_id[-8:] in repr(r)
        assert "running" in repr(r)
        page = r._repr_html_()
        assert "<b>bold</b>" not in page
        assert "&lt;b&gt;bold" in page
    assert "finished" in repr(r)
    record = only(store)
    assert record.short_id in repr(record)
    assert "<b>bold</b>" not in record._repr_html_()
    assert "loss" in record._repr_html_()


def test_the_repr_of_a_run_is_one_line_that_no_terminal_obeys():
    """A name's escape sequences and line breaks are shown as escapes."""
    assert repr(run("red\x1b[31m\n")) == r"<Run red\x1b[31m\n new>"


def test_the_files_of_a_run(store):
    """The folder has what the format says, and no file that would be empty."""
    with run("files", config={"lr": 0.1}) as r:
        r.log(loss=0.5)
        r.keep("good")
    names = {path.name for path in Path(r.folder).iterdir()}
    assert names >= {
        "journal.jsonl",
        "config.json",
        "environment.json",
        "metrics.json",
        "metric_history.csv",
        "decision.json",
        "record.json",
        "card.md",
    }
    assert all(path.stat().st_size for path in Path(r.folder).iterdir() if path.is_file())
    assert json.loads((Path(r.folder) / "metrics.json").read_text()) == {"loss": 0.5}
    assert json.loads((Path(r.folder) / "record.json").read_text())["run_id"] == r.run_id
    with run("bare") as bare:
        pass
    names = {path.name for path in Path(bare.folder).iterdir()}
    assert names.isdisjoint({"config.json", "metrics.json", "metric_history.csv", "decision.json", "artifacts"})
    assert (Path(store.root) / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE(os.stat(r.folder).st_mode) == 0o700


def test_the_config_file_is_there_before_the_users_code(store):
    """A run that dies at once has said what it was."""
    with run("early", config={"lr": 0.1}) as r:
        assert json.loads((r.folder / "config.json").read_text()) == {"lr": 0.1}
        assert (r.folder / "environment.json").is_file()
        assert store.get("latest").config == {"lr": 0.1}


def test_captures_are_taken_away_by_name(store):
    """What capture= takes away is not in the record."""
    with run("lean", capture=["-git", "-packages", "-hardware"]):
        pass
    environment = only(store).environment
    assert "git" not in environment or not environment.git
    assert not environment.get("packages")
    assert not environment.get("hardware")


def test_a_terminal_gets_one_line(store, monkeypatch):
    """The end of a top-level run is one line on a terminal; a child's, and a pipe's, none."""
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    said = Terminal()
    monkeypatch.setattr(sys, "stderr", said)
    with run("outer") as r, run("inner"):
        pass
    (line,) = said.getvalue().splitlines()
    assert r.run_id[-8:] in line
    assert "finished" in line
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stderr", piped)
    with run("piped"):
        pass
    assert piped.getvalue() == ""


def test_a_record_from_a_store_by_its_folder(store):
    """The folder a run names while open is where the reader finds it."""
    with run("place") as r:
        pass
    assert open_store(r.root).get(str(r.folder)).run_id == r.run_id


def test_an_artifact_that_cannot_be_read_costs_itself_alone(store, monkeypatch):
    """When hashing fails, the run still ends, with its other artifacts and its views."""
    from runcard import _actions

    describe = _actions.describe

    def failing(path, **options):
        if path.name == "bad":
            raise PermissionError(13, "no")
        return describe(path, **options)

    monkeypatch.setattr(_actions, "describe", failing)
    with run("files") as r:
        r.artifact_path("bad").write_bytes(b"1")
        r.artifact_path("good").write_bytes(b"2")
        with pytest.warns(RuncardWarning, match="record the artifact bad"):
            r.end()
    record = only(store)
    assert (record.status, [found.path for found in record.artifacts]) == ("finished", ["artifacts/good"])
    assert (Path(r.folder) / "card.md").is_file()


def test_a_run_ends_whatever_fails_at_its_end(store, monkeypatch):
    """When our own code fails before the end event, a last word is written all the same: it never reads crashed."""
    from runcard import _closing

    monkeypatch.setattr(_closing, "_write_end", lambda *_: 1 / 0)
    with pytest.warns(RuncardWarning, match="could not be ended well"), run("broken") as r:
        r.log(x=1.0)
    record = only(store)
    assert (record.status, record.metrics) == ("finished", {"x": 1.0})
    assert "RUNCARD_PARENT" not in os.environ


def test_a_strict_run_that_raises_at_its_end_has_ended(store):
    """Under strict the warning is raised, and the record still has its end."""
    configure(strict=True)
    with pytest.raises(runcard.RuncardError, match="is a link"), run("strict") as r:
        r.artifact_path("model.pt").symlink_to("/nowhere")
    assert only(store).status == "finished"


def test_a_folder_removed_during_the_run(store):
    """When someone deletes the run's folder, the user's block goes on and ends as it would."""
    import shutil

    with pytest.warns(RuncardWarning) as said, run("removed") as r:
        shutil.rmtree(r.folder)
        r.log(x=1.0)
        r.note("still here")
    assert r.status == "finished"
    assert len(said) <= 3


@pytest.mark.parametrize("odd", [5, "loss", [("loss", 1.0)], object()])
def test_logging_what_is_no_mapping(store, odd):
    """A bare value handed to log() is counted with a warning; what was named beside it is kept."""
    with pytest.warns(RuncardWarning, match="names and numbers"), run("odd") as r:
        r.log(odd)
        log(odd, loss=0.5)
    record = only(store)
    assert record.metrics == {"loss": 0.5}
    assert record.losses == {"not_a_number": 2}


def test_a_mapping_of_another_kind_is_logged(store):
    """A mapping that is no dict is read as one, alone and beside keywords."""
    from types import MappingProxyType

    with run("proxy") as r:
        r.log(MappingProxyType({"loss": 0.5}))
        log(MappingProxyType({"a": 1}), b=2)
    assert only(store).metrics == {"loss": 0.5, "a": 1, "b": 2}


def test_an_artifact_folder_that_holds_the_store(store):
    """Keeping a folder that holds the store, or the run, keeps what is beside it and copies nothing into itself."""
    outside = Path(store.root).parent
    (outside / "model.txt").write_text("weights", encoding="utf-8")
    with run("around") as r:
        r.log_artifact(outside, "all")
        r.log_artifact(store.root, "store")
        r.log_artifact(r.folder, "run")
    paths = [each["path"] for each in only(store).artifacts]
    assert "artifacts/all/model.txt" in paths
    assert not any("all/" in path.removeprefix("artifacts/all/") for path in paths)
    assert not any("journal" in path for path in paths if not path.startswith("artifacts/run/"))


def test_an_artifact_that_is_no_path(store):
    """What is no path is refused with a warning and counted."""
    with pytest.warns(RuncardWarning, match="takes the path"), run("odd") as r:
        r.log_artifact(3)  # type: ignore[arg-type]  # the mistake under test
    assert only(store).losses == {"artifacts_refused": 1}


def test_an_input_that_is_no_path(store):
    """`log_input` of what is no path is refused with a warning and counted."""
    with pytest.warns(RuncardWarning, match="takes the path"), run("odd") as r:
        r.log_input(3)  # type: ignore[arg-type]  # the mistake under test
    assert (only(store).inputs, only(store).losses) == ([], {"refused": 1})


def test_a_name_given_as_a_keyword_is_refused():
    """`run(name="x")` would open a run without its name: it says how the name is given."""
    with pytest.raises(TypeError, match=r"run\('x'\)"):
        run(name="x")


@pytest.mark.parametrize("door", [run, tracked])
def test_an_option_that_there_is_not(door):
    """An unknown option is refused at once, with the options that there are."""
    with pytest.raises(TypeError, match=r"no option objektive; there are: .*objective"):
        door(objektive="loss")


@pytest.mark.parametrize("option", ["expected", "tags", "inputs", "sinks", "capture"])
def test_an_option_that_takes_several_gets_a_number(option):
    """A number where several things belong is refused, with what is accepted."""
    with pytest.raises(SettingError, match=rf"{option}=5 is not accepted: (a list|exception|texts|parameters)"):
        run(**{option: 5})


@pytest.mark.parametrize("points", [60, 61, 62, 63, 64, 65, 500])
def test_the_end_knows_all_that_was_logged(points):
    """The record that sinks and views get has every event, however many there were."""
    given = []
    with run("long", sinks=["file:", given.append]) as r:
        for number in range(points):
            r.log(loss=number)
        r.tag("late")
    assert (given[0].metrics, given[0].tags, given[0].metric_summary.loss.count) == (
        {"loss": points - 1},
        ["late"],
        points,
    )
    assert given[0].ended_at is not None
    assert json.loads((r.folder / "record.json").read_text())["metrics"] == {"loss": points - 1}


def test_a_run_is_let_go_when_its_block_is_left(store):
    """Nothing of ours goes in a circle: what a block was given goes with it, not when the collector comes."""

    class Given:
        pass

    given = Given()
    held = weakref.ref(given)
    gc.disable()
    try:
        with run("block", config={"object": given}) as r:
            r.log(loss=1.0)
        del r, given
        assert held() is None
    finally:
        gc.enable()
