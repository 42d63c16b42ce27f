"""A second folder of runs: finished runs are copied there from the folder they were recorded in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runcard.errors import StoreError
from runcard.journal import writers
from runcard.sinks.files import file_mode, make_run, make_store, read_run, write_views

if TYPE_CHECKING:
    from runcard.record import RunRecord


class Mirror:
    """Copies each finished run, its journals, shared files and artifacts, into another store.

    A run that comes again is brought up to date; what was judged in the copy meanwhile stays.
    """

    def __init__(self, root: Path) -> None:
        """Take the folder; it is made when the first run comes."""
        self.root = root
        self.url = f"file:{root}"

    def __call__(self, record: RunRecord) -> None:
        """Copy a run's folder.

        Raises:
            StoreError: When the run has no folder, because no disk took it.
            OSError: When the copy cannot be written.
        """
        if record.folder is None:
            raise StoreError(f"the run {record.short_id} lies in no folder that could be copied")
        source = Path(record.folder)
        mode = "group" if source.stat().st_mode & 0o020 else "private"
        make_store(self.root, mode)
        known = (self.root / record.run_id).exists()
        target = make_run(self.root, record.run_id, mode, exist_ok=True)
        permissions = file_mode(self.root, mode)
        journals = {path.name: path for path in writers(source).values()}
        for found in sorted(source.rglob("*")):
            name = found.relative_to(source)
            if found.is_symlink() or not found.is_file() or found.name.startswith("."):
                continue
            if str(name) in journals and _is_ahead(target / name, found):
                continue
            (target / name).parent.mkdir(mode=target.stat().st_mode & 0o777, parents=True, exist_ok=True)
            _copy(found, target / name, permissions)
        write_views(target, read_run(target, record.run_id), known=known)


def _is_ahead(copy: Path, journal: Path) -> bool:
    """Whether the copy of a journal has all that is in it, and perhaps more."""
    return copy.exists() and copy.stat().st_size >= journal.stat().st_size


def _copy(source: Path, target: Path, permissions: int) -> None:
    """Copy under another name first: a reader of the copy never sees half a file."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, partial)
        os.chmod(partial, permissions)
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
