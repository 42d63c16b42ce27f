"""Any Python value as strict JSON: total, bounded by count and size, and free of side effects.

`plain` turns a value into JSON data and keeps beside it the types that JSON cannot tell; where JSON has no form
at all, a mark ``{"$…": …}`` stands (`docs/format.md` lists them). Third-party kinds are known by the names
of their classes, so nothing is imported, and an unknown object is only ever named, never touched.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from runcard._values_kinds import cut_text, kinds_of, name_of, names_of, secret_kind, text_of
from runcard.events import mark, restore

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "Json",
    "Number",
    "Plain",
    "config_hash",
    "is_config_object",
    "is_mapping",
    "mark",
    "number",
    "path_join",
    "plain",
    "plain_text",
    "restore",
    "returned",
]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Number: TypeAlias = "int | float | dict[str, Any]"


class Plain(NamedTuple):
    """A value as strict JSON.

    Attributes:
        value: The JSON data: no NaN, integers within 64 bits, encodable as UTF-8, about 1 MiB at most.
        types: Path → ``module:qualname`` where JSON alone would not rebuild what was there.
        exact: False when anything was cut or only summarised.
        cuts: How many cuts were made.
        hidden: How many fields were hidden, because their class says that they are secret.
    """

    value: Any
    types: dict[str, str]
    exact: bool
    cuts: int
    hidden: int = 0


def plain(value: object, ignore: Collection[str] = ()) -> Plain:
    """A value as strict JSON with its types; never raises, calls no code of objects it does not know.

    The bounds are 8 levels, 1,000 items a container, 64 KiB a text and 1 MiB in all; what is beyond
    them is cut and marked with its full size. Equal values give equal results.

    Args:
        value: What to write down.
        ignore: Names, dotted ones too, of what is left out of mappings and not looked at.
    """
    if type(value) is dict and len(value) <= 1_000 and not ignore:
        flat = _flat(value)
        if flat is not None:
            return Plain(flat, {}, True, 0)
    from runcard._values_walk import Walk

    try:
        walk = Walk(ignore=ignore)
        return Plain(walk.value(value, "", 0), walk.types, walk.exact, walk.cuts, walk.hidden)
    except Exception:  # total: at the recursion limit or out of memory, the name of the type is what is left
        return Plain({"$object": name_of(type(value))}, {}, False, 1)


def plain_text(text: Any) -> str:
    r"""A name, a note or a message as a text that can be encoded, of 64 KiB at most.

    Lone surrogates become ``\udc80``; a longer text ends with what was cut. Numbers are written
    out; of anything else the type is named.
    """
    kind = type(text)
    if kind is not str:
        if kind is int:
            return str(text) if int(text).bit_length() <= 1_000 else "(a number too long to write)"
        if kind is float or kind is bool or text is None:
            return str(text)
        if "builtins:str" not in names_of(kind):
            return f"({name_of(kind)})"
        text = str.__str__(text)
    assert isinstance(text, str)
    if len(text) < 16_384 and text.isascii():
        return text
    head = cut_text(text, 65_000)
    shown = head.encode("utf-8", "backslashreplace").decode()
    return shown if len(head) == len(text) else f"{shown}… ({len(text)} characters in all)"


def number(value: Any) -> Number | None:
    """A logged metric as a JSON number: a bool as 0 or 1, a 0-d array or tensor read with ``.item()``.

    NaN, infinities and integers beyond 64 bits come as marks that `restore` turns back. Anything that is
    no number gives None; never raises.
    """
    kind = type(value)
    if kind is float:
        return value if value - value == 0.0 else {"$float": repr(value)}
    if kind is int:
        return _integer(value)
    if kind is bool:
        return 1 if value else 0
    if value is None or kind is str or kind is dict or kind is list:
        return None
    names = names_of(kind)
    if "builtins:int" in names:
        return _integer(int.__add__(value, 0))
    if "numpy:generic" not in names and "builtins:float" in names:
        return number(float.__add__(value, 0.0))
    from runcard._values_arrays import item

    scalar = item(value, names)
    return number(scalar) if type(scalar) in (float, int, bool) else None


def returned(result: object) -> tuple[dict[str, Number], object]:
    """The numbers in what a function returned, and the rest.

    A mapping, dataclass, named tuple, attrs, pydantic or msgspec object gives its numbers, nested names joined
    with ``/``; booleans and texts stay in the rest. A bare number comes under the name ``""``.

    Returns:
        Name → number, and what is left of the result: None when nothing is.
    """
    if result is None or type(result) is bool:
        return {}, result
    if type(result) is float or type(result) is int:
        found = number(result)
        return ({}, result) if found is None else ({"": found}, None)
    fields = _fields(result)
    if fields is None:
        found = None if _is_boolean(result) else number(result)
        return ({}, result) if found is None else ({"": found}, None)
    numbers: dict[str, Number] = {}
    rest = _collect(fields, "", numbers, 0)
    return numbers, (rest or None) if numbers else result


def is_config_object(value: object) -> bool:
    """Whether a value is made to hold a configuration: a dataclass, attrs, pydantic, OmegaConf, a namespace."""
    kind = type(value)
    if value is None or kind is dict or kind is str or kind is int or kind is float or kind is list:
        return False
    return bool(kinds_of(kind) & {"fields", "namespace", "omegaconf", "configdict"})


def is_mapping(value: object) -> bool:
    """Whether a value is a mapping whose entries `plain` writes down."""
    return type(value) is dict or bool(_MAPPINGS.intersection(names_of(type(value))))


def path_join(path: str, key: str | int) -> str:
    """The path of what ``path`` holds under ``key``: ``a.b``, ``a[0]`` in a list, ``a["x.y"]`` for odd keys."""
    if type(key) is int:
        return f"{path}[{key}]"
    text = str(key)
    if text and not _ODD.search(text):
        return f"{path}.{text}" if path else text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{path}["{quoted}"]'


def config_hash(value: Any) -> str:
    """The SHA-256 of a JSON value in one canonical form: sorted keys, no spaces, ASCII."""
    import hashlib
    import json

    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _flat(mapping: dict[Any, Any]) -> dict[str, Any] | None:
    """A copy of a flat mapping of short names to ordinary values, in one pass; None for anything else."""
    found: dict[str, Any] = {}
    size = 0
    try:
        for key, value in mapping.items():
            kind = type(value)
            if type(key) is not str or not key.isascii() or key[:1] == "$" or len(key) > 256:
                return None
            if kind is str:
                if len(value) > 1_000 or not value.isascii():
                    return None
                size += len(value)
            elif kind is float:
                if value - value != 0.0:
                    return None
            elif kind is int:
                if not -(2**63) <= value < 2**64:
                    return None
            elif kind is not bool and value is not None:
                return None
            found[key] = value
    except RuntimeError:
        return None  # another thread changed it: the long way round knows how to say so
    return found if size <= 100_000 else None


def _integer(value: int) -> Number | None:
    if -(2**63) <= value < 2**64:
        return value
    return {"$int": hex(value)} if value.bit_length() <= _EXACT_BITS else None


def _is_boolean(value: object) -> bool:
    return type(value) is bool or name_of(type(value)) in ("numpy:bool", "numpy:bool_")


def _fields(value: object) -> dict[Any, Any] | None:
    """The fields of what has names for its parts, with secret ones hidden; None for all else."""
    from runcard._values_walk import members

    try:
        return members(value)
    except Exception:  # total: what cannot be read stays in the rest, by its type
        return None


def _collect(fields: dict[Any, Any], prefix: str, numbers: dict[str, Number], depth: int) -> dict[Any, Any]:
    """Move the numbers of nested fields into ``numbers``; returns what stays."""
    rest: dict[Any, Any] = {}
    from runcard._values_walk import entries

    for key, value in entries(fields):
        text = text_of(key)
        if text is None or depth > 8 or len(numbers) >= 1_000 or secret_kind(type(value)):
            rest[key] = value
            continue
        name = f"{prefix}/{text}" if prefix else text
        nested = _fields(value)
        if nested is not None:
            before = len(numbers)
            left = _collect(nested, name, numbers, depth + 1)
            if len(numbers) == before:
                rest[key] = value
            elif left:
                rest[key] = left
            continue
        found = None if _is_boolean(value) else number(value)
        if found is None or name in numbers:
            rest[key] = value
        else:
            numbers[name] = found
    return rest


_EXACT_BITS = 65_536
_MAPPINGS = frozenset(("builtins:dict", "builtins:mappingproxy", "collections:UserDict"))
_ODD = re.compile(r"""[.\[\]"'\\\s]""")
