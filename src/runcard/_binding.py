"""The arguments of a call as its config: bound with defaults, in signature order, without ``self`` and ``cls``."""

from __future__ import annotations

import inspect
import sys
import types
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from runcard.values import is_config_object, is_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONFIG_NAMES = frozenset(("config", "cfg", "conf", "args", "opts", "options", "params", "hparams", "settings"))
_signatures: WeakKeyDictionary[types.FunctionType, inspect.Signature | None] = WeakKeyDictionary()
"""Weak, since a function that is made in a loop holds what its closure holds."""


class Bound(NamedTuple):
    """One call's arguments.

    Attributes:
        config: What is recorded as the config.
        arguments: Name → value, for `inputs`.
        parameter: The sole parameter whose value *is* the config, if there is one.
    """

    config: Any
    arguments: Mapping[str, Any]
    parameter: str | None


def bind(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound | None:
    """Bind a call's arguments; None when they do not fit the signature."""
    signature = _signature(function)
    if signature is None:
        return Bound({"args": list(args), "kwargs": kwargs}, {}, None)
    is_method = _is_method(function, signature)
    try:
        bound = _fitted(function, signature, args, kwargs)
    except TypeError:
        if not _is_borrowed(function):
            return None
        return Bound({"args": list(args[is_method:]), "kwargs": kwargs}, {}, None)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    if is_method:
        arguments.pop(next(iter(signature.parameters)), None)
    if len(arguments) == 1:
        (name, value), *_ = arguments.items()
        if is_config_object(value) or (name in _CONFIG_NAMES and is_mapping(value)):
            return Bound(value, arguments, name)
    return Bound(arguments, arguments, None)


def _fitted(
    function: Any, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """The arguments by name; a decorator beneath may itself give those that are missing."""
    try:
        return signature.bind(*args, **kwargs)
    except TypeError:
        if not _is_borrowed(function):
            raise
        return signature.bind_partial(*args, **kwargs)


def _is_borrowed(function: Any) -> bool:
    """Whether the signature is not what is called, but what that says of itself: of a wrapper, what it wraps."""
    return hasattr(function, "__wrapped__") or hasattr(function, "__signature__")


def _signature(function: Any) -> inspect.Signature | None:
    """The signature, or None for callables that do not tell theirs."""
    if type(function) is not types.FunctionType:
        return _read_signature(function)  # its hash and its equality would be the user's code
    try:
        return _signatures[function]
    except KeyError:
        found = _signatures[function] = _read_signature(function)
        return found


def _read_signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except Exception:  # a builtin that tells none, an object whose own `__signature__` or annotations raise
        return None


def _is_method(function: Any, signature: inspect.Signature) -> bool:
    """Whether the first parameter is the object or the class of a function that was defined in a class."""
    first = next(iter(signature.parameters.values()), None)
    outer = getattr(function, "__qualname__", "").rpartition(".")[0]
    if first is None or first.kind not in _BY_PLACE or not outer or outer.endswith("<locals>"):
        return False
    held = _held(function)
    if held is None or not isinstance(function, types.FunctionType):  # a bound method's object is no parameter any more
        return first.name in ("self", "cls", "mcs", "mcls") and not isinstance(held, staticmethod)
    return not isinstance(held, staticmethod)


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _held(function: Any) -> Any:
    """What its class holds under its name: a static method's ``cls`` is a name like any other, a classifier's, say."""
    owner: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for name in function.__qualname__.split("."):
        owner = getattr(owner, "__dict__", {}).get(name)
    return owner
