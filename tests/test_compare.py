"""What differs between two runs, by `compare`."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcard.query import compare
from runcard.record import Fields, RunRecord, as_fields

IDS = ("20261101T000000-aaaaaaaa", "20261101T000001-bbbbbbbb", "20261101T000002-cccccccc")


def pair(field, old, new):
    """Two records that differ in one field."""
    return [
        RunRecord(run_id=run_id, **{field: as_fields(value)}) for run_id, value in zip(IDS, (old, new), strict=False)
    ]


def config_changes(old, new):
    """The changes of a config as plain tuples."""
    return [(change.path, change.old, change.new, change.kind) for change in compare(*pair("config", old, new)).config]


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({"lr": 0.1}, {"lr": 0.1}, []),
        ({"lr": 0.1}, {"lr": 0.2}, [("lr", 0.1, 0.2, "changed")]),
        ({}, {"lr": 0.2}, [("lr", None, 0.2, "added")]),
        ({"lr": 0.2}, {}, [("lr", 0.2, None, "removed")]),
        ({"lr": None}, {}, [("lr", None, None, "removed")]),
        ({"o": {"lr": 1, "b": 2}}, {"o": {"lr": 3, "b": 2}}, [("o.lr", 1, 3, "changed")]),
        ({}, {"o": {"lr": 1, "p": {"q": 2}}}, [("o.lr", None, 1, "added"), ("o.p.q", None, 2, "added")]),
        ({"o": {"lr": 1}}, {"o": 3}, [("o", {"lr": 1}, 3, "type")]),
        ({"n": 1}, {"n": "1"}, [("n", 1, "1", "type")]),
        ({"n": 1}, {"n": True}, [("n", 1, True, "type")]),
        ({"n": 1}, {"n": 1.0}, [("n", 1, 1.0, "type")]),
        ({"n": 1}, {"n": 1.5}, [("n", 1, 1.5, "changed")]),
        ({"n": None}, {"n": 1}, [("n", None, 1, "changed")]),
        ({"l": [1, 2]}, {"l": [1, 2, 3]}, [("l", [1, 2], [1, 2, 3], "changed")]),
        ({"l": [{"a": 1}, {"a": 2}]}, {"l": [{"a": 1}, {"a": 3}]}, [("l[1].a", 2, 3, "changed")]),
        ({"x.y": 1}, {"x.y": 2}, [('["x.y"]', 1, 2, "changed")]),
        ({"d": {"$array": [3]}}, {"d": {"$array": [4]}}, [("d", {"$array": [3]}, {"$array": [4]}, "changed")]),
        ({"d": {}}, {"d": {"a": 1}}, [("d.a", None, 1, "added")]),
        ({"n": math.nan}, {"n": math.nan}, []),
        ({"l": [math.nan]}, {"l": [math.nan]}, []),
    ],
)
def test_config_by_path(old, new, changes):
    """Each setting that differs is one change, at its path, of its kind."""
    assert config_changes(old, new) == changes


def test_a_setting_of_another_type_behind_the_same_text():
    """A Path and a str are one text in JSON: the recorded types tell them apart."""
    runs = [
        RunRecord(run_id=run_id, config=Fields(data="x"), config_types=types)
        for run_id, types in zip(IDS, ({"data": "pathlib:PosixPath"}, {"data": "builtins:str"}), strict=False)
    ]
    (change,) = compare(*runs).config
    assert (change.path, change.kind, change.old_type, change.new_type) == (
        "data",
        "type",
        "pathlib:PosixPath",
        "builtins:str",
    )


def test_metrics_with_their_difference():
    """All metrics of both are there; one that a run lacks is None, never zero."""
    metrics = compare(
        *pair("metrics", {"loss": 0.5, "a": 1, "nan": math.nan}, {"loss": 0.25, "b": 2, "nan": math.nan})
    ).metrics
    assert list(metrics) == ["loss", "a", "nan", "b"]
    assert (metrics["loss"].a, metrics["loss"].b, metrics["loss"].delta) == (0.5, 0.25, -0.25)
    assert (metrics["a"].a, metrics["a"].b, metrics["a"].delta) == (1, None, None)
    assert (metrics["b"].a, metrics["b"].b, metrics["b"].delta) == (None, 2, None)
    assert metrics["loss"].differs
    assert metrics["a"].differs
    assert not metrics["nan"].differs


def test_metrics_of_odd_values_never_raise():
    """Infinities, huge integers and broken values give a difference or none."""
    metrics = compare(
        *pair("metrics", {"i": math.inf, "n": 10**400, "t": "x"}, {"i": math.inf, "n": 0.5, "t": 1.0})
    ).metrics
    assert math.isnan(metrics["i"].delta)
    assert metrics["n"].delta is None
    assert metrics["t"].a is None


def environment(**git):
    """An environment with a git state."""
    return {"git": {"commit": "c1", "branch": "main", "dirty": False, **git}}


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (environment(), environment(), True),
        (environment(), environment(commit="c2"), False),
        (environment(), environment(dirty=True), False),
        (environment(dirty=True, patch_sha256="p"), environment(dirty=True, patch_sha256="p"), True),
        (environment(dirty=True, patch_sha256="p"), environment(dirty=True, patch_sha256="q"), False),
        (environment(), environment(incomplete=True), None),
        (environment(dirty=True), environment(dirty=True), None),
        ({}, environment(), None),
        ({}, {}, None),
        ({"git": None}, {"git": "x"}, None),
    ],
)
def test_the_same_code(old, new, same):
    """The code is the same, another, or it cannot be told: a guess is never made."""
    assert compare(*pair("environment", old, new)).code.same is same


def test_another_function_is_other_code():
    """The hash of the function's source tells what git does not."""
    code = compare(*pair("function", {"source_sha256": "a"}, {"source_sha256": "b"})).code
    assert code.same is False
    assert code.functions == ("a", "b")


def with_patch(folder, name, patch, **git):
    """A dirty run with its patch in its folder."""
    place = folder / name
    place.mkdir()
    (place / "diff.patch").write_bytes(patch)
    state = environment(dirty=True, patch="diff.patch", **git)
    return RunRecord(run_id=IDS[0], environment=as_fields(state), folder=str(place))


HEAD = b"diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-lr = 1\n"


def test_the_recorded_patches_are_compared(tmp_path):
    """On one commit, what differs between the uncommitted changes is shown, and nothing else."""
    same = b"diff --git a/same.py b/same.py\n+x\n"
    only = b"diff --git a/new.py b/new.py\n+\xff\n"
    code = compare(
        with_patch(tmp_path, "a", HEAD + b"+lr = 2\n" + same),
        with_patch(tmp_path, "b", HEAD + b"+lr = 3\n" + same + only),
    ).code
    assert code.same is False
    assert "-+lr = 2" in code.diff
    assert "++lr = 3" in code.diff
    assert "only in b: a/new.py b/new.py" in code.diff
    assert "same.py" not in code.diff
    json.dumps(code.to_dict()).encode()


def test_equal_patches_are_the_same_code(tmp_path):
    """Without hashes the patches themselves decide."""
    code = compare(with_patch(tmp_path, "a", HEAD), with_patch(tmp_path, "b", HEAD)).code
    assert (code.same, code.patch_differs, code.diff) == (True, False, "")


def test_patches_on_two_commits_are_not_compared(tmp_path):
    """The difference of two changes to different files says nothing."""
    code = compare(with_patch(tmp_path, "a", HEAD), with_patch(tmp_path, "b", HEAD + b"+x\n", commit="c2")).code
    assert (code.same, code.diff) == (False, "")


def test_a_hostile_patch_path_is_not_read(tmp_path):
    """A record that names a file outside its store gets nothing of it."""
    (tmp_path / "secret").write_text("diff --git a/s b/s\n+secret\n")
    store = tmp_path / "store"
    store.mkdir()
    run = with_patch(store, "a", HEAD)
    run.environment["git"]["patch"] = "../../secret"
    assert "secret" not in compare(run, with_patch(store, "b", HEAD)).code.diff


def test_packages_environment_inputs_and_duration():
    """Versions by name, surroundings by path, inputs by content, and the duration."""
    one = RunRecord(
        run_id=IDS[0],
        duration_s=2.0,
        host="a",
        environment=as_fields(
            {
                "packages": {"numpy": "1", "old": "1", "mine": {"version": "1", "commit": "x"}},
                "python": {"version": "3.11"},
                "process": {"pid": 1},
            }
        ),
        inputs=[
            Fields(path="/d/a", sha256="1"),
            Fields(path="/d/b", sha256="2"),
            Fields(path="/d/c", sha256="3"),
            Fields(path="/d/big", bytes=5, mtime="x", sha256=None),
            Fields(path="/d/gone", sha256="9"),
        ],
    )
    two = RunRecord(
        run_id=IDS[1],
        duration_s=5.0,
        host="b",
        environment=as_fields(
            {
                "packages": {"numpy": "2", "new": "1", "mine": {"version": "1", "commit": "y"}},
                "python": {"version": "3.12"},
                "process": {"pid": 2},
            }
        ),
        inputs=[
            Fields(path="/d/a", sha256="1"),
            Fields(path="/d/b", sha256="7"),
            Fields(path="/e/c", sha256="3"),
            Fields(path="/d/big", bytes=6, mtime="x", sha256=None),
            Fields(path="/d/fresh", sha256="8"),
        ],
    )
    result = compare(one, two)
    packages = [(change.path, change.old, change.new, change.kind) for change in result.packages]
    assert packages == [
        ("mine.commit", "x", "y", "changed"),
        ("new", None, "1", "added"),
        ("numpy", "1", "2", "changed"),
        ("old", "1", None, "removed"),
    ]
    assert [(change.path, change.new) for change in result.environment] == [("python.version", "3.12"), ("host", "b")]
    assert [(change.path, change.old, change.new, change.kind) for change in result.inputs] == [
        ("/d/b", "2", "7", "changed"),
        ("/e/c", "/d/c", "/e/c", "moved"),
        ("/d/big", "5 bytes of x", "6 bytes of x", "changed"),
        ("/d/fresh", None, "8", "added"),
        ("/d/gone", "9", None, "removed"),
    ]
    assert result.duration.delta == 3.0
    assert result.a is one


def test_the_room_that_a_disk_had_is_no_difference():
    """What is measured anew each time would tell any two runs apart; the disk's size stays."""
    runs = [
        RunRecord(run_id=run_id, environment=as_fields({"hardware": {"disk": {"total_bytes": total, "free_bytes": n}}}))
        for n, (run_id, total) in enumerate(zip(IDS, (9, 9, 8), strict=True))
    ]
    assert compare(runs[0], runs[1]).environment == []
    assert [change.path for change in compare(runs[0], runs[2]).environment] == ["hardware.disk.total_bytes"]


def test_more_than_two_are_each_compared_with_the_first():
    """`compare(a, b, c)` is the comparisons of a with b and of a with c."""
    runs = [RunRecord(run_id=run_id, metrics=Fields(loss=n)) for n, run_id in enumerate(IDS)]
    results = compare(*runs)
    assert [(result.a.run_id, result.b.run_id, result.metrics["loss"].delta) for result in results] == [
        (IDS[0], IDS[1], 1),
        (IDS[0], IDS[2], 2),
    ]


_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "x.y", "$set"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_configs = st.dictionaries(st.sampled_from("abc"), _values, max_size=3)


@settings(max_examples=200, deadline=None)
@given(_configs, _configs)
def test_any_two_configs_compare(old, new):
    """Nothing in a config raises; the same config has no changes; the other way round the same places differ."""
    runs = pair("config", old, new)
    there, back = compare(*runs), compare(*reversed(runs))
    assert {change.path for change in there.config} == {change.path for change in back.config}
    assert compare(runs[0], runs[0]).config == []
    json.dumps(there.to_dict(), allow_nan=False)
