"""Which settings tell the best runs from the worst, each with its evidence.

The runs are ranked and the top n set against the bottom n. A numeric setting is judged by Cliff's delta: the chance
that it is larger in a run from the top than in one from the bottom, minus the chance that it is smaller; and, since the
best value often lies in the middle, by the same measure of how far it is from the middle of all. Any other setting is
judged value by value by its odds ratio with Haldane's correction (0.5 added to each count). `p` is two-sided, by
Mann-Whitney's normal approximation with ties, and by Fisher's exact test; the more settings are tried, the more of them
fall below 0.05 by luck, so `Explanation.tried` belongs to the answer.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runcard._paths import MISSING, is_seed, leaves
from runcard._ranking import At, check_at, is_result, metric_value, rank, sign_of
from runcard.events import mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runcard.record import RunRecord

FEWEST = 10
"""Below so many runs with a finite value nothing is said."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, and how it tells the top runs from the bottom ones.

    Attributes:
        path: Of the setting in the config.
        kind: ``numeric`` or ``categorical``.
        pattern: ``higher``, ``lower``, ``middle`` or ``extremes``: where a numeric setting lies in the top runs,
            against the bottom ones; for a categorical one ``value``, or ``absent`` when the odds are for its absence.
        strength: From 0, tells nothing, to 1, tells all: the size of Cliff's delta, or of Yule's Q from the odds ratio.
        p: How often luck alone would separate so much.
        evidence: A sentence with the counts and values.
        value: The categorical value that the odds are for.
        odds_ratio: Its odds in the top runs over those in the bottom ones.
        delta: Cliff's delta, from -1 to 1, for a numeric one.
        top, bottom: Least, median and greatest value for a numeric one; for a categorical one how many runs have the
            value, and out of how many.
    """

    path: str
    kind: Literal["numeric", "categorical"]
    pattern: Literal["higher", "lower", "middle", "extremes", "value", "absent"]
    strength: float
    p: float
    evidence: str
    value: Any = None
    odds_ratio: float | None = None
    delta: float | None = None
    top: tuple[float, ...] = ()
    bottom: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        return {name: mark(getattr(self, name)) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What tells the best runs from the worst.

    Attributes:
        metric, direction, at: What the runs were ranked by.
        n: How many runs have a finite value of the metric.
        top, bottom: The best and the worst runs, best first, as many of each.
        settings: What tells them apart (p at most 0.05), strongest first; empty when nothing does.
        tried: How many settings were looked at.
        enough: Whether there were runs enough to say anything.
        message: The answer in one sentence.
    """

    metric: str
    direction: str
    at: str
    n: int
    top: list[RunRecord]
    bottom: list[RunRecord]
    settings: list[Setting]
    tried: int
    enough: bool
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data, the runs by id."""
        plain = {name: getattr(self, name) for name in ("metric", "direction", "at", "n", "tried", "enough", "message")}
        runs = {"top": [run.run_id for run in self.top], "bottom": [run.run_id for run in self.bottom]}
        return {**plain, **runs, "settings": [setting.to_dict() for setting in self.settings]}


def explain(
    runs: Iterable[RunRecord], metric: str, direction: str, *, top: int | None = None, at: At = "last"
) -> Explanation:
    """Which settings tell the best runs from the worst.

    Args:
        runs: Any records; those without a finite value of the metric are left out. Seeds are no settings here.
        metric: The metric's name.
        direction: ``minimize`` or ``maximize``.
        top: How many of the best to set against as many of the worst; None: a quarter of them, at least five.
        at: ``last``, or ``best`` for each run's best point.

    Raises:
        SettingError: When the direction or ``at`` is another word.
    """
    sign_of(direction)
    check_at(at)
    ranked = rank(runs, metric, direction, at=at)
    values = [metric_value(run, metric, direction, at) for run in ranked]
    ranked = [run for run, value in zip(ranked, values, strict=True) if is_result(value)]
    values = values[: len(ranked)]
    count = max(5, len(ranked) // 4) if top is None else max(1, top)
    count = min(count, len(ranked) // 2)

    def answer(message: str, settings: Sequence[Setting] = (), tried: int = 0, *, enough: bool = True) -> Explanation:
        best, worst = (ranked[:count], ranked[len(ranked) - count :]) if count else ([], [])
        found = list(settings)
        return Explanation(metric, direction, at, len(ranked), best, worst, found, tried, enough, message)

    if len(ranked) < FEWEST or count < 3:
        few = f"{len(ranked)} with a finite {metric}, {FEWEST} are needed" if len(ranked) < FEWEST else f"top={count}"
        return answer(f"not enough runs: {few}", enough=False)
    if values[count - 1] == values[len(values) - count]:
        return answer(f"no difference in {metric} between the best {count} and the worst {count} runs")
    configs = [dict(leaves(run.config)) if run.config else {} for run in ranked]
    judged, tried = _judged(configs, count)
    telling = sorted((each for each in judged if each.p <= 0.05), key=lambda each: (-each.strength, each.p, each.path))
    if not tried:
        return answer("all runs have the same settings")
    if not telling:
        return answer(f"none of {tried} settings tells the best {count} runs from the worst {count}", (), tried)
    names = ", ".join(setting.path for setting in telling[:3])
    more = f" and {len(telling) - 3} more" if len(telling) > 3 else ""
    return answer(f"{names}{more} of {tried} settings tell the best {count} from the worst {count}", telling, tried)


def _judged(configs: list[dict[str, Any]], count: int) -> tuple[list[Setting], int]:
    top, bottom = configs[:count], configs[len(configs) - count :]
    found, tried = [], 0
    for path in dict.fromkeys(path for config in configs for path in config):
        if is_seed(path):
            continue
        sides = [[config.get(path, MISSING) for config in side] for side in (top, bottom)]
        if len({_label(value) for side in sides for value in side}) < 2:
            continue
        tried += 1
        numbers = [[value for value in side if is_result(value) and not isinstance(value, bool)] for side in sides]
        if all(len(side) >= 3 for side in numbers) and all(
            len(kept) + side.count(None) + sum(value is MISSING for value in side) == len(side)
            for kept, side in zip(numbers, sides, strict=True)
        ):
            found.append(_numeric(path, *numbers))
        else:
            found.append(_categorical(path, *sides))
    return found, tried


def _numeric(path: str, top: list[int | float], bottom: list[int | float]) -> Setting:
    """By separation: whether the top lies higher or lower, or nearer the middle or farther out."""
    delta, p = _mann_whitney(top, bottom)
    ordered = sorted(top + bottom)
    middle = len(ordered) / 2

    def distance(value: int | float) -> float:
        return abs((bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 - middle)

    spread, spread_p = _mann_whitney([distance(each) for each in top], [distance(each) for each in bottom])
    pattern: Literal["higher", "lower", "middle", "extremes"] = "higher" if delta > 0 else "lower"
    strength = abs(delta)
    if abs(spread) > abs(delta) and spread_p < p and len(set(ordered)) > 2:
        pattern, strength, p = ("middle" if spread < 0 else "extremes"), abs(spread), spread_p
    shown = [(min(side), _median(side), max(side)) for side in (top, bottom)]
    words = [f"median {m:.4g} ({low:.4g} to {high:.4g}) in {n}" for (low, m, high), n in
             zip(shown, (len(top), len(bottom)), strict=True)]  # fmt: skip
    evidence = f"{_PATTERNS[pattern]} in the best: {words[0]} best, {words[1]} worst runs; delta {delta:+.2f}"
    return Setting(path, "numeric", pattern, strength, p, evidence, None, None, delta, *shown)


def _categorical(path: str, top: list[Any], bottom: list[Any]) -> Setting:
    """By odds: the value whose odds differ most between the two sides."""
    labels = [[_label(value) for value in side] for side in (top, bottom)]
    values = {_label(value): value for value in top + bottom}
    found = []
    for label, value in values.items():
        inside, outside = labels[0].count(label), labels[1].count(label)
        odds = (inside + 0.5) * (len(bottom) - outside + 0.5) / ((len(top) - inside + 0.5) * (outside + 0.5))
        p = _fisher(inside, len(top), outside, len(bottom))
        shown = "(not set)" if value is MISSING else repr(value)
        evidence = (
            f"{shown} in {inside} of {len(top)} best, {outside} of {len(bottom)} worst runs; odds ratio {odds:.3g}"
        )
        strength = abs(odds - 1) / (odds + 1)
        kept, pattern = (None, _ABSENT) if value is MISSING else (value, _VALUE)
        sides = (float(inside), float(len(top))), (float(outside), float(len(bottom)))
        found.append(Setting(path, "categorical", pattern, strength, p, evidence, kept, odds, None, *sides))
    return min(found, key=lambda each: (each.p, -(each.odds_ratio or 0.0)))


def _label(value: Any) -> str:
    return "" if value is MISSING else f"{type(value).__name__}:{value!r}"


def _mann_whitney(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Cliff's delta, and the two-sided p of the rank sum with corrections for ties and continuity."""
    ordered = sorted(second)
    above = sum(bisect_left(ordered, value) for value in first)
    below = sum(len(ordered) - bisect_right(ordered, value) for value in first)
    m, n = len(first), len(second)
    delta = (above - below) / (m * n)
    total = m + n
    ties: dict[float, int] = {}
    for value in (*first, *second):
        ties[value] = ties.get(value, 0) + 1
    uneven = sum(count**3 - count for count in ties.values()) / (total * (total - 1))
    variance = m * n / 12 * (total + 1 - uneven)
    if variance <= 0:
        return delta, 1.0
    z = max(0.0, abs(above - below) / 2 - 0.5) / math.sqrt(variance)
    return delta, math.erfc(z / math.sqrt(2))


def _fisher(inside: int, top: int, outside: int, bottom: int) -> float:
    """The two-sided p of Fisher's exact test: of all tables as unlikely as this one."""
    have = inside + outside
    ways = [math.comb(top, k) * math.comb(bottom, have - k) for k in range(max(0, have - bottom), min(top, have) + 1)]
    here = math.comb(top, inside) * math.comb(bottom, outside)
    return sum(way for way in ways if way <= here) / sum(ways)


def _median(values: Sequence[int | float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return float(ordered[half]) if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


_VALUE: Literal["value"] = "value"
_ABSENT: Literal["absent"] = "absent"
_PATTERNS = {"higher": "higher", "lower": "lower", "middle": "nearer the middle", "extremes": "farther out"}
