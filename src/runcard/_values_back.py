"""Recorded values back to Python's: the inverse of `values.plain`, by the types it noted and the marks it left.

Only classes that hold data are made again (paths, dates, enumerations, dataclasses and their kin, named tuples,
containers, numpy scalars); a recorded type of any other kind is never called, whatever a record says.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HIDDEN = "[redacted]"


class LostError(ValueError):
    """A value of which the record has only a summary; the message names its path."""


class Back:
    """Makes the values of one record again."""

    def __init__(
        self, types: Mapping[str, str], *, modules: Mapping[str, Any] | None = None, move: Callable[[str], str] = str
    ) -> None:
        """Take what the record says.

        Args:
            types: Path → ``module:qualname``, as in `config_types`.
            modules: Modules that go by another name now, as ``__main__`` does.
            move: Where a path of the recorded machine lies now.
        """
        self._types = types
        self._modules = modules or {}
        self._move = move

    def value(self, value: Any, path: str = "", kind: str | None = None) -> Any:
        """The Python value of a recorded one.

        Args:
            value: JSON data.
            path: Its path in the config.
            kind: Its type, when that is not to be looked up.

        Raises:
            LostError: When the record has only a summary, or the type is not to be had.
        """
        kind = kind or self._types.get(path)
        if isinstance(value, dict):
            made = self._mapping(value, path, kind)
        elif isinstance(value, list):
            made = self._list(value, path, kind)
        elif kind is None:
            made = self._move(value) if isinstance(value, str) and value != HIDDEN else value
            if made == HIDDEN:
                raise LostError(f"{path or 'the value'} was redacted")
        else:
            made = self._single(value, kind, path)
        return made

    def fields(self, value: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The items of a recorded mapping, without those that were hidden."""
        found = {}
        for key, item in value.items():
            name = key[1:] if key.startswith("$$") else key
            if item != HIDDEN:
                found[name] = self.value(item, _join(path, name))
        return found

    def _mapping(self, value: dict[str, Any], path: str, kind: str | None) -> Any:
        first = next(iter(value), "")
        if first.startswith("$") and not first.startswith("$$") and len(value) == 1:
            return self._mark(first, value[first], path, kind)
        if kind in (None, "builtins:dict"):
            for key, item in value.items():
                if isinstance(item, str) and item == HIDDEN:
                    raise LostError(f"{_join(path, key)} was redacted")
            return self.fields(value, path)
        assert kind is not None
        if kind == "functools:partial":
            import functools

            made = self.fields(value, path)
            return functools.partial(made["func"], *made.get("args", ()), **made.get("keywords", {}))
        return _of_fields(self._class(kind, path), self.fields(value, path), path)

    def _list(self, value: list[Any], path: str, kind: str | None) -> Any:
        items = [self.value(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if kind in (None, "builtins:list"):
            return items
        if kind == "builtins:tuple":
            return tuple(items)
        assert kind is not None
        if kind == "omegaconf.listconfig:ListConfig":
            return import_module("omegaconf").OmegaConf.create(items)
        found = self._class(kind, path)
        if _is_enum(found):
            return _member(found, items, path)
        bases = {f"{base.__module__}:{base.__qualname__}" for base in found.__mro__}
        if bases & {"builtins:list", "builtins:tuple", "collections:deque"}:
            return found(items)
        raise LostError(f"{path} was a {kind}, which is not made again from a list")

    def _mark(self, mark: str, told: Any, path: str, kind: str | None) -> Any:
        if mark == "$float":
            return float(told)
        if mark == "$int" and isinstance(told, str):
            return int(told, 16)
        if mark == "$text" and isinstance(told, str):
            return _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else "\\", told)
        if mark == "$bytes" and isinstance(told, dict) and (told.get("length") or 0) <= 64:
            raw = bytes.fromhex(str(told.get("head") or ""))
            return bytearray(raw) if kind == "builtins:bytearray" else raw
        if mark == "$set" and isinstance(told, list):
            items = [self.value(item, f"{path}[{index}]") for index, item in enumerate(told)]
            return frozenset(items) if kind == "builtins:frozenset" else set(items)
        if mark == "$pairs" and isinstance(told, list):
            return {
                self.value(key, f"{path}[{index}][0]"): self.value(item, f"{path}[{index}][1]")
                for index, (key, item) in enumerate(told)
            }
        if mark == "$array" and isinstance(told, dict) and "values" in told:
            return _array(told, path)
        raise LostError(f"{path or 'the value'} is in the record only as a summary")

    def _single(self, value: Any, kind: str, path: str) -> Any:
        if kind == "builtins:str":
            return value
        make = _FORMS.get(kind)
        if make is not None:
            if kind.startswith("pathlib:"):
                value = self._move(str(value))
            return make(value)
        if kind.startswith("builtins:") or kind in _BY_NAME:
            return self._named(str(value), path)
        if kind.startswith("numpy:"):
            return getattr(sys.modules.get("numpy") or import_module("numpy"), kind.partition(":")[2])(value)
        if kind.startswith("numpy.dtypes:"):
            return import_module("numpy").dtype(value)
        if value == HIDDEN:
            raise LostError(f"{path} was redacted")
        found = self._class(kind, path)
        if _is_enum(found):
            return _member(found, value, path)
        if kind.startswith("pandas"):
            return getattr(import_module("pandas"), kind.rpartition(":")[2].lstrip("_"))(value)
        if issubclass(found, (str, int, float)) or found.__module__ in ("ipaddress", "zoneinfo"):
            return found(value)
        import datetime as dt
        import pathlib

        if issubclass(found, (dt.date, dt.time)):
            return found.fromisoformat(value)
        if issubclass(found, pathlib.PurePath):
            return found(self._move(str(value)))
        raise LostError(f"{path} was a {kind}, which is not made again from {type(value).__name__}")

    def _named(self, text: str, path: str) -> Any:
        """A function, class or module by its name; it is looked up, never called."""
        module, _, qualname = text.partition(":")
        return self._looked_up(module, qualname, path)

    def _class(self, kind: str, path: str) -> type[Any]:
        module, _, qualname = kind.partition(":")
        found = self._looked_up(module, qualname, path)
        if not isinstance(found, type):
            raise LostError(f"{path} was a {kind}, which is no class here")
        return found

    def _looked_up(self, module: str, qualname: str, path: str) -> Any:
        try:
            found = self._modules.get(module) or import_module(module)
            for name in qualname.split(".") if qualname else ():
                found = getattr(found, name)
        except Exception as error:  # importing runs the recorded code, which may raise anything
            raise LostError(
                f"{path}: {module}:{qualname} is not to be had ({type(error).__name__}: {error})"
            ) from error
        return found


def by_annotation(value: Any, annotation: Any) -> Any:
    """A value of which no type is recorded, as the parameter's annotation asks for; as it is when that says nothing."""
    if not isinstance(annotation, type):
        choices = [each for each in getattr(annotation, "__args__", ()) if isinstance(each, type)]
        if getattr(annotation, "__origin__", None) is not None and type(annotation).__name__ != "_UnionGenericAlias":
            return value
        annotation = next((each for each in choices if each is not type(None)), None)
    if annotation is None or isinstance(value, annotation):
        return value
    kind = f"{annotation.__module__}:{annotation.__qualname__}"
    kind = kind.replace("pathlib._local:", "pathlib:")
    try:
        if isinstance(value, dict):
            return _of_fields(annotation, value, "")
        if _is_enum(annotation):
            return _member(annotation, value, "")
        return _FORMS[kind](value) if kind in _FORMS else value
    except (ValueError, TypeError, KeyError):
        return value


def _of_fields(kind: type[Any], fields: dict[str, Any], path: str) -> Any:
    """An object of a class that holds fields."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    try:
        if name == "omegaconf.dictconfig:DictConfig":
            return import_module("omegaconf").OmegaConf.create(fields)
        if issubclass(kind, dict):
            return _dictionary(kind, fields)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return kind(**fields)
        if hasattr(kind, "__dataclass_fields__"):
            return _dataclass(kind, fields)
        if hasattr(kind, "model_validate"):
            return _model(kind, fields)
        declared: Any = getattr(kind, "__attrs_attrs__", None)
        if declared is not None:
            return kind(**{each.alias: fields[each.name] for each in declared if each.init and each.name in fields})
        if hasattr(kind, "__struct_fields__") or name in _NAMESPACES:
            return kind(**fields)
        if name.startswith("ml_collections."):
            return kind(fields)
        if name == "builtins:mappingproxy":
            return kind(fields)
        if issubclass(kind, import_module("argparse").Namespace):
            return kind(**fields)
        if any(f"{base.__module__}:{base.__qualname__}" == "collections:UserDict" for base in kind.__mro__):
            return kind(fields)
        if hasattr(kind, "__fields__"):
            return kind(**fields)  # pydantic 1
    except LostError:
        raise
    except Exception as error:  # the class's own checks may refuse what it once held
        raise LostError(
            f"{path or 'the config'}: {name} cannot be made again ({type(error).__name__}: {error})"
        ) from error
    raise LostError(f"{path or 'the config'} was a {name}, which is not made again")


def _dictionary(kind: Any, fields: dict[str, Any]) -> Any:
    if kind.__module__ == "collections" and kind.__name__ == "defaultdict":
        return kind(None, fields)
    return kind(fields)


def _dataclass(kind: Any, fields: dict[str, Any]) -> Any:
    """Made by its own ``__init__``; what that changed, or does not take, is then set as recorded."""
    declared = kind.__dataclass_fields__
    made = kind(**{name: value for name, value in fields.items() if name in declared and declared[name].init})
    for name, value in fields.items():
        if name in declared and getattr(made, name, None) is not value:
            object.__setattr__(made, name, value)
    return made


def _model(kind: Any, fields: dict[str, Any]) -> Any:
    """A pydantic model: checked anew, or put together as it was when its aliases or checks are in the way."""
    declared = kind.model_fields
    aliases = {name: each.validation_alias or each.alias or name for name, each in declared.items()}
    given = {aliases[name] if isinstance(aliases.get(name), str) else name: value for name, value in fields.items()}
    try:
        made = kind.model_validate(given)
    except ValueError:
        return kind.model_construct(**fields)
    kept = all(_same(getattr(made, name, None), value) for name, value in fields.items() if name in declared)
    return made if kept else kind.model_construct(**fields)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and repr(a) == repr(b))


def _is_enum(kind: type[Any]) -> bool:
    return any(base.__module__ == "enum" and base.__name__ == "Enum" for base in kind.__mro__)


def _member(kind: Any, value: Any, path: str) -> Any:
    for form in (value, tuple(value) if isinstance(value, list) else value):
        try:
            return kind(form)
        except (ValueError, TypeError):
            continue
    raise LostError(f"{path or 'the value'}: {kind.__name__} has no {value!r} any more")


def _array(told: dict[str, Any], path: str) -> Any:
    library = str(told.get("type")).partition(":")[0].partition(".")[0]
    values, dtype = told["values"], str(told.get("dtype"))
    if library == "numpy":
        return import_module("numpy").array(values, dtype=dtype).reshape(told["shape"])
    if library == "torch":
        torch = import_module("torch")
        return torch.tensor(values, dtype=getattr(torch, dtype.rpartition(".")[2])).reshape(told["shape"])
    if library == "array":
        return import_module("array").array(dtype, values)
    raise LostError(f"{path} was a {told.get('type')}, which is not made again")


def _duration(text: str) -> Any:
    from datetime import timedelta

    found = re.fullmatch(r"P(-?\d+)DT(\d+)(?:\.(\d{6}))?S", text)
    if found is None:
        raise LostError(f"{text!r} is no duration")
    return timedelta(days=int(found[1]), seconds=int(found[2]), microseconds=int(found[3] or 0))


def _moment(name: str) -> Callable[[str], Any]:
    return lambda text: getattr(import_module("datetime"), name).fromisoformat(text)


def _numbers(kind: Callable[..., Any], word: str) -> Callable[[str], Any]:
    def make(text: str) -> Any:
        found = re.fullmatch(rf"{word}\(((?:-?\d+|None)(?:, (?:-?\d+|None))*)\)", text)
        if found is None:
            raise LostError(f"{text!r} is no {word}")
        return kind(*(None if each == "None" else int(each) for each in found[1].split(", ")))

    return make


def _from(module: str, name: str) -> Callable[[Any], Any]:
    """A class of a module that is imported when a value of it comes by."""

    def make(value: Any) -> Any:
        return getattr(import_module(module), name)(value)

    return make


def _attribute(module: str) -> Callable[[str], Any]:
    return lambda text: getattr(import_module(module), text.rpartition(".")[2])


def _join(path: str, key: str) -> str:
    from runcard.values import path_join

    return path_join(path, key)


_ESCAPED = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")
_BY_NAME = frozenset(("functools:_lru_cache_wrapper", "numpy:ufunc"))
_NAMESPACES = frozenset(("argparse:Namespace", "types:SimpleNamespace"))
_FORMS: dict[str, Callable[[Any], Any]] = {
    **{f"pathlib:{name}": _from("pathlib", "Path") for name in ("Path", "PosixPath", "WindowsPath")},
    **{f"pathlib:Pure{name}Path": _from("pathlib", f"Pure{name}Path") for name in ("", "Posix", "Windows")},
    **{f"datetime:{name}": _moment(name) for name in ("datetime", "date", "time")},
    "datetime:timedelta": _duration,
    "decimal:Decimal": _from("decimal", "Decimal"),
    "fractions:Fraction": _from("fractions", "Fraction"),
    "uuid:UUID": _from("uuid", "UUID"),
    "zoneinfo:ZoneInfo": _from("zoneinfo", "ZoneInfo"),
    "builtins:complex": complex,
    "builtins:range": _numbers(range, "range"),
    "builtins:slice": _numbers(slice, "slice"),
    "builtins:ellipsis": lambda _text: Ellipsis,
    "builtins:int": int,
    "builtins:float": float,
    "builtins:bool": bool,
    "re:Pattern": re.compile,
    "torch:dtype": _attribute("torch"),
    "torch:device": _from("torch", "device"),
    "numpy:float64": _from("numpy", "float64"),
}
