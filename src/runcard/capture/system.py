"""How busy the machine was meanwhile: sampled in the background, logged as metrics named ``system/…``."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from runcard.capture.hardware import Nvml, nvml_present
from runcard.capture.probe import ask, probe
from runcard.capture.resources import psutil_module, psutil_process
from runcard.errors import contained

if TYPE_CHECKING:
    from collections.abc import Callable


class Sampler:
    """Hands ``emit`` a mapping of names to numbers every ``interval_s`` seconds, from a daemon thread.

    Names: ``system/cpu_percent`` (of this process; 100 is one processor), ``system/memory_rss_bytes``,
    ``system/memory_percent`` (of the machine), ``system/load_1m``, ``system/disk_read_bytes`` and
    ``system/disk_write_bytes`` (of this process, since it began), and for each graphics card
    ``system/gpu/0/utilization_percent`` and ``system/gpu/0/memory_used_bytes``. What cannot be read is left out.

    Args:
        emit: Called in the sampler's thread; what it raises becomes a warning.
        interval_s: Seconds between samples; the first comes at once.
    """

    def __init__(self, emit: Callable[[dict[str, float]], None], interval_s: float = 10.0) -> None:
        self._emit = emit
        self._interval_s = max(0.01, interval_s)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Sampler:
        """Begin to sample."""
        self._thread = threading.Thread(target=self._sample, name="runcard-system", daemon=True)
        contained("sample system metrics", self._thread.start)
        return self

    def stop(self) -> None:
        """Stop, without waiting for the interval; a probe that hangs is left behind after a second."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(1.0)

    def _sample(self) -> None:
        process = probe(psutil_process)
        if process is not None:
            ask(process, "cpu_percent")  # the first answer is 0: it tells the time since the one before
        nvml = probe(Nvml) if probe(nvml_present) else None
        try:
            wait = min(0.1, self._interval_s)
            while not self._stopped.wait(wait):
                wait = self._interval_s
                values = sample(process, nvml)
                if values and not self._stopped.is_set():
                    contained("log system metrics", self._emit, values)
        finally:
            if nvml is not None:
                probe(nvml.close)


def sample(process: Any, nvml: Nvml | None = None) -> dict[str, float]:
    """One sample, every number asked for alone."""
    found: dict[str, float | None] = {
        "system/memory_percent": probe(lambda: psutil_module().virtual_memory().percent),
        "system/load_1m": probe(lambda: os.getloadavg()[0]),
    }
    if process is not None:
        io = ask(process, "io_counters")
        found |= {
            "system/cpu_percent": ask(process, "cpu_percent"),
            "system/memory_rss_bytes": probe(lambda: process.memory_info().rss),
            "system/disk_read_bytes": getattr(io, "read_bytes", None),
            "system/disk_write_bytes": getattr(io, "write_bytes", None),
        }
    for index in range((probe(nvml.count) or 0) if nvml is not None else 0):
        found |= probe(_card, nvml, index) or {}
    return {name: float(value) for name, value in found.items() if value is not None}


def _card(nvml: Nvml, index: int) -> dict[str, float | None]:
    handle = nvml.handle(index)
    busy, memory = probe(nvml.utilization, handle), probe(nvml.memory, handle)
    return {
        f"system/gpu/{index}/utilization_percent": busy[0] if busy else None,
        f"system/gpu/{index}/memory_used_bytes": memory[1] if memory else None,
    }
