"""What the files of one W&B run say, put together."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from runcard.importers._wandb_file import Message, RecordFile

if TYPE_CHECKING:
    from pathlib import Path

# Fields of W&B's `Record`, and of the items of its maps.
_HISTORY, _SUMMARY, _CONFIG, _STATS, _ARTIFACT = 2, 3, 5, 7, 8
_RUN, _EXIT, _ENVIRONMENT = 17, 18, 26
_COUNTED = {9: "TensorBoard logs", 10: "alerts", 25: "used artifacts"}
_KEY, _NESTED, _JSON = 1, 2, 16
_RUN_FIELDS = dict(id=1, entity=2, project=3, group=6, job_type=7, name=8, notes=9, sweep=12, host=13)  # noqa: C408 - as a table it takes ten lines


class Gathered:
    """A run as it was read.

    Attributes:
        run: Its own fields: ``id entity project group job_type name notes tags sweep host commit remote``; none of them
            is there when there was no record of the run itself.
        started_at: Seconds since the epoch.
        last_at: When it was last heard of.
        runtime: Seconds, as its end says.
        exit_code: None when there is no end.
        config: As W&B has it.
        summary: As W&B has it, nested.
        rows: The rows of the history: number, time, and the values, nested.
        samples: Of the machine: time, name, value.
        around: What was said about the machine and the program; an empty message when nothing was.
        artifacts: The messages about artifacts, by name.
        folders: Where the files lay.
        left_out: What cannot be carried over.
    """

    def __init__(self) -> None:
        self.run: dict[str, Any] = {}
        self.started_at: float | None = None
        self.last_at = 0.0
        self.runtime = 0
        self.exit_code: int | None = None
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.rows: list[tuple[int, float | None, dict[str, Any]]] = []
        self.samples: list[tuple[float, str, int | float]] = []
        self.around = Message(b"")
        self.artifacts: dict[str, Message] = {}
        self.folders: list[Path] = []
        self.left_out: Counter[str] = Counter()

    def read(self, path: Path) -> None:
        """Take in one file. Raises `OSError`, and `ValueError` when it is none of W&B's."""
        self.folders.append(path.parent)
        self.exit_code = None  # of an earlier file: the run went on
        log = RecordFile(path)
        for record in log:
            try:
                self._take(record)
            except (ValueError, RecursionError, OverflowError):  # a message in it that is none
                self.left_out["damaged records"] += 1
        self.left_out["damaged records"] += log.damaged

    def _take(self, record: Message) -> None:
        if _HISTORY in record:
            self._row(record.message(_HISTORY))
        elif _SUMMARY in record:
            self._update(self.summary, record.message(_SUMMARY))
        elif _STATS in record:
            self._sample(record.message(_STATS))
        elif _RUN in record:
            self._begin(record.message(_RUN))
        elif _CONFIG in record:
            self._update(self.config, record.message(_CONFIG))
        elif _EXIT in record:
            end = record.message(_EXIT)
            self.exit_code, self.runtime = end.integer(1), max(self.runtime, end.integer(2))
        elif _ARTIFACT in record:
            artifact = record.message(_ARTIFACT)
            self.artifacts[artifact.text(5)] = artifact
        elif _ENVIRONMENT in record:
            self.around.merge(record.message(_ENVIRONMENT))
        else:
            for field, what in _COUNTED.items():
                self.left_out[what] += field in record

    def _begin(self, run: Message) -> None:
        told: dict[str, Any] = {name: run.text(number) for name, number in _RUN_FIELDS.items()}
        code = run.message(21)
        told |= {"tags": run.texts(10), "remote": code.text(1), "commit": code.text(2)}
        self.run |= {name: value for name, value in told.items() if value}
        started = run.time(17)
        if started is not None and self.started_at is None:
            self.started_at = started
        self._update(self.config, run.message(4))
        self._update(self.summary, run.message(5))

    def _row(self, row: Message) -> None:
        values: dict[str, Any] = {}
        for item in row.messages(1):
            try:
                _set(values, _path(item), _value(item))
            except ValueError:
                self.left_out["damaged records"] += 1
        step, time = values.pop("_step", None), values.pop("_timestamp", None)
        values.pop("_runtime", None)
        at = float(time) if isinstance(time, (int, float)) else None
        self.last_at = max(self.last_at, at or 0.0)
        self.rows.append((step if isinstance(step, int) else row.message(2).integer(1), at, values))

    def _sample(self, sample: Message) -> None:
        at = sample.time(2) or self.last_at
        self.last_at = max(self.last_at, at)
        for item in sample.messages(3):
            value = json.loads(item.text(_JSON))
            if isinstance(value, (int, float)):
                self.samples.append((at, f"system/{item.text(_KEY)}", value))

    def _update(self, tree: dict[str, Any], change: Message) -> None:
        """Apply an update of a config or a summary: what is set, then what is removed."""
        for item in change.messages(1):
            try:
                value = _value(item)
            except ValueError:
                self.left_out["damaged records"] += 1
                continue
            _set(tree, _path(item), value)
        for item in change.messages(2):
            *above, name = _path(item)
            found: Any = tree
            for key in above:
                found = found.get(key) if isinstance(found, dict) else None
            if isinstance(found, dict):
                found.pop(name, None)


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    *above, name = path
    for key in above:
        inner = tree.get(key)
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    tree[name] = value


def _path(item: Message) -> list[str]:
    return item.texts(_NESTED) or [item.text(_KEY)]


def _value(item: Message) -> Any:
    """The value of an item: as JSON or, of the history, as a typed one. Raises `ValueError` for damaged JSON."""
    if _JSON in item:
        return json.loads(item.text(_JSON))
    if 4 in item:
        return bool(item.integer(4))
    if 5 in item:
        return item.zigzag(5)
    if 6 in item:
        return item.double(6)
    if 7 in item:
        return item.text(7)
    return json.loads(item.text(8)) if 8 in item else None
