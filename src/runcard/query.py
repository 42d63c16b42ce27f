"""Which run was best, and why: filter, sort, rank, compare, aggregate and explain records. Pure functions, no I/O
but for the recorded patches that `compare` reads.

>>> from runcard.record import RunRecord
>>> runs = [RunRecord(run_id=f"20261101T00000{n}-00000000", metrics={"loss": loss}) for n, loss in enumerate([0.3, 0.1])]
>>> [run.metrics["loss"] for run in rank(runs, "loss", "minimize")]
[0.1, 0.3]
>>> len(select(runs, where="metrics.loss < 0.2"))
1
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
