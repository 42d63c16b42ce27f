"""Who a run is and whether it lives: run ids, tokens, launches of many ranks, liveness.

A run is *alive* when the process that opened it is: same boot, same pid namespace, same pid and same raw start
time. Seen from another host or another pid namespace, it is alive while its journal was touched within ten minutes.
"""

from __future__ import annotations

import os
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-hjkmnp-tv-z]{8}")
SILENCE_S = 600.0  # without a sign of life for so long, a run on another host counts as crashed


def new_run_id(now: float | None = None) -> str:
    """A run id: the second in UTC, and 40 bits of the system's randomness, so that forks and equal seeds differ.

    >>> bool(RUN_ID.fullmatch(new_run_id()))
    True
    """
    bits = int.from_bytes(os.urandom(5))
    tail = "".join(_CROCKFORD[bits >> shift & 31] for shift in range(35, -1, -5))
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}-{tail}"


def is_run_id(text: str) -> bool:
    """Whether ``text`` is a run id in full: nothing else ever names a run's folder."""
    return RUN_ID.fullmatch(text) is not None


class Token(NamedTuple):
    """What another process needs to hang its runs below this one: the run's id and its store's absolute root."""

    run_id: str
    root: str

    def __str__(self) -> str:
        return f"{self.run_id}@{self.root}"


def parse_token(text: str) -> Token | None:
    """The token in ``RUNCARD_PARENT`` or ``parent=``; None when the text is none."""
    run_id, at, root = str(text).partition("@")
    return Token(run_id, root) if at and is_run_id(run_id) and os.path.isabs(root) and "\0" not in root else None


def this_process() -> dict[str, Any]:
    """What tells this process from every other, past and to come: host, boot, pid namespace, pid and start time."""
    return dict(_process(os.getpid()))


@lru_cache(maxsize=1)  # a forked child asks with its own pid
def _process(pid: int) -> dict[str, Any]:
    return {**_this_host(), "pid": pid, "started": _started(pid)}


def is_alive(alive: dict[str, Any], *, touched: float | None, now: float | None = None) -> bool:
    """Whether the process described by ``alive`` (as `this_process` gave it) still runs.

    Args:
        alive: The process of the run's latest start event.
        touched: When its journal was last written or touched, seconds since the epoch; for runs on other hosts.
        now: The present, for tests.
    """
    here = _this_host()
    if all(alive.get(key) == here[key] for key in ("host", "pid_ns")):
        if alive.get("boot") != here["boot"]:
            return False  # this host was booted anew since
        pid = alive.get("pid")
        return isinstance(pid, int) and pid > 0 and _started(pid) == alive.get("started") is not None
    return touched is not None and (time.time() if now is None else now) - touched < SILENCE_S


@lru_cache(maxsize=1)
def _this_host() -> dict[str, Any]:
    return {"host": _hostname(), "boot": _boot(), "pid_ns": _pid_namespace()}


def _hostname() -> str:
    try:
        return os.uname().nodename
    except (AttributeError, OSError):  # Windows
        return os.environ.get("COMPUTERNAME", "unknown")


def _boot() -> str | None:
    """The boot's own id on Linux, elsewhere its time in seconds."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return _from_psutil(lambda psutil: str(round(psutil.boot_time())))


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """The raw start time of a process, in clock ticks since the boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        if os.path.isdir("/proc/self"):
            return None  # there is no such process
        return _from_psutil(lambda psutil: repr(psutil.Process(pid).create_time()))
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold spaces and brackets
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def began() -> float | None:
    """When this process began, in seconds since the epoch; None where that cannot be told."""
    told = _started(os.getpid())
    if told is None:
        return None
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None or "." in told:  # psutil says it in seconds since the epoch
        return float(told)
    return time.time() - (time.clock_gettime(clock) - int(told) / os.sysconf("SC_CLK_TCK"))


def _from_psutil(ask: Any) -> str | None:
    try:
        import psutil

        return str(ask(psutil))
    except Exception:  # psutil is missing, denied, or knows no such process: all mean "cannot tell"
        return None


class Launch(NamedTuple):
    """This process's place in a launch of many ranks."""

    key: str
    rank: int
    size: int


def launch_of(environ: Mapping[str, str], scheduler: str | None = None) -> Launch | None:
    """The launch that this process is a rank of, or None.

    Args:
        environ: The environment variables.
        scheduler: None goes by torchrun's `RANK` and `WORLD_SIZE`; ``slurm`` and ``mpi`` by theirs, on request only,
            since `srun` also starts independent workers.
    """
    names = _LAUNCHERS[scheduler or "torchrun"]
    try:
        rank, size = int(environ[names[0]]), int(environ[names[1]])
    except (KeyError, ValueError):
        return None
    if size < 2 or not 0 <= rank < size:
        return None
    parts = [environ.get(name, "") for name in _LAUNCH_KEY]
    return Launch("|".join([scheduler or "torchrun", str(size), *parts]), rank, size)


_LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
}
_LAUNCH_KEY = (
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT",
    "PBS_JOBID",
    "LSB_JOBID",
    "PMIX_NAMESPACE",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "MASTER_ADDR",
    "MASTER_PORT",
)


def scheduler_job(environ: Mapping[str, str]) -> str | None:
    """The scheduler's job, array task included, that this process runs in; the same after a requeue."""
    for name, task in (("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID"), ("PBS_JOBID", ""), ("LSB_JOBID", "LSB_JOBINDEX")):
        if environ.get(name):
            job = environ.get("SLURM_ARRAY_JOB_ID", environ[name]) if task in environ else environ[name]
            return ":".join(filter(None, [name, job, environ.get(task, "")]))
    return None
