"""How a listing of very many runs keeps the garbage collector out of its way."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def uncollected() -> Iterator[None]:
    """Hold the garbage collector off: it would look through all rows and records several times while they are made.

    That is up to half the time of a listing of 100,000 runs, and nothing made here is in a cycle. What is made counts
    as old from then on, as it would after those looks. In several threads at once the first to be done puts it back on.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # what the program itself has frozen stays so
                gc.freeze()
                gc.unfreeze()  # straight into the oldest generation, unseen
            gc.enable()
