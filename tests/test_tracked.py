"""`@tracked` on every kind of callable: the user's outcome is sacred."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import operator
import pickle
import sys
import threading
import traceback
import types
import typing
import weakref
from abc import ABC, abstractmethod
from pathlib import Path

import click
import pytest

from runcard import current_run, log, run, tracked
from runcard.errors import RuncardWarning, SettingError
from runcard.values import config_hash


@tracked
def at_module_level(x: int = 1) -> int:
    """A docstring."""
    return x + 1


def only(store):
    """The one record of a store."""
    records = store.runs()
    assert len(records) == 1, records
    return records[0]


class Boom(Exception):
    """The user's own exception."""


def test_result_is_the_very_object(store):
    """The function's result is returned, not a copy."""
    made = object()

    @tracked
    def f():
        return made

    assert f() is made
    assert only(store).status == "finished"


def test_exception_is_the_very_object_with_its_context_and_cause():
    """The exception that leaves is the same object, with its context, cause and notes untouched."""
    cause, error = KeyError("cause"), Boom("boom")
    error.add_note("a note")

    @tracked
    def f():
        try:
            raise ValueError("context")
        except ValueError:
            raise error from cause

    with pytest.raises(Boom) as caught:
        f()
    assert caught.value is error
    assert caught.value.__cause__ is cause
    assert isinstance(caught.value.__context__, ValueError)
    assert caught.value.__notes__ == ["a note"]


def test_context_of_an_exception_raised_while_another_is_handled():
    """Called inside the user's except block, an exception keeps exactly the context it has undecorated."""

    def plain():
        try:
            raise KeyError("inner")
        except KeyError:
            raise Boom from None

    def chain(function):
        try:
            try:
                raise OSError("outer")
            except OSError:
                function()
        except Boom as error:
            return [type(each) for each in (error.__context__, error.__context__.__context__)]
        return None

    assert chain(tracked(plain)) == chain(plain) == [KeyError, OSError]


def test_error_is_recorded_as_data(store):
    """The record holds the exception's type, message, notes, causes and the user's own last frame."""

    @tracked
    def f():
        try:
            raise KeyError("first")
        except KeyError as error:
            later = Boom("second")
            later.add_note("while testing")
            raise later from error

    with pytest.raises(Boom):
        f()
    record = only(store)
    assert record.status == "failed"
    assert record.exit_code == 1
    assert record.error.type.endswith("Boom")
    assert record.error.message == "second"
    assert record.error.notes == ["while testing"]
    assert record.error.causes[0]["type"] == "KeyError"
    assert "runcard/_tracked" not in record.error.traceback
    assert record.error.frame["function"] == "f"


@pytest.mark.parametrize("arguments", [((), {"wrong": 1}), ((1, 2), {}), ((), {})])
def test_wrong_arguments_give_pythons_own_type_error(arguments, store):
    """The TypeError for wrong arguments is the undecorated function's, word for word, and no run is made of it."""

    def plain(x):
        return x

    messages = []
    for function in (plain, tracked(plain)):
        with pytest.raises(TypeError) as caught:
            function(*arguments[0], **arguments[1])
        messages.append(str(caught.value))
        assert caught.value.__context__ is None
    assert messages[0] == messages[1]
    assert store.runs() == []


def test_looks_like_the_function_it_wraps():
    """Names, docstring, annotations, signature, type hints, source and attributes are the function's."""

    def plain(x: int, *, y: str = "a") -> float:
        """Told."""

    plain.mark = "kept"
    decorated = tracked(plain)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(decorated, name) == getattr(plain, name)
    assert decorated.mark == "kept"
    assert decorated.__wrapped__ is plain
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert typing.get_type_hints(decorated) == typing.get_type_hints(plain)
    assert inspect.getsource(decorated) == inspect.getsource(plain)


def test_config_is_bound_with_defaults_in_signature_order(store):
    """The config has every argument, defaults included, in the order of the signature."""

    @tracked
    def f(a, /, b=2, *rest, c=3, **more):
        return None

    f(1, c=30, d=4)
    assert list(only(store).config.items()) == [("a", 1), ("b", 2), ("rest", []), ("c", 30), ("more", {"d": 4})]


def test_parameters_named_like_our_options(store):
    """Parameters called self, name, fn, args, config collide with nothing."""

    @tracked
    def f(self, name, fn, args, config, step=None):
        return name

    assert f(1, "n", 2, 3, config=4) == "n"
    assert only(store).config == {"self": 1, "name": "n", "fn": 2, "args": 3, "config": 4, "step": None}


def test_arguments_are_recorded_as_before_the_call(store):
    """What the function does to its arguments does not show in the config."""

    @tracked
    def f(items):
        items.append(3)

    f([1, 2])
    assert only(store).config == {"items": [1, 2]}


def test_ignore_leaves_out_parameters_and_dotted_paths(store):
    """`ignore` takes away parameters and nested keys."""

    @tracked(ignore=["model", "opts.verbose"])
    def f(model, opts, lr=0.1):
        return None

    f(object(), {"verbose": True, "depth": 3})
    assert only(store).config == {"opts": {"depth": 3}, "lr": 0.1}


def test_what_is_ignored_costs_nothing_else_its_place_or_hash(store):
    """An ignored loader leaves the config whole and hashed; an ignored pile of data cuts nothing."""

    @tracked(ignore=["loader", "docs"])
    def f(docs, loader, lr=0.1):
        return None

    f([["x" * 1_000] * 1_000] * 3, iter([]))
    record = only(store)
    assert record.config == {"lr": 0.1}
    assert record.config_hash == config_hash({"lr": 0.1})
    assert record.losses == {}


def test_arguments_that_raise_whatever_they_are_asked(store):
    """An object whose class, attributes and methods all exit is passed on untouched, by any name."""

    class Hostile:
        def __getattribute__(self, name):
            raise SystemExit(name)

    class Meta(type):
        def __getattribute__(cls, name):
            raise SystemExit(name)

    @tracked
    def by_value(value):
        return {"accuracy": 1.0, "rest": value}

    @tracked
    def by_config(cfg):
        return {"accuracy": 1.0, "rest": cfg}

    for hostile in (Hostile(), type.__call__(Meta("Odd", (), {}))):
        for function, name in ((by_value, "value"), (by_config, "cfg")):
            assert function(hostile)["rest"] is hostile
            record = store.get("latest")
            assert record.metrics == {"accuracy": 1.0}
            assert "$object" in record.config[name]
        with run("metric") as r, pytest.warns(RuncardWarning, match="no number"):
            r.log(odd=hostile)


def test_sole_config_parameter_is_the_config(store):
    """`main(cfg)` gives `config.lr`, and the parameter's name is kept for the rerun."""

    @tracked
    def main(cfg):
        return None

    main({"lr": 0.1, "model": {"depth": 2}})
    record = only(store)
    assert record.config.lr == 0.1
    assert record.function.config_parameter == "cfg"
    assert record.experiment == "test_tracked"  # `main` is compared by its file


@pytest.mark.parametrize(
    ("ignore", "config"),
    [
        (["cfg"], {}),
        (["cfg.model.depth"], {"lr": 0.1, "model": {"width": 8}}),
        (["model", "cfg.lr"], {}),
        (["model.width"], {"lr": 0.1, "model": {"depth": 2}}),
    ],
)
def test_ignore_of_a_sole_config_parameter(ignore, config, store):
    """The parameter itself can be left out, and what is in it, with its name before the path or without."""

    @tracked(ignore=ignore)
    def main(cfg):
        return None

    main({"lr": 0.1, "model": {"depth": 2, "width": 8}})
    record = only(store)
    assert record.config == config
    assert set(record.config_types) <= set(record.config)


def test_returned_numbers_are_metrics(store):
    """A mapping gives its numbers, nested names joined by slashes; a bool is no metric; the rest stays in `result`."""

    @tracked
    def f():
        return {"loss": 0.5, "val": {"acc": 1}, "ok": True, "name": "x"}

    f()
    record = only(store)
    assert record.metrics == {"loss": 0.5, "val/acc": 1}
    assert record.result == {"ok": True, "name": "x"}


@pytest.mark.parametrize(("options", "name"), [({}, "result"), ({"objective": "auc", "direction": "maximize"}, "auc")])
def test_a_returned_number_is_named_by_the_objective(options, name, store):
    """A bare number becomes the objective's metric, else `result`."""

    @tracked(**options)
    def f():
        return 0.75

    f()
    assert only(store).metrics == {name: 0.75}


def test_coroutine_function(store):
    """A tracked coroutine function is one still, and its run spans the await."""

    @tracked
    async def f(x):
        await asyncio.sleep(0)
        log(loss=x)
        return {"done": 1}

    assert inspect.iscoroutinefunction(f)
    assert asyncio.run(f(0.5)) == {"done": 1}
    assert only(store).metrics == {"loss": 0.5, "done": 1}


def test_cancellation_is_recorded_and_raised_again(store):
    """A cancelled run is `killed`, and the caller sees the cancellation."""

    @tracked
    async def f():
        await asyncio.sleep(30)

    async def main():
        task = asyncio.ensure_future(f())
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert only(store).status == "killed"


def test_tasks_have_runs_of_their_own(store):
    """Two tasks at once log each to its own run."""

    @tracked
    async def f(x):
        for _ in range(3):
            log(x=x)
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(f(1), f(2))
        assert current_run() is None

    asyncio.run(main())
    records = store.runs()
    assert sorted((r.config["x"], [p.value for p in r.metric_history]) for r in records) == [(1, [1] * 3), (2, [2] * 3)]
    assert [r.parent_id for r in records] == [None, None]


def test_generator_forwards_send_throw_close_and_its_return_value(store):
    """send, throw and the return value go through; the run opens at the first next."""

    @tracked
    def f():
        got = yield 1
        try:
            yield got
        except Boom:
            yield "caught"
        return {"score": 3}

    assert inspect.isgeneratorfunction(f)
    generator = f()
    assert store.runs() == []
    assert next(generator) == 1
    assert current_run() is None
    assert generator.send("sent") == "sent"
    assert generator.throw(Boom()) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == {"score": 3}
    assert only(store).metrics == {"score": 3}


def test_generator_closed_early_is_a_normal_end(store):
    """Dropping a generator ends its run as finished; its finally block still sees the run."""
    seen = []

    @tracked
    def f():
        try:
            yield 1
            yield 2
        finally:
            seen.append(current_run().name)

    generator = f()
    next(generator)
    generator.close()
    assert only(store).status == "finished"
    assert seen == [only(store).name]


def test_a_run_inside_a_generator_is_current_there_after_a_yield(store):
    """What a generator logs in a run that it opened goes there, also after it has yielded within."""

    @tracked
    def numbers():
        log(before=1)
        yield
        with run("inside"):
            log(first=1)
            yield
            log(second=2)
        log(after=3)
        yield

    @tracked
    async def later():
        async with run("inside, later"):
            yield
            log(second=2)

    async def consume():
        async for _ in later():
            log(seen=1)

    with run("consumer"):
        for _ in numbers():
            log(seen=1)
        asyncio.run(consume())
    metrics = {record.name.rpartition(".")[2]: record.metrics for record in store.runs()}
    assert metrics == {
        "consumer": {"seen": 1},
        "numbers": {"before": 1, "after": 3},
        "inside": {"first": 1, "second": 2},
        "later": {},
        "inside, later": {"second": 2},
    }


def test_generator_context_is_hidden_between_yields(store):
    """The consumer neither logs into the generator's run nor opens children of it."""

    @tracked(name="producer")
    def f():
        for step in range(2):
            log(inner=step)
            with run("within"):
                pass
            yield step

    for _ in f():
        assert current_run() is None
        with run("beside"):
            pass
    records = {(r.name, r.parent_id is None) for r in store.runs()}
    assert records == {("producer", True), ("within", False), ("beside", True)}


def test_two_generators_interleaved(store):
    """Each of two interleaved generators logs into its own run."""

    @tracked
    def f(name):
        for _ in range(3):
            log({name: 1})
            yield

    for _ in zip(f("a"), f("b"), strict=False):
        pass
    assert sorted(tuple(r.metrics) for r in store.runs()) == [("a",), ("b",)]


def test_async_generator(store):
    """asend, athrow and aclose go through; closing from another task is fine."""

    @tracked
    async def f():
        got = yield 1
        try:
            yield got
        except Boom:
            yield "caught"
        yield "more"

    async def main():
        assert inspect.isasyncgenfunction(f)
        generator = f()
        assert await anext(generator) == 1
        assert current_run() is None
        assert await generator.asend("sent") == "sent"
        assert await generator.athrow(Boom()) == "caught"
        await asyncio.ensure_future(generator.aclose())

    asyncio.run(main())
    assert only(store).status == "finished"


def test_async_generator_that_fails(store):
    """An exception from an async generator's body is recorded and is the very object."""
    error = Boom("x")

    @tracked
    async def f():
        yield 1
        raise error

    async def main():
        return [item async for item in f()]

    with pytest.raises(Boom) as caught:
        asyncio.run(main())
    assert caught.value is error
    assert only(store).status == "failed"


class Base:
    """A class whose methods are tracked."""

    @tracked
    def m(self, x=1):
        """A method."""
        return ("base", x)

    @tracked
    @classmethod
    def above_class(cls, x):
        return (cls.__name__, x)

    @classmethod
    @tracked
    def below_class(cls, x):
        return (cls.__name__, x)

    @tracked
    @staticmethod
    def above_static(x):
        return x

    @staticmethod
    @tracked
    def below_static(x):
        return x

    @property
    @tracked
    def prop(self):
        return 5

    @functools.cached_property
    @tracked
    def cached(self):
        return 6


class Derived(Base):
    """A subclass that calls up."""

    @tracked
    def m(self, x=1):
        return ("derived", *super().m(x))


class Statics:
    """Static methods whose first parameter has a method's name: a classifier."""

    @tracked
    @staticmethod
    def above(cls, x):
        return cls, x

    @staticmethod
    @tracked
    def below(cls, x):
        return cls, x


def test_a_static_methods_cls_is_a_parameter(store):
    """What a static method calls `cls` is recorded like any other argument, in both orders of decorators."""
    assert Statics.above("svm", 1) == ("svm", 1)
    assert Statics().below("svm", x=2) == ("svm", 2)
    assert [record.config for record in store.runs(sort="config.x")] == [{"cls": "svm", "x": 1}, {"cls": "svm", "x": 2}]


def test_methods(store):
    """Methods, super(), K.m(K()), class and static methods in both orders, and properties below work; no self."""
    assert Derived().m(2) == ("derived", "base", 2)
    assert Base.m(Base(), 3) == ("base", 3)
    assert Derived.above_class(1) == ("Derived", 1)
    assert Derived().below_class(1) == ("Derived", 1)
    assert Base.above_static(1) == Base().below_static(1) == 1
    assert Base().prop == 5
    assert Base().cached == 6
    assert all("self" not in r.config and "cls" not in r.config for r in store.runs())
    assert {r.name for r in store.runs()} >= {"Derived.m", "Base.m", "Base.above_class", "Base.prop"}


@pytest.mark.parametrize("make", [property, functools.cached_property, functools.singledispatchmethod])
def test_above_a_property_is_refused_with_the_right_order(make):
    """`@tracked` above a property raises at decoration and says where it belongs."""
    with pytest.raises(TypeError, match="below"):
        tracked(make(lambda self: 1))


def test_a_class_is_refused_with_two_alternatives():
    """Decorating a class raises and names the method and the block."""
    with pytest.raises(TypeError, match=r"decorate the method.*run\(\)"):
        tracked(Base)


def test_a_pytest_fixture_is_refused():
    """An object that is called past any wrapper is refused with where to put the decorator."""

    @pytest.fixture
    def fixture():
        return 1

    with pytest.raises(TypeError, match="beneath"):
        tracked(fixture)


def test_what_a_function_holds_is_let_go_with_it(store):
    """A function made for some data holds it while it is there itself, and no longer."""

    def training(data):
        @tracked
        def train(default=data):
            return (default, data)

        return train

    data = Boom()
    held = weakref.ref(data)
    assert training(data)() == (data, data)
    del data
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("sinks", [None, ["file:", lambda _: None]])
def test_arguments_are_let_go_when_the_call_returns(sinks, store):
    """No cycle of ours holds what a function was called with until the collector comes: it may be a GPU's memory."""

    @tracked(sinks=sinks)
    def train(data):
        return len(data.args)

    data = Boom("large")
    held = weakref.ref(data)
    gc.disable()
    try:
        assert train(data) == 1
        del data
        assert held() is None
    finally:
        gc.enable()


def test_above_a_plain_wrapper_of_a_coroutine_function(store):
    """The run would end before the coroutine begins, so it is said; the coroutine is the caller's, untouched."""

    async def work():
        log(loss=1.0)
        return 7

    @tracked
    @functools.wraps(work)
    def wrapper():
        return work()

    with pytest.warns(RuncardWarning, match="put @tracked beneath"):
        coroutine = wrapper()
    with pytest.warns(RuncardWarning, match="no run is open"):
        assert asyncio.run(coroutine) == 7
    assert only(store).metrics == {}


class _Named:
    """Whose methods call their object what they like."""

    @tracked
    def method(this, x):
        return x

    @classmethod
    @tracked
    def build(klass, x):
        return x

    @staticmethod
    @tracked
    def plain(this, x):
        return x


@pytest.mark.parametrize(
    ("call", "config"),
    [
        (lambda: _Named().method(1), {"x": 1}),
        (lambda: _Named.method(_Named(), 1), {"x": 1}),
        (lambda: _Named.build(1), {"x": 1}),
        (lambda: _Named.plain(2, 1), {"this": 2, "x": 1}),
        (lambda: tracked(_Named().unbound)(1), {"x": 1}),
    ],
)
def test_the_object_of_a_method_is_no_config_whatever_its_name(call, config, store):
    """The first parameter of what a class holds is the object's, unless it is a static method or bound already."""
    _Named.unbound = _Named.method.__wrapped__
    assert call() == 1
    assert only(store).config == config


@pytest.mark.parametrize(
    ("module", "word"),
    [
        ("typer.main", "typer"),
        ("celery.local", "Celery"),
        ("ray.remote_function", "Ray"),
        ("dask.delayed", "Dask"),
        ("prefect.flows", "Prefect"),
        ("airflow.decorators.base", "Airflow"),
        ("dagster._core.definitions", "Dagster"),
        ("modal.functions", "Modal"),
    ],
)
def test_what_has_an_entry_point_of_its_own_is_refused(module, word):
    """Objects that a framework calls past any wrapper are known by the package that their class is of."""
    kind = type("Task", (), {"__module__": module, "__call__": lambda _: None})
    with pytest.raises(TypeError, match=rf"{word}.*beneath"):
        tracked(kind())


class _Unsigned:
    __signature__ = property(lambda _: 1 / 0)

    def __call__(self, x):
        return x


def test_a_signature_that_cannot_be_read(store):
    """An object whose signature raises is tracked as a builtin is: with `args` and `kwargs`."""
    assert tracked(_Unsigned())(4) == 4
    assert only(store).config == {"args": [4], "kwargs": {}}


def test_a_click_command_is_refused_and_beneath_works(store):
    """`@tracked` above a click command raises; beneath it, the command's calls are runs."""
    from click.testing import CliRunner

    with pytest.raises(TypeError, match="beneath"):
        tracked(click.command()(lambda: None))

    @click.command()
    @click.option("--lr", type=float)
    @tracked
    def command(lr):
        click.echo(lr)

    assert CliRunner().invoke(command, ["--lr", "0.5"]).output == "0.5\n"
    assert only(store).config == {"lr": 0.5}


def test_context_manager_above_works_below_warns(store):
    """`@contextmanager` above spans the block; below, the user is told the fix."""

    @contextlib.contextmanager
    @tracked
    def manager(x):
        yield x

    with manager(3) as got:
        assert got == 3
    assert only(store).status == "finished"
    with pytest.warns(RuncardWarning, match="below @contextmanager"):
        tracked(contextlib.contextmanager(lambda: (yield)))


def test_partials_callable_objects_builtins_and_lambdas(store):
    """Callables that are no plain functions work, and record args and kwargs when they have no signature."""

    class Callable_:
        def __call__(self, x):
            return x * 2

    assert tracked(functools.partial(lambda a, b: a + b, 1))(b=2) == 3
    assert tracked(Callable_())(4) == 8
    assert tracked(max)(1, 5) == 5
    assert tracked(lambda x: x)(9) == 9
    namespace = {}
    exec("def made(x): return x", namespace)  # a function without a file
    assert tracked(namespace["made"])(7) == 7
    assert len(store.runs()) == 5
    assert {"args": [1, 5], "kwargs": {}} in [r.config for r in store.runs()]


def test_partialmethod(store):
    """A tracked partialmethod is one still."""

    class K:
        def m(self, a, b):
            return (a, b)

        half = tracked(functools.partialmethod(m, 1))

    assert K().half(2) == (1, 2)
    assert only(store).config == {"a": 1, "b": 2}


def test_lru_cache_in_both_orders(store):
    """`cache_info` stays reachable whichever is above; a cached answer is no run when the cache is above."""

    @tracked
    @functools.lru_cache
    def inner(x):
        return x

    @functools.lru_cache
    @tracked
    def outer(x):
        return x

    assert inner(1) == inner(1) == outer(1) == outer(1) == 1
    assert inner.cache_info().hits == 1
    assert outer.cache_info().hits == 1
    assert len(store.runs()) == 3


def test_singledispatch(store):
    """`register` stays reachable on a tracked singledispatch function, and the tracked one dispatches."""

    @tracked
    @functools.singledispatch
    def f(x):
        return "any"

    @f.register
    def _(x: int):
        return "int"

    assert (f(1), f("a")) == ("int", "any")
    assert len(store.runs()) == 2


def test_abstract_methods_stay_abstract():
    """A class with a tracked abstract method cannot be instantiated."""

    class A(ABC):
        @tracked
        @abstractmethod
        def m(self): ...

    with pytest.raises(TypeError, match="abstract"):
        A()


def test_pickle_copy_and_deepcopy_by_reference():
    """A tracked module-level function pickles by reference and copies to itself."""
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    assert copy.copy(at_module_level) is at_module_level
    assert copy.deepcopy(at_module_level) is at_module_level
    assert pickle.loads(pickle.dumps(Base().m)).__func__ is Base.m


def test_decorated_twice_is_one_record_and_a_warning(store):
    """A second `@tracked` is said and left aside."""
    with pytest.warns(RuncardWarning, match="tracked already"):
        twice = tracked(tracked(lambda: 1))
    assert twice() == 1
    assert len(store.runs()) == 1


def _injecting(function):
    """A decorator as many are: it looks like what it wraps, and gives an argument itself."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, extra=1, **kwargs)

    return call


def _dropping(function):
    """Another, which takes more than what it wraps."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(args[0])

    return call


def test_above_a_decorator_that_gives_or_takes_arguments(store):
    """A call that does not fit the signature of what is wrapped is recorded all the same, by name if it can be."""

    @tracked
    @_injecting
    def giving(x, extra, y=2):
        return x + extra + y

    class Model:
        @tracked
        @_dropping
        def taking(self):
            return 7

    assert (giving(1), Model().taking(5, z=6)) == (4, 7)
    configs = {record.function["qualname"].rpartition(".")[2]: record.config for record in store.runs()}
    assert configs == {"giving": {"x": 1, "y": 2}, "taking": {"args": [5], "kwargs": {"z": 6}}}
    with pytest.raises(TypeError, match=r"giving\(\) missing 1 required positional argument: 'x'"):
        giving()


@pytest.mark.parametrize("function", [len, functools.partial(len), operator.itemgetter(0), "".join])
def test_what_is_no_function_decorated_twice(function, store):
    """On a builtin, a partial or an object a second `@tracked` is said and left aside too."""
    once = tracked(function)
    with pytest.warns(RuncardWarning, match="tracked already"):
        twice = tracked(once)
    assert twice is once
    assert twice("x") == function("x")
    only(store)


def test_recursion_is_one_run_with_inner_calls_counted(store):
    """One run per outermost call; the inner calls cost one frame each and are counted."""

    @tracked
    def fact(n):
        return 1 if n <= 1 else n * fact(n - 1)

    assert fact(6) == 720
    assert only(store).resources.inner_calls == 5
    assert only(store).metrics == {"result": 720}


def test_recursion_to_the_limit_costs_one_frame_a_call():
    """Tracking halves the depth that recursion reaches at most."""

    def depth(function):
        try:
            return function(0)
        except RecursionError:
            return None

    def plain(n):
        try:
            return plain(n + 1)
        except RecursionError:
            return n

    @tracked
    def decorated(n):
        try:
            return decorated(n + 1)
        except RecursionError:
            return n

    assert depth(decorated) > 0.4 * depth(plain)


def test_an_exception_near_the_recursion_limit_is_the_users_own(store):
    """A RecursionError passes through, and the run still ends as failed."""

    @tracked
    def f():
        def deeper():
            return deeper()

        return deeper()

    with pytest.raises(RecursionError):
        f()
    assert only(store).status == "failed"


def _boom(_=None):
    raise Boom


class _Booming:
    __call__ = _boom


@pytest.mark.parametrize("function", [_boom, functools.partial(_boom), _Booming(), _Booming().__call__])
def test_traceback_has_one_library_frame_and_it_is_hidden(function):
    """Live, one frame of the library stands between the call and what is called, marked for pytest to hide."""
    f = tracked(function)
    try:
        f()
    except Boom as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.f_globals["__name__"].startswith("runcard")]
    assert len(ours) == 1
    assert ours[0].f_locals["__tracebackhide__"] is True


def test_exception_whose_text_is_no_utf_8(store):
    """A file's name that is no UTF-8, in a message, a note or a cause, is escaped; the run ends as any that failed."""

    @tracked
    def f():
        error = FileNotFoundError(2, "gone", b"\xff.csv".decode("utf-8", "surrogateescape"))
        error.add_note("lone \ud800")
        raise error from ValueError("\udcff")

    with pytest.raises(FileNotFoundError):
        f()
    record = only(store)
    assert record.status == "failed"
    assert "\\udcff.csv" in record.error.message
    assert record.error.notes == ["lone \\ud800"]
    assert record.error.causes[0].message == "\\udcff"


@pytest.mark.parametrize("kind", [Exception, BaseException])
def test_exception_with_broken_str_and_repr(kind, store):
    """An exception whose own methods raise stays the user's, and is told by its type."""

    class Broken(kind):
        def __str__(self):
            raise SystemExit(9)

        __repr__ = __str__

    error = Broken()

    @tracked
    def f():
        raise error

    with pytest.raises(Broken) as caught:
        f()
    assert caught.value is error
    assert only(store).error.type.endswith("Broken")


def _raises(*_):
    raise RuntimeError


class _OddText(str):
    __slots__ = ()
    startswith = __len__ = __format__ = _raises


class _OddError(Exception):
    def __str__(self):
        return _OddText("what went wrong")

    __notes__ = __cause__ = __context__ = __traceback__ = property(_raises)


def _of_no_utf8(*, note=False):
    error = ValueError("a name that is no UTF-8: \udcff")
    if note:
        error.add_note("\ud800")
    return error


@pytest.mark.parametrize(
    ("error", "kind", "message", "notes"),
    [
        (_of_no_utf8(), "ValueError", "a name that is no UTF-8: \\udcff", []),
        (_of_no_utf8(note=True), "ValueError", "a name that is no UTF-8: \\udcff", ["\\ud800"]),
        (_OddError(), "test_tracked._OddError", "what went wrong", []),
        (ValueError("x" * 10_000), "ValueError", f"{'x' * 4_000}… (10000 characters)", []),
    ],
)
def test_an_odd_exception_is_told_all_the_same(error, kind, message, notes, store):
    """Lone surrogates, notes and texts that raise, a very long text: the run fails with type, message and line."""
    with pytest.raises(type(error)) as caught, run():
        raise error
    assert caught.value is error
    record = only(store)
    assert (record.status, record.error.type, record.error.message, record.error.notes) == (
        "failed",
        kind,
        message,
        notes,
    )
    assert "raise error" in record.error.traceback
    assert (record.error.frame["text"], record.error.causes) == ("raise error", [])


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (pytest.skip.Exception("not here"), "finished", None),
        (pytest.fail.Exception("wrong"), "failed", 1),
        (pytest.exit.Exception("enough"), "killed", None),
        (pytest.exit.Exception("enough", 3), "failed", 3),
        (click.exceptions.Exit(0), "finished", 0),
        (click.exceptions.Exit(4), "failed", 4),
        (click.UsageError("which?"), "failed", 2),
        (click.Abort(), "killed", None),
    ],
)
def test_outcomes_of_pytest_and_click(error, status, code, store):
    """What pytest and click end a program with is told as it ends it, and goes on as it came."""
    with pytest.raises(type(error)) as caught, run():
        raise error
    assert caught.value is error
    record = only(store)
    assert (record.status, record.exit_code) == (status, code)


def test_groups_and_cycles_are_a_bounded_tree(store):
    """An exception group with a thousand members and a cycle of causes gives a bounded record."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    group = ExceptionGroup("many", [first, *(ValueError(str(n)) for n in range(1000))])

    @tracked
    def f():
        raise group

    with pytest.raises(ExceptionGroup) as caught:
        f()
    assert caught.value is group

    def size(node):
        return 1 + sum(size(each) for each in node["causes"])

    assert size(only(store).error) <= 25


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SystemExit(), "finished", 0),
        (SystemExit(0), "finished", 0),
        (SystemExit(3), "failed", 3),
        (SystemExit("a text"), "failed", 1),
        (KeyboardInterrupt(), "killed", None),
    ],
)
def test_statuses_of_exits(error, status, code, store):
    """Exits and interrupts have the statuses of the design, and are raised again as they came."""

    @tracked
    def f():
        raise error

    with pytest.raises(type(error)) as caught:
        f()
    assert caught.value is error
    assert (only(store).status, only(store).exit_code) == (status, code)


def test_expected_exceptions_are_a_normal_end(store):
    """`expected` gives finished, discarded with the exception's text as the reason, and raises it again."""

    class Pruned(Exception):
        pass

    @tracked(expected=Pruned)
    def f():
        raise Pruned("trial pruned at 3")

    with pytest.raises(Pruned):
        f()
    record = only(store)
    assert (record.status, record.decision, record.decision_reason) == ("finished", "discard", "trial pruned at 3")


def test_a_task_that_outlives_its_run_is_counted_and_never_reopens_it(store):
    """log() after the end is dropped and counted in the record."""

    async def late():
        await asyncio.sleep(0.02)
        log(late=1)

    @tracked
    async def f(tasks):
        tasks.append(asyncio.ensure_future(late()))

    async def main():
        tasks = []
        await f(tasks)
        await tasks[0]

    with pytest.warns(RuncardWarning, match="has ended"):
        asyncio.run(main())
    record = only(store)
    assert record.status == "finished"
    assert record.metrics == {}
    assert record.losses == {"after_end": 1}


def test_disabled_at_decoration_is_the_very_function(monkeypatch):
    """With RUNCARD_DISABLED the decorated function is the original."""
    monkeypatch.setenv("RUNCARD_DISABLED", "1")

    def f():
        return 1

    assert tracked(f) is f
    assert tracked(name="x")(f) is f


def test_disabled_later_records_nothing(monkeypatch, store, tmp_path):
    """Switched off after decoration, calls and blocks record nothing and touch no file."""

    @tracked
    def f():
        log(a=1)
        return 1

    monkeypatch.setenv("RUNCARD_DISABLED", "1")
    assert f() == 1
    with run("x") as r:
        r.log(a=1)
        r.artifact_path("a.txt").write_text("written")
    assert not (tmp_path / "runcards").exists()


def test_thread_without_context_takes_the_deepest_common_run(store, alone):
    """A helper thread's log() goes to the deepest run common to all open ones."""
    with run("outer") as outer, run("inner") as inner:
        assert alone(current_run) is inner
        alone(lambda: log(loss=1.0))
    assert alone(current_run) is None
    assert store.get(inner.run_id).metrics == {"loss": 1.0}
    assert store.get(outer.run_id).metrics == {}


def test_strangers_in_a_pool_are_not_each_others_children(store):
    """Tracked calls side by side in threads, with no run around them, are runs at the top."""
    both = threading.Barrier(2)

    @tracked
    def f(x):
        both.wait(10)
        log(x=x)
        both.wait(10)

    threads = [threading.Thread(target=f, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = store.runs()
    assert [r.parent_id for r in records] == [None, None]
    assert sorted(r.metrics["x"] for r in records) == [0, 1]


def test_inputs_that_are_paths_are_hashed(store, tmp_path):
    """A Path argument that names a file, and what inputs= names, are recorded with their hash."""
    import hashlib

    data, other = tmp_path / "data.csv", tmp_path / "other.csv"
    data.write_bytes(b"a,b\n1,2\n")
    other.write_bytes(b"x")

    @tracked(inputs=["second"])
    def f(path: Path, second: str):
        return None

    f(data, str(other))
    found = {Path(entry.path).name: entry for entry in only(store).inputs}
    assert found["data.csv"].sha256 == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    assert found["other.csv"].bytes == 1
    assert only(store).config_types["path"].startswith("pathlib:")


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "loss"},
        {"direction": "minimize"},
        {"objective": "loss", "direction": "down"},
        {"auto_decide": True},
        {"capture": ["nonsense"]},
        {"sinks": ["nonsense:x"]},
        {"expected": "ValueError"},
        {"ranks": "nonsense"},
        {"seed": "x"},
        {"parent": "nonsense"},
        {"parent": 3},
    ],
)
def test_wrong_options_are_refused_when_decorating(options):
    """An option that makes no sense is an error at once, and says what is accepted."""
    with pytest.raises(SettingError):
        tracked(**options)


def test_unknown_option_is_a_type_error():
    """A misspelt option is refused by Python itself."""
    with pytest.raises(TypeError):
        tracked(nme="x")


def test_a_function_with_dead_closure_cells_is_pickled_by_cloudpickle(tmp_path):
    """The copy of a `__main__` function that cloudpickle ships is still tracked."""
    import subprocess

    script = tmp_path / "ship.py"
    script.write_text(
        "import cloudpickle, sys\n"
        "from runcard import tracked\n"
        "@tracked\n"
        "def f(x):\n    return x\n"
        "g = cloudpickle.loads(cloudpickle.dumps(f))\n"
        "assert g is not f and g(3) == 3\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, cwd=tmp_path)
    from runcard import open_store

    assert [r.config for r in open_store(tmp_path / "runcards").runs()] == [{"x": 3}]


def test_tracked_is_a_plain_function():
    """What decorates a plain function is a plain function: no proxy, no state."""
    assert type(at_module_level) is types.FunctionType
    assert at_module_level(2) == 3


def test_above_a_single_dispatch_method_names_the_right_order(store):
    """Above `singledispatchmethod`, which is no callable, the error says where @tracked belongs; there it works."""

    class Model:
        @functools.singledispatchmethod
        @tracked
        def fit(self, data):
            return {"size": len(data)}

    with pytest.raises(TypeError, match="above @singledispatchmethod: put @tracked below"):
        tracked(functools.singledispatchmethod(lambda self, data: data))
    assert Model().fit("abc") == {"size": 3}
    assert store.get("latest").metrics == {"size": 3}
