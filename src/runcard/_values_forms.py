"""The stored form of single values: texts that a rerun can rebuild, names of functions, marks for the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from runcard._values_kinds import MISSING, instance_dict, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from runcard._values_walk import Walk


def form(value: Any, names: tuple[str, ...], walk: Walk, path: str, depth: int) -> Any:
    """The JSON form of a value that is no container, with its type noted; `MISSING` for an unknown kind."""
    for name in names:
        write = _TEXTS.get(name)
        if write is not None:
            try:
                text = write(value)
            except KeyboardInterrupt:
                raise
            except BaseException:  # a subclass with code of its own: not to become the user's
                return MISSING
            walk.note(path, names[0])
            return walk.value(text, path, depth)
        if name in _BYTES:
            walk.note(path, names[0])
            return _bytes(value, walk)
        if name in _NAMED:
            return _name(value, name, walk, path)
    if "functools:partial" in names:
        base = sys.modules["functools"].partial
        parts = {part: getattr(base, part).__get__(value) for part in ("func", "args", "keywords")}
        walk.note(path, "functools:partial")
        return walk.value(parts, path, depth)
    from runcard._values_arrays import array

    return array(value, names, walk, path, depth)


def _bytes(value: Any, walk: Walk) -> dict[str, Any]:
    import hashlib

    view = memoryview(value)
    length = view.nbytes
    if not view.c_contiguous:
        walk.exact = False
        return {"$bytes": {"length": length, "sha256": None, "head": ""}}
    view = view.cast("B")
    walk.exact = walk.exact and length <= 64
    walk.left -= 240
    digest = hashlib.sha256(view).hexdigest() if length <= _HASHED else None
    return {"$bytes": {"length": length, "sha256": digest, "head": bytes(view[:64]).hex()}}


def _name(value: Any, kind: str, walk: Walk, path: str) -> Any:
    """A function, class or module as ``module:qualname``; what cannot be found by its name is only summarised."""
    walk.note(path, kind)
    if kind == "builtins:module":
        text = instance_dict(value).get("__name__")
        found = text if type(text) is str else "unknown"
    elif kind == "builtins:type":
        found = name_of(value)
    elif kind == "functools:_lru_cache_wrapper":
        own = instance_dict(value)
        found = f"{own.get('__module__')}:{own.get('__qualname__')}"
    else:
        if kind == "builtins:method" and "builtins:function" not in _names(value.__func__):
            return walk.summary(value)
        owner = value.__self__ if kind in ("builtins:method", "builtins:builtin_function_or_method") else None
        if kind == "builtins:method" and "builtins:type" not in _names(owner):
            walk.exact = False  # bound to an object, whose state the name does not tell
        module = value.__func__.__module__ if kind == "builtins:method" else getattr(value, "__module__", None)
        if module is None and owner is not None and "builtins:module" in _names(owner):
            module = instance_dict(owner).get("__name__")
        qualname = value.__func__.__qualname__ if kind == "builtins:method" else value.__qualname__
        found = f"{module if type(module) is str else 'builtins'}:{qualname}"
    if "<" in found:
        walk.exact = False
    return walk.value(found, path, 0)


def _names(value: object) -> tuple[str, ...]:
    from runcard._values_kinds import names_of

    return names_of(type(value))


def _path(value: Any) -> Any:
    return sys.modules["pathlib"].PurePath.__str__(value)


def _moment(value: Any) -> str:
    """ISO 8601; a datetime with a time zone of unknown make is refused, for its code would have to run."""
    zone = getattr(value, "tzinfo", None)
    if zone is not None and name_of(type(zone)).partition(":")[0].partition(".")[0] not in _ZONES:
        raise TypeError("a time zone of unknown make")
    module = sys.modules["datetime"]
    for kind in (module.datetime, module.date, module.time):
        if any(base is kind for base in type.__dict__["__mro__"].__get__(type(value))):
            return str(kind.isoformat(value))
    raise TypeError("no moment")


def _duration(value: Any) -> str:
    """ISO 8601 with days, seconds and microseconds as Python holds them: ``P1DT3.000500S``."""
    base = sys.modules["datetime"].timedelta
    days, seconds, micro = (base.__dict__[part].__get__(value) for part in ("days", "seconds", "microseconds"))
    return f"P{days}DT{seconds}" + (f".{micro:06d}S" if micro else "S")


def _fraction(value: Any) -> str:
    base = sys.modules["fractions"].Fraction
    return f"{base._numerator.__get__(value)}/{base._denominator.__get__(value)}"


def _uuid(value: Any) -> str:
    return str(sys.modules["uuid"].UUID.__str__(value))


def _decimal(value: Any) -> str:
    return str(sys.modules["decimal"].Decimal.__str__(value))


def _slice(value: slice) -> str:
    parts = (value.start, value.stop, value.step)
    if any(part is not None and type(part) is not int for part in parts):
        raise TypeError("a slice of objects")
    return f"slice({', '.join(map(repr, parts))})"


def _numpy(value: Any) -> Any:
    """A numpy scalar: the number or text itself; what Python has no number for as exact text."""
    kind = value.dtype.kind
    if kind in "biufSUO" and value.dtype.itemsize <= (8 if kind in "iuf" else sys.maxsize):
        return bytes(value) if kind == "S" else value.item()
    if kind == "c":
        return repr(complex(value)) if value.dtype.itemsize <= 16 else str(value)
    if kind in "Mmf":
        return str(value)
    if type(value).__module__ == "ml_dtypes":
        return float(value)
    raise TypeError("a structured scalar")


def _pattern(value: Any) -> Any:
    if value.flags not in (0, 32):
        raise TypeError("a pattern with flags")
    return value.pattern


_HASHED = 64 * 1024 * 1024
_ZONES = frozenset(("datetime", "zoneinfo", "dateutil", "pytz", "pandas", "backports"))
_BYTES = frozenset(("builtins:bytes", "builtins:bytearray", "builtins:memoryview"))
_NAMED = frozenset(
    (
        "builtins:function",
        "builtins:builtin_function_or_method",
        "builtins:method",
        "builtins:type",
        "builtins:module",
        "functools:_lru_cache_wrapper",
        "numpy:ufunc",
    )
)
# The nearest class that is listed decides: numpy's float64 before float, a Timestamp before a datetime.
_TEXTS: dict[str, Callable[[Any], Any]] = {
    "pathlib:PurePath": _path,
    "numpy:generic": _numpy,
    "numpy:float64": _numpy,
    "numpy:str_": str.__str__,
    "numpy:complex128": _numpy,
    "numpy:dtype": str,
    "pandas:Timestamp": lambda value: value.isoformat(),
    "pandas._libs.tslibs.timestamps:Timestamp": lambda value: value.isoformat(),
    "pandas:Timedelta": lambda value: value.isoformat(),
    "pandas._libs.tslibs.timedeltas:Timedelta": lambda value: value.isoformat(),
    "pandas._libs.tslibs.nattype:_NaT": lambda _: "NaT",
    "datetime:date": _moment,
    "datetime:time": _moment,
    "datetime:timedelta": _duration,
    "decimal:Decimal": _decimal,
    "fractions:Fraction": _fraction,
    "uuid:UUID": _uuid,
    "zoneinfo:ZoneInfo": lambda value: value.key,
    "torch:dtype": str,
    "torch:device": str,
    "re:Pattern": _pattern,
    "ipaddress:_BaseAddress": str,
    "builtins:complex": complex.__repr__,
    "builtins:range": range.__repr__,
    "builtins:slice": _slice,
    "builtins:ellipsis": lambda _: "...",
    "builtins:str": str.__str__,
    "builtins:int": lambda value: int.__add__(value, 0),
    "builtins:float": lambda value: float.__add__(value, 0.0),
}
