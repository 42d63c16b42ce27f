"""Which run was best, and why: filter, sort, rank, compare, aggregate and explain records.

Pure functions over records; `compare` alone reads files, the patches that both runs recorded.

>>> from runcard.record import RunRecord
>>> runs = [RunRecord(run_id=f"20261101T00000{n}-00000000", metrics={"loss": 1 / (n + 1)}) for n in range(3)]
>>> [run.metrics["loss"] for run in rank(runs, "loss", "minimize")][0]
0.3333333333333333
>>> len(select(runs, where="metrics.loss < 0.9"))
2
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runcard._ranking import is_better, metric_value, rank
from runcard._selecting import newest_first, select, sort_key, sort_records
from runcard._where import Where, where

if TYPE_CHECKING:
    from runcard._compare import Change, CodeChange, Comparison, MetricChange, compare
    from runcard._explain import Explanation, Setting, explain
    from runcard._replicates import Group, Spread, aggregate, rank_groups

__all__ = [
    "Change",
    "CodeChange",
    "Comparison",
    "Explanation",
    "Group",
    "MetricChange",
    "Setting",
    "Spread",
    "Where",
    "aggregate",
    "compare",
    "explain",
    "is_better",
    "metric_value",
    "newest_first",
    "rank",
    "rank_groups",
    "select",
    "sort_key",
    "sort_records",
    "where",
]

# Brought in when first used: a listing needs none of them, and each costs milliseconds to import.
_LATER = {
    **dict.fromkeys(("Change", "CodeChange", "Comparison", "MetricChange", "compare"), "_compare"),
    **dict.fromkeys(("Explanation", "Setting", "explain"), "_explain"),
    **dict.fromkeys(("Group", "Spread", "aggregate", "rank_groups"), "_replicates"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"runcard.{_LATER[name]}"), name)
    return value
