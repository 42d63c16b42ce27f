"""Runs and points as frames of pandas and polars, and their exports."""

from __future__ import annotations

import io
import json
import math
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from runcard._frames import Points, Runs, export
from runcard.errors import MissingExtra, SettingError
from runcard.record import Fields, Point, RunRecord, Status, as_fields

START = datetime(2026, 11, 1, 10, tzinfo=UTC)
RUNS = Runs(
    [
        RunRecord(
            run_id="20261101T100000-aaaaaaaa",
            name="=SUM(A1)",
            experiment="train",
            status=Status.FINISHED,
            started_at=START,
            duration_s=1.5,
            decision="keep",
            is_best=True,
            config=as_fields(
                {"lr": 0.1, "epochs": 3, "nested": {"depth": 2, "x.y": "a"}, "layers": [1, 2], "mixed": 1, "on": True}
            ),
            metrics=Fields({"loss": math.nan, "val/acc": 0.5, "count": 2**60}),
        ),
        RunRecord(
            run_id="20261101T100001-bbbbbbbb",
            status=Status.RUNNING,
            config=as_fields({"lr": 1, "epochs": None, "mixed": "one", "on": False}),
            metrics=Fields({"loss": math.inf, "huge": 2**80}),
        ),
    ]
)


def test_pandas_has_typed_columns():
    """Times are UTC, integers nullable integers, booleans booleans, mixed columns text, gaps missing."""
    frame = RUNS.to_pandas()
    assert list(frame.columns) == [
        "run_id",
        "started_at",
        "experiment",
        "name",
        "parent_id",
        "status",
        "duration_s",
        "decision",
        "is_best",
        "config.lr",
        "config.epochs",
        "config.nested.depth",
        'config.nested["x.y"]',
        "config.layers",
        "config.mixed",
        "config.on",
        "metrics.loss",
        "metrics.val/acc",
        "metrics.count",
        "metrics.huge",
    ]
    assert str(frame["started_at"].dtype) == "datetime64[us, UTC]"
    assert str(frame["config.epochs"].dtype) == "Int64"
    assert str(frame["config.on"].dtype) == "boolean"
    assert str(frame["is_best"].dtype) == "boolean"
    assert str(frame["config.lr"].dtype) == "float64"
    assert frame["metrics.count"][0] == 2**60
    assert frame["metrics.huge"][1] == str(2**80)
    assert frame["config.mixed"].tolist() == ["1", "one"]
    assert frame["config.layers"][0] == "[1, 2]"
    assert frame["status"].tolist() == ["finished", "running"]
    assert frame.loc[1, ["started_at", "config.epochs", "decision", "metrics.val/acc"]].isna().all()
    assert np.isinf(frame["metrics.loss"][1])
    assert np.isnan(frame["metrics.loss"][0])


def test_polars_has_the_same_columns():
    """The same columns and values, NaN apart from a gap."""
    frame = RUNS.to_polars()
    assert frame.columns == list(RUNS.to_pandas().columns)
    assert frame.schema["started_at"] == pl.Datetime("us", "UTC")
    assert frame.schema["config.epochs"] == pl.Int64
    assert frame.schema["config.on"] == pl.Boolean
    assert frame["started_at"][0] == START
    assert math.isnan(frame["metrics.loss"][0])
    assert frame["metrics.val/acc"].to_list() == [0.5, None]


def test_a_slice_is_a_table_too():
    """The first of many runs, or points, turn into a frame as all of them do."""
    assert RUNS[:1].to_pandas()["name"].tolist() == [RUNS[0].name]
    points = Points([Point("loss", step, 0.5, 0.0) for step in range(3)])
    assert points[1:].to_polars()["step"].to_list() == [1, 2]
    assert points[-1].step == 2


def test_no_runs_still_have_columns():
    """An empty list gives an empty frame with the fixed columns and their types."""
    assert list(Runs().to_pandas().columns) == Runs().to_polars().columns
    assert str(Runs().to_pandas()["started_at"].dtype) == "datetime64[us, UTC]"
    assert Points().to_polars().schema["value"] == pl.Float64
    assert Points().to_polars().schema["step"] == pl.Int64
    assert Points().to_pandas().empty


def test_a_damaged_time_is_a_gap():
    """Points whose time no calendar has are still points."""
    frame = Points([Point("loss", 0, 1.0, 1e18), Point("loss", 1, 0.5, 1e308), Point("loss", 2, 0.2, 0.0)]).to_pandas()
    assert list(frame["time"].isna()) == [True, True, False]


def test_control_characters_stay_escapes_in_a_csv_file():
    """What a terminal would obey is written out, in names of columns too."""
    text = io.StringIO()
    export([RunRecord(run_id="20261101T100000-aaaaaaaa", name="\x1b[31m", metrics=Fields({"\x1b[2J": 1}))], "csv", text)
    assert "\x1b" not in text.getvalue()
    assert text.getvalue().count("\n") == 2


def test_integers_of_more_digits_than_python_writes():
    """They stand in hexadecimal in a column of text."""
    frame = Runs([RunRecord(run_id="20261101T100000-aaaaaaaa", config=as_fields({"n": 10**5000}))]).to_pandas()
    assert list(frame["config.n"]) == [hex(10**5000)]


def test_points_as_frames():
    """Points keep their order, steps and exact values; times are UTC."""
    late = Point("loss", 1, 0.25, START.timestamp())
    late.attempt = 2
    points = Points([Point("loss", None, 1, START.timestamp()), Point("loss", 7, math.nan, 0.0), late])
    frame = points.to_pandas()
    assert list(frame.columns) == ["name", "step", "value", "time", "attempt"]
    assert str(frame["step"].dtype) == "Int64"
    assert frame["time"][0] == pd.Timestamp(START)
    assert frame["attempt"].tolist() == [1, 1, 2]
    assert points.to_polars()["value"].to_list()[0] == 1.0


def test_lone_surrogates_do_not_break_a_frame():
    """A text that no encoding takes is escaped."""
    run = RunRecord(run_id="20261101T100000-aaaaaaaa", name="a\udc80b")
    assert Runs([run]).to_polars()["name"][0] == "a\\udc80b"
    assert Runs([run]).to_pandas()["name"][0] == "a\\udc80b"


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    """Without pandas, polars or pyarrow the error has the pip command."""
    for module in ("pandas", "polars", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r'pip install "runcard\[pandas\]"'):
        RUNS.to_pandas()
    with pytest.raises(MissingExtra, match=r'pip install "runcard\[polars\]"'):
        RUNS.to_polars()
    with pytest.raises(MissingExtra, match="pyarrow"):
        export(RUNS, "parquet", io.BytesIO())


def test_csv_is_formula_safe_and_reads_back(tmp_path):
    """A text that a spreadsheet would calculate is quoted; numbers stay numbers."""
    run = RunRecord(
        run_id="20261101T100000-aaaaaaaa",
        config=as_fields({"a": "-1+1", "b": "@x", "c": "\tx", "=d": "two\nlines", "e": -5}),
        metrics=Fields({"loss": -0.5}),
    )
    export([*RUNS, run], "csv", tmp_path / "runs.csv")
    frame = pd.read_csv(tmp_path / "runs.csv")
    assert frame["name"][0] == "'=SUM(A1)"
    assert frame["config.a"][2] == "'-1+1"
    assert frame["config.b"][2] == "'@x"
    assert frame["config.c"][2] == "'\tx"
    assert frame["config.=d"][2] == "two\nlines"
    assert frame["config.e"][2] == -5
    assert frame["metrics.loss"][1:].tolist() == [math.inf, -0.5]


def test_csv_has_times_that_pandas_takes(tmp_path):
    """A run that began on the full second has its microseconds too, so that all times of the column have one form."""
    times = [datetime(2026, 11, 1, 10, 0, 0, microsecond, tzinfo=UTC) for microsecond in (0, 5)]
    runs = [RunRecord(run_id=f"20261101T100000-0000000{n}", started_at=when) for n, when in enumerate(times)]
    export(runs, "csv", tmp_path / "runs.csv")
    assert pd.to_datetime(pd.read_csv(tmp_path / "runs.csv")["started_at"]).tolist() == times


def test_an_export_that_fails_names_the_file_it_was_given(tmp_path):
    """Not the one beside it that it writes first."""
    with pytest.raises(FileNotFoundError) as caught:
        export(RUNS, "csv", tmp_path / "no" / "runs.csv")
    assert caught.value.filename == str(tmp_path / "no" / "runs.csv")


def test_jsonl_has_a_record_a_line():
    """Each line is the record as `--json` prints it, and comes back equal."""
    text = io.StringIO()
    export(RUNS, "jsonl", text)
    records = [json.loads(line) for line in text.getvalue().splitlines()]
    assert RunRecord.from_dict(records[1]) == RUNS[1]
    assert "metric_history" not in records[0]


def test_parquet_keeps_types(tmp_path):
    """A Parquet file has the types of the frames."""
    export(RUNS, "parquet", tmp_path / "runs.parquet")
    frame = pl.read_parquet(tmp_path / "runs.parquet")
    assert frame.schema == RUNS.to_polars().schema
    assert frame["metrics.count"][0] == 2**60


def test_a_failed_export_leaves_the_old_file(tmp_path):
    """What goes wrong half way changes nothing and leaves nothing behind."""
    target = tmp_path / "runs.jsonl"
    target.write_text("old")
    broken = RunRecord(run_id="20261101T100000-aaaaaaaa", config=Fields(x={1, 2}))
    with pytest.raises(TypeError):
        export([*RUNS, broken], "jsonl", target)
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs.jsonl"]
    with pytest.raises(SettingError, match="parquet"):
        export(RUNS, "xlsx", target)
