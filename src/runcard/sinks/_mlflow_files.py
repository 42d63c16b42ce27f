"""The files of one run on their way into MLflow: its artifacts, its inputs as datasets, and the record whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from runcard.card import card_markdown
from runcard.events import mark
from runcard.sinks._elsewhere import whole
from runcard.sinks._mlflow_mapping import datasets
from runcard.sinks._mlflow_service import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runcard.record import RunRecord
    from runcard.sinks._mlflow_service import Found, Service


class Files:
    """What was uploaded of a run, and how the rest is."""

    def __init__(self, service: Service, found: Found, folder: Path | None, refused: dict[str, None]) -> None:
        """Take the run.

        Args:
            service: Who is asked.
            found: The run in MLflow.
            folder: Where its files lie here.
            refused: Is told what MLflow does not take.
        """
        self._service, self._found, self._folder, self._refused = service, found, folder, refused
        self._uploaded: dict[str, Any] = {}
        self._inputs: set[str] = set()

    def upload(self, entry: Mapping[str, Any]) -> str | None:
        """Upload an artifact as it is now, unless it was; what went wrong for good. Raises `StoreError`."""
        path, as_it_is = entry.get("path"), (entry.get("sha256") or entry.get("mtime"), entry.get("bytes"))
        if self._folder is None or not isinstance(path, str) or not _is_inside(path) or entry.get("removed"):
            return None
        source = self._folder / path
        if self._uploaded.get(path) == as_it_is or source.is_symlink() or not source.is_file():
            return None
        try:
            self._service.upload(self._found, path.removeprefix("artifacts/"), source)
        except Refused as error:
            self._refused[path] = None
            return f"the artifact {path} was refused: {error}"
        self._uploaded[path] = as_it_is
        return None

    def upload_all(self, record: RunRecord) -> list[str]:
        """Upload the artifacts that were not; what went wrong for good. Raises `StoreError`."""
        return [problem for problem in map(self.upload, record.artifacts) if problem]

    def upload_own(self, record: RunRecord, *, diff: bool, output: bool) -> None:
        """The record whole, beside what MLflow can hold of it. Raises `StoreError`."""
        files: dict[str, Path | bytes] = {
            "record.json": orjson.dumps(whole(record, diff=diff), option=orjson.OPT_INDENT_2),
            "card.md": card_markdown(record).encode("utf-8", "replace"),
        }
        if record.config:
            files["config.json"] = orjson.dumps(mark(record.config), option=orjson.OPT_INDENT_2)
        wanted = {"requirements.txt": True, "diff.patch": diff, "output.log": output}
        for name, is_wanted in wanted.items():
            if is_wanted and self._folder is not None and (self._folder / name).is_file():
                files[name] = self._folder / name
        for name, source in files.items():
            self._service.upload(self._found, f"runcard/{name}", source)

    def add_inputs(self, record: RunRecord) -> None:
        """The inputs as datasets. Raises `StoreError`."""
        new = [entry for entry in datasets(record) if entry["source"] + entry["digest"] not in self._inputs]
        if not new:
            return
        try:
            self._service.datasets(self._found, new)
        except Refused:
            self._refused["inputs"] = None
        self._inputs.update(entry["source"] + entry["digest"] for entry in new)


def digest(artifacts: Iterable[Mapping[str, Any]]) -> str:
    """What changes when one of the artifacts does."""
    told = [(entry.get("path"), entry.get("sha256"), entry.get("bytes")) for entry in artifacts]
    return hashlib.sha256(orjson.dumps(told)).hexdigest()[:16]


def _is_inside(path: str) -> bool:
    """Whether a record's path is that of an artifact, and leads nowhere else."""
    return path.startswith("artifacts/") and ".." not in Path(path).parts
