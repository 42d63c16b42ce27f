"""What the files beside a journal still tell when its start event is lost: config, environment, name, and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from runcard.events import restore
from runcard.record import RunRecord, as_fields

if TYPE_CHECKING:
    from pathlib import Path


def told_beside(folder: Path, record: RunRecord) -> dict[str, Any]:
    """Fields that the journal has lost and a view has: of an ended run all from record.json, else what began it.

    Args:
        folder: The run's folder.
        record: What the journal tells; what it does tell stays.
    """
    data = _read(folder, "record.json")
    if data.get("run_id") == record.run_id:
        try:
            whole = RunRecord.from_dict({**data, "metric_history": []})  # None of a long one
        except (TypeError, ValueError, AttributeError):
            return {}  # edited by somebody
        known = {name: getattr(whole, name) for name in data if name not in _JOURNAL_ALONE and hasattr(whole, name)}
    else:
        config, environment = _read(folder, "config.json"), _read(folder, "environment.json")
        known = {"config": as_fields(restore(config)), "environment": as_fields(environment)}
    return {name: value for name, value in known.items() if value not in _NOTHING and getattr(record, name) in _NOTHING}


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = orjson.loads((folder / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


_NOTHING: tuple[Any, ...] = (None, "", [], {})
_JOURNAL_ALONE = frozenset(("run_id", "status", "losses", "metric_history"))
