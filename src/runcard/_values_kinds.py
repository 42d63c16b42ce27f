"""What kind of thing a value is, by the names of its classes alone, and its parts, without running its code.

Classes are asked through `type`'s own descriptors and instances through `object`'s, so that neither a
metaclass nor a ``__getattribute__`` has a say.
"""

from __future__ import annotations

from typing import Any

_mro = type.__dict__["__mro__"].__get__
_dict = type.__dict__["__dict__"].__get__
_module = type.__dict__["__module__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_name = type.__dict__["__name__"].__get__

HIDDEN = "[redacted]"  # `redact.REDACTED`, spelt here so that recording a value does not load the redactor
MISSING = object()


def name_of(kind: type) -> str:
    """``module:qualname`` of a class, the same on every Python: ``pathlib._local`` is ``pathlib``."""
    try:
        module, qualname = _module(kind), _qualname(kind)
    except Exception:  # a class that hides its module has no name to record
        return "unknown:unknown"
    if type(module) is not str:
        module = "unknown"
    return encodable(f"{_MOVED.get(module, module)}:{qualname}"[:500])


def kind_of(value: object) -> str:
    """The bare name of a value's class, for a message."""
    return encodable(_name(type(value)))


def names_of(kind: type) -> tuple[str, ...]:
    """The names of a class and of all its bases, nearest first."""
    found = _names.get(kind) if type(kind) is type else None
    if found is None:
        found = tuple(name_of(base) for base in _mro(kind))
        if type(kind) is type:  # a metaclass could have its own idea of a hash
            if len(_names) > 2_000:
                _names.clear()
            _names[kind] = found
    return found


def kinds_of(kind: type) -> set[str]:
    """The families a class belongs to, of the values of `_FAMILIES`."""
    names = names_of(kind)
    if any("_sa_class_manager" in _dict(base) for base in _mro(kind)):
        return {"untouched"}  # a row of SQLAlchemy: reading a field may query the database
    found = {_FAMILIES[name] for name in names if name in _FAMILIES}
    if not found and any(
        mark in _dict(base) for base in _mro(kind) for mark in ("__dataclass_fields__", "__attrs_attrs__")
    ):
        found.add("fields")
    return found


def secret_kind(kind: type) -> bool:
    """Whether a class is one that wraps a secret: pydantic's ``SecretStr`` and its kin."""
    return any(_FAMILIES.get(name) == "secret" for name in names_of(kind))


def field_names(kind: type) -> list[tuple[str, bool]]:
    """The fields of a dataclass, attrs, pydantic or msgspec class, and whether each shows in its ``repr``."""
    if "msgspec:Struct" in names_of(kind):
        return [(name, True) for name in kind.__struct_fields__]  # type: ignore[attr-defined] # msgspec's own
    declared = class_attribute(kind, "__pydantic_fields__", "model_fields", "__fields__")
    if isinstance(declared, dict) and not class_has(kind, "__dataclass_fields__"):
        return [(name, _shown(getattr(field, "field_info", field))) for name, field in declared.items()]
    declared = class_attribute(kind, "__dataclass_fields__")
    if isinstance(declared, dict):
        return [
            (name, _shown(field))
            for name, field in declared.items()
            if getattr(getattr(field, "_field_type", None), "name", "") == "_FIELD"
        ]
    return [(field.name, _shown(field)) for field in class_attribute(kind, "__attrs_attrs__") or ()]


def stored(value: object, name: str) -> Any:
    """What an object holds under a name, in its ``__dict__``, a slot or a class's plain default; else `MISSING`."""
    own = instance_dict(value)
    if name in own:
        return own[name]
    for base in _mro(type(value)):
        names = _dict(base)
        if name in names:
            found = names[name]
            if type(found).__name__ == "member_descriptor":
                try:
                    return found.__get__(value)
                except AttributeError:
                    return MISSING  # a slot that was never set
            return MISSING if any("__get__" in _dict(kind) for kind in _mro(type(found))) else found
    return MISSING


def instance_dict(value: object) -> dict[str, Any]:
    """An object's own ``__dict__``, or an empty one."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except Exception:  # slots only, or a `__dict__` that is somebody's property
        return {}
    return found if type(found) is dict else {}


def class_attribute(kind: type, *names: str) -> Any:
    """The first of some attributes that a class or a base of it defines in its body; None if none does."""
    for name in names:
        for base in _mro(kind):
            if name in _dict(base):
                return _dict(base)[name]
    return None


def class_has(kind: type, name: str) -> bool:
    """Whether a class or a base of it defines an attribute in its body."""
    return any(name in _dict(base) for base in _mro(kind))


def encodable(text: str) -> str:
    r"""A text with its lone surrogates written as ``\udc80``."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def cut_text(text: str, limit: int) -> str:
    """The longest head of a text that is ``limit`` bytes or fewer in UTF-8."""
    if len(text) * 4 <= limit:
        return text
    head = text[:limit]
    data = head.encode("utf-8", "surrogatepass")
    if len(data) <= limit:
        return head
    while limit and data[limit] & 0xC0 == 0x80:  # inside a character
        limit -= 1
    return data[:limit].decode("utf-8", "surrogatepass")


def text_of(key: Any) -> str | None:
    """A mapping's key as a name: texts and integers have one."""
    if type(key) is str:
        return key
    if type(key) is int:
        return str(key) if key.bit_length() <= 64 else None
    return str.__str__(key) if "builtins:str" in names_of(type(key)) else None


def _shown(field: Any) -> bool:
    return getattr(field, "repr", True) is not False


_MOVED = {"pathlib._local": "pathlib", "pathlib._abc": "pathlib", "_pydecimal": "decimal", "_pydatetime": "datetime"}
_names: dict[type, tuple[str, ...]] = {}
_FAMILIES = {
    "msgspec:Struct": "fields",
    "pydantic.main:BaseModel": "fields",
    "pydantic.v1.main:BaseModel": "fields",
    "pydantic.types:_SecretBase": "secret",
    "pydantic.types:SecretStr": "secret",
    "pydantic.types:SecretBytes": "secret",
    "pydantic.v1.types:SecretField": "secret",
    "pydantic.v1.types:SecretStr": "secret",
    "pydantic.v1.types:SecretBytes": "secret",
    "starlette.datastructures:Secret": "secret",
    "argparse:Namespace": "namespace",
    "types:SimpleNamespace": "namespace",
    "omegaconf.dictconfig:DictConfig": "omegaconf",
    "omegaconf.listconfig:ListConfig": "omegaconf",
    "ml_collections.config_dict.config_dict:ConfigDict": "configdict",
    "unittest.mock:Base": "untouched",
    "django.db.models.base:Model": "untouched",
}
