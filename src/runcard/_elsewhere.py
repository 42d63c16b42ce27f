"""A run that is named by its folder, or by a zip of that folder, wherever it lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runcard.errors import RunNotFound, StoreError
from runcard.identity import is_run_id
from runcard.sinks.files import read_run

if TYPE_CHECKING:
    from runcard.record import RunRecord

_ZIP_LIMIT = 1 << 30  # bytes a zip of a run may unpack to


def looks_like_path(text: str) -> bool:
    """Whether a reference reads as the path of a folder or a zip."""
    return os.sep in text or text.endswith(".zip") or text in (".", "..")


def is_run_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a run lies there."""
    return bool(path) and os.path.isfile(os.path.join(path, "journal.jsonl"))


def read_path(path: Path) -> RunRecord:
    """The record in a run's folder, or in a zip of one.

    Raises:
        RunNotFound: When there is none.
        StoreError: When a zip is too large to be unpacked.
    """
    if path.suffix == ".zip":
        return _from_zip(path)
    folder = Path(os.path.abspath(path))
    if not is_run_folder(folder):
        raise RunNotFound(f"{path} is no run's folder: it holds no journal.jsonl")
    return read_run(folder, folder.name if is_run_id(folder.name) else _id_within(folder))


def _from_zip(path: Path) -> RunRecord:
    """Unpack a zip of a run below the temporary folder, and read it there; it goes when the process ends."""
    import atexit
    import shutil
    import tempfile
    import zipfile

    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunNotFound(f"{path} cannot be read as a zip of a run: {error}") from error
    with archive:
        names = [info for info in archive.infolist() if not info.is_dir()]
        if sum(info.file_size for info in names) > _ZIP_LIMIT:
            raise StoreError(f"{path} would unpack to more than {_ZIP_LIMIT >> 20} MB; unpack it yourself first")
        target = Path(tempfile.mkdtemp(prefix="runcard-"))
        atexit.register(shutil.rmtree, target, ignore_errors=True)
        archive.extractall(target)  # zipfile keeps members inside the target: no links, no `..`
    journals = [found for found in target.rglob("journal.jsonl") if found.is_file()]
    if len(journals) != 1:
        raise RunNotFound(f"{path} holds {len(journals)} runs; a zip of one run's folder is wanted")
    return read_path(journals[0].parent)


def _id_within(folder: Path) -> str:
    from runcard.journal import Reading

    for event in Reading(folder / "journal.jsonl"):
        if event["kind"] == "start" and is_run_id(str(event.get("run_id"))):
            return str(event["run_id"])
    raise RunNotFound(f"{folder} holds a journal without a readable start")
