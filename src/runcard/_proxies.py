"""`@tracked` on what is no plain function: wrapped in wrapt's proxy, rewrapped, or refused with what to do instead."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

from runcard._current import is_disabled
from runcard.errors import warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from runcard._options import Options

_OWN_ENTRY = {
    "click": "a click command",
    "rich_click": "a click command",
    "typer": "a typer command",
    "celery": "a Celery task",
    "ray": "a Ray remote function",
    "_pytest": "a pytest fixture",
    "pytest_asyncio": "a pytest fixture",
    "dask": "a Dask delayed function",
    "prefect": "a Prefect flow or task",
    "huey": "a Huey task",
    "dramatiq": "a Dramatiq actor",
    "luigi": "a Luigi task",
    "airflow": "an Airflow task",
    "asyncclick": "a click command",
    "dagster": "a Dagster op",
    "flytekit": "a Flyte task",
    "invoke": "an Invoke task",
    "modal": "a Modal function",
    "zenml": "a ZenML step",
}


def decorate(function: Any, spec: Options, again: Callable[[Any, Options], Any]) -> Any:
    """Track a callable that is no plain function.

    Args:
        function: The callable.
        spec: The options.
        again: `_tracked._decorate`, for what lies beneath a static or class method.

    Raises:
        TypeError: For what cannot be tracked.
    """
    kind = type(function)
    if isinstance(function, type):
        raise TypeError(
            f"@tracked on the class {function.__qualname__}: decorate the method that does the work, "
            f"or write `with runcard.run():` around it"
        )
    if kind in (staticmethod, classmethod):
        return kind(again(function.__func__, spec))
    if isinstance(function, (property, functools.cached_property, functools.singledispatchmethod)):
        word = "property" if isinstance(function, property) else type(function).__name__
        raise TypeError(f"@tracked above @{word}: put @tracked below it, directly on the function")
    owner = next(
        (
            _OWN_ENTRY[base.__module__.partition(".")[0]]
            for base in kind.__mro__
            if base.__module__.partition(".")[0] in _OWN_ENTRY
        ),
        None,
    )
    if owner is not None:
        raise TypeError(f"@tracked on {owner}, which is called past any wrapper: put @tracked beneath, on the function")
    if isinstance(function, functools.partialmethod):
        return functools.partialmethod(again(_beneath(function), spec), *function.args, **function.keywords)
    if not callable(function):
        raise TypeError(
            f"@tracked needs a function, not {kind.__qualname__}; did you forget the brackets of an option?"
        )
    if _is_tracked(function):
        warn(f"{_name(function)} is tracked already; the outer @tracked and its options are left aside")
        return function
    if is_disabled():
        return function
    return _proxy(function, spec)


def _beneath(function: Any) -> Any:
    return function.func


def _is_tracked(function: Any) -> bool:
    inner = function.__func__ if isinstance(function, types.MethodType) else function
    if type(inner).__name__ == "TrackedProxy":
        return True
    try:
        return "__runcard__" in vars(inner)
    except TypeError:  # no __dict__: a builtin
        return False


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _proxy(function: Any, spec: Options) -> Any:
    """A transparent proxy whose calls are runs; the attributes of what it wraps stay reachable."""
    return _proxy_class()(function, spec)


@functools.lru_cache(maxsize=1)
def _proxy_class() -> Any:
    import wrapt

    from runcard._tracked import _async_generator, _coroutine, _generator, begin

    kinds = {"coroutine": _coroutine, "generator": _generator, "async": _async_generator}

    class TrackedProxy(wrapt.FunctionWrapper[Any, Any]):
        """wrapt's proxy, picklable by what it wraps."""

        def __init__(self, function: Any, spec: Options) -> None:
            def call(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
                __tracebackhide__ = True
                kind = _kind(wrapped)
                if kind in kinds:
                    return kinds[kind](wrapped, spec)(*args, **kwargs)
                # `_tracked._function` once more, since calling it would leave a second frame in the user's traceback.
                run = begin(wrapped, spec, args, kwargs)
                if run is None:
                    return wrapped(*args, **kwargs)
                try:
                    result = wrapped(*args, **kwargs)
                except BaseException as error:
                    run._close(error)
                    raise
                run._close(None, result)
                return result

            super().__init__(function, call)
            self._self_spec = spec

        def __reduce__(self) -> Any:
            return _rebuild, (self.__wrapped__, self._self_spec)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return self.__reduce__()

        def __copy__(self) -> Any:
            return self

        def __deepcopy__(self, memo: Any) -> Any:
            return self

    return TrackedProxy


def _rebuild(function: Any, spec: Options) -> Any:
    return _proxy(function, spec)


def _kind(function: Any) -> str:
    """Of what kind a call of this callable is."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = getattr(inner, "__code__", None) or getattr(getattr(type(inner), "__call__", None), "__code__", None)  # noqa: B004 - its code is asked for, not whether it is there
    if not isinstance(code, types.CodeType):
        code = getattr(getattr(inner, "__func__", None), "__code__", None)
    flags = code.co_flags if isinstance(code, types.CodeType) else 0
    return "async" if flags & 0x200 else "generator" if flags & 0x20 else "coroutine" if flags & 0x80 else "function"
