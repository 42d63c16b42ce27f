"""The language of ``where=``: what it accepts, what it means, and where it points when it is wrong."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcard.errors import QueryError
from runcard.query import where
from runcard.record import Fields, RunRecord, Status, as_fields

RUN = RunRecord(
    run_id="20261101T101112-7k3f9q2m",
    name="baseline",
    experiment="train",
    status=Status.FINISHED,
    started_at=datetime(2026, 11, 1, 10, 11, 12, 500_000, tzinfo=UTC),
    duration_s=12.5,
    config=as_fields(
        {"lr": 0.01, "layers": [64, 32], "optimizer": {"name": "adam", "b.c": 1}, "a.b": 7, "flag": True, "none": None}
    ),
    metrics=Fields({"train/loss": 0.25, "accuracy": 0.9, "broken": math.nan, "big": 2**80}),
    tags=["quick", "first"],
    environment=as_fields({"git": {"commit": "abc", "dirty": False}}),
)


@pytest.mark.parametrize(
    "expression",
    [
        'config.lr < 0.1 and metrics["train/loss"] < 0.3 and "quick" in tags',
        "config.layers[0] == 64 and config.layers[-1] == 32",
        "config.layers == [64, 32]",
        "config.layers == (64, 32)",
        'config["a.b"] == 7',
        'config["optimizer.name"] == "adam"',
        "config['optimizer'].name == 'adam'",
        'config.optimizer["b.c"] == 1',
        "0.001 < config.lr < 0.1",
        "not config.lr > 1",
        "config.none is None",
        "config.none != 1",
        "config.flag is True",
        "decision is None",
        'decision != "discard"',
        'status == "finished"',
        'status in ("finished", "failed")',
        'status not in ["failed"]',
        'started_at >= "2026-11-01"',
        'started_at == "2026-11-01"',
        'started_at <= "2026-11-01"',
        'started_at < "2026-11-02"',
        'started_at > "2026-10-31"',
        'not started_at > "2026-11-01"',
        '"2026-11-01T10:11" < started_at < "2026-11-01T12:11:13+01:00"',
        'started_at in ["2026-11-01"]',
        '"2026-11-01" == started_at',
        'started_at != "2026-11-02"',
        "ended_at is None",
        "duration_s / 60 < 1",
        "config.lr * 100 == 1 and 7 // 2 == 3 and 7 % 4 == 3 and 2 ** 10 == 1024 and -1 + 2 - 1 == 0 and +1 == 1",
        "len(tags) == 2 and len(config) == 6 and len(name) == 8",
        "max(config.layers) == 64 and min(3, 2) == 2 and abs(-2) == 2 and round(metrics.accuracy) == 1",
        'name.startswith("base") and endswith(name, "line") and lower("ABC") == "abc" and "aseli" in name',
        '"lr" in config and "momentum" not in config and "optimizer.name" in config',
        "environment.git.commit == 'abc' and not environment.git.dirty",
        "short_id == '7k3f9q2m'",
        "metrics.big > 2 ** 79",
        "metrics.accuracy < inf",
        "isnan(metrics.broken) and not isnan(metrics.accuracy)",
        "not metrics.broken == metrics.broken",
        "metrics.broken != metrics.broken",
        "config.lr == 0.01\n and config.flag",
    ],
)
def test_what_holds_for_the_run(expression):
    """Each expression is true of the run."""
    assert where(expression)(RUN) is True


@pytest.mark.parametrize("comparison", ["==", "!=", "<", "<=", ">", ">=", "in", "not in", "is"])
@pytest.mark.parametrize("missing", ["config.momentum", 'metrics["test/loss"]', "config.layers[7]", "error.type"])
def test_missing_compares_false(comparison, missing):
    """Every comparison with something missing is false, and its negation true."""
    right = "None" if comparison == "is" else "1"
    expressions = [f"{missing} {comparison} {right}"]
    if comparison != "is":
        expressions.append(f"1 {comparison} {missing}")
    for expression in expressions:
        assert where(expression)(RUN) is False
        assert where(f"not ({expression})")(RUN) is True


@pytest.mark.parametrize(
    "expression",
    [
        'config.lr < "a"',
        "config.layers < 3",
        "name > 1",
        "config.lr + name > 0",
        "config.lr / 0 > 0",
        "metrics.big * 1.0 ** 2 < metrics.broken",
        "9 ** 9999 > 0",
        "2.0 ** 99999 > 0",
        "(-8) ** 0.5 > 0",
        "started_at < 3",
        "len(config.lr) > 0",
        "max(tags) > 0",
        "round(metrics.broken) == 0",
        "-name == 1",
        'config["lr"]["x"] == 1',
        "config[1.5] == 1",
        "1 in config.lr",
        'tags in "quick"',
    ],
)
def test_mixed_types_are_false_and_never_raise(expression):
    """What makes no sense for a record's values is false of it."""
    assert where(expression)(RUN) is False


def test_dates_alone_stand_for_the_whole_day():
    """`<=` a date includes that day, `>` begins with the next, and an hour is exact."""
    assert [where(f'started_at {sign} "2026-11-01"')(RUN) for sign in ("<", "<=", "==", ">=", ">", "!=")] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert where('started_at > "2026-11-01T10:00"')(RUN)
    assert not where('started_at > "2026-11-01T11:00"')(RUN)


@pytest.mark.parametrize(
    ("expression", "place", "words"),
    [
        ("config.lr <", "", "syntax"),
        ("config.lr < 1 and", "", "syntax"),
        ("config.lr = 1", "= 1", "compare with =="),
        ("", None, "empty"),
        ("status == finished", "finished", "quotes"),
        ("metric.loss < 1", "metric", "did you mean metrics"),
        ("lr < 1", "lr", "config.lr"),
        ("metrics.train/loss < 1", "metrics", 'metrics["train/loss"]'),
        ("0 < metrics.val/error", "metrics", 'metrics["val/error"]'),
        ("config.lr.__class__ == 1", "config", "['__class__']"),
        ("().__class__.__bases__", "()", "['__bases__']"),
        ("started_at.year == 2026", "started_at", "no fields"),
        ("name.upper == 1", "name", "no fields"),
        ("status.value == 'failed'", "status", "no fields"),
        ("'tags'.quick == 1", "'tags'", ".quick"),
        ("decision is 'keep'", "'keep'", "=="),
        ("config.a & config.b", "config.a &", "`and`"),
        ("true", "true", "True"),
        ("null", "null", "None"),
        ("open('x')", "open", "no function"),
        ("tags.append('x')", "tags.append", "called"),
        ("(lambda: 1)()", "lambda", "called"),
        ("[x for x in tags]", "[x", "not part of the language"),
        ("config.layers[0:1]", "config.layers", "slice"),
        ("f'{name}' == 'x'", "f'", "f-string"),
        ("1 if name else 2", "1 if", "if"),
        ("b'x' == name", "b'x'", "bytes"),
        ("len(1, 2)", "len(1", "takes 1"),
        ("len(x=1)", "len(x", "takes 1"),
        ("max(*tags)", "max(", "takes"),
        ('started_at > "yesterday"', '"yesterday"', "2026-11-01"),
        ("name == 'é' and nome == 1", "nome", "name"),
    ],
)
def test_a_wrong_expression_points_at_the_place(expression, place, words):
    """The message has the expression, a caret under the place, and what to write instead."""
    with pytest.raises(QueryError) as caught:
        where(expression)
    message = str(caught.value)
    assert words in message
    if place is not None:
        _, shown, caret = message.rsplit("\n", 2)
        assert shown.strip() == expression
        there = shown.index(place) if place else len(shown)
        assert caret.index("^") == there if not place.startswith("lambda") else "^" in caret


@pytest.mark.parametrize(
    "hostile",
    [
        "(" * 5000 + "1" + ")" * 5000,
        "not " * 2000 + "1",
        "1" + "+1" * 4000,
        "config" + ".a" * 4000,
        "[" * 150 + "]" * 150,
        "-" * 3000 + "1",
        "9" * 9000,
        "x" * 20_000,
        "name == '\0'",
    ],
)
def test_hostile_expressions_are_refused(hostile):
    """Depth and length are bounded: an error, never a crash."""
    with pytest.raises(QueryError):
        where(hostile)


def test_large_powers_cost_nothing():
    """An exponent is bounded, so that an expression cannot eat the machine."""
    assert where("2 ** 2000 > 1")(RUN)
    assert not where("2 ** 2 ** 2 ** 2 ** 2 ** 2 > 1")(RUN)
    assert not where("(2 ** 2000) ** 2000 > 1")(RUN)


def test_it_says_which_fields_it_needs():
    """A reader can tell from the predicate which fields of a record are looked at."""
    assert where("config.lr < 1 and 'a' in tags").names == {"config", "tags"}


def test_only_text_is_an_expression():
    """Anything else is refused by its type."""
    with pytest.raises(QueryError, match="int"):
        where(3)


_atoms = st.sampled_from(
    ["config.lr", "config.layers", "metrics.broken", "name", "tags", "started_at", "error.x", "1", "'a'", "None", "inf"]
)
_expressions = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["<", "==", "!=", ">=", "in", "not in"]), inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("(not {})".format, inner),
        st.builds("len({})".format, inner),
        st.builds("max({}, {})".format, inner, inner),
        st.builds("({}[{}])".format, inner, inner),
        st.builds("[{}]".format, inner),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(_expressions)
def test_an_accepted_expression_never_raises(expression):
    """Whatever the grammar allows has a truth value for any record."""
    assert where(expression)(RUN) in (True, False)
