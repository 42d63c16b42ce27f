"""An `Imported` run as events: strict JSON, bounded, without secrets, files copied on the way."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runcard._files import checked_name, inside
from runcard.capture.inputs import describe
from runcard.events import SCHEMA_VERSION, restore
from runcard.importers import usable_time
from runcard.journal import Reading
from runcard.record import Status
from runcard.values import config_hash, number, plain, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from runcard.events import Event
    from runcard.importers import Artifact, Imported, Wishes
    from runcard.record import Point, RunRecord
    from runcard.redact import Redactor

NO_FILES = -1
"""As a limit for copies: the store keeps no files, so that what is only content is left out."""

_HASH_LIMIT = 1_000_000_000  # bytes, as for artifacts that a run logs itself
_NAMES_AN_EVENT = 1_000
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_LAST_WORDS = (Status.FINISHED, Status.FAILED, Status.KILLED)


class Writing:
    """The events of one run, as strict JSON, bounded and without secrets."""

    def __init__(self, run: Imported, redactor: Redactor, wishes: Wishes) -> None:
        self.run = run
        self.left_out: Counter[str] = Counter({what: count for what, count in run.left_out.items() if count > 0})
        self._redactor = redactor
        self._losses: Counter[str] = Counter()
        self._names: dict[Any, str | None] = {}
        self._began = usable_time(run.origin.started_at) or 0.0
        self._last = self._began
        self._experiment = wishes.rename or run.experiment

    def events(self, folder: Path, copy_limit: int | None) -> Iterator[Event]:
        """All events, artifacts being copied on the way."""
        yield self._start()
        yield from self._logged(self.run.points)
        yield from self._files(self.run.artifacts, folder, copy_limit)
        if self.run.status is not None:
            yield self._end()
        elif losses := self._lost():
            yield {"kind": "loss", "t": self._last, "losses": losses}

    def news(self, record: RunRecord, folder: Path, copy_limit: int | None) -> Iterator[Event]:
        """The events that an earlier import could not have."""
        new = 0
        for event in self._logged(self._unknown(_logged_in(folder))):
            new += 1
            yield event
        config = self._config()
        added = {key: value for key, value in config["config"].items() if key not in record.config}
        if added:
            new += 1
            yield {"kind": "config", "t": self._last, "config": added, "config_hash": config["config_hash"]}
        names = {str(entry.get("name")) for entry in record.artifacts}
        for event in self._files(
            (each for each in self.run.artifacts if self._redactor.name(each.name) not in names), folder, copy_limit
        ):
            new += 1
            yield event
        told = record.losses  # by the import before
        if self.run.status is not None and (new or record.ended_at is None):
            yield self._end(told)
        elif new and (losses := self._lost(told)):
            yield {"kind": "loss", "t": self._last, "losses": losses}

    def age(self, path: Path) -> None:
        """Let the journal of a run without an end look as old as its last word: by that it is told to live."""
        if self.run.status is None:
            last = min(self._last, time.time())
            os.utime(path, (last, last))

    def _start(self) -> Event:
        run = self.run
        config = self._config()
        notes = self._text(run.notes)
        original = {"kind": run.origin.kind, "source": run.source, "at": _iso(time.time()), **run.original}
        environment = self._tree({**run.environment, "packages": None, "imported": original})
        environment["packages"] = self._packages(run.environment.get("packages") or {})
        start = {
            "kind": "start",
            "t": self._began,
            "schema_version": SCHEMA_VERSION,
            "run_id": run.origin.run_id,
            "attempt": 1,
            "name": self._text(run.name) or run.origin.run_id[-8:],
            "experiment": self._text(self._experiment) or run.origin.kind,
            "parent_id": run.parent.run_id if run.parent is not None else None,
            **config,
            "tags": [self._text(tag) for tag in run.tags],
            "notes": notes,
            "user": self._text(run.user) if run.user else None,
            "host": self._text(run.host) if run.host else None,
            "inputs": [self._tree(entry) for entry in run.inputs],
            "environment": {name: value for name, value in environment.items() if value not in _NOTHING},
        }
        return {name: value for name, value in start.items() if value not in _NOTHING}

    def _packages(self, packages: Mapping[str, Any]) -> dict[str, Any]:
        """As they came but for secrets; a package's name makes none of its version: ``google-auth``."""
        return {
            self._text(name): self._text(what) if isinstance(what, str) else self._tree(what)
            for name, what in packages.items()
        }

    def _end(self, told: Mapping[str, int] | None = None) -> Event:
        run = self.run
        ended = usable_time(run.ended_at)
        metrics = {}
        for given, value in run.metrics.items():
            name, found = self._name(given), number(value)
            if found is None:
                self._losses["not_a_number"] += 1
            elif name is not None:
                metrics[name] = found
        end = {
            "kind": "end",
            "t": self._last if ended is None else ended,
            "status": str(run.status if run.status in _LAST_WORDS else Status.FAILED),
            "duration_s": None if ended is None else max(0.0, round(ended - self._began, 6)),
            "exit_code": run.exit_code,
            "error": None if run.error is None else self._tree({"causes": [], **run.error}),
            "metrics": metrics,
            "result": None if run.result is None else self._tree(run.result),
        }
        end["losses"] = self._lost(told)
        return {name: value for name, value in end.items() if value not in (None, {}, [])}

    def _lost(self, told: Mapping[str, int] | None = None) -> dict[str, int]:
        """What was lost, beyond what was told of before."""
        return dict(self._losses + self.left_out - Counter(told or {}))

    def _config(self) -> dict[str, Any]:
        value, types, exact, cuts, _ = plain(dict(self.run.config))
        clean, hidden = self._redactor.tree(value)
        self._losses.update(cut=cuts, redacted=hidden)
        return {"config": clean, "config_types": types, "config_hash": config_hash(clean) if exact else None}

    def _unknown(self, known: Counter[Any]) -> Iterator[Point]:
        for point in self.run.points:
            key = self._key(point)
            if known[key] > 0:
                known[key] -= 1
            else:
                yield point

    def _logged(self, points: Iterable[Point]) -> Iterator[Event]:
        """The points as events, those of one step and time in one."""
        together: dict[str, Any] = {}
        at: tuple[Any, ...] | None = None
        for point in points:
            name, value = self._name(point.name), number(point.value)
            if name is None or value is None:
                self._losses["bad_name" if name is None else "not_a_number"] += 1
                continue
            kind, step = _place(name, point.step)
            self._losses["bad_step"] += kind == "log" and step is None and point.step is not None
            here = (kind, step, usable_time(point.time) or self._began)
            if here != at or name in together or len(together) >= _NAMES_AN_EVENT:
                if together:
                    yield self._log(at, together)
                together, at = {}, here
            together[name] = value
        if together:
            yield self._log(at, together)

    def _log(self, at: tuple[Any, ...] | None, metrics: dict[str, Any]) -> Event:
        assert at is not None
        kind, step, moment = at
        self._last = max(self._last, moment)
        return {"kind": kind, "t": moment, **({"step": step} if kind == "log" else {}), "metrics": metrics}

    def _key(self, point: Point) -> tuple[Any, ...]:
        """What tells a point from another, as `_logged_in` gives it; NaN is like itself here."""
        name = self._name(point.name) or ""
        step = _place(name, point.step)[1]
        return name, step, repr(restore(number(point.value))), usable_time(point.time) or self._began

    def _files(self, artifacts: Iterable[Artifact], folder: Path, copy_limit: int | None) -> Iterator[Event]:
        for artifact in artifacts:
            try:
                name = checked_name(artifact.name)
                event = self._file(artifact, name, folder, copy_limit)
            except ValueError:
                self._losses["artifacts_refused"] += 1
                continue
            if event is not None:
                yield {"kind": "artifact", "t": self._last, "name": self._redactor.name(name), **event}

    def _file(self, artifact: Artifact, name: str, folder: Path, copy_limit: int | None) -> Event | None:
        """Copy a file into the run's folder, or refer to it; None when there is neither file nor address."""
        lies = artifact.path
        if lies is not None and (lies.is_symlink() or not lies.is_file()):
            self.left_out["links among the artifacts" if lies.is_symlink() else "missing artifacts"] += 1
            return None
        size = artifact.bytes
        if lies is not None:
            size = lies.stat().st_size
        elif artifact.content is not None:
            size = len(artifact.content)
            if copy_limit == NO_FILES:
                self.left_out["files that this store does not keep"] += 1
                return None
        if artifact.content is None and copy_limit is not None and (size is None or size > copy_limit):
            return self._reference(artifact, size)
        if artifact.content is None and lies is None and artifact.fetch is None:
            return self._reference(artifact, size)
        mode = folder.stat().st_mode & 0o7777
        if not (folder / "artifacts").exists():
            (folder / "artifacts").mkdir()
            (folder / "artifacts").chmod(mode)
        path = inside(folder / "artifacts", name)
        if lies is not None:
            shutil.copyfile(lies, path, follow_symlinks=False)
            shutil.copystat(lies, path)
        elif artifact.content is not None:
            path.write_bytes(artifact.content)
        elif artifact.fetch is not None:
            artifact.fetch(path)
        path.chmod(0o660 if mode & 0o020 else 0o600)
        told = describe(path, limit=_HASH_LIMIT)
        return {"path": f"artifacts/{name}", **{key: told[key] for key in _FACTS if key in told}}

    def _reference(self, artifact: Artifact, size: int | None) -> Event | None:
        uri = artifact.path.resolve().as_uri() if artifact.path is not None else artifact.uri
        if uri is None:
            self.left_out["missing artifacts"] += 1
            return None
        return {"uri": self._redactor.url(uri), "bytes": size, "sha256": None, "hashed": False}

    def _name(self, given: Any) -> str | None:
        """A metric's name, as text and without secrets."""
        if given not in self._names:
            text = plain_text(given)
            self._names[given] = self._redactor.name(text) if text.strip() else None
        return self._names[given]

    def _text(self, text: Any) -> str:
        clean, hidden = self._redactor.text(plain_text(text))
        self._losses["redacted"] += hidden
        return clean

    def _tree(self, value: Any) -> Any:
        found = plain(value)
        clean, hidden = self._redactor.tree(found.value)
        self._losses.update(cut=found.cuts, redacted=hidden)
        return clean


_FACTS = ("bytes", "sha256", "mtime", "hashed")


def _place(name: str, step: Any) -> tuple[str, Any]:
    """The kind of event that a metric goes into, and its step; samples of the machine have none."""
    if name.startswith("system/"):
        return "system", None
    found = None if step is None else number(step)
    return "log", None if isinstance(found, dict) else found


def _logged_in(folder: Path) -> Counter[tuple[Any, ...]]:
    """The points and samples that a run's journal has: name, step, value and time of each, and how often."""
    events = (event for event in Reading(folder / "journal.jsonl") if event["kind"] in ("log", "system"))
    return Counter(
        (name, event.get("step"), repr(restore(value)), event["t"])
        for event in events
        for name, value in event["metrics"].items()
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
