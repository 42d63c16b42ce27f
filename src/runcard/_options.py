"""The options that `@tracked` and `run()` share, refused at once when they make no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runcard.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIRECTIONS = ("minimize", "maximize")
_LAUNCHERS = ("torchrun", "slurm", "mpi")


class Options:
    """What was asked of a run. Plain data, so that a tracked function can be sent to other processes."""

    __slots__ = (
        "auto_decide",
        "capture",
        "direction",
        "expected",
        "experiment",
        "ignore",
        "inputs",
        "name",
        "notes",
        "objective",
        "parent",
        "ranks",
        "resume",
        "seed",
        "sinks",
        "tags",
    )

    def __init__(
        self,
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
    ) -> None:
        self.name = _text("name", name)
        self.experiment = _text("experiment", experiment)
        self.tags = _texts("tags", tags)
        self.notes = _text("notes", notes)
        self.ignore = _texts("ignore", ignore)
        self.inputs = _paths(inputs)
        self.objective, self.direction = _goal(objective, direction)
        self.auto_decide = bool(auto_decide)
        if auto_decide and objective is None:
            raise SettingError("auto_decide=True needs objective= and direction=: what is a run to be judged by?")
        self.expected = _exceptions(expected)
        self.capture = capture if capture is None else _setting("capture", capture)
        self.sinks = sinks if sinks is None else _setting("sinks", sinks)
        if seed is not None and (isinstance(seed, bool) or not hasattr(type(seed), "__index__")):
            raise SettingError(f"seed={seed!r} is not accepted: a whole number")
        self.seed = None if seed is None else int(seed)
        self.resume = _text("resume", resume)
        self.parent = _parent(parent)
        if ranks is not None and ranks not in _LAUNCHERS:
            raise SettingError(f"ranks={ranks!r} is not accepted: it is one of {', '.join(_LAUNCHERS)}")
        self.ranks = ranks

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def refuse_unknown(caller: str, given: Iterable[str], also: tuple[str, ...] = ()) -> None:
    """Refuse options that there are not, and say which there are.

    Raises:
        TypeError: As Python's own for an unexpected keyword.
    """
    accepted = sorted({*Options.__slots__, *also})
    unknown = [name for name in given if name not in accepted]
    if unknown:
        raise TypeError(f"{caller}() has no option {', '.join(unknown)}; there are: {', '.join(accepted)}")


def _text(option: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise SettingError(f"{option}={value!r} is not accepted: a text")
    return value


def _texts(option: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else _several(value)
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise SettingError(f"{option}={value!r} is not accepted: texts, such as {option}=['quick']")
    return texts


def _paths(value: Any) -> tuple[Any, ...]:
    paths = (value,) if isinstance(value, str) or hasattr(value, "__fspath__") else _several(value)
    if paths is None:
        raise SettingError(f"inputs={value!r} is not accepted: parameters or paths, such as inputs=['data.csv']")
    return paths


def _several(value: Any) -> tuple[Any, ...] | None:
    """The items of an option that takes several; None for what has none."""
    try:
        return () if value is None else tuple(value)
    except TypeError:
        return None


def _goal(objective: Any, direction: Any) -> tuple[str | None, str | None]:
    if (objective is None) != (direction is None):
        given, missing = ("objective", "direction") if direction is None else ("direction", "objective")
        raise SettingError(f"{given}= needs {missing}= too: objective='val_loss', direction='minimize'")
    if direction is not None and direction not in _DIRECTIONS:
        raise SettingError(f"direction={direction!r} is not accepted: minimize or maximize")
    return _text("objective", objective), direction


def _exceptions(value: Any) -> tuple[type[BaseException], ...]:
    kinds = (value,) if isinstance(value, type) else _several(value)
    if kinds is None or not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise SettingError(f"expected={value!r} is not accepted: exception classes, such as expected=(Pruned,)")
    return kinds


def _parent(value: Any) -> Any:
    """A token, or a run, which gives its token once it is open."""
    if value is None or hasattr(value, "token"):
        return value
    from runcard.identity import parse_token

    if parse_token(str(value)) is None:
        raise SettingError(f"parent={str(value)[:80]!r} is no token; r.token() gives one")
    return value


def _setting(name: str, value: Any) -> Any:
    """Check a setting given as an option as `configure` would; imported late, to keep decorating cheap."""
    from runcard import settings
    from runcard.sinks import registry

    parsed = settings.parse(name, value)
    if name == "sinks":
        for sink in parsed:
            registry.check(sink.removeprefix("+") if isinstance(sink, str) else sink)
    return parsed
