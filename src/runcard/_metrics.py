"""What a run does with a metric that is not the common case: a new name, a value or a step that is no plain number."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runcard._values_kinds import kind_of
from runcard.errors import warn

if TYPE_CHECKING:
    from runcard._run import Run


def meet(run: Run, name: Any) -> list[Any] | None:
    """Take in a new metric's name: as text, encodable and without secrets."""
    from runcard._actions import metric_name

    clean = metric_name(run, name)
    if clean is None:
        return None
    entry = run._names[name] = run._names.get(clean, [clean, 0])
    return entry


def number_of(run: Run, name: str, value: Any) -> Any:
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


def step_of(run: Run, step: Any) -> Any:
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
