"""Whether a sink can be reached and written, and what is waiting for it."""

from __future__ import annotations

import os
from typing import NamedTuple

from runcard._open_sinks import is_live, name_of_sink
from runcard._parcels import notes
from runcard._pending import places
from runcard.errors import RuncardError, describe
from runcard.sinks import registry
from runcard.sinks.files import FilesSource


class Finding(NamedTuple):
    """What was found of one sink: its URL without credentials, whether all is well, the words, the runs waiting."""

    sink: str
    fine: bool
    said: str
    waiting: int


def examine(url: str) -> Finding:
    """Try a sink: load it, connect, write, and leave nothing behind. Never raises for what the sink says."""
    name = registry.name_of(url)
    try:
        registry.check(url)
        sink = registry.resolve(url, root=places()[0])
        if isinstance(sink, FilesSource):
            return _folder(sink)
        waiting = sum(len(notes(root, name_of_sink(sink, url))) for root in places()) if is_live(sink) else 0
        probe = getattr(sink, "probe", None)
        if not callable(probe):
            return Finding(name, True, "loads; it cannot be tried without a run", waiting)
    except Exception as error:  # a plug-in's loading may raise anything: that is what was asked for
        return Finding(name, False, str(error) if isinstance(error, RuncardError) else describe(error), 0)
    try:
        probe()
    except Exception as error:  # what the sink says is the finding
        said = str(error) if isinstance(error, RuncardError) else describe(error)
        return Finding(name, False, said.removeprefix(f"{getattr(sink, 'url', name)}: "), waiting)
    return Finding(name, True, "can be reached and written", waiting)


def _folder(sink: FilesSource) -> Finding:
    """A folder, or the nearest one above that is there already."""
    root = sink.root
    nearest = next(path for path in (root, *root.parents) if path.exists())
    fine = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    if not fine:
        said = f"{nearest} cannot be written"
    elif nearest == root:
        said = "can be written"
    else:
        said = "will be made by the first run"
    return Finding(sink.url, fine, said, 0)
