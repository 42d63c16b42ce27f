"""What OpenTelemetry is told of a run: plain data, by the names of its semantic conventions where there is one.

Ids follow from run ids, so that every process, and every second delivery, comes to the same span: a trace is the first
16 bytes of the SHA-256 of the topmost run's id, a span the first 8 of the run's own.
"""

from __future__ import annotations

import hashlib
import math
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import UUID, uuid5

import orjson

from runcard.events import mark
from runcard.identity import is_run_id
from runcard.journal import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard.record import RunRecord

Pairs = list[tuple[str, Any]]

_INSTANCES = UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")  # OpenTelemetry's namespace for ids that follow from others
_START_LIMIT = 16 << 20  # bytes of a start event that are read
_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "i686": "x86", "i386": "x86"}
_RUNTIMES = {"cpython": "cpython", "pypy": "pypy"}


def trace_id(top_run_id: str) -> bytes:
    """The trace of a run and all below it."""
    return hashlib.sha256(top_run_id.encode("utf-8", "replace")).digest()[:16]


def span_id(run_id: str) -> bytes:
    """A run's span."""
    return hashlib.sha256(run_id.encode("utf-8", "replace")).digest()[:8]


class Ancestry:
    """Which run is the topmost above another: by what was told here, else by the journals in the same store."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def top(self, run_id: str, parent_id: str | None, folder: str | None) -> str:
        """The id of the topmost run that is known of."""
        seen = {run_id}
        while parent_id is not None and parent_id not in seen:
            self._parents[run_id] = parent_id
            run_id = parent_id
            seen.add(run_id)
            parent_id = self._parents.get(run_id) or parent_on_disk(run_id, folder)
        return run_id


def resource(record: RunRecord, environ: Mapping[str, str] = os.environ) -> Pairs:
    """The machine, the process and the code of a run; ``OTEL_RESOURCE_ATTRIBUTES`` go before what was found."""
    import runcard

    told = record.environment
    python, platform, command = (mapping(told.get(name)) for name in ("python", "platform", "command"))
    git, process, hardware = (mapping(told.get(name)) for name in ("git", "process", "hardware"))
    alive = mapping(record.attempts[-1].get("alive")) if record.attempts else {}
    found: dict[str, Any] = {
        "service.name": "runcard",
        "service.instance.id": _instance(alive),
        "telemetry.sdk.name": "runcard",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": runcard.__version__,
        "host.name": record.host,
        "host.arch": _ARCHITECTURES.get(str(platform.get("machine")), platform.get("machine")),
        "host.cpu.model.name": mapping(hardware.get("cpu")).get("model"),
        "os.type": str(platform["system"]).lower() if platform.get("system") else None,
        "os.name": platform.get("distribution"),
        "os.version": platform.get("release"),
        "process.pid": process.get("pid"),
        "process.parent_pid": process.get("ppid"),
        "process.owner": record.user,
        "process.executable.path": command.get("executable"),
        "process.command_args": command.get("orig_argv") or command.get("argv"),
        "process.working_directory": command.get("cwd"),
        "process.runtime.name": _RUNTIMES.get(str(python.get("implementation")), python.get("implementation")),
        "process.runtime.version": python.get("version"),
        "vcs.ref.head.revision": git.get("commit"),
        "vcs.ref.head.name": git.get("branch"),
        "vcs.ref.head.type": "branch" if git.get("branch") else None,
        "vcs.repository.url.full": git.get("remote"),
    }
    found.update(_declared(environ))
    return [(name, value) for name, value in found.items() if value not in (None, "", [])]


def identity(record: RunRecord) -> Pairs:
    """What every metric point and log line of a run carries."""
    named = {"runcard.run_id": record.run_id, "runcard.name": record.name, "runcard.experiment": record.experiment}
    return [(name, value) for name, value in named.items() if value]


def nanoseconds(moment: datetime | float) -> int:
    """Nanoseconds since 1970 of an aware time, or of seconds; 0 for what is no time."""
    if isinstance(moment, datetime):
        return round(moment.timestamp() * 1e6) * 1_000
    if not isinstance(moment, (int, float)) or not math.isfinite(moment) or not 0 <= moment < 2**33:
        return 0
    whole = int(moment)
    return whole * 1_000_000_000 + round((moment - whole) * 1e9)


def plain(value: Any) -> Any:
    """A value as OpenTelemetry takes it: a text, a number, a list of one kind, else its JSON."""
    if isinstance(value, (str, bool, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value) if abs(value) < 2**10_000 else hex(value)
    if isinstance(value, (list, tuple)) and value:
        items: list[Any] = [plain(item) if isinstance(item, (str, bool, int, float)) else None for item in value]
        kinds = {type(item) for item in items}
        if kinds == {int, float}:
            return [float(item) for item in items]
        if len(kinds) == 1 and None not in items:
            return items
    return orjson.dumps(mark(value), option=orjson.OPT_NON_STR_KEYS, default=str).decode()


def parent_on_disk(run_id: str, folder: str | None) -> str | None:
    """The parent of a run in the same store as the run whose folder is given."""
    if folder is None or not is_run_id(run_id):
        return None
    try:
        with open(Path(folder).parent / run_id / "journal.jsonl", "rb") as file:
            event = decode(file.readline(_START_LIMIT))
    except OSError:
        return None  # it lies elsewhere, or is gone
    parent = event.get("parent_id") if event else None
    return parent if isinstance(parent, str) and is_run_id(parent) else None


def _declared(environ: Mapping[str, str]) -> dict[str, str]:
    """What ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` say."""
    declared = {}
    for entry in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, equals, value = entry.partition("=")
        if equals and name.strip():
            declared[unquote(name).strip()] = unquote(value).strip()
    service = environ.get("OTEL_SERVICE_NAME", "").strip()
    return {**declared, "service.name": service} if service else declared


def _instance(alive: Mapping[str, Any]) -> str | None:
    """A UUID of the process that ran it: the same for all its runs, whoever delivers them."""
    if not alive:
        return None
    told = ":".join(str(alive.get(name)) for name in ("host", "boot", "pid_ns", "pid", "started"))
    return str(uuid5(_INSTANCES, told))


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}
