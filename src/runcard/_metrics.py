"""What a run does with metrics that are not the common case: no step, a new name, no plain number."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runcard._values_kinds import kind_of, names_of
from runcard.errors import warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard._run import Run

LEAST, BIG = -(2**63), 2**63  # from here to below there: JSON's integers, as everybody reads them


def log_in_turn(run: Run, named: Mapping[str, Any], step: Any, now: float, since: Any = None) -> None:
    """Log what is not plain, one metric after another; without a step, points are counted and written as one.

    Args:
        run: The open run.
        named: Name → value.
        step: As given.
        now: Seconds since the epoch.
        since: The name before which all is plain, and was counted; None when nothing was.
    """
    counts = run._counts  # taken first: those of after the end stay empty
    if not run.is_open:
        run._too_late()
        return
    journal = run._journal
    values: dict[str, Any] = {}
    at = step
    if step is not None and (type(step) is not int or not LEAST <= step < BIG):
        at = step = _step_of(run, step)
    with journal.lock:
        for name, value in named.items():
            if since is not None:
                if name is not since:
                    values[name] = value
                    continue
                since = None
            clean = name if type(name) is str and name in counts else _recorded_name(run, name)
            if clean is None:
                continue
            if not (type(value) is float and value - value == 0.0) and (
                type(value) is not int or not LEAST <= value < BIG
            ):
                value = _number_of(run, name, value)  # noqa: PLW2901 - the number that stands for it
                if value is None:
                    continue
            count = counts.get(clean, 0)
            counts[clean] = count + 1
            if step is None and at != count:
                if values:  # names that count apart go into lines of their own
                    if not journal.append_points(now, at, values):
                        run._refused()
                    values = {}
                at = count
            values[clean] = value
        if values and not journal.append_points(now, at, values):
            run._refused()


def _recorded_name(run: Run, name: Any) -> str | None:
    """A metric's name as it is recorded: as text, encodable and without secrets; None, counted, when it is no text."""
    if type(name) is not str and "builtins:str" in names_of(type(name)):
        name = str.__str__(name)  # a text that compares or hashes in a way of its own is not asked
    clean = run._names.get(name) if type(name) is str else None
    if clean is None:
        from runcard._actions import metric_name

        clean = metric_name(run, name)
        if clean is None:
            return None
        run._names[name] = clean
    return clean


def _number_of(run: Run, name: str, value: Any) -> Any:
    """The number that a metric's value stands for, or None, counted, when it stands for none."""
    from runcard.values import number

    found = number(value)
    if found is None:
        run._journal.append({"kind": "loss", "t": time.time(), "losses": {"not_a_number": 1}})
        warn(
            f"the metric {name!r} got a {kind_of(value)}, which is no number; it is counted and left out",
            once=f"metric {run.run_id} {name}",
        )
    return found


def _step_of(run: Run, step: Any) -> Any:
    """A step as a JSON number."""
    from runcard.values import number

    if type(step) is float and step - step == 0.0:
        return step
    found = number(step)
    if found is None or isinstance(found, dict):
        run.lose("bad_step")
        kind = kind_of(step)
        warn(f"a step that is no number JSON has (a {kind}): the points are counted", once=f"step {run.run_id}")
        return None
    return found
