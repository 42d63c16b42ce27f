"""The walk over a value: containers into lists and mappings, everything else by kind, within the bounds."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

from runcard._values_kinds import (
    HIDDEN,
    MISSING,
    class_attribute,
    cut_text,
    encodable,
    field_names,
    instance_dict,
    kinds_of,
    name_of,
    names_of,
    secret_kind,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Collection

DEPTH = 8
ITEMS = 1_000
TEXT_BYTES = 65_536
TREE_BYTES = 1_000_000  # with the marks around it, below 1 MiB
_FOR_MARKS = 20_000  # beyond it, for what stands at the top: each value that found no room says so by its own mark


class Walk:
    """One pass over one value.

    Attributes:
        types: Path → type, for what JSON alone would not rebuild.
        exact: False once anything was cut or summarised.
        cuts: How many cuts were made.
        hidden: How many fields were hidden.
        left: The bytes that may still be spent.
    """

    def __init__(self, left: int = TREE_BYTES, ignore: Collection[str] = ()) -> None:
        self.types: dict[str, str] = {}
        self.exact = True
        self.cuts = 0
        self.hidden = 0
        self.left = left
        self._ignore = _paths(ignore) if ignore else None
        self._open: dict[int, str] = {}

    def value(self, value: Any, path: str, depth: int) -> Any:
        """A value as JSON data."""
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            self.left -= 5
            return value
        if kind is float:
            self.left -= 24
            return value if value - value == 0.0 else {"$float": repr(value)}
        if kind is int:
            return self._integer(value)
        if kind is dict or kind is list or kind is tuple or kind is set or kind is frozenset:
            return self._container(value, kind, path, depth)
        try:
            return self._other(value, kind, path, depth)
        except Exception:  # total: one value that cannot be read is named, the others are unharmed
            return self.summary(value)

    def summary(self, value: object) -> dict[str, str]:
        """All that is said of an object that is not to be touched."""
        self.exact = False
        name = name_of(type(value))
        self.left -= len(name) + 16
        return {"$object": name}

    def cut(self, what: str, told: dict[str, Any]) -> dict[str, Any]:
        """A mark for what was cut, counted."""
        self.exact = False
        self.cuts += 1
        self.left -= 40
        return {what: told}

    def note(self, path: str, kind: str) -> None:
        """Note the type of what stands at a path."""
        if path not in self.types:
            self.left -= len(path) + len(kind) + 8
        self.types[path] = kind

    def _other(self, value: Any, kind: type, path: str, depth: int) -> Any:
        names = names_of(kind)
        families = kinds_of(kind)
        if "secret" in families:
            self.note(path, names[0])
            self.hidden += 1
            return HIDDEN
        if "untouched" in families:
            return self.summary(value)
        if "enum:Enum" in names:
            found = self.value(instance_dict(value).get("_value_"), path, depth)
            self.note(path, names[0])
            return found
        parts = members(value)
        if parts is not None:
            return self._opened(value, path, depth, lambda: self._mapping(parts, path, depth), names[0])
        if "omegaconf.listconfig:ListConfig" in names:
            from runcard._values_omegaconf import items

            listed = items(value)
            return self._opened(value, path, depth, lambda: self._sequence(listed, len(listed), path, depth), names[0])
        for base in ("builtins:list", "builtins:tuple", "builtins:set", "builtins:frozenset", "collections:deque"):
            if base in names:
                found = self._container(value, _BUILTIN.get(base) or sys.modules["collections"].deque, path, depth)
                self.note(path, names[0])
                return found
        from runcard._values_forms import form

        found = form(value, names, self, path, depth)
        return self.summary(value) if found is MISSING else found

    def _container(self, value: Any, kind: type, path: str, depth: int) -> Any:
        if kind is dict:
            return self._opened(value, path, depth, lambda: self._mapping(value, path, depth), None)
        told = None if kind is list else name_of(kind)
        size = kind.__len__(value)  # type: ignore[attr-defined] # a builtin container's own, never an override
        if kind is set or kind is frozenset:
            return self._opened(value, path, depth, lambda: self._set(kind, value, size, path, depth), told)
        return self._opened(
            value,
            path,
            depth,
            lambda: self._sequence(itertools.islice(kind.__iter__(value), ITEMS), size, path, depth),  # type: ignore[attr-defined] # likewise
            told,
        )

    def _opened(self, value: object, path: str, depth: int, walk: Any, told: str | None) -> Any:
        """Walk a container, unless it is too deep or holds itself."""
        identity = id(value)
        if identity in self._open:
            self.exact = False
            self.left -= 16 + len(path)
            return {"$cycle": self._open[identity]}
        if depth >= DEPTH:
            return self.cut("$too_deep", {"type": name_of(type(value)), **_length(value)})
        self._open[identity] = path
        self.left -= 2
        if told is not None:
            self.note(path, told)
        try:
            return walk()
        except RuntimeError as error:
            if isinstance(error, RecursionError):
                raise
            return self.cut("$changing", {"type": name_of(type(value))})  # another thread is writing to it
        finally:
            del self._open[identity]

    def _mapping(self, mapping: dict[Any, Any], path: str, depth: int) -> Any:
        size = dict.__len__(mapping)
        items = list(itertools.islice(entries(mapping), ITEMS))
        if self._ignore is not None:
            kept = [item for item in items if not self._is_ignored(path, item[0])]
            size -= len(items) - len(kept)
            items = kept
        found: dict[str, Any] = {}
        for key, value in items:
            name = self._key(key)
            if name is None or name in found:
                found.clear()
                return self._pairs(items, size, path, depth)
            found[name] = value
        texts = (str.__str__(key) for key, _ in items)
        named = [(name, found[name], key) for name, key in zip(found, texts, strict=True)]
        if depth == 0:  # a long value must not cost the short ones beside it their place
            named.sort(key=lambda entry: not _is_short(entry[1]))
        done: dict[str, Any] = {}
        for name, value, key in named:
            if self.left <= (0 if depth else -_FOR_MARKS):
                break
            self.left -= len(name) + 4
            self.hidden += value is HIDDEN
            done[name] = self.value(value, _join(path, key), depth + 1)
        if depth == 0:
            done = {name: done[name] for name in found if name in done}
        return done if len(done) == size else self.cut("$cut_map", {"length": size, "head": done})

    def _is_ignored(self, path: str, key: Any) -> bool:
        return "builtins:str" in names_of(type(key)) and _join(path, str.__str__(key)) in (self._ignore or ())

    def _pairs(self, items: list[tuple[Any, Any]], size: int, path: str, depth: int) -> Any:
        done = []
        for index, (key, value) in enumerate(items):
            if self.left <= 0:
                break
            place = f"{path}[{index}]"
            self.left -= 6
            done.append([self.value(key, f"{place}[0]", depth + 1), self.value(value, f"{place}[1]", depth + 1)])
        pairs = {"$pairs": done}
        return pairs if len(done) == size else self.cut("$cut_map", {"length": size, "head": pairs})

    def _key(self, key: Any) -> str | None:
        """A key as JSON takes it, or None for one that only a pair can hold."""
        if type(key) is not str:
            if "builtins:str" not in names_of(type(key)):
                return None
            key = str.__str__(key)
        assert isinstance(key, str)
        if len(key) > 4_096 or encodable(key) is not key:
            return None
        return f"${key}" if key.startswith("$") else key

    def _sequence(self, items: Any, size: int, path: str, depth: int) -> Any:
        done: list[Any] = []
        for index, item in enumerate(items):
            if self.left <= 0:
                break
            self.left -= 2
            done.append(self.value(item, f"{path}[{index}]", depth + 1))
        return done if len(done) == size else self.cut("$cut_list", {"length": size, "head": done})

    def _set(self, kind: Any, value: Any, size: int, path: str, depth: int) -> Any:
        """A set in one order whatever the hashes: sorted by the JSON text of its items."""
        import json

        if size > ITEMS:  # a head would depend on the order of hashes
            return self.cut("$set", {"length": size})
        keyed, spent = [], 0
        for item in list(kind.__iter__(value)):
            alone = Walk(self.left)
            alone._open = self._open
            keyed.append(
                (json.dumps(alone.value(item, "", depth + 1), sort_keys=True), sorted(alone.types.items()), item)
            )
            spent += max(self.left - alone.left, 1)
            if spent > self.left:
                return self.cut("$set", {"length": size})
        keyed.sort(key=lambda entry: entry[:2])
        return {"$set": [self.value(item, f"{path}[{index}]", depth + 1) for index, (*_, item) in enumerate(keyed)]}

    def _text(self, text: str) -> Any:
        if len(text) <= 1_000 and text.isascii() and text.isprintable():
            self.left -= len(text) + 2
            return text
        limit = min(TEXT_BYTES, max(self.left, 0))
        head = cut_text(text, limit)
        data = head.encode("utf-8", "surrogatepass")
        # what a JSON text spends on each control character, quote or backslash
        control = sum(map(data.count, _CONTROL)) * 5 + data.count(b'"') + data.count(b"\\")
        if len(data) + control > max(self.left, 0):
            head = head[: max(self.left, 0) // 6]
            data, control = head.encode("utf-8", "surrogatepass"), len(head) * 5
        self.left -= len(data) + control + 2
        told: Any = head
        if encodable(head) is not head:
            escaped = head.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode()
            self.left -= len(escaped) - len(head) + 12
            told = {"$text": escaped}
        return told if len(head) == len(text) else self.cut("$cut_text", {"length": len(text), "head": told})

    def _integer(self, value: int) -> Any:
        self.left -= value.bit_length() // 3 + 2
        if -(2**63) <= value < 2**64:
            return value
        bits = value.bit_length()
        if bits <= 65_536 and self.left > 0:
            return {"$int": hex(value)}
        self.left += bits // 3 - 100
        head = hex(abs(value) >> (bits - 256))
        return self.cut("$int", {"bits": bits, "sign": -1 if value < 0 else 1, "head": head})


def _paths(ignore: Collection[str]) -> frozenset[str]:
    """The paths that names stand for: ``a.b`` is ``b`` within ``a``, or a key that is written so."""
    found = set()
    for name in ignore:
        found |= {name, _join("", name)}
        path = ""
        for part in name.split("."):
            path = _join(path, part)
        found.add(path)
    return frozenset(found)


def _is_short(value: object) -> bool:
    kind = type(value)
    return value is None or kind is bool or kind is int or kind is float or (kind is str and len(value) <= 1_000)  # type: ignore[arg-type] # a str


def members(value: object) -> dict[Any, Any] | None:
    """The named parts of a mapping, a named tuple or an object of fields, secret ones hidden; None for all else."""
    kind = type(value)
    if kind is dict:
        return value  # type: ignore[return-value] # a dict
    if value is None or kind is str or kind is int or kind is float or kind is bool or kind is list:
        return None
    names = names_of(kind)
    if "builtins:tuple" in names:
        fields = class_attribute(kind, "_fields")
        if type(fields) is tuple and fields and all(type(name) is str for name in fields):
            return dict(zip(fields, tuple.__iter__(value), strict=False))  # type: ignore[arg-type] # a tuple
        return None
    families = kinds_of(kind)
    if "untouched" in families or secret_kind(kind):
        return None
    if "omegaconf.dictconfig:DictConfig" in names:
        from runcard._values_omegaconf import pairs

        return pairs(value)
    if "builtins:dict" in names:
        return value if not instance_dict(value) or "fields" not in families else None  # type: ignore[return-value] # a dict
    if "namespace" in families:
        return instance_dict(value)
    if "configdict" in families:
        return {key: _reference(item) for key, item in instance_dict(value).get("_fields", {}).items()}
    if "fields" in families:
        return _of_fields(value, kind)
    if "builtins:mappingproxy" in names:
        return dict(value)  # type: ignore[call-overload,no-any-return] # a read-only view of a mapping
    if "collections:UserDict" in names:
        data = instance_dict(value).get("data")
        return data if type(data) is dict else None
    return None


def _of_fields(value: object, kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, shown in field_names(kind):
        item = stored(value, name)
        if item is not MISSING:
            found[name] = item if shown else HIDDEN
    if "pydantic.main:BaseModel" in names_of(kind):
        extra = stored(value, "__pydantic_extra__")
        if type(extra) is dict:
            found.update(extra)
    return found


def _reference(item: Any) -> Any:
    """The value of an ml_collections placeholder; one that has to be computed stays what it is."""
    if name_of(type(item)) == "ml_collections.config_dict.config_dict:FieldReference":
        own = instance_dict(item)
        return item if own.get("_ops") else own.get("_value")
    return item


def entries(mapping: dict[Any, Any]) -> Any:
    """The entries of a mapping that `members` gave, whatever its class makes of ``items``."""
    if type(mapping) is not dict and name_of(type(mapping)) == "collections:OrderedDict":
        return sys.modules["collections"].OrderedDict.items(mapping)  # whose order is not that of its dict
    return dict.items(mapping)


def _length(value: object) -> dict[str, int]:
    names = names_of(type(value))
    base = next((kind for name, kind in _BUILTIN.items() if name in names), None)
    return {} if base is None else {"length": base.__len__(value)}


def _join(path: str, key: str) -> str:
    from runcard.values import path_join

    return path_join(path, key)


_BUILTIN: dict[str, Any] = {
    "builtins:dict": dict,
    "builtins:list": list,
    "builtins:tuple": tuple,
    "builtins:set": set,
    "builtins:frozenset": frozenset,
}
_CONTROL = [bytes([code]) for code in range(32)]
