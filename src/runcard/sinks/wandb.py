"""``wandb:project``: runs in Weights & Biases, online or offline as wandb's own environment says.

A run is followed from its start, through a process that speaks to wandb. What was delivered is known by the run's id
and the number of each row, which follow from the journal: a second delivery changes nothing. `docs/sinks-wandb.md`
has what goes where.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from runcard._folding import ordered_writers
from runcard.errors import SettingError, StoreError, warn
from runcard.journal import Reading, writers
from runcard.sinks import _wandb_form as form
from runcard.sinks._extras import need
from runcard.sinks._wandb_place import Place
from runcard.sinks._wandb_rows import Rows
from runcard.sinks.registry import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from runcard.events import Event
    from runcard.record import RunRecord
    from runcard.sinks._wandb_process import Process
    from runcard.sinks._wandb_rows import Row

_ROWS = 1_000  # told at a time
_EXAMPLE = "wandb:project, or wandb:entity/project"
_NAME = re.compile(r"[^/\\#?%:\s\x00-\x1f][^/\\#?%:\x00-\x1f]{0,127}")
_OPTIONS = {"artifacts": True, "diff": False, "output": False}


def open_sink(url: str) -> WandbSink:
    """The sink of one project; wandb is started when a run begins."""
    return WandbSink(url)


def _check(url: str) -> None:
    """Refuse what cannot work, without connecting; say when wandb would find no key."""
    _parsed(url)
    need("wandb", "runcard[wandb]")
    place = Place()
    if place.mode in ("online", "shared") and not place.has_key:
        warn(
            "no key for Weights & Biases was found: runs are kept for it until there is one. Say `wandb login`, set "
            "WANDB_API_KEY, or WANDB_MODE=offline",
            once="wandb key",
        )


open_sink.check = _check  # type: ignore[attr-defined]  # what `registry.check` asks of a factory


class WandbSink:
    """Follows runs in W&B.

    Attributes:
        url: Which project.
        keeps_files: Whether the artifacts go there too: then a spool need not keep them.
    """

    def __init__(self, url: str) -> None:
        self._target = _parsed(url)
        self.url = url
        self.keeps_files = self._target.artifacts
        self._runs: dict[str, _Followed] = {}
        self._process: Process | None = None

    def start(self, record: RunRecord) -> None:
        """Open the run in W&B, or go on with it, and tell what its journals hold so far. Raises `StoreError`."""
        followed = self._runs.get(record.run_id)
        if followed is None or not followed.told:
            self._runs[record.run_id] = _Followed(record)
        else:
            followed.record = record
        self._open(record.run_id)

    def append(self, run_id: str, event: Event) -> None:
        """Tell one event. Raises `StoreError`."""
        self.extend(run_id, [event])

    def extend(self, run_id: str, events: Sequence[Event]) -> None:
        """Tell many events; those that were told change nothing. Raises `StoreError`."""
        followed = self._open(run_id)
        if followed is None:
            return
        self._log(followed, followed.rows.take(event for event in events if "writer" in event))
        added: dict[str, Any] = {}
        for event in events:
            if event.get("kind") == "config" and isinstance(event.get("config"), dict):
                added.update(event["config"])
        if added:
            self._ask(followed, {"do": "change", "config": form.config(added)})

    def finish(self, record: RunRecord) -> None:
        """Close the run with its config, summary, files and exit code. Raises `StoreError`."""
        if record.run_id not in self._runs:
            self._runs[record.run_id] = _Followed(record)
        self._runs[record.run_id].record = record
        followed = self._open(record.run_id)
        if followed is not None:
            if followed.rows.empty:  # a run without a journal: its points are all there is
                self._log(followed, followed.rows.take_points(record.metric_history))
            self._log(followed, followed.rows.rest())
            self._ask(followed, {"do": "finish", **self._closing(record)}, finish=True)
        del self._runs[record.run_id]

    def probe(self) -> None:
        """Try wandb: its settings, its folder and, online, the key. Raises `StoreError`."""
        place = _trusted()
        if place.mode != "disabled":
            from runcard.sinks._wandb_process import START_S

            self._at(place).ask({"do": "probe"}, START_S)

    def _open(self, run_id: str) -> _Followed | None:
        """The run, open in a process that lives; None when wandb is switched off."""
        followed = self._runs.get(run_id)
        if followed is None:
            raise StoreError(f"the run {run_id} has not begun here")
        if followed.told:
            return followed
        place = _trusted()
        if place.mode == "disabled":
            return None
        from runcard.sinks._wandb_process import START_S

        process = self._at(place)
        record = followed.record
        wanted = self._target.project or place.wandb.get("WANDB_PROJECT")
        told = {
            "do": "start",
            "project": form.project(wanted, record),
            "entity": self._target.entity or place.wandb.get("WANDB_ENTITY"),
            **form.opening(record),
        }
        step = process.ask(told, START_S)["step"]
        followed.begin(process, int(step))
        for events in _journals(record.folder):
            self._log(followed, followed.rows.take(events))
        return followed

    def _at(self, place: Place) -> Process:
        """The process for the environment as it is now; one for another is left to the runs it has open."""
        if self._process is None or not self._process.alive or self._process.place != place:
            from runcard.sinks._wandb_process import Process

            self._process = Process(place)
        return self._process

    def _log(self, followed: _Followed, rows: list[Row]) -> None:
        rows = [row for row in rows if row[0] >= followed.step]  # W&B has those before
        for begin in range(0, len(rows), _ROWS):
            self._ask(followed, {"do": "rows", "rows": rows[begin : begin + _ROWS]})

    def _ask(self, followed: _Followed, request: dict[str, Any], *, finish: bool = False) -> None:
        """Tell the run's process; after a failure, the run is told again from its beginning."""
        from runcard.sinks._wandb_process import ANSWER_S, FINISH_S

        assert followed.process is not None
        try:
            followed.process.ask({**request, "run": followed.record.run_id}, FINISH_S if finish else ANSWER_S)
        except StoreError:
            followed.process = None
            raise

    def _closing(self, record: RunRecord) -> dict[str, Any]:
        told = form.closing(record, diff=self._target.diff)
        told["files"] = form.asked_files(record, diff=self._target.diff, output=self._target.output)
        told["artifacts"], missing = form.artifacts(record) if self._target.artifacts else ([], len(record.artifacts))
        if missing:
            told["summary"]["runcard"]["artifacts_left_out"] = missing
        return told


class _Followed:
    """What was told of a run.

    Attributes:
        record: The record as last given.
        process: Where the run is open; None before, and after a failure.
        step: The first row that W&B has not.
        rows: Makes rows of events.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.process: Process | None = None
        self.step = 0
        self.rows = Rows()

    @property
    def told(self) -> bool:
        """Whether the process that the run was told to is there."""
        return self.process is not None and self.process.alive

    def begin(self, process: Process, step: int) -> None:
        """Begin to tell it from its first row."""
        self.process, self.step, self.rows = process, step, Rows()


class _Target(NamedTuple):
    entity: str | None
    project: str | None
    artifacts: bool
    diff: bool
    output: bool


def _parsed(url: str) -> _Target:
    address, _, query = url.partition(":")[2].partition("?")
    parts = address.split("/") if address else []
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise SettingError(f"{without_credentials(url)!r} names no project of W&B; write {_EXAMPLE}")
    options = dict(_OPTIONS)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in options or value not in ("0", "1"):
            raise SettingError(
                f"{without_credentials(url)!r} has an option that is not known; there are artifacts=0, diff=1 and "
                f"output=1, as in {_EXAMPLE.partition(',')[0]}?diff=1"
            )
        options[name] = value == "1"
    return _Target(parts[0] if len(parts) == 2 else None, parts[-1] if parts else None, **options)


def _trusted() -> Place:
    """The environment as it is now. Raises `StoreError` when a file sets in it what it may not."""
    place = Place()
    if place.distrusted:
        raise StoreError(
            f"{place.settings_file} sets {', '.join(place.distrusted)}, which is not taken from a file in the working "
            f"directory; set WANDB_{place.distrusted[0].upper()} if it is meant"
        )
    return place


def _journals(folder: str | None) -> Iterator[Iterable[Event]]:
    """What the journals hold so far, in the order of the record's history."""
    from pathlib import Path

    if folder is None:
        return
    try:
        there: dict[str, Path] = writers(Path(folder))
    except OSError:
        return  # the folder is gone: what is delivered is all there is
    for writer in ordered_writers(there):
        try:
            yield ({**event, "writer": writer} for event in Reading(there[writer]))
        except OSError:
            continue
