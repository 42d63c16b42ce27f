"""Which records, in what order, and what runs have in common: `select`, sort keys, `aggregate`, `explain`."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcard import query
from runcard._paths import leaves, look_up, parts
from runcard._replicates import student_t
from runcard.errors import QueryError, SettingError
from runcard.query import aggregate, explain, rank_groups, select, sort_key, sort_records
from runcard.record import Fields, RunRecord, Status, as_fields
from runcard.values import path_join

START = datetime(2026, 11, 1, tzinfo=UTC)


def made(n, config=None, metrics=None, **rest):
    """A finished record, a second after the one before."""
    rest.setdefault("started_at", START + timedelta(seconds=n))
    rest.setdefault("status", Status.FINISHED)
    return RunRecord(
        run_id=f"20261101T{n:06}-0000000{n % 10}", config=as_fields(config or {}), metrics=Fields(metrics or {}), **rest
    )


def numbers(records):
    """Which of `made` the records are."""
    return [int(record.run_id[9:15]) for record in records]


def test_newest_first():
    """Without a sort key the latest start comes first; a lost start goes by the id."""
    runs = [made(1), made(3), made(2, started_at=None), made(10)]
    runs[2] = made(2, started_at=None)
    assert numbers(select(runs)) == [10, 3, 2, 1]


def test_select_by_all_conditions():
    """Where, experiment, status and limit all have to hold."""
    runs = [
        made(1, {"lr": 0.1}, experiment="a"),
        made(2, {"lr": 0.2}, experiment="a"),
        made(3, {"lr": 0.3}, experiment="a", status=Status.FAILED),
        made(4, {"lr": 0.4}, experiment="b"),
        made(5, {"lr": 0.5}, experiment="a", status=Status.CRASHED),
    ]
    assert numbers(select(runs, "config.lr > 0.1", experiment="a")) == [5, 3, 2]
    assert numbers(select(runs, status="failed,crashed")) == [5, 3]
    assert numbers(select(runs, status=[Status.FAILED])) == [3]
    assert numbers(select(runs, where=lambda record: record.experiment == "b")) == [4]
    assert numbers(select(runs, limit=2)) == [5, 4]
    assert select(runs, limit=0) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "done"},
        {"limit": -1},
        {"limit": "3"},
        {"limit": True},
        {"sort": "loss"},
        {"sort": ""},
        {"sort": "-"},
        {"sort": "metrics["},
        {"sort": "config]x"},
        {"sort": "metrics."},
        {"sort": "status.value"},
        {"sort": 5},
        {"status": 5},
        {"where": 5},
        {"where": "config.lr <"},
    ],
)
def test_what_cannot_be_understood_is_refused(wrong):
    """A wrong condition raises, it never selects nothing silently."""
    with pytest.raises(QueryError):
        select([], **wrong)


def test_sort_puts_missing_last_either_way():
    """Missing, None and NaN come last ascending and descending, in the order they were."""
    values = [0.3, math.nan, 0.1, None, 0.2, math.inf, -math.inf]
    runs = [made(n, metrics={} if value is None else {"loss": value}) for n, value in enumerate(values)]
    runs.append(made(7, metrics={"loss": None}))
    assert numbers(sort_records(runs, "metrics.loss")) == [6, 2, 4, 0, 5, 1, 3, 7]
    assert numbers(sort_records(runs, "-metrics.loss")) == [5, 0, 4, 2, 6, 1, 3, 7]


def test_sort_is_stable_and_takes_several_keys():
    """Ties stay in the order given; later keys break them."""
    runs = [made(n, {"model": model, "a,b": n}) for n, model in enumerate("babab")]
    assert numbers(sort_records(runs, "config.model")) == [1, 3, 0, 2, 4]
    assert numbers(sort_records(runs, "-config.model")) == [0, 2, 4, 1, 3]
    assert numbers(sort_records(runs, 'config.model,-config["a,b"]')) == [3, 1, 4, 2, 0]
    assert numbers(sort_records(runs, "config.model,-config['a,b']")) == [3, 1, 4, 2, 0]
    assert numbers(sort_records(runs, ["config.model", "-started_at"])) == [3, 1, 4, 2, 0]


def test_sort_of_mixed_types_never_raises():
    """Numbers come before times, times before texts, and the rest by its text."""
    values = ["b", 2, [1], True, {"x": 1}, 0.5, "a"]
    runs = [made(n, {"x": value}) for n, value in enumerate(values)]
    assert numbers(sort_records(runs, "config.x")) == [5, 3, 1, 6, 0, 2, 4]


def test_sort_keys_take_paths_and_plain_metric_names():
    """A metric's name may follow its dot as it is, or stand in brackets; nested settings go by path."""
    run = made(1, {"optimizer": {"lr": 0.1}, "a.b": 2}, {"val/loss": 0.5, "x.y": 3})
    assert sort_key("-metrics.val/loss").read(run) == 0.5
    assert sort_key('metrics["val/loss"]').read(run) == 0.5
    assert sort_key("metrics['val/loss']").read(run) == 0.5
    assert sort_key("metrics.x.y").read(run) == 3
    assert sort_key("config.optimizer.lr").read(run) == 0.1
    assert sort_key("config.a.b").read(run) == 2
    assert sort_key("-started_at").descending


_keys = st.one_of(st.text(max_size=6), st.sampled_from(["a", "a.b", 'x"y', "z[0]", "\\", "val/loss", " "]))
_trees = st.dictionaries(
    _keys, st.recursive(st.integers(), lambda t: st.dictionaries(_keys, t, max_size=3)), max_size=4
)


@settings(max_examples=150, deadline=None)
@given(_trees)
def test_every_leaf_is_found_by_its_path(tree):
    """Whatever the keys are, a leaf's path leads back to it, and no two leaves share one."""
    if any(str(key).startswith("$") for key in json.dumps(tree)):
        return
    found = list(leaves(tree)) if tree else []
    assert len({path for path, _ in found}) == len(found)
    for path, value in found:
        assert look_up(tree, parts(path)) == value


def test_paths_read_as_written():
    """The path syntax: dots, indexes, quotes where a name needs them."""
    assert parts("a.b[0].c") == ("a", "b", 0, "c")
    assert path_join(path_join("a", "x.y"), 3) == 'a["x.y"][3]'
    assert parts("a..b") is None
    assert parts(".a") is None


def replicates():
    """Two settings with three seeds each; the worse one has the luckiest run."""
    values = {"a": [0.5, 0.52, 0.54], "b": [0.3, 0.6, 0.9]}
    return [
        made(n, {"model": model, "seed": seed, "data": {"split_seed": seed}, "random_state": n}, {"loss": loss})
        for n, (model, seed, loss) in enumerate((m, s, v) for m, vs in values.items() for s, v in enumerate(vs))
    ]


def test_replicates_differ_in_their_seeds_alone():
    """Runs with the same settings but for seeds make a group with mean, deviation and interval."""
    groups = aggregate(replicates(), direction="minimize")
    assert [group.n for group in groups] == [3, 3]
    assert groups[0].config == {"model": "a"}
    assert groups[0].seeds[1] == {"seed": 1, "data.split_seed": 1, "random_state": 1}
    spread = groups[0].metrics["loss"]
    assert spread.mean == pytest.approx(0.52)
    assert spread.std == pytest.approx(0.02)
    assert (spread.min, spread.max, spread.best) == (0.5, 0.54, 0.5)
    half = 4.302653 * 0.02 / math.sqrt(3)  # Student's t, 2 degrees of freedom
    assert (spread.ci_low, spread.ci_high) == (pytest.approx(0.52 - half), pytest.approx(0.52 + half))


def test_settings_of_any_size_make_groups():
    """Integers of more digits than Python writes, and NaN, tell groups apart as others do."""
    runs = [made(n, {"big": 10**5000 + n // 2, "odd": math.nan, "seed": n}, {"loss": 1.0}) for n in range(4)]
    assert [group.n for group in aggregate(runs, direction="minimize")] == [2, 2]


def test_luck_does_not_win():
    """Groups rank by their mean: the single luckiest run does not decide."""
    groups = rank_groups(aggregate(replicates()), "loss", "minimize")
    assert [group.config["model"] for group in groups] == ["a", "b"]
    assert [group.config["model"] for group in rank_groups(groups, "loss", "maximize")] == ["b", "a"]
    assert rank_groups(groups, "absent", "minimize") == groups


def test_replicates_are_of_one_experiment_and_type():
    """Equal settings of two experiments are no replicates, nor are 1 and "1", nor a missing and a None."""
    configs = [{"x": 1}, {"x": "1"}, {"x": None}, {}]
    runs = [made(n, config, experiment="e") for n, config in enumerate(configs)]
    assert len(aggregate([*runs, made(9, {"x": 1}, experiment="f")])) == 5


def test_a_seed_inside_a_list_is_a_seed():
    """Seeds are found in lists of mappings too."""
    runs = [made(n, {"stages": [{"seed": n, "size": 3}]}) for n in range(2)]
    assert [group.n for group in aggregate(runs)] == [2]


def test_group_by_paths():
    """`by` groups by any field or path, a missing value being a group of its own."""
    runs = [made(n, {"model": model} if model else {}, {"loss": n}) for n, model in enumerate(["a", "b", "a", None])]
    groups = aggregate(runs, by="config.model", metrics="loss")
    assert [(group.config, group.n) for group in groups] == [
        ({"config.model": "a"}, 2),
        ({"config.model": "b"}, 1),
        ({}, 1),
    ]
    assert len(aggregate(runs, by=["config.model", "status"])) == 3
    by_time = [group.to_dict() for group in aggregate(runs, by="started_at")]
    assert json.loads(json.dumps(by_time)) == by_time
    with pytest.raises(QueryError):
        aggregate(runs, by="model")
    with pytest.raises(SettingError):
        aggregate(runs, direction="down")


def test_spread_leaves_out_what_is_no_result():
    """NaN, infinities and missing values are counted, not averaged; below two values there is no deviation."""
    values = [1.0, math.nan, math.inf, None, 10**400]
    runs = [made(n, {}, {} if value is None else {"loss": value}) for n, value in enumerate(values)]
    spread = aggregate(runs)[0].metrics["loss"]
    assert (spread.n, spread.unusable, spread.mean) == (1, 3, 1.0)
    assert spread.std is spread.ci_low is spread.ci_high is None
    assert json.loads(json.dumps(aggregate(runs)[0].to_dict()))["n"] == 5


def test_equal_values_have_no_spread():
    """The mean of equal values is that value exactly."""
    runs = [made(n, {}, {"loss": 0.1}) for n in range(7)]
    spread = aggregate(runs)[0].metrics["loss"]
    assert (spread.mean, spread.std, spread.ci_low) == (0.1, 0.0, 0.1)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (4, 2.77645), (30, 2.04227), (31, 2.03951), (60, 2.00030), (1000, 1.96234)]
)
def test_students_t(degrees, quantile):
    """The quantiles agree with published tables, beyond our own table too."""
    assert student_t(degrees) == pytest.approx(quantile, abs=1e-4)


def grid(count=40, noise=0):
    """Runs whose loss hangs on lr (low is good), on the model, and on a width best in the middle."""
    chance = random.Random(5)
    runs = []
    for n in range(count):
        lr, width, model = chance.random(), chance.randrange(100), chance.choice("ab")
        loss = lr + noise * chance.random()
        config = {"lr": lr, "width": width, "model": model, "seed": n, "fixed": 3, "noise": chance.random()}
        runs.append(made(n, config, {"loss": loss, "off": abs(width - 50), "kind": ord(model) + chance.random() / 9}))
    return runs


def test_explain_numeric_by_separation():
    """A setting that orders the runs comes out first, with its direction and medians."""
    answer = explain(grid(), "loss", "minimize")
    assert answer.enough
    assert len(answer.top) == len(answer.bottom) == 10
    first = answer.settings[0]
    assert (first.path, first.kind, first.pattern, first.strength, first.delta) == ("lr", "numeric", "lower", 1.0, -1.0)
    assert first.top[1] < first.bottom[1]
    assert first.p < 0.001
    assert "10 best" in first.evidence
    assert {"seed", "fixed"}.isdisjoint({each.path for each in answer.settings})
    assert answer.tried == 4
    assert explain(grid(), "loss", "maximize").settings[0].pattern == "higher"
    json.dumps(answer.to_dict())


def test_explain_finds_a_best_value_in_the_middle():
    """A setting that is best in the middle tells the runs apart although its medians are alike."""
    found = explain(grid(), "off", "minimize").settings[0]
    assert (found.path, found.pattern) == ("width", "middle")


def test_explain_categorical_by_odds():
    """A text setting is judged by its odds ratio, corrected so that it is finite."""
    found = explain(grid(), "kind", "minimize").settings[0]
    assert (found.path, found.kind, found.value) == ("model", "categorical", "a")
    assert found.odds_ratio == pytest.approx(10.5 * 10.5 / 0.25)
    assert (found.top, found.bottom) == ((10.0, 10.0), (0.0, 10.0))


def test_explain_takes_a_missing_setting_for_a_value():
    """A setting that only some runs have can be what tells them apart."""
    runs = [made(n, {"dropout": "on"} if n >= 10 else {}, {"loss": n}) for n in range(20)]
    found = explain(runs, "loss", "minimize").settings[0]
    assert (found.path, found.odds_ratio) == ("dropout", pytest.approx(121.0))


@pytest.mark.parametrize(
    ("runs", "words", "enough"),
    [
        ([], "not enough runs: 0", False),
        (grid(9), "not enough runs: 9", False),
        ([*grid(9), made(9, {}, {"loss": math.nan})], "not enough runs: 9", False),
        ([made(n, {"lr": n}, {"loss": 1.0}) for n in range(20)], "no difference", True),
        ([made(n, {"lr": 1}, {"loss": n}) for n in range(20)], "same settings", True),
        ([made(n, {"lr": n % 2}, {"loss": n}) for n in range(20)], "none of 1 settings", True),
    ],
)
def test_explain_says_when_there_is_nothing_to_say(runs, words, enough):
    """Too few runs, equal results, equal settings and settings that tell nothing each have their sentence."""
    answer = explain(runs, "loss", "minimize")
    assert words in answer.message
    assert answer.settings == []
    assert answer.enough is enough


def test_explain_takes_settings_of_any_type():
    """Lists, None, mixed types and big integers never raise."""
    odd = [[1], None, "a", 3, True, 10**400, {"x": 1}, 0.5, math.nan, {}]
    runs = [made(n, {"x": odd[n % 10], "y": odd[-n % 7]}, {"loss": n}) for n in range(40)]
    assert explain(runs, "loss", "minimize", top=5).tried >= 2


def test_the_door_has_everything_and_brings_it_in_when_used():
    """Every name of `runcard.query` is there; comparing and explaining are imported on first use."""
    assert all(getattr(query, name) is not None for name in query.__all__)
    with pytest.raises(AttributeError):
        query.nothing  # noqa: B018 - the look is the test
    code = "import sys, runcard.query; sys.exit('runcard._compare' in sys.modules or 'runcard._explain' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
