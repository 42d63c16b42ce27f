"""Which run is current: per task and per thread of work.

The context variable says it wherever a context was handed down. A thread that got none takes the deepest run common
to all that are open, so that a helper thread's `log()` finds its run and never a stranger's. A generator's run is
hidden between its yields.
"""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runcard._run import Run
    from runcard.identity import Token

here: ContextVar[Run | None] = ContextVar("runcard_run", default=None)
attached: ContextVar[Token | None] = ContextVar("runcard_token", default=None)

open_runs: dict[int, Run] = {}
"""The open runs of this process by `id`, in the order they were opened."""


def is_disabled() -> bool:
    """Whether ``RUNCARD_DISABLED`` is set to anything but 0, false or nothing; asked before anything else is loaded."""
    return os.environ.get("RUNCARD_DISABLED", "").lower() not in ("", "0", "false", "no", "off")


def current_run() -> Run | None:
    """The open run that `log()` and its like act on, or None outside of any.

    >>> current_run() is None
    True
    """
    run = here.get()
    if run is not None:
        return run if run.is_open else None
    if not open_runs:
        return None
    return _deepest_common(_seen_from_elsewhere())


def parent_of_new_run() -> Run | None:
    """The open run below which a new one belongs; a closed one's nearest open ancestor stands in for it."""
    run = here.get()
    while run is not None and not run.is_open:
        run = run.parent
    if run is not None or here.get() is not None or not open_runs:
        return run
    main = threading.main_thread().ident
    # A run at the top of another worker thread is that thread's own affair: pools run strangers side by side.
    return _deepest_common(
        run for run in _seen_from_elsewhere() if run.is_ambient or run.outermost().thread == main or run.parent
    )


def _seen_from_elsewhere() -> list[Run]:
    """The open runs that this thread may take for its own without having been handed one.

    Where a run was opened by `with` or a call in this very thread, its context says whom it belongs to: another task
    of the same loop, or the consumer of a generator, is not meant.
    """
    thread = threading.get_ident()
    return [run for run in list(open_runs.values()) if not run.hidden and (run.is_ambient or run.thread != thread)]


def _deepest_common(runs: Iterable[Run]) -> Run | None:
    """The deepest open run that all of ``runs`` are, or are below of.

    A run inside which the same thread has opened another stands back for that one: it is where that thread is.
    """
    common: list[Run] | None = None
    standing_back = {
        id(run.parent) for run in list(open_runs.values()) if run.parent and run.parent.thread == run.thread
    }
    for run in runs:
        if id(run) in standing_back:
            continue
        line = [each for each in run.line() if each.is_open]
        common = line if common is None else [each for each in common if each in line]
        if not common:
            return None
    return common[-1] if common else None
