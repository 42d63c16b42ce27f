"""Runs that differ in their seed alone, taken together, so that luck does not win."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runcard._paths import MISSING, is_seed, leaves, look_up, parts
from runcard._ranking import At, check_at, is_result, metric_value, sign_of
from runcard._selecting import sort_key
from runcard.errors import QueryError
from runcard.events import mark
from runcard.values import path_join

if TYPE_CHECKING:
    from runcard.record import RunRecord


@dataclass(frozen=True, slots=True)
class Spread:
    """One metric over the runs of a group. NaN and the infinities count in `unusable` and nowhere else.

    Attributes:
        n: How many runs have a finite value.
        mean: Their mean; None without any.
        std: The sample standard deviation (n - 1); None below two.
        min, max: The least and the greatest.
        best: The one of the two that the direction asks for; None when no direction was given.
        ci_low, ci_high: The 95 % confidence interval of the mean by Student's t; None below two.
        unusable: How many runs have a value that is NaN or infinite.
    """

    n: int
    mean: float | None
    std: float | None
    min: int | float | None
    max: int | float | None
    best: int | float | None
    ci_low: float | None
    ci_high: float | None
    unusable: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        return {name: mark(getattr(self, name)) for name in _SPREAD_FIELDS}


@dataclass(frozen=True, slots=True)
class Group:
    """Runs taken together.

    Attributes:
        experiment: Theirs, when they share one.
        config: What they have in common: the settings without the seeds, or what ``by=`` named, by path.
        runs: The records, in the order given.
        metrics: Name → its spread.
        seeds: The seeds of each run by path, in the order of `runs`.
    """

    experiment: str | None
    config: dict[str, Any]
    runs: list[RunRecord]
    metrics: dict[str, Spread]
    seeds: list[dict[str, Any]]

    @property
    def n(self) -> int:
        """How many runs."""
        return len(self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data, the runs by id."""
        common = {path: each.isoformat() if isinstance(each, datetime) else each for path, each in self.config.items()}
        return {
            "experiment": self.experiment,
            "config": mark(common),
            "n": self.n,
            "runs": [run.run_id for run in self.runs],
            "seeds": mark(self.seeds),
            "metrics": {name: spread.to_dict() for name, spread in self.metrics.items()},
        }


def aggregate(
    runs: Iterable[RunRecord],
    by: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] | None = None,
    *,
    direction: str | None = None,
    at: At = "last",
) -> list[Group]:
    """Group runs and sum up their metrics: mean, spread and a 95 % confidence interval.

    Args:
        runs: Any records.
        by: A path such as ``config.model``, or several; None groups replicates: runs of one experiment whose settings
            are the same apart from seeds, which are those whose name ends in ``seed`` or ``random_state``.
        metrics: The metrics' names; None for all that occur.
        direction: ``minimize`` or ``maximize``: what `Spread.best` means, and needed for ``at="best"``.
        at: ``last``, or ``best`` for each run's best point.

    Returns:
        The groups in the order of their first runs.

    Raises:
        QueryError: When a path in ``by`` is none.
        SettingError: When the direction or ``at`` is another word.
    """
    check_at(at)
    if direction is not None or at == "best":
        sign_of(direction)
    names = None if metrics is None else _texts(metrics)
    keys = None if by is None else [_grouping(text) for text in _texts(by)]
    members: dict[str, list[RunRecord]] = {}
    commons: dict[str, dict[str, Any]] = {}
    for run in runs:
        common = _without_seeds(run) if keys is None else {text: _read(run, steps) for text, steps in keys}
        identity = _canonical([run.experiment if keys is None else None, list(common.items())])
        members.setdefault(identity, []).append(run)
        commons.setdefault(identity, {path: value for path, value in common.items() if value is not MISSING})
    return [_group(commons[key], found, names, direction, at) for key, found in members.items()]


def rank_groups(groups: Iterable[Group], metric: str, direction: str) -> list[Group]:
    """The groups by the mean of a metric, best first; those without it last, ties in the order given.

    Raises:
        SettingError: When the direction is neither ``minimize`` nor ``maximize``.
    """
    sign = sign_of(direction)

    def key(group: Group) -> tuple[bool, float]:
        mean = group.metrics[metric].mean if metric in group.metrics else None
        return (mean is None, 0.0 if mean is None else sign * mean)

    return sorted(groups, key=key)


def spread(values: Iterable[int | float | None], direction: str | None = None) -> Spread:
    """The spread of some values; None is left out, what is not finite is counted apart."""
    present = [value for value in values if value is not None]
    usable = [value for value in present if is_result(value) and abs(value) < _TOO_LARGE]
    n, unusable = len(usable), len(present) - len(usable)
    if not n:
        return Spread(0, None, None, None, None, None, None, None, unusable)
    least, most = min(usable), max(usable)
    best = None if direction is None else (least if sign_of(direction) == 1 else most)
    mean = math.fsum(value / n for value in usable)
    mean = min(max(mean, float(least)), float(most))  # rounding may not lead outside
    if n < 2:
        return Spread(n, mean, None, least, most, best, None, None, unusable)
    std = math.hypot(*(value - mean for value in usable)) / math.sqrt(n - 1)
    half = student_t(n - 1) * std / math.sqrt(n)
    return Spread(n, mean, std, least, most, best, mean - half, mean + half, unusable)


def student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, for a two-sided 95 % interval, to five digits.

    Up to 30 degrees of freedom from the table (NIST/SEMATECH e-Handbook, 1.3.6.7.2, with more digits), beyond by the
    expansion of Abramowitz & Stegun, 26.7.5.
    """
    if degrees <= len(_STUDENT_T):
        return _STUDENT_T[degrees - 1]
    z = 1.959963985
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _group(
    common: dict[str, Any], runs: list[RunRecord], names: list[str] | None, direction: str | None, at: At
) -> Group:
    chosen = list(dict.fromkeys(name for run in runs for name in run.metrics)) if names is None else names
    spreads = {name: spread((metric_value(run, name, direction, at) for run in runs), direction) for name in chosen}
    seeds = [{path: value for path, value in leaves(run.config) if is_seed(path)} for run in runs]
    experiments = {run.experiment for run in runs}
    return Group(experiments.pop() if len(experiments) == 1 else None, common, runs, spreads, seeds)


def _without_seeds(run: RunRecord) -> dict[str, Any]:
    """The settings by path, seeds left out, in the order of their paths: that of the arguments tells nothing."""
    return dict(sorted((path, value) for path, value in _leaves_of_lists(run.config, "") if not is_seed(path)))


def _leaves_of_lists(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    """The leaves, also those inside lists of mappings: a seed may hide there."""
    for place, leaf in leaves(value, path) if value or path else ():
        if isinstance(leaf, list) and any(isinstance(item, Mapping) for item in leaf):
            for index, item in enumerate(leaf):
                yield from _leaves_of_lists(item, path_join(place, index))
        else:
            yield place, leaf


def _grouping(text: str) -> tuple[str, tuple[str | int, ...]]:
    key = sort_key(text)
    if key.descending:
        raise QueryError(f"by= takes a path without a sign, such as config.model, not {text!r}")
    steps = parts(key.text)
    head, dot, rest = key.text.partition(".")
    return key.text, steps if steps is not None else (head, rest) if dot else (head,)


def _read(run: RunRecord, steps: tuple[str | int, ...]) -> Any:
    value = getattr(run, str(steps[0]))
    return look_up(value, steps[1:])


def _canonical(value: Any) -> str:
    return json.dumps(mark(value), sort_keys=True, default=str)


def _texts(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


_TOO_LARGE = 10**308  # integers beyond this are no floats, and no mean takes them
_SPREAD_FIELDS = ("n", "mean", "std", "min", "max", "best", "ci_low", "ci_high", "unusable")
_STUDENT_T = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139),
    *(2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963),
    *(2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272),
)
