"""What a run cost: wall and processor time, peak memory. The one file that imports psutil.

The standard library answers on POSIX; psutil serves where it cannot (Windows, and what is sampled in `system`).
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from runcard.capture.probe import known, probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import psutil


class Meter:
    """Started when it is made; `read` tells the cost since then.

    Args:
        clock: A monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._before = probe(_times)

    def read(self) -> dict[str, Any]:
        """Seconds of wall and processor time since the start, and the peak memory in bytes.

        ``wall_s`` never falls below 0. The processor times are of the whole process, all its threads, and
        ``children_cpu_s`` of those of its children that have been waited for. Peak memory is of the whole life of
        the process, so ``peak_memory_scope`` says ``process``. With a PyTorch that has used CUDA there is also
        ``peak_gpu_memory_bytes``, the sum over its devices since the process began: resetting it would change what
        the user's own code reads.
        """
        facts: dict[str, Any] = {"wall_s": max(0.0, self._clock() - self._start)}
        now = probe(_times)
        if now is not None and self._before is not None:
            spent = [max(0.0, after - before) for after, before in zip(now, self._before, strict=True)]
            facts |= dict(zip(("cpu_user_s", "cpu_system_s", "children_cpu_s"), spent, strict=True))
        peak = probe(peak_memory)
        if peak is not None:
            facts |= {"peak_memory_bytes": peak, "peak_memory_scope": "process"}
        facts["peak_gpu_memory_bytes"] = probe(_cuda_peak)
        return known(facts)


def peak_memory() -> int | None:
    """The most memory that this process has held at once, in bytes."""
    if sys.platform == "win32":
        return int(psutil_process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, all others KiB


def psutil_module() -> ModuleType:
    """psutil, imported when it is first asked for (10 ms)."""
    import psutil

    return psutil


def psutil_process() -> psutil.Process:
    """This process, as psutil sees it."""
    import psutil

    return psutil.Process()


def _times() -> tuple[float, float, float]:
    """User, system and children's processor seconds of this process until now."""
    if sys.platform == "win32":
        cpu = psutil_process().cpu_times()
        return cpu.user, cpu.system, 0.0
    import resource

    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime, own.ru_stime, children.ru_utime + children.ru_stime


def cuda() -> Any | None:
    """``torch.cuda`` if the user has imported PyTorch and used CUDA; never initialises it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    module = getattr(torch, "cuda", None)
    return module if module is not None and module.is_initialized() else None


def _cuda_peak() -> int | None:
    module = cuda()
    if module is None:
        return None
    return sum(int(module.max_memory_allocated(device)) for device in range(module.device_count()))
