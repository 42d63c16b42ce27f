"""Recorded values back to Python's: what `plain` told, `Back` makes again; what it cut is said to be lost."""

from __future__ import annotations

import argparse
import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import json
import math
import re
import types
import uuid
import zoneinfo
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import attrs
import hypothesis.strategies as st
import msgspec
import numpy as np
import omegaconf
import pydantic
import pytest
from hypothesis import given, settings

from runcard._rerun_child import Mover
from runcard._values_back import Back, LostError, by_annotation
from runcard.events import restore
from runcard.values import plain


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Named(NamedTuple):
    x: int
    y: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Inner:
    path: Path = Path("a/b")
    sizes: tuple[int, ...] = (1, 2)


@dataclasses.dataclass
class Outer:
    inner: Inner = Inner()
    colour: Colour = Colour.RED
    total: int = dataclasses.field(init=False, default=0)
    token: str = dataclasses.field(default="default", repr=False)

    def __post_init__(self):
        self.total += 1


class Model(pydantic.BaseModel):
    lr: float = pydantic.Field(0.1, alias="learning_rate")
    inner: Inner = Inner()


@attrs.frozen
class Attrs:
    _hidden: int = 1
    name: str = "n"


class Struct(msgspec.Struct):
    n: int
    names: list[str]


def back(value):
    """A value, through the record and back."""
    told = plain(value)
    assert told.exact
    return Back(told.types).value(restore(json.loads(json.dumps(told.value))), "", told.types.get(""))


VALUES = [
    Path("a/b"),
    PurePosixPath("c"),
    Colour.RED,
    Colour.PAIR,
    Level.LOW,
    dt.datetime(2026, 1, 2, 3, 4, 5, 6),
    dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    dt.date(2026, 1, 2),
    dt.time(1, 2),
    dt.timedelta(-1, 2, 3),
    decimal.Decimal("1.10"),
    fractions.Fraction(1, 3),
    complex(1, -0.0),
    uuid.UUID(int=7),
    range(1, 9, 2),
    slice(1, None, 2),
    ...,
    (1, (2, [3])),
    {1, "a"},
    frozenset({(1, 2)}),
    {1: "a", "1": "b", (2, 3): None},
    collections.OrderedDict(a=1),
    collections.deque([1, 2]),
    b"abc",
    bytearray(b"abc"),
    2**70,
    "\ud800 lone \\ud800",
    {"$float": "nan", "a.b": (1,)},
    Named(1, (2, 3)),
    Inner(),
    argparse.Namespace(lr=0.1, path=Path("x")),
    types.SimpleNamespace(a=1),
    Attrs(5, "m"),
    Struct(1, ["a"]),
    Model(learning_rate=0.5),
    zoneinfo.ZoneInfo("UTC"),
    ipaddress.ip_address("::1"),
    re.compile("a+"),
    math.sqrt,
    Path,
    Inner,
    omegaconf.OmegaConf.create({"a": {"b": [1, 2]}}),
    array.array("d", [1.0, 2.0]),
    np.float32(0.1),
    np.float64(0.1),
    np.int64(3),
    np.bool_(True),
    np.datetime64("2026-01-02"),
    np.dtype("float32"),
]


@pytest.mark.parametrize(
    "value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:20]!r}".replace("::", "")
)
def test_a_value_comes_back(value):
    """Equal and of the same type, alone and inside of others."""
    assert back({"v": [value]})["v"][0] == value
    found = back({"v": value})["v"]
    assert type(found) is type(value)
    assert found == value


def test_arrays_come_back_with_their_kind():
    """Small arrays keep shape and dtype; large ones are lost, and said to be."""
    found = back({"v": np.arange(6, dtype="int16").reshape(2, 3)})["v"]
    assert (found.dtype, found.tolist()) == (np.dtype("int16"), [[0, 1, 2], [3, 4, 5]])
    told = plain({"v": np.zeros(99)})
    with pytest.raises(LostError, match="v is in the record only as a summary"):
        Back(told.types).value(told.value)


def test_a_dataclass_is_made_by_its_own_init_and_then_set_as_recorded():
    """Fields without `init` keep their recorded value; a secret one takes its default."""
    outer = Outer(token="s3cret")
    outer.total = 9
    told = plain({"v": outer})
    found = Back(told.types).value(told.value)["v"]
    assert (found.inner, found.colour, found.total, found.token) == (outer.inner, Colour.RED, 9, "default")


def test_partials_come_back():
    """The function by its name, with its arguments."""
    found = back({"v": functools.partial(round, 1.23456, ndigits=2)})["v"]
    assert found() == 1.23


def test_redacted_and_cut_values_are_lost():
    """What is not in the record is named with its path."""
    for value, path in (
        ("[redacted]", "v"),
        ({"$cut_text": {"length": 9, "head": "x"}}, "v"),
        ([{"$object": "a:b"}], r"v\[0\]"),
    ):
        with pytest.raises(LostError, match=f"^{path} "):
            Back({}).value({"v": value})


@pytest.mark.parametrize(
    "kind", ["os:system", "subprocess:Popen", "builtins:exec", "pathlib:os", "no_such:Thing", "io:FileIO"]
)
def test_a_type_that_holds_no_data_is_not_called(kind, tmp_path, monkeypatch):
    """Functions are looked up at most, never called; classes that do things are refused."""
    monkeypatch.chdir(tmp_path)
    for value in ("touch made", ["touch", "made"], {"args": "touch made"}):
        try:
            Back({"v": kind}).value({"v": value})
        except LostError:
            continue
    assert list(tmp_path.iterdir()) == []


def test_annotations_speak_where_no_type_is_recorded():
    """Path, enumerations, dates and data classes from what JSON has; a text stays one where nothing else is asked."""
    assert by_annotation("a/b", Path) == Path("a/b")
    assert by_annotation("a/b", Path | None) == Path("a/b")
    assert by_annotation("red", Colour) is Colour.RED
    assert by_annotation("2026-01-02", dt.date) == dt.date(2026, 1, 2)
    assert by_annotation({"path": Path("z")}, Inner) == Inner(Path("z"))
    assert by_annotation("text", str) == "text"
    assert by_annotation([1], list[int]) == [1]
    assert by_annotation("x", None) == "x"


def test_paths_of_the_recorded_code_lie_in_the_rebuilt_one():
    """By whole parts, the longest root first; what climbs out stays as it is."""
    move = Mover([["/repo", "/tmp/code"], ["/repo/lib", "/tmp/lib"]])
    told = {
        "/repo/a": "/tmp/code/a",
        "/repo/lib/b": "/tmp/lib/b",
        "/repo": "/tmp/code",
        "/repository/a": "/repository/a",
    }
    for path, place in told.items():
        assert move(path) == place
    assert move("/repo/../etc/passwd") == "/repo/../etc/passwd"
    assert move.word("--data=/repo/a") == "--data=/tmp/code/a"
    assert Back({"v": "pathlib:PosixPath"}, move=move).value({"v": "/repo/a"}) == {"v": Path("/tmp/code/a")}


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=64) | st.dates()
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
        | st.builds(Inner, sizes=st.tuples(st.integers()))
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(trees)
def test_anything_exact_comes_back(value):
    """Whatever `plain` calls exact is made again, type for type."""
    told = plain({"v": value})
    if told.exact:
        found = Back(told.types).value(restore(json.loads(json.dumps(told.value))))
        assert repr(found) == repr({"v": value})
