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

from runcard._compare import Change, CodeChange, Comparison, MetricChange, compare
from runcard._explain import Explanation, Setting, explain
from runcard._ranking import is_better, metric_value, rank
from runcard._replicates import Group, Spread, aggregate, rank_groups
from runcard._selecting import newest_first, select, sort_key, sort_records
from runcard._where import Where, where

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
