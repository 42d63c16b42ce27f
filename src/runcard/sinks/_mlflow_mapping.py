"""What of a record becomes what in MLflow: params, tags, metrics, datasets; pure, and the same each time.

MLflow's names have a small alphabet and its values a length. A name that does not fit is changed, a value is cut with a
mark; what it was stands in the tag ``runcard.names`` and in the artifacts ``runcard/config.json`` and
``runcard/record.json``.
"""

from __future__ import annotations

import hashlib
import math
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from runcard._paths import leaves, parts
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from runcard.record import RunRecord

RUN_ID = "runcard.run_id"
DELIVERED = "runcard.delivered"  # writer → the number of its last event that is here
NAMES = "runcard.names"  # and the kind: key → the name it stands for, where it is another
TAGS = "runcard.tags"  # the user's, as a list
UPLOADED = "runcard.uploaded"  # which artifacts are here
STATUS = {
    Status.RUNNING: "RUNNING",
    Status.FINISHED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.KILLED: "KILLED",
    Status.CRASHED: "KILLED",
}

_LONGEST_NAME = 250
_LONGEST_PARAM = 6_000
_LONGEST_TAG = 5_000  # what all of MLflow's servers take; newer ones take 8,000
_FOREIGN = re.compile(r"[^\w./: -]")
_RESERVED = ("mlflow.", "runcard.")


class Keys:
    """Names as MLflow takes them, no two alike; of one run and one kind."""

    def __init__(self, kind: str, there: Iterable[str] = (), tags: Mapping[str, str] | None = None) -> None:
        """Take what the run has already.

        Args:
            kind: ``metrics``, ``params`` or ``tags``.
            there: The keys it has.
            tags: Its tags, some of which may be what `told` gave.
        """
        self._kind = f"{NAMES}.{kind}"
        self._changed: dict[str, str] = {}  # key → the name it stands for, in the order met
        for tag in sorted(tag for tag in tags or () if tag.startswith(self._kind)):
            self._changed.update(read_mapping((tags or {})[tag]))
        self._names = {key: self._changed.get(key, key) for key in [*self._changed, *there]}
        self._keys = {name: key for key, name in self._names.items()}

    def of(self, name: str, wanted: str | None = None) -> str:
        """The key of a name: what is wanted, else itself, where MLflow takes it and no other has it."""
        key = self._keys.get(name)
        if key is None:
            key = _as_key(name if wanted is None else wanted)
            if key in self._names:
                key = _told_apart(key, name)
            self._keys[name] = key
            self._names[key] = name
            if key != name:
                self._changed[key] = name
        return key

    def told(self) -> dict[str, str]:
        """The tags that say which names were changed, as many as it takes."""
        pieces: list[dict[str, str]] = []
        room = 0
        for key, name in self._changed.items():
            room -= len(key) + 2 * len(name[:_LONGEST_TAG]) + 10  # a quote in it takes two
            if room < 0:
                pieces.append({})
                room = _LONGEST_TAG // 2
            pieces[-1][key] = name[: _LONGEST_NAME * 4]
        return {f"{self._kind}.{number:03d}": orjson.dumps(piece).decode() for number, piece in enumerate(pieces)}


def read_mapping(text: str | None) -> dict[str, Any]:
    """The mapping in a tag; none when it was changed by hand."""
    try:
        told = orjson.loads(text or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def told_tags(tags: Mapping[str, str]) -> list[str]:
    """The user's tags, as the tag `TAGS` has them."""
    try:
        told = orjson.loads(tags.get(TAGS, "[]"))
    except ValueError:
        return []
    return [str(name) for name in told] if isinstance(told, list) else []


def _as_key(name: str) -> str:
    clean = _FOREIGN.sub("_", name)
    parts = ["__" if part == ".." else part for part in clean.split("/") if part not in ("", ".")]
    key = "/".join(parts) or "_"
    return key if len(key) <= _LONGEST_NAME else _told_apart(key, name)


def _told_apart(key: str, name: str) -> str:
    return f"{key[: _LONGEST_NAME - 7]}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:6]}"


def flat(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The settings of a nested config: path, names joined by dots, value; lists and marks are settings."""
    for path, value in leaves(config):
        if path:
            yield path, ".".join(str(step) for step in parts(path) or (path,)), value


def param(value: Any) -> tuple[str, bool]:
    """A setting as text, as Python writes it, and whether it was cut."""
    try:
        text = str(value)
    except ValueError:  # an integer of more digits than Python writes
        text = hex(value) if isinstance(value, int) else repr(type(value))
    return _short(text, _LONGEST_PARAM, "runcard/config.json")


def tag(value: Any) -> str:
    """A tag's value as text."""
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return _short(text, _LONGEST_TAG, "runcard/record.json")[0]


def _short(text: str, longest: int, whole: str) -> tuple[str, bool]:
    text = text.replace("\0", "\ufffd")
    if len(text) <= longest:
        return text, False
    mark = f"… [cut by runcard: {len(text)} characters, whole in the artifact {whole}]"
    return text[: longest - len(mark)] + mark, True


def number(value: int | float) -> float:
    """A metric as a double; an integer beyond all doubles is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole_step(step: int | float | None) -> int:
    """A step as MLflow's 64-bit integer; one between two integers is the lower one."""
    if step is None or not math.isfinite(step):
        return 0
    return max(-(2**63), min(2**63 - 1, math.floor(step)))


def milliseconds(moment: datetime | None) -> int | None:
    """A time as MLflow has it."""
    return None if moment is None else int(moment.timestamp() * 1000)


def ended(record: RunRecord) -> int | None:
    """When a run ended; of a crashed one, when it last gave a sign of life."""
    if record.ended_at is None and record.started_at is not None and record.duration_s is not None:
        return milliseconds(record.started_at + timedelta(seconds=record.duration_s))
    return milliseconds(record.ended_at)


def tags(record: RunRecord) -> dict[str, str]:
    """What MLflow shows of a run as its own (``mlflow.…``), and ours (``runcard.…``); the user's own are `own_tags`."""
    command = record.environment.get("command") or {}
    git = record.environment.get("git") or {}
    error: dict[str, Any] = record.error or {}
    function: dict[str, Any] = record.function or {}
    told: dict[str, Any] = {
        "mlflow.user": record.user,
        "mlflow.source.type": "NOTEBOOK" if command.get("kind") == "notebook" else "LOCAL",
        "mlflow.source.name": command.get("entry") or function.get("file") or command.get("line"),
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.git.branch": git.get("branch"),
        "mlflow.source.git.repoURL": git.get("remote"),
        "mlflow.source.git.dirty": git.get("dirty"),
        "mlflow.note.content": record.notes,
        RUN_ID: record.run_id,
        "runcard.experiment": record.experiment,
        "runcard.status": record.status.value,
        "runcard.function": ":".join(function[key] for key in ("module", "qualname") if function.get(key)),
        "runcard.host": record.host,
        "runcard.config_hash": record.config_hash,
        "runcard.objective": record.objective,
        "runcard.direction": record.direction,
        "runcard.decision": record.decision,
        "runcard.decision_reason": record.decision_reason,
        "runcard.is_best": record.is_best,
        "runcard.parent_id": record.parent_id,
        "runcard.launched_by": record.launched_by,
        "runcard.rerun_of": record.rerun_of,
        "runcard.error": ": ".join(str(error[key]) for key in ("type", "message") if error.get(key)),
        "runcard.exit_code": record.exit_code,
        "runcard.attempts": len({entry.get("attempt") for entry in record.attempts}) or None,
        "runcard.losses": orjson.dumps(record.losses).decode() if record.losses else None,
    }
    return {name: tag(value) for name, value in told.items() if value is not None and value != ""}


def own_tags(names: Iterable[str]) -> list[str]:
    """The user's tags that become tags of MLflow: those under its names and ours only stand in ``runcard.tags``."""
    return [name for name in names if not name.startswith(_RESERVED)]


def datasets(record: RunRecord) -> list[dict[str, Any]]:
    """The inputs as MLflow's datasets; one that was missing is none."""
    found = []
    for entry in record.inputs:
        path = str(entry.get("path") or "")
        if not path or entry.get("missing"):
            continue
        told = {key: entry[key] for key in ("bytes", "sha256", "mtime", "files") if entry.get(key) is not None}
        digest = str(entry.get("sha256") or f"{entry.get('bytes')}-{entry.get('mtime')}")
        found.append(
            {
                "name": (path.replace("\\", "/").rstrip("/").rpartition("/")[2] or path)[:500],
                "digest": digest[:36],
                "source_type": "local",
                "source": orjson.dumps({"uri": path}).decode(),
                "profile": orjson.dumps(told).decode(),
            }
        )
    return found
