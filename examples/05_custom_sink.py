"""A sink of one's own: any function of a record. This one prints a line; a chat message would be as short.

A sink that raises or hangs costs the run nothing: the second one here always fails, and the run ends well.
"""

from __future__ import annotations

import warnings

from runcard import RuncardWarning, RunRecord, open_store, run


def announce(record: RunRecord) -> None:
    """Called once with the finished record."""
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in record.metrics.items())
    print(f"[{record.experiment}] {record.name} {record.status}: {numbers}")


def broken(_record: RunRecord) -> None:
    """Stands for a service that is down."""
    raise ConnectionError("the service is down")


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", RuncardWarning)
    with run("with-sinks", experiment="sinks", sinks=["file:", announce, broken]) as r:
        r.log(loss=0.25)

print(f"warned: {caught[0].message}" if caught else "nobody was warned")
print(f"the card is complete all the same: {open_store().get(r.run_id)}")
