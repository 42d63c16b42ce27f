"""What differs between two runs: settings, metrics, code, packages, machine, inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from runcard._patches import patch_of, patches_diff
from runcard._paths import MISSING, is_branch, leaves
from runcard.events import mark
from runcard.values import path_join

if TYPE_CHECKING:
    from runcard.record import RunRecord

Kind = Literal["added", "removed", "changed", "type", "moved"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs.

    Attributes:
        path: Where: ``optimizer.lr``, a package's name, an input's path.
        old, new: The values in the first and the second run; None on the side that has none.
        kind: ``added``, ``removed``, ``changed``; ``type`` when the same setting is of another type (``1`` and ``"1"``,
            ``1`` and ``1.0``); ``moved`` for an input of the same content at another path.
        old_type, new_type: The types, where ``kind`` is ``type``.
    """

    path: str
    old: Any
    new: Any
    kind: Kind
    old_type: str | None = None
    new_type: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        data = {"path": self.path, "old": mark(self.old), "new": mark(self.new), "kind": self.kind}
        return {**data, "old_type": self.old_type, "new_type": self.new_type} if self.kind == "type" else data


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric in both runs: `a`, `b`, and `delta`, which is b minus a. What a run lacks is None, never zero."""

    a: int | float | None
    b: int | float | None
    delta: int | float | None

    @property
    def differs(self) -> bool:
        """Whether the two values are different; NaN equals NaN here."""
        return not same(self.a, self.b)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        return {"a": mark(self.a), "b": mark(self.b), "delta": mark(self.delta)}


@dataclass(frozen=True, slots=True)
class CodeChange:
    """The code of both runs.

    Attributes:
        same: Whether both ran the same code: True, False, or None when the records cannot tell.
        commits, branches, dirty, functions: Of the first and the second run; functions are their source hashes.
        incomplete: Whether either record's changes are incomplete.
        patch_differs: Whether the uncommitted changes differ; None when it is not known.
        diff: What differs between the recorded patches as text, where both runs' files can be read and their commits
            are the same; empty otherwise.
    """

    same: bool | None
    commits: tuple[str | None, str | None]
    branches: tuple[str | None, str | None]
    dirty: tuple[bool | None, bool | None]
    functions: tuple[str | None, str | None]
    incomplete: bool
    patch_differs: bool | None
    diff: str

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        pairs = {name: list(getattr(self, name)) for name in ("commits", "branches", "dirty", "functions")}
        rest = {"incomplete": self.incomplete, "patch_differs": self.patch_differs, "diff": self.diff}
        return {"same": self.same, **pairs, **rest}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between the runs `a` and `b`; everything that is the same is left out, but for `metrics`.

    Attributes:
        a, b: The two records.
        config: Settings by dotted path.
        metrics: Every metric of either run → its two values and their difference.
        code: See `CodeChange`.
        packages: Packages by name, with their versions.
        environment: Python, platform, hardware, variables, command and host, by dotted path.
        inputs: Files the runs read: ``old`` and ``new`` are content hashes (paths for a moved one).
        duration: Seconds.
    """

    a: RunRecord
    b: RunRecord
    config: list[Change]
    metrics: dict[str, MetricChange]
    code: CodeChange
    packages: list[Change]
    environment: list[Change]
    inputs: list[Change]
    duration: MetricChange

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data, as ``runcard diff --json`` prints it; the runs themselves by id, name and status."""
        return {
            "a": _heading(self.a),
            "b": _heading(self.b),
            "config": [change.to_dict() for change in self.config],
            "metrics": {name: change.to_dict() for name, change in self.metrics.items()},
            "code": self.code.to_dict(),
            "packages": [change.to_dict() for change in self.packages],
            "environment": [change.to_dict() for change in self.environment],
            "inputs": [change.to_dict() for change in self.inputs],
            "duration": self.duration.to_dict(),
        }


@overload
def compare(a: RunRecord, b: RunRecord, /) -> Comparison: ...
@overload
def compare(a: RunRecord, b: RunRecord, c: RunRecord, /, *more: RunRecord) -> list[Comparison]: ...
def compare(a: RunRecord, b: RunRecord, /, *more: RunRecord) -> Comparison | list[Comparison]:
    """What differs between two runs; with more than two, each of them against the first.

    NaN, missing values and mixed types are compared as they are and never raise.
    """
    return [_compared(a, each) for each in (b, *more)] if more else _compared(a, b)


def same(old: Any, new: Any) -> bool:
    """Whether two values are the same, type for type: NaN equals NaN, and 1 is neither 1.0 nor True."""
    if type(old) is float and type(new) is float:
        return old == new or (math.isnan(old) and math.isnan(new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(same(old[key], new[key]) for key in old)
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return len(old) == len(new) and all(map(same, old, new))
    return type(old) is type(new) and bool(old == new)


def _compared(a: RunRecord, b: RunRecord) -> Comparison:
    return Comparison(
        a=a,
        b=b,
        config=list(_config_changes(a, b)),
        metrics={name: _metric(a.metrics.get(name), b.metrics.get(name)) for name in {**a.metrics, **b.metrics}},
        code=_code(a, b),
        packages=_packages(a.environment.get("packages"), b.environment.get("packages")),
        environment=list(_changes(_surroundings(a), _surroundings(b), "")),
        inputs=_inputs(a, b),
        duration=_metric(a.duration_s, b.duration_s),
    )


def _config_changes(a: RunRecord, b: RunRecord) -> Iterator[Change]:
    found = {change.path: change for change in _changes(a.config, b.config, "")}
    for path in {**a.config_types, **b.config_types}:  # the same JSON may stand for a path here, a text there
        old_type, new_type = a.config_types.get(path), b.config_types.get(path)
        if old_type != new_type and path not in found and old_type and new_type:
            old, new = (dict(leaves(record.config)).get(path) for record in (a, b))
            found[path] = Change(path, old, new, "type", old_type, new_type)
    yield from found.values()


def _changes(old: Any, new: Any, path: str) -> Iterator[Change]:
    """The leaves that differ between two nested values."""
    if _is_open(old) and _is_open(new):
        for key in {**old, **new}:
            yield from _changes(old.get(key, MISSING), new.get(key, MISSING), path_join(path, key))
    elif _is_list_of_branches(old) and _is_list_of_branches(new) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changes(before, after, path_join(path, index))
    elif old is MISSING:
        yield from (Change(place, None, value, "added") for place, value in leaves(new, path))
    elif new is MISSING:
        yield from (Change(place, value, None, "removed") for place, value in leaves(old, path))
    elif not same(old, new):
        yield _change(path, old, new)


def _change(path: str, old: Any, new: Any) -> Change:
    """A changed leaf. Numbers of another value are changed, whatever their types; None is no type of its own."""
    types = _type(old), _type(new)
    numbers = all(kind in ("int", "float") for kind in types)
    if types[0] == types[1] or None in (old, new) or (numbers and old != new):
        return Change(path, old, new, "changed")
    return Change(path, old, new, "type", types[0], types[1])


def _type(value: Any) -> str:
    if isinstance(value, Mapping):
        return "mapping"
    return "list" if isinstance(value, (list, tuple)) else type(value).__name__


def _is_open(value: Any) -> bool:
    return is_branch(value) or (isinstance(value, Mapping) and not value)


def _is_list_of_branches(value: Any) -> bool:
    return isinstance(value, list) and any(is_branch(item) for item in value)


def _metric(a: Any, b: Any) -> MetricChange:
    first, second = (value if isinstance(value, (int, float)) else None for value in (a, b))
    if first is None or second is None:
        return MetricChange(first, second, None)
    try:
        return MetricChange(first, second, second - first)
    except OverflowError:  # an integer too large for the float beside it
        return MetricChange(first, second, None)


def _code(a: RunRecord, b: RunRecord) -> CodeChange:
    gits = [_mapping(record.environment.get("git")) for record in (a, b)]
    commits = _pair(gits, "commit")
    functions = _pair([_mapping(record.function) for record in (a, b)], "source_sha256")
    dirty = _pair(gits, "dirty")
    incomplete = any(bool(git.get("incomplete")) for git in gits)
    patch_differs = _patch_differs(a, b, gits)
    diff = patches_diff(patch_of(a), patch_of(b)) if patch_differs and commits[0] == commits[1] else ""
    known = commits[0] is not None and commits[1] is not None
    if (
        (None not in functions and functions[0] != functions[1])
        or (known and commits[0] != commits[1])
        or patch_differs
    ):
        alike: bool | None = False
    elif known and patch_differs is False and not incomplete:
        alike = True
    else:
        alike = None
    return CodeChange(alike, commits, _pair(gits, "branch"), dirty, functions, incomplete, patch_differs, diff)


def _patch_differs(a: RunRecord, b: RunRecord, gits: Sequence[Mapping[str, Any]]) -> bool | None:
    hashes = _pair(gits, "patch_sha256")
    if None not in hashes:
        return bool(hashes[0] != hashes[1])
    clean = [git.get("dirty") is False for git in gits]
    if all(clean):
        return False
    if any(clean) and None not in _pair(gits, "dirty"):
        return True
    texts = patch_of(a), patch_of(b)
    return None if None in texts else texts[0] != texts[1]


def _packages(old: Any, new: Any) -> list[Change]:
    before, after = _mapping(old), _mapping(new)
    names = sorted({**before, **after}, key=str)
    return [
        change for name in names for change in _changes(before.get(name, MISSING), after.get(name, MISSING), str(name))
    ]


def _surroundings(record: RunRecord) -> dict[str, Any]:
    kept = {name: record.environment[name] for name in _SURROUNDINGS if record.environment.get(name)}
    hardware = kept.get("hardware")
    if isinstance(hardware, Mapping) and isinstance(hardware.get("disk"), Mapping):
        # What was free is measured anew each time: it would tell any two runs apart.
        disk = {name: value for name, value in hardware["disk"].items() if name != "free_bytes"}
        kept["hardware"] = {**hardware, "disk": disk}
    return {**kept, "host": record.host} if record.host else kept


def _inputs(a: RunRecord, b: RunRecord) -> list[Change]:
    """By content: a file that is elsewhere now has moved, and one with another hash has changed."""
    before, after = ({str(entry.get("path")): _content(entry) for entry in run.inputs} for run in (a, b))
    changes = []
    gone = {path: content for path, content in before.items() if path not in after}
    for path, content in after.items():
        if path in before:
            if before[path] != content:
                changes.append(Change(path, before[path], content, "changed"))
            continue
        origin = next((each for each, known in gone.items() if known == content and content), None)
        if origin is None:
            changes.append(Change(path, None, content, "added"))
        else:
            del gone[origin]
            changes.append(Change(path, origin, path, "moved"))
    return changes + [Change(path, content, None, "removed") for path, content in gone.items()]


def _content(entry: Mapping[str, Any]) -> str | None:
    """The hash of a file, or what stands for it when it was too large to hash."""
    if entry.get("sha256"):
        return str(entry["sha256"])
    return f"{entry['bytes']} bytes of {entry.get('mtime')}" if entry.get("bytes") is not None else None


def _heading(record: RunRecord) -> dict[str, Any]:
    started = record.started_at.isoformat() if record.started_at else None
    named = {"run_id": record.run_id, "name": record.name, "experiment": record.experiment}
    return {**named, "status": record.status.value, "started_at": started}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _pair(sides: Sequence[Mapping[str, Any]], name: str) -> tuple[Any, Any]:
    return sides[0].get(name), sides[1].get(name)


_SURROUNDINGS = ("python", "platform", "hardware", "variables", "command")
