"""Checked by mypy and pyright, never run: `@tracked` leaves every callable's type as it is, in all spellings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, assert_type, overload

import runcard
from runcard import Point, Run, RunRecord, Status, Store, log, open_store, run, tracked

T = TypeVar("T")
P = ParamSpec("P")


@tracked
def bare(data: Path, lr: float = 1e-3, *, epochs: int = 10) -> dict[str, float]:
    """Bare."""
    log({"loss": lr}, step=epochs)
    return {"loss": 1.0}


@tracked()
def called(x: int) -> str:
    """Called."""
    return str(x)


@tracked(name="n", experiment="e", objective="loss", direction="minimize", tags=["a"], expected=ValueError, seed=1)
def with_options(x: int, *args: str, **kwargs: bytes) -> None:
    """With options."""


assert_type(bare(Path(), lr=1.0), dict[str, float])
assert_type(bare(Path(), 1.0, epochs=3), dict[str, float])
assert_type(called(1), str)
bare("text")  # type: ignore[arg-type]  # a wrong argument is an error, as without the decorator
bare(Path(), 1.0, 3)  # type: ignore[call-arg]  # a keyword-only parameter stays one
with_options(1, "a", b=b"c")


@tracked
async def coroutine(x: int) -> bytes:
    """A coroutine function."""
    return bytes(x)


@tracked
def generator(x: int) -> Generator[int, str, bool]:
    """A generator."""
    sent = yield x
    return sent == "x"


@tracked
def iterator() -> Iterator[int]:
    """A generator, typed as an iterator."""
    yield 1


@tracked
async def async_generator(x: int) -> AsyncGenerator[int, str]:
    """An async generator."""
    yield x


async def use() -> None:
    """What the kinds give."""
    assert_type(await coroutine(1), bytes)
    assert_type(generator(1), Generator[int, str, bool])
    assert_type(generator(1).send("x"), int)
    assert_type(list(iterator()), list[int])
    assert_type(async_generator(1), AsyncGenerator[int, str])
    async for value in async_generator(1):
        assert_type(value, int)


@overload
def either(x: int) -> int: ...
@overload
def either(x: str) -> str: ...
@tracked
def either(x: int | str) -> int | str:
    """Overloads are kept."""
    return x


assert_type(either(1), int)
assert_type(either("a"), str)


@tracked
def generic(items: list[T], default: T) -> T:
    """Type variables are kept."""
    return items[0] if items else default


assert_type(generic([1], 2), int)
assert_type(generic(["a"], "b"), str)


class Model:
    """Methods of all kinds."""

    @tracked
    def fit(self, x: int) -> Model:
        """A method."""
        return self

    @tracked(name="made")
    def named(self, x: int = 1) -> int:
        """A method, with options."""
        return x

    @classmethod
    @tracked
    def make(cls, x: int) -> Model:
        """A class method."""
        return cls()

    @staticmethod
    @tracked
    def static(x: int) -> str:
        """A static method."""
        return str(x)

    @property
    @tracked
    def size(self) -> int:
        """A property."""
        return 1

    @tracked
    async def serve(self) -> float:
        """A coroutine method."""
        return 1.0

    @tracked
    def __call__(self, x: int) -> bool:
        """An object that is called."""
        return bool(x)


assert_type(Model().fit(1).named(2), int)
assert_type(Model.make(1), Model)
assert_type(Model.static(1), str)
assert_type(Model().size, int)
assert_type(Model()(1), bool)
assert_type(Model.fit(Model(), 1), Model)


@contextmanager
@tracked
def opened(x: int) -> Iterator[str]:
    """A context manager, with @tracked beneath."""
    yield str(x)


with opened(1) as text:
    assert_type(text, str)


def decorated(function: Callable[P, T]) -> Callable[P, T]:
    """Through another decorator."""
    return tracked(function)


assert_type(decorated(called)(1), str)
assert_type(tracked(lambda x: x + 1.5)(1), Any)

with run("name", config={"lr": 0.1}, tags=["quick"], sinks=["memory:", lambda record: record.metrics]) as r:
    assert_type(r, Run)
    r.log(accuracy=0.9)
    r.log({"loss": 1}, step=3)
    assert_type(r.artifact_path("model.pt"), Path)
    assert_type(r.token(), str)
    assert_type(r.run_id, str)

assert_type(run("x").start(), Run)
assert_type(runcard.current_run(), Run | None)


async def block() -> None:
    """`async with`."""
    async with run("name") as opened_run:
        assert_type(opened_run, Run)


def read() -> AsyncIterator[int]:
    """What reading back gives."""
    store = open_store("runcards")
    assert_type(store, Store)
    record = store.get("latest")
    assert_type(record, RunRecord)
    assert_type(record.status, Status)
    assert_type(record.config.lr, Any)  # entries are attributes too, as the README has them
    assert_type(record.metrics.loss, Any)
    assert_type(record.metric_summary.loss.min_step, Any)
    assert_type(record.metrics["train/loss"], Any)
    assert_type(store.runs(where="config.lr < 1", limit=3)[0], RunRecord)
    assert_type(store.history(record.run_id)[0], Point)
    assert_type(runcard.rank(store.runs(), "loss", "minimize"), list[RunRecord])
    assert_type(store.keep(record.run_id, "why"), RunRecord)
    raise NotImplementedError
