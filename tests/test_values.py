"""Any value becomes strict, bounded JSON, by the names of its classes alone."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import json
import math
import pathlib
import sys
import threading
import types
import uuid
from unittest.mock import MagicMock, Mock

import attrs
import msgspec
import numpy as np
import orjson
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runcard.redact import REDACTED
from runcard.values import config_hash, is_config_object, mark, number, path_join, plain, plain_text, restore, returned


class Colour(enum.Enum):
    RED = 1
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Config:
    lr: float = 0.1
    key: str = dataclasses.field(default="hunter2", repr=False)
    where: object = None


@dataclasses.dataclass(slots=True)
class Slotted:
    lr: float = 0.1


@attrs.define
class Attrs:
    lr: float = 0.1
    key: str = attrs.field(default="hunter2", repr=False)


class Model(pydantic.BaseModel):
    lr: float = 0.1
    secret: pydantic.SecretStr = pydantic.SecretStr("hunter2")
    key: str = pydantic.Field("hunter2", repr=False)


class Struct(msgspec.Struct):
    lr: float = 0.1


class Text(str):
    __slots__ = ()


class Twin(str):
    """A key that reads like another and is not equal to it."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024 - the untyped kind is a case, too


def strict(value):
    """The value through both encoders, as a journal and a sink would write it."""
    text = json.dumps(value, allow_nan=False)
    text.encode()
    assert json.loads(orjson.dumps(value)) == json.loads(text)
    return json.loads(text)


HERE = __name__

STORED = [
    (float("nan"), {"$float": "nan"}, None),
    (float("-inf"), {"$float": "-inf"}, None),
    (2**64, {"$int": "0x10000000000000000"}, None),
    (-(2**63) - 1, {"$int": "-0x8000000000000001"}, None),
    (2**64 - 1, 2**64 - 1, None),
    (np.float32(0.1), float(np.float32(0.1)), "numpy:float32"),
    (np.float64(0.1), 0.1, "numpy:float64"),
    (np.int8(-3), -3, "numpy:int8"),
    (np.str_("a"), "a", "numpy:str_"),
    (np.complex64(1 + 2j), "(1+2j)", "numpy:complex64"),
    (np.datetime64("2020-01-01"), "2020-01-01", "numpy:datetime64"),
    (pathlib.PurePosixPath("a/b"), "a/b", "pathlib:PurePosixPath"),
    (Colour.RED, 1, f"{HERE}:Colour"),
    (Colour.PAIR, [1, 2], f"{HERE}:Colour"),
    (Level.LOW, 1, f"{HERE}:Level"),
    (dt.datetime(2020, 1, 2, 3), "2020-01-02T03:00:00", "datetime:datetime"),
    (dt.datetime(2020, 1, 2, tzinfo=dt.UTC), "2020-01-02T00:00:00+00:00", "datetime:datetime"),
    (dt.date(2020, 1, 2), "2020-01-02", "datetime:date"),
    (dt.time(1, 2), "01:02:00", "datetime:time"),
    (dt.timedelta(-1, 5, 6), "P-1DT5.000006S", "datetime:timedelta"),
    (pd.Timestamp(0), "1970-01-01T00:00:00", "pandas:Timestamp"),
    (decimal.Decimal("1.10"), "1.10", "decimal:Decimal"),
    (fractions.Fraction(1, 3), "1/3", "fractions:Fraction"),
    (1 + 2j, "(1+2j)", "builtins:complex"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001", "uuid:UUID"),
    (range(0, 9, 2), "range(0, 9, 2)", "builtins:range"),
    (slice(1, 2), "slice(1, 2, None)", "builtins:slice"),
    ((1, "a"), [1, "a"], "builtins:tuple"),
    (collections.deque([1]), [1], "collections:deque"),
    (Pair(1, 2), {"a": 1, "b": 2}, f"{HERE}:Pair"),
    (Config(), {"lr": 0.1, "key": REDACTED, "where": None}, f"{HERE}:Config"),
    (Slotted(), {"lr": 0.1}, f"{HERE}:Slotted"),
    (Attrs(), {"lr": 0.1, "key": REDACTED}, f"{HERE}:Attrs"),
    (Model(), {"lr": 0.1, "secret": REDACTED, "key": REDACTED}, f"{HERE}:Model"),
    (Struct(), {"lr": 0.1}, f"{HERE}:Struct"),
    (argparse.Namespace(a=argparse.Namespace(b=1)), {"a": {"b": 1}}, "argparse:Namespace"),
    (types.SimpleNamespace(a=1), {"a": 1}, "types:SimpleNamespace"),
    (types.MappingProxyType({"a": 1}), {"a": 1}, "builtins:mappingproxy"),
    (collections.defaultdict(int, a=1), {"a": 1}, "collections:defaultdict"),
    (collections.UserDict(a=1), {"a": 1}, "collections:UserDict"),
    (Text("a"), "a", f"{HERE}:Text"),
    (json.dumps, "json:dumps", "builtins:function"),
    (len, "builtins:len", "builtins:builtin_function_or_method"),
    (Config, f"{HERE}:Config", "builtins:type"),
    (json, "json", "builtins:module"),
    ({1, 2}, {"$set": [1, 2]}, "builtins:set"),
    (frozenset("ab"), {"$set": ["a", "b"]}, "builtins:frozenset"),
    ({1: "a", "1": "b"}, {"$pairs": [[1, "a"], ["1", "b"]]}, None),
    ({"a": 1, Twin("a"): 2}, {"$pairs": [["a", 1], ["a", 2]]}, None),
    ({"a": math.nan, "b": 2**64}, {"a": {"$float": "nan"}, "b": {"$int": "0x10000000000000000"}}, None),
    ({"\ud800": 1}, {"$pairs": [[{"$text": "\\ud800"}, 1]]}, None),
    ({"$float": "nan"}, {"$$float": "nan"}, None),
    ({"$$x": 1}, {"$$$x": 1}, None),
    ("a\ud800\\", {"$text": "a\\ud800\\\\"}, None),
    ("\0\x1b\u202e", "\0\x1b\u202e", None),
]


@pytest.mark.parametrize(("value", "expected", "kind"), STORED, ids=lambda v: type(v).__name__)
def test_stored_form(value, expected, kind):
    """A value has its stored form, exactly, and its type stands beside it where JSON cannot tell it."""
    found = plain(value)

    assert strict(found.value) == expected
    assert found.types.get("") == kind
    assert (found.exact, found.cuts) == (True, 0)


def test_types_stand_under_their_paths():
    """The types of nested values are found by the path syntax."""
    found = plain(
        {"a.b": pathlib.PurePosixPath("x"), "c": [(1,)], "d": {"e": Colour.RED}, "f": {pathlib.PurePosixPath("s")}}
    )

    assert found.types == {
        '["a.b"]': "pathlib:PurePosixPath",
        "c[0]": "builtins:tuple",
        "d.e": f"{HERE}:Colour",
        "f": "builtins:set",
        "f[0]": "pathlib:PurePosixPath",
    }


def test_path_types_are_the_same_on_every_python():
    """The module pathlib moved to in Python 3.13 does not show."""
    moved = type("PosixPath", (), {"__module__": "pathlib._local"})

    assert plain(moved()).value == {"$object": f"pathlib:{moved.__qualname__}"}


@pytest.mark.parametrize("precision", [np.float16, np.float32, np.float64])
def test_numpy_floats_round_trip(precision):
    """A numpy float of any precision comes back as the same number."""
    for value in (0.1, 1 / 3, 1e-7, 65504):
        assert precision(json.loads(json.dumps(plain(precision(value)).value))) == precision(value)


DIGEST = "09ecb6ebc8bcefc733f6f2ec44f791abeed6a99edf0cc31519637898aebd52d8"


def frame(kind, dtype="int64"):
    return {"$frame": {"type": kind, "shape": [1, 1], "columns": ["a"], "dtypes": [dtype]}}


SUMMARISED = [
    (lambda: 0, f"{HERE}:<lambda>"),
    (b"x" * 100, {"$bytes": {"length": 100, "sha256": DIGEST, "head": "78" * 64}}),
    (np.zeros((9, 3)), {"$array": {"type": "numpy:ndarray", "shape": [9, 3], "dtype": "float64", "bytes": 216}}),
    (np.array([object()]), {"$array": {"type": "numpy:ndarray", "shape": [1], "dtype": "object", "bytes": 8}}),
    (pd.DataFrame({"a": [1]}), frame("pandas:DataFrame")),
    (pl.DataFrame({"a": [1]}), frame("polars.dataframe.frame:DataFrame", "Int64")),
    (pl.LazyFrame({"a": [1]}), {"$frame": {"type": "polars.lazyframe.frame:LazyFrame", "lazy": True}}),
    (pa.table({"a": [1]}), frame("pyarrow.lib:Table")),
    (Mock(), {"$object": "unittest.mock:Mock"}),
    (MagicMock(), {"$object": "unittest.mock:MagicMock"}),
    (threading.Lock(), {"$object": "_thread:lock"}),
    (object(), {"$object": "builtins:object"}),
]


@pytest.mark.parametrize(("value", "expected"), SUMMARISED, ids=lambda v: type(v).__name__)
def test_summarised(value, expected):
    """What is only summarised says so, so that no hash is made of it."""
    found = plain(value)

    assert strict(found.value) == expected
    assert not found.exact


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (np.arange(3), [0, 1, 2]),
        (np.array([[1.0, math.nan]]), [[1.0, {"$float": "nan"}]]),
        (np.array(2.5), 2.5),
        (pd.Series([1, 2]), [1, 2]),
        (pa.array([1, None]), [1, None]),
    ],
)
def test_small_arrays_by_value(value, values):
    """Up to 16 elements are stored, and only the array's own type is noted."""
    found = plain({"x": value})

    assert strict(found.value)["x"]["$array"]["values"] == values
    assert list(found.types) == ["x"]
    assert found.exact


def test_omegaconf_references_but_no_resolvers(monkeypatch):
    """An OmegaConf's own references are resolved, absolute and relative; what goes by the environment stays text."""
    monkeypatch.setenv("SECRET_PLACE", "leaked")
    config = OmegaConf.create(
        {
            "a": {"b": 1, "near": "${.b}", "list": [1, "${a.b}"]},
            "x": "${a.b}",
            "text": "p_${a.b}",
            "part": "${a}",
            "item": "${a.list[1]}",
            "env": "${oc.env:SECRET_PLACE}",
            "via": "${env}",
            "mixed": "v-${env}",
            "loop": "${loop}",
            "nowhere": "${no.such}",
            "missing": "???",
        }
    )

    value = plain(config).value

    assert value["a"] == {"b": 1, "near": 1, "list": [1, 1]}
    assert (value["x"], value["text"], value["part"], value["item"]) == (1, "p_1", value["a"], 1)
    assert (value["env"], value["via"], value["loop"]) == ("${oc.env:SECRET_PLACE}", "${env}", "${loop}")
    assert (value["nowhere"], value["missing"]) == ("${no.such}", "???")
    assert "leaked" not in json.dumps(value)


def test_ml_collections_by_name():
    """A ConfigDict is known by its class's name and gives its fields; one that has to be computed is left."""
    module = "ml_collections.config_dict.config_dict"
    config_dict = type("ConfigDict", (), {"__module__": module, "__qualname__": "ConfigDict"})
    reference = type("FieldReference", (), {"__module__": module, "__qualname__": "FieldReference"})
    plain_ref, computed, config = reference(), reference(), config_dict()
    plain_ref.__dict__.update(_value=3, _ops=[])
    computed.__dict__.update(_value=3, _ops=[1])
    config.__dict__["_fields"] = {"a": 1, "b": plain_ref, "c": computed}

    value = plain(config).value

    assert value == {"a": 1, "b": 3, "c": {"$object": f"{module}:FieldReference"}}


def test_tensor_by_name_is_not_moved():
    """A tensor on a device is described and its elements are left where they are."""
    read = []

    class Tensor:
        shape, dtype, layout = (2,), "torch.float32", "torch.strided"
        device = types.SimpleNamespace(type="cuda")

        def numel(self):
            return 2

        def element_size(self):
            return 4

        def detach(self):
            read.append(1)

    Tensor.__module__, Tensor.__qualname__ = "torch", "Tensor"

    told = plain(Tensor()).value["$array"]

    assert (told["shape"], told["bytes"], "values" in told, read) == ([2], 8, False, [])


def test_orm_rows_are_untouched():
    """A mapped class of SQLAlchemy is named and its fields are not read, for reading may query the database."""

    @dataclasses.dataclass
    class Row:
        a: int = 1

    Row._sa_class_manager = object()

    assert plain(Row()).value == {"$object": f"{HERE}:{Row.__qualname__}"}


class Hostile:
    """Everything on it ends the process."""

    def __getattr__(self, name):
        raise SystemExit(name)

    def __repr__(self):
        raise SystemExit("repr")

    __len__ = __bool__ = __eq__ = __iter__ = __str__ = __hash__ = __repr__

    @property
    def __class__(self):
        raise SystemExit("class")

    @property
    def __dict__(self):
        raise SystemExit("dict")


class HostileMeta(type):
    def __getattribute__(cls, name):
        raise SystemExit(name)

    def __hash__(cls):
        raise SystemExit("hash")

    def __eq__(cls, other):
        raise SystemExit("eq")


def test_hostile_objects_are_only_named():
    """Objects and classes whose every method raises SystemExit are named, in any position."""
    cls = HostileMeta("Odd", (), {})

    found = plain({"a": Hostile(), "b": [type.__call__(cls)], "c": cls})

    assert found.value["a"] == {"$object": f"{HERE}:Hostile"}
    assert found.value["b"][0] == {"$object": f"{HERE}:Odd"}
    assert number(Hostile()) is None
    assert returned({"x": Hostile(), "y": 1})[0] == {"y": 1}
    assert is_config_object(Hostile()) is False
    assert plain_text(Hostile()) == f"({HERE}:Hostile)"


def test_a_subclass_with_code_of_its_own_is_contained():
    """What a subclass of a known array raises is contained, SystemExit included; a Ctrl-C is not."""

    class Bad(np.ndarray):
        error = SystemExit

        @property
        def shape(self):
            raise self.error

    bad = np.zeros(2).view(Bad)

    assert plain(bad).value == {"$object": f"{HERE}:{Bad.__qualname__}"}
    assert number(bad) is None
    Bad.error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        plain(bad)


def test_containers_with_overridden_methods_are_read_directly():
    """A dict or list whose subclass overrides its methods is read by the builtin's own."""

    class Odd(dict):
        def items(self):
            raise SystemExit

        __iter__ = __len__ = keys = items

    assert plain(Odd(a=1)).value == {"a": 1}
    assert returned(Odd(a=1, b="x")) == ({"a": 1}, {"b": "x"})


def test_an_iterator_is_not_consumed():
    """A generator is named and still has all its items."""
    generator = (i for i in range(3))

    assert plain([generator]).value == [{"$object": "builtins:generator"}]
    assert list(generator) == [0, 1, 2]


def test_properties_are_not_run():
    """A dataclass's field that a property hides is left out rather than computed."""

    @dataclasses.dataclass
    class Lazy:
        a: int = 1

    Lazy.b = property(lambda self: pytest.fail("it ran"))
    Lazy.__dataclass_fields__["b"] = dataclasses.field()
    Lazy.__dataclass_fields__["b"]._field_type = dataclasses._FIELD

    assert plain(Lazy()).value == {"a": 1}


def test_depth():
    """The eighth level is kept, the ninth marked; 3,000 levels are no trouble."""
    deep = bottom = []
    for _ in range(3_000):
        bottom.append([])
        bottom = bottom[0]

    found = plain(deep)

    assert json.dumps(found.value) == "[" * 8 + '{"$too_deep": {"type": "builtins:list", "length": 1}}' + "]" * 8
    assert (found.exact, found.cuts) == (False, 1)


def test_cycles():
    """A container inside itself is marked with the path of where it begins; a shared one is written twice."""
    inner: dict = {"x": 1}
    inner["again"] = inner
    shared = [1]

    assert plain({"a": inner}).value == {"a": {"x": 1, "again": {"$cycle": "a"}}}
    assert plain([shared, shared]).value == [[1], [1]]


def test_cuts_carry_the_full_size():
    """A thousand items and 64 KiB are kept; one more is cut, counted, and the full size is told."""
    assert plain(list(range(1_000))).cuts == 0
    assert plain("é" * 32_768).value == "é" * 32_768

    listed = plain([1] * 2_000)
    mapped = plain({str(i): i for i in range(1_001)})
    text = plain("é" * 32_769)
    assert plain({"a": "x" * 65_537}).cuts == 1
    many = plain(set(range(1_001)))

    assert listed.value["$cut_list"] == {"length": 2_000, "head": [1] * 1_000}
    assert (mapped.value["$cut_map"]["length"], len(mapped.value["$cut_map"]["head"])) == (1_001, 1_000)
    assert text.value["$cut_text"] == {"length": 32_769, "head": "é" * 32_768}
    assert many.value == {"$set": {"length": 1_001}}
    assert [p.cuts for p in (listed, mapped, text, many)] == [1, 1, 1, 1]


def test_huge_integers():
    """An integer beyond 65,536 bits, and beyond what Python will print, is told by its bits and its head."""
    found = plain(-(1 << 70_000))

    assert found.value == {"$int": {"bits": 70_001, "sign": -1, "head": "0x8" + "0" * 63}}
    assert (found.exact, found.cuts, number(1 << 70_000)) == (False, 1, None)
    assert restore(plain(10**5_000).value) == 10**5_000


@pytest.mark.parametrize(
    "big",
    [
        [[list(range(1_000))] * 1_000] * 1_000,
        {str(i): ["\0" * 60_000] * 1_000 for i in range(1_000)},
        ["é" * 60_000] * 100,
        ['"' * 60_000] * 100,
        [{i: dict.fromkeys(range(500), "x") for i in range(500)}] * 1_000,
        [["\ud800" * 60_000] * 30],
        [{pathlib.PurePosixPath(str(i)) for i in range(j, j + 900)} for j in range(100)],
    ],
)
def test_one_mebibyte_in_all(big):
    """Whatever the shape of the data, its JSON stays below about 1 MiB, and is used well."""
    found = plain(big)

    assert len(orjson.dumps(found.value)) <= 1 << 20
    assert len(orjson.dumps(found.value)) >= 100_000
    assert found.cuts >= 1
    assert not found.exact


def test_a_long_value_takes_no_place_from_those_beside_it():
    """At the top, texts and numbers stay whatever stands before them, and each value that found no room says so."""
    docs = [["z" * 1_000] * 1_000, ["y" * 1_000] * 1_000, ["x" * 1_000] * 1_000]

    found = plain({"docs": docs, "more": [1, 2], "lr": 0.1, "model": "net"}).value

    assert list(found) == ["docs", "more", "lr", "model"]
    assert (found["lr"], found["model"]) == (0.1, "net")
    assert found["more"] == {"$cut_list": {"length": 2, "head": []}}
    assert len(orjson.dumps(plain({str(i): docs for i in range(900)}).value)) <= 1 << 20


def test_what_is_ignored_is_not_looked_at():
    """Ignored names leave no value, type, cut or doubt behind, however deep, dotted or large."""
    big = [["z" * 1_000] * 1_000] * 2
    config = {
        "big": big,
        "lr": 0.1,
        "m": {"gen": iter([]), "x y": 1, "n": {"p": (1,)}},
        "a.b": 1,
        "a": {"b": 2, "c": 3},
    }

    found = plain(config, ["big", "m.gen", "m.x y", "m.n.p", "a.b", "absent"])

    assert found == ({"lr": 0.1, "m": {"n": {}}, "a": {"c": 3}}, {}, True, 0, 0)


def test_hidden_fields_are_counted():
    """A field that its class hides counts as a secret taken out."""

    @dataclasses.dataclass
    class Login:
        user: str
        word: str = dataclasses.field(default="x", repr=False)

    assert plain({"login": Login("ana")}).hidden == 1
    assert plain({"word": pydantic.SecretStr("x")}).hidden == 1


def test_equal_values_give_equal_results():
    """Sets give the same result whatever the order of their making, mappings and lists as they are."""
    first = {f"item{i}" for i in range(300)}
    second = set()
    for item in sorted(first, reverse=True):
        second.add(item)

    assert plain(first) == plain(second)
    assert plain({(1, "b"), (1, "a"), None}).value == {"$set": [[1, "a"], [1, "b"], None]}


def test_a_mapping_changed_by_another_thread():
    """A dict that other threads write to is read or marked, and never raises."""
    shared, stop = {str(i): [i] for i in range(500)}, threading.Event()

    def write():
        i = 0
        while not stop.is_set():
            shared[f"n{i % 400}"] = [i]
            shared.pop(f"n{(i * 7) % 400}", None)
            i += 1

    thread = threading.Thread(target=write)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(50):
            strict(plain({"x": shared}).value)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)


def test_a_container_that_changes_while_it_is_walked():
    """A change in the middle of a walk becomes a mark."""

    class Changing(collections.deque):
        pass

    changing = Changing([1, 2, 3])
    from runcard._values_walk import Walk

    class Meddling(Walk):
        def _text(self, text):
            changing.append(4)
            return text

    changing.appendleft("now")

    assert Meddling().value(changing, "", 0) == {"$changing": {"type": f"{HERE}:{Changing.__qualname__}"}}


def test_near_the_recursion_limit():
    """At the bottom of the stack a value is still recorded, if only by its type."""

    def dig():
        try:
            return dig()
        except RecursionError:
            return plain({"a": [[[[[Config()]]]]]})

    strict(dig().value)


def test_functools_and_methods():
    """Partials give their parts; methods of objects are summarised, of classes named."""
    made = functools.partial(int, base=2)

    assert plain(made).value == {"func": "builtins:int", "args": [], "keywords": {"base": 2}}
    assert plain(functools.lru_cache(json.dumps)).value == "json:dumps"
    assert plain(collections.Counter("a").update).exact is False
    assert plain(dict.fromkeys).value == "builtins:dict.fromkeys"


NUMBERS = [
    (True, 1),
    (3, 3),
    (0.5, 0.5),
    (math.inf, {"$float": "inf"}),
    (2**70, {"$int": hex(2**70)}),
    (np.float32(0.1), float(np.float32(0.1))),
    (np.longdouble(1.5), 1.5),
    (np.bool_(True), 1),
    (np.float64("nan"), {"$float": "nan"}),
    (np.array(2), 2),
    (Level.LOW, 1),
    (np.zeros(1), None),
    ("1", None),
    (None, None),
    (1j, None),
    (Mock(), None),
    (Colour.RED, None),
    (decimal.Decimal(1), None),
]


@pytest.mark.parametrize(("value", "expected"), NUMBERS, ids=lambda v: type(v).__name__)
def test_number(value, expected):
    """A logged metric is a JSON number, or nothing."""
    found = number(value)

    assert (found, type(found)) == (expected, type(expected))


def test_number_of_a_tensor():
    """A 0-d tensor of a library that is not installed here is read with ``.item()``, another is not."""
    tensor = type("Tensor", (), {"__module__": "torch", "shape": (), "item": lambda self: 2.5})
    tensor.__qualname__ = "Tensor"
    vector = type("Tensor", (tensor,), {"shape": (3,)})
    stranger = type("Tensor", (), {"__module__": "elsewhere", "shape": (), "item": lambda self: 2.5})

    assert (number(tensor()), number(vector()), number(stranger())) == (2.5, None, None)


RETURNED = [
    (None, {}, None),
    (0.5, {"": 0.5}, None),
    (np.float32(0.5), {"": 0.5}, None),
    (True, {}, True),
    ("text", {}, "text"),
    ([1, 2], {}, [1, 2]),
    ({"a": 1, "b": {"c": 2.0, "d": "x"}}, {"a": 1, "b/c": 2.0}, {"b": {"d": "x"}}),
    ({"a": 1, "ok": True, "t": np.bool_(False)}, {"a": 1}, {"ok": True, "t": np.bool_(False)}),
    ({"a": math.nan}, {"a": {"$float": "nan"}}, None),
    ({0: 0.5, 1: 0.6}, {"0": 0.5, "1": 0.6}, None),
    ({0: 0.5, "0": 0.6}, {"0": 0.5}, {"0": 0.6}),
    (Pair(1, 2.5), {"a": 1, "b": 2.5}, None),
    (Config(), {"lr": 0.1}, {"key": REDACTED, "where": None}),
    (Attrs(), {"lr": 0.1}, {"key": REDACTED}),
    ({}, {}, {}),
]


@pytest.mark.parametrize(("result", "numbers", "rest"), RETURNED, ids=repr)
def test_returned(result, numbers, rest):
    """The numbers of a result become metrics, booleans and the rest stay."""
    assert returned(result) == (numbers, rest)


def test_returned_cycle_ends():
    """A result that holds itself is read to a bounded depth."""
    result: dict = {"a": 1}
    result["self"] = result

    numbers, rest = returned(result)

    assert numbers["a"] == 1
    strict(plain(rest).value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Config(), True),
        (Attrs(), True),
        (Model(), True),
        (Struct(), True),
        (argparse.Namespace(), True),
        (OmegaConf.create({}), True),
        ({}, False),
        (Pair(1, 2), False),
        (Config, False),
        (Mock(), False),
        (3, False),
    ],
)
def test_is_config_object(value, expected):
    """Configuration objects are told from mappings, classes and everything else."""
    assert is_config_object(value) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("a", "a"), ("é\0", "é\0"), ("\udc80", "\\udc80"), (Text("a"), "a"), (3, "3")]
)
def test_plain_text(text, expected):
    """A name or a note is a text that can be encoded; of what is no text the type is named."""
    assert plain_text(text) == expected


def test_plain_text_is_bounded():
    """A long note is cut, and says how long it was."""
    found = plain_text("é" * 100_000)

    assert len(found.encode()) <= 65_536
    assert found.endswith("… (100000 characters in all)")


def test_path_join():
    """Paths are dotted, indexed, or quoted where a name is odd."""
    assert path_join("", "a") == "a"
    assert path_join("a", "b") == "a.b"
    assert path_join("a", 0) == "a[0]"
    assert path_join("a", "x.y") == 'a["x.y"]'
    assert path_join("", 'q"\\') == '["q\\"\\\\"]'
    assert path_join("a", "") == 'a[""]'


def test_config_hash():
    """The hash goes by the content and not by the order of keys, and is pinned to its definition."""
    assert config_hash({"b": 1, "a": "é"}) == config_hash({"a": "é", "b": 1})
    assert config_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert config_hash({"a": 1}) != config_hash({"a": 1.5})


keys = st.text(max_size=5) | st.sampled_from(["$float", "$int", "$", "$$x", "\ud800"])
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**64, max_value=2**80)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["\ud800", "\0", "$"])
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys | st.integers(0, 3), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck))
@given(anything)
def test_any_value_is_strict_json(value):
    """Whatever is built of Python's own types is strict JSON, the same each time, and hashes."""
    found = plain(value)

    strict(found.value)
    assert plain(value) == found
    assert len(config_hash(found.value)) == 64


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.integers(2**64, 2**90) | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=20,
    )
)
def test_numbers_survive_marking(value):
    """What `mark` writes, strict JSON takes and `restore` gives back, NaN and big integers included."""
    stored = plain(value)
    once = json.dumps(stored.value)
    back = restore(json.loads(once))

    assert json.dumps(mark(back)) == once
