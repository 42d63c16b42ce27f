"""Why a rerun may differ from its original: what differs between the two, the likeliest cause first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from runcard._compare import compare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runcard._plan import Plan
    from runcard.record import RunRecord

SMALL = 1e-3  # a relative difference below it looks like arithmetic, one above it like other code, data or seeds


class Cause(NamedTuple):
    """Something that differs, or could not be had.

    Attributes:
        kind: ``setting``, ``code``, ``input``, ``seed``, ``package``, ``python``, ``machine``, ``variable`` or
            ``unknown``.
        what: A sentence.
    """

    kind: str
    what: str


def causes_of(
    original: RunRecord, made: RunRecord | None, planned: Plan, size: float, moved: Iterable[Iterable[str]]
) -> list[Cause]:
    """What may have made the difference, the likeliest first.

    Args:
        original: The recorded run.
        made: The new one; None for a rerun that left no record.
        planned: With what could not be had again.
        size: The largest relative difference.
        moved: Pairs of folders that stand for each other.
    """
    found = dict.fromkeys(_causes(original, made, planned, [tuple(pair) for pair in moved]))
    order = _ARITHMETIC if size < SMALL else _MEANING
    causes = sorted(found, key=lambda cause: order.index("other" if _is_aside(cause) else cause.kind))
    if not causes:
        return [Cause("unknown", _NOTHING)]
    return causes


def _causes(
    original: RunRecord, made: RunRecord | None, planned: Plan, moved: list[tuple[str, ...]]
) -> Iterator[Cause]:
    for path, value in planned.changes.items():
        yield Cause("setting", f"{path} was set to {value!r}")
    for obstacle in planned.cannot:
        if obstacle.what in ("code", "input"):
            yield Cause(obstacle.what, obstacle.why)
        elif obstacle.what == "package" and "editable" in obstacle.why:
            yield Cause("package", obstacle.why)
        elif obstacle.what == "call":
            yield Cause("code", obstacle.why)
    if made is None:
        for name, (then, now) in planned.packages_here.items():
            yield Cause("package", f"{name} was {then}, is {now or 'missing'}")
        return
    compared = compare(original, made)
    functions = compared.code.functions
    if None not in functions and functions[0] != functions[1]:
        yield Cause("code", "the function's source is not the recorded one")
    commits = compared.code.commits
    if None not in commits and commits[0] != commits[1]:
        yield Cause("code", f"the commit was {str(commits[0])[:12]}, is {str(commits[1])[:12]}")
    elif None not in commits and compared.code.patch_differs and not compared.code.incomplete:
        yield Cause("code", "the uncommitted changes are not the recorded ones")
    for change in compared.config:
        if change.path not in planned.changes and _moved(change.old, moved) != _moved(change.new, moved):
            yield Cause("setting", f"{change.path} was {_short(change.old)}, is {_short(change.new)}")
    yield from _of_inputs(original, made)
    yield from _of_packages(compared.packages)
    yield from _of_environment(compared.environment)
    yield from _of_seeds(original, made)


def _of_inputs(original: RunRecord, made: RunRecord) -> Iterator[Cause]:
    """Inputs by name and content: the folders differ."""
    hashes = {str(each.get("sha256")) for each in made.inputs}
    names = {str(each.get("path")).rpartition("/")[2] for each in made.inputs}
    for entry in original.inputs:
        path = str(entry.get("path"))
        if entry.get("sha256") and entry["sha256"] not in hashes and path.rpartition("/")[2] in names:
            yield Cause("input", f"{path} has other content than it had")


def _of_packages(changes: Iterable[Any]) -> Iterator[Cause]:
    """Those that calculate first; those that came since are counted."""
    told, new = [], []
    for change in changes:
        name, _, part = str(change.path).partition(".")
        if part in ("path", "url", "pushed", "subdirectory", "vcs") or name == "runcard":
            continue
        if change.old is None:
            new.append(name)
        elif change.new is None:
            told.append(Cause("package", f"{name} {_short(change.old)} is missing"))
        else:
            pair = [str(each)[:12] if part == "commit" else _short(each) for each in (change.old, change.new)]
            told.append(Cause("package", f"{name} was {pair[0]}, is {pair[1]}"))
    yield from sorted(told, key=_is_aside)
    if new:
        listed = ", ".join(new[:5])
        yield Cause("package", f"{_ASIDE}{listed}{f' and {len(new) - 5} more' if len(new) > 5 else ''}")


def _is_aside(cause: Cause) -> bool:
    """Whether a package is none of those that calculate, or came since."""
    return cause.kind == "package" and "editable" not in cause.what and cause.what.split()[0] not in _CALCULATE


def _of_environment(changes: Iterable[Any]) -> Iterator[Cause]:
    for change in changes:
        path = str(change.path)
        part, _, rest = path.partition(".")
        told = f"was {_short(change.old)}, is {_short(change.new)}"
        if path in ("python.version", "python.implementation", "python.gil", "python.free_threaded", "python.optimize"):
            yield Cause("python", f"Python{'' if rest == 'version' else f' ({rest})'} {told}")
        elif part == "variables" and not rest.startswith(("VIRTUAL_ENV", "PYTHONPATH", "CONDA", "PYTHONDONTWRITE")):
            yield Cause("variable", f"{rest} {told}")
        elif path == "host" or (
            part in ("platform", "hardware") and rest.partition(".")[0].partition("[")[0] in _MACHINE
        ):
            yield Cause("machine", f"{rest or path} {told}")


def _of_seeds(original: RunRecord, made: RunRecord) -> Iterator[Cause]:
    before: dict[str, Any] = original.seed or {}
    after: dict[str, Any] = made.seed or {}
    if before.get("seed") != after.get("seed"):
        yield Cause("seed", f"the seed was {before.get('seed')}, is {after.get('seed')}")
    for name in ("random", "numpy", "torch"):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict) and old.get("sha256") != new.get("sha256"):
            yield Cause("seed", f"the generator of {name} started elsewhere")
    if before.get("seed") is None:
        yield Cause(
            "seed", "no seed was set: a generator of its own (numpy.random.default_rng()) starts anew each time"
        )


def _moved(value: Any, moved: list[tuple[str, ...]]) -> Any:
    """A value with the recorded folders for those that stood for them."""
    if isinstance(value, str):
        for old, new in moved:
            if value == new or value.startswith(f"{new}/"):
                return old + value[len(new) :]
    if isinstance(value, list):
        return [_moved(item, moved) for item in value]
    if isinstance(value, dict):
        return {key: _moved(item, moved) for key, item in value.items()}
    return value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_MEANING = ("setting", "input", "code", "seed", "package", "python", "variable", "machine", "other", "unknown")
_ARITHMETIC = ("setting", "package", "python", "variable", "machine", "other", "input", "code", "seed", "unknown")
_ASIDE = "not installed then: "
_NOTHING = (
    "nothing that is recorded differs: the code may draw on the time, the network, an unseeded generator, "
    "or the order in which threads or a GPU add up"
)
_CALCULATE = frozenset(
    """
    numpy scipy torch torchvision torchaudio triton tensorflow keras jax jaxlib flax optax scikit-learn xgboost lightgbm
    catboost pandas polars pyarrow numba cupy transformers accelerate tokenizers datasets lightning pytorch-lightning
    statsmodels opencv-python pillow sympy
    """.split()  # noqa: SIM905 - a list of so many names, one a line, would bury the file
)
_MACHINE = frozenset(("machine", "system", "libc", "cpu", "gpus", "gpu", "accelerators", "cuda", "driver", "byteorder"))
