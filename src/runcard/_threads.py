"""How one of our own threads is waited for before a fork."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading


def await_end(thread: threading.Thread, timeout_s: float) -> None:
    """Wait until a thread has ended, for the system as well, which counts it a little longer than Python does.

    Python 3.12 asks the system how many threads there are when it warns of a fork in a process that has some.
    """
    deadline = time.monotonic() + timeout_s
    thread.join(timeout_s)
    entry = f"/proc/self/task/{thread.native_id}"  # on Linux
    while not thread.is_alive() and os.path.exists(entry) and time.monotonic() < deadline:
        time.sleep(0)
