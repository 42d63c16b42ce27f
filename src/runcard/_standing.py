"""Which value of a metric is the best that an experiment has seen, kept beside the runs so that nobody reads them all.

One small file an experiment, ``.best/<hash>.json`` below the store's root: metric and direction → value and run. It is
disposable: what is missing or damaged is found again from the records. Ends take their turn under its lock, which is
what "had ended before" means between processes.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from runcard._ranking import is_result
from runcard._shared import make_folder, share
from runcard.locks import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from runcard.record import RunRecord

FOLDER = ".best"


class Standing(NamedTuple):
    """How a run stands against those that ended before it.

    Attributes:
        is_best: Whether it is better than every one of them.
        best: The best value before it, None when there was none.
        run_id: The run that has it.
    """

    is_best: bool
    best: float | None
    run_id: str | None


def judge(
    root: Path,
    experiment: str,
    value: Any,
    *,
    objective: str,
    direction: str,
    run_id: str,
    counts: bool,
    records: Callable[[], Iterable[RunRecord]],
) -> Standing:
    """Compare a run that ends with the experiment's best so far, and take its place when it is better.

    Args:
        root: The store's root.
        experiment: What the run is compared within.
        value: The run's objective; anything but a finite number is never best.
        objective: The metric's name.
        direction: ``minimize`` or ``maximize``.
        run_id: The run.
        counts: Whether the run ended well enough to be best.
        records: Reads the store's records, when there is no file that knows.
    """
    path = _path(root, experiment)
    make_folder(path.parent)
    with locked(path.with_suffix(".lock")):
        known = _read(path)
        key = f"{direction} {objective}"
        if key not in known:
            known[key] = _best_of(records(), experiment, objective, direction, run_id)
        best, holder = known[key]
        better = is_result(value) and (best is None or _beats(value, best, direction))
        if better:
            known[key] = [value, run_id]
        _write(path, known)
    return Standing(better and counts, best, holder)


def tell(root: Path, experiment: str, run_id: str, metrics: Mapping[str, Any]) -> None:
    """Let the experiment's best values know a run that ended without an objective of its own."""
    path = _path(root, experiment)
    if not os.path.exists(path):
        return
    with locked(path.with_suffix(".lock")):
        known = _read(path)
        changed = False
        for key, (best, _) in list(known.items()):
            direction, _, name = key.partition(" ")
            value = metrics.get(name)
            if is_result(value) and (best is None or _beats(value, best, direction)):
                known[key] = [value, run_id]
                changed = True
        if changed:
            _write(path, known)


@lru_cache(maxsize=256)
def _path(root: Path, experiment: str) -> Path:
    return root / FOLDER / f"{hashlib.sha256(experiment.encode('utf-8', 'replace')).hexdigest()[:24]}.json"


def _best_of(records: Iterable[RunRecord], experiment: str, objective: str, direction: str, run_id: str) -> list[Any]:
    best: list[Any] = [None, None]
    for record in records:
        if record.experiment != experiment or record.run_id == run_id or record.ended_at is None:
            continue
        value = record.metrics.get(objective)
        if is_result(value) and (best[0] is None or _beats(value, best[0], direction)):
            best = [value, record.run_id]
    return best


def _beats(value: Any, other: Any, direction: str) -> bool:
    return bool(value < other if direction == "minimize" else value > other)


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        known = orjson.loads(path.read_bytes())
        return {
            str(key): [value, run_id]
            for key, (value, run_id) in known.items()
            if value is None or isinstance(value, (int, float))
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, known: Mapping[str, list[Any]]) -> None:
    """Replace the file whole. Integers beyond JSON's stay out, and are found again from the records."""
    kept = {key: entry for key, entry in known.items() if entry[0] is None or abs(entry[0]) < 2**53}
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(orjson.dumps(kept))
    share(path.parents[1], partial, 0o600)
    os.replace(partial, path)
