"""Every run leaves a card: `@tracked` on a function, `with run():` around a block.

Names are loaded when they are first used, so that importing runcard costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runcard._block import attach, run
    from runcard._configure import configure
    from runcard._current import current_run
    from runcard._module import artifact_path, discard, keep, log, log_artifact, log_config, log_input, note, tag
    from runcard._run import Run
    from runcard._tracked import tracked
    from runcard.errors import RuncardError, RuncardWarning
    from runcard.query import aggregate, compare, explain, rank
    from runcard.record import Point, RunRecord, Status
    from runcard.store import Store, open_store

__version__ = "0.1.0"

__all__ = [
    "Point",
    "Run",
    "RunRecord",
    "RuncardError",
    "RuncardWarning",
    "Status",
    "Store",
    "aggregate",
    "artifact_path",
    "attach",
    "compare",
    "configure",
    "current_run",
    "discard",
    "explain",
    "keep",
    "log",
    "log_artifact",
    "log_config",
    "log_input",
    "note",
    "open_store",
    "rank",
    "run",
    "tag",
    "tracked",
]

_HOME = {
    "Point": "record",
    "Run": "_run",
    "RunRecord": "record",
    "RuncardError": "errors",
    "RuncardWarning": "errors",
    "Status": "record",
    "Store": "store",
    "aggregate": "query",
    "artifact_path": "_module",
    "attach": "_block",
    "compare": "query",
    "configure": "_configure",
    "current_run": "_current",
    "discard": "_module",
    "explain": "query",
    "keep": "_module",
    "log": "_module",
    "log_artifact": "_module",
    "log_config": "_module",
    "log_input": "_module",
    "note": "_module",
    "open_store": "store",
    "rank": "query",
    "run": "_block",
    "tag": "_module",
    "tracked": "_tracked",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module at first use."""
    home = _HOME.get(name)
    if home is None:
        message = f"module 'runcard' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    value = getattr(import_module(f"runcard.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
