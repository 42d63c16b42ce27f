"""`@tracked`: a function that leaves a card each time it is called.

Plain Python functions become plain closures, one a kind: function, coroutine function, generator, async generator.
Their cells hold only what can be imported or pickled, so that a tracked function travels to other processes and stays
tracked. All other callables are in `_proxies`. The user's code is never called inside an `except` block of ours, and at
most one frame of the library stands between a call and its function.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeVar, overload

from runcard import _current
from runcard._options import Options, refuse_unknown
from runcard._run import Run
from runcard.errors import contained, warn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable

    from runcard._binding import Bound

F = TypeVar("F", bound="Callable[..., Any]")

_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200  # the flags of `inspect`, which costs 20 ms to import
_COPIED = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "__type_params__", "__annotate__")


@overload
def tracked(function: F, /) -> F: ...
@overload
def tracked(
    *,
    name: str | None = None,
    experiment: str | None = None,
    tags: Iterable[str] = (),
    notes: str | None = None,
    ignore: Iterable[str] = (),
    inputs: Iterable[Any] = (),
    objective: str | None = None,
    direction: str | None = None,
    auto_decide: bool = False,
    expected: type[BaseException] | Iterable[type[BaseException]] = (),
    capture: Iterable[str] | None = None,
    sinks: Any = None,
    seed: int | None = None,
    resume: str | None = None,
    parent: Any = None,
    ranks: str | None = None,
) -> Callable[[F], F]: ...
def tracked(function: Any = None, /, **options: Any) -> Any:
    """Let every call of a function be a run that records itself.

    Bare, called, or with options; on functions, coroutine functions, generators, methods, and other callables. The
    function's result, exceptions and signature stay what they are.

    Args:
        function: What to track; None when called with options.
        options: As `run`; ``name`` defaults to the function's qualified name, ``experiment`` to the same. ``ignore``
            names parameters (dotted paths too) that stay out of the config, ``inputs`` parameters or paths to record
            with their hashes. ``objective`` also names the metric of a function that returns a bare number.

    Raises:
        TypeError: For what cannot be tracked, such as a class; the message says what to do instead.
        SettingError: For an option that is not accepted.
        TypeError: For an option that there is not.

    >>> @tracked(sinks=["memory:"])
    ... def train(lr: float = 0.1) -> float:
    ...     return lr * 2
    >>> train()
    0.2
    """
    refuse_unknown("tracked", options)
    spec = Options(**options)
    if function is None:
        return lambda decorated: _decorate(decorated, spec)
    return _decorate(function, spec)


def _decorate(function: Any, spec: Options) -> Any:
    if type(function) is not types.FunctionType:
        from runcard import _proxies

        return _proxies.decorate(function, spec, _decorate)
    if "__runcard__" in function.__dict__:
        warn(f"{function.__qualname__} is tracked already; the outer @tracked and its options are left aside")
        return function
    _check_context_manager(function)
    if _current.is_disabled():
        return function
    flags = function.__code__.co_flags
    marker = function.__dict__.get("_is_coroutine_mark")
    if flags & _ASYNC_GENERATOR:
        wrapper: Any = _async_generator(function, spec)
    elif flags & _GENERATOR and not flags & 0x100:  # an iterable coroutine of `types.coroutine` is called as it is
        wrapper = _generator(function, spec)
    elif flags & _COROUTINE or marker is not None:
        wrapper = _coroutine(function, spec)
    else:
        wrapper = _function(function, spec)
    return dressed(wrapper, function)


def dressed(wrapper: Any, function: Any) -> Any:
    """Give a wrapper the looks of what it wraps, as `functools.wraps` would, and our mark."""
    for name in _COPIED:
        try:
            setattr(wrapper, name, getattr(function, name))
        except AttributeError:
            continue
    wrapper.__dict__.update(function.__dict__)
    wrapper.__wrapped__ = function
    wrapper.__runcard__ = True
    wrapper.__defaults__ = None
    return wrapper


def begin(function: Any, spec: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run | None:
    """Open the run of one call; None for an inner call of a recursion, and when nothing is to be recorded."""
    run = _current.here.get()
    while run is not None:  # a call inside the run of the same function is a part of it
        if run.is_open and run._function is function:
            run.count_inner_call()
            return None
        run = run.parent
    if _current.is_disabled():
        return None
    bound = contained("read the arguments", _bind, function, args, kwargs)
    if bound is None:  # they do not fit: Python says so itself, in its own words, when the function is called
        return None
    run = Run(spec, bound.config, function=function)
    run._parameter, run._arguments = bound.parameter, bound.arguments
    run._open()
    run._given_config, run._arguments = None, {}  # recorded; the objects are the caller's to let go
    return run if run.is_open else None


def _bind(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound | None:
    from runcard._binding import bind

    return bind(function, args, kwargs)


def _function(function: Any, spec: Options) -> Callable[..., Any]:
    def tracked_call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        run = begin(function, spec, args, kwargs)
        if run is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            run._close(error)
            raise
        run._close(None, result)
        if type(result) is types.CoroutineType:
            _ended_early(function)
        return result

    return tracked_call


def _ended_early(function: Any) -> None:
    """Say that a run was over before its coroutine began: what is tracked is no coroutine function, but wraps one."""
    name = function.__qualname__
    warn(
        f"{name} is no `async def`, and its run ended when it returned a coroutine, before that ran; "
        "put @tracked beneath the other decorator, on the `async def` itself",
        once=f"coroutine {name}",
    )


def _coroutine(function: Any, spec: Options) -> Callable[..., Any]:
    async def tracked_call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        run = begin(function, spec, args, kwargs)
        if run is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            run._close(error, wait=False)
            if run.waits:
                await run._delivered(error)
            raise
        run._close(None, result, wait=False)
        if run.waits:
            await run._delivered(None)
        return result

    return tracked_call


def _generator(function: Any, spec: Options) -> Callable[..., Any]:
    def tracked_call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        __tracebackhide__ = True
        run = begin(function, spec, args, kwargs)
        if run is None:
            return (yield from function(*args, **kwargs))
        run.step_out(run.outer)
        try:
            generator = function(*args, **kwargs)
            resume, argument = generator.send, None
            while True:
                # The generator's body sees its run as current, and nobody else does.
                outer = run.step_in()
                try:
                    item = resume(argument)
                finally:
                    run.step_out(outer)
                try:
                    resume, argument = generator.send, (yield item)
                except GeneratorExit:
                    resume = None
                except BaseException as thrown:
                    resume, argument = generator.throw, thrown
                if resume is None:
                    outer = run.step_in()
                    try:
                        result = generator.close()
                    finally:
                        run.step_out(outer)
                    run._close(None, result)
                    return result
        except StopIteration as stop:
            run._close(None, stop.value)
            return stop.value
        except BaseException as error:
            run._close(error)
            raise

    return tracked_call


def _async_generator(function: Any, spec: Options) -> Callable[..., Any]:
    async def tracked_call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        __tracebackhide__ = True
        run: Any = begin(function, spec, args, kwargs) or _NoRun()
        run.step_out(run.outer)
        argument: Any = None
        try:
            generator = function(*args, **kwargs)
            resume = generator.asend
            while True:
                outer = run.step_in()
                try:
                    item = await resume(argument)
                finally:
                    run.step_out(outer)
                try:
                    resume, argument = generator.asend, (yield item)
                except GeneratorExit:
                    resume = None
                except BaseException as thrown:
                    resume, argument = generator.athrow, thrown
                if resume is None:
                    outer = run.step_in()
                    try:
                        await generator.aclose()
                    finally:
                        run.step_out(outer)
                    run._close(None, wait=False)
                    return
        except StopAsyncIteration:
            run._close(None, wait=False)
            if run.waits:
                await run._delivered(None)
        except BaseException as error:
            # asyncio cancels the closing of what was dropped when the loop ends: no cancellation of the work itself.
            dropped = error is argument and type(error).__name__ == "CancelledError"
            run._close(None if dropped else error, wait=False)
            if run.waits:
                await run._delivered(error)
            raise

    return tracked_call


class _NoRun:
    """Stands in for the run of an async generator that records nothing: it cannot say `yield from`."""

    waits = False
    outer = None

    def step_in(self) -> None:
        """Nothing becomes current."""

    def step_out(self, outer: Any) -> None:
        """Nothing was."""

    def _close(self, error: BaseException | None, *, wait: bool) -> None:
        """Nothing ends."""

    async def _delivered(self, error: BaseException | None) -> None:
        """Nobody waits."""


def _check_context_manager(function: Any) -> None:
    """Warn of `@tracked` above `@contextmanager`: it would time the making of the manager, not its block."""
    if function.__globals__.get("__name__") == "contextlib" and hasattr(function, "__wrapped__"):
        warn(
            f"@tracked on {function.__qualname__} records only that the context manager was made; "
            "put @tracked below @contextmanager, so that the run spans the block"
        )
