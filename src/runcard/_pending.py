"""What waits for its sinks: delivered by `runcard sync`, counted by `runcard doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard import settings
from runcard._open_sinks import is_live, name_of_sink, sink_at
from runcard._parcels import Parcel, notes, read_note
from runcard.errors import RuncardError, StoreError, describe
from runcard.sinks import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Progress = Callable[[list[Any]], Iterable[Any]]


class Synced(NamedTuple):
    """What came of it: how many runs were brought over, were there already, go on still, and what went wrong."""

    done: int
    there: int
    running: int
    problems: list[str]


def deliver_pending(to: str | None = None, store: Path | None = None, *, progress: Progress = iter) -> Synced:
    """Deliver what earlier runs left behind, in the store and in the spool.

    Args:
        to: Where to; None means each to the sink it was meant for, when that is among the setting `sinks`.
        store: The folder of runs to look in, instead of those of the settings.
        progress: Is given all that there is to do, and gives it back one by one.

    Raises:
        SettingError: For a sink's URL that is not accepted.
        StoreError: When ``to`` follows no runs.
    """
    urls = [to] if to is not None else [url for url in settings.current().sinks if isinstance(url, str)]
    if to is None:
        registry.check_settings(urls)
    found = {}
    for url in urls:
        if not registry.is_files(url):
            sink = sink_at(url, None)
            found[name_of_sink(sink)] = sink
    if to is not None and not any(is_live(sink) for sink in found.values()):
        raise StoreError(f"{registry.name_of(to)} is no sink that runs are delivered to; `runcard sync FROM TO` copies")
    running, done = 0, set[str]()
    down: set[int] = set()  # the sinks that nothing can be written to: the next runs would wait for them in vain
    problems: list[str] = []
    for note in progress([note for root in (places() if store is None else [store]) for note in notes(root)]):
        told = read_note(note)
        if told is None:
            continue
        sink = found.get(told["sink"]) if to is None else next(iter(found.values()))
        if sink is None:
            problems.append(f"{told['run_id']} waits for {told['sink']}, which is not among the sinks; --to names one")
            continue
        if id(sink) in down:
            problems.append(f"{told['run_id']} waits for {name_of_sink(sink)} as well")
            continue
        parcel = Parcel.left_behind(note, elsewhere=told["sink"] not in found)
        if parcel is None:
            running += note.exists()
            continue
        try:
            parcel.advance(sink)
        except Exception as error:  # a sink may raise anything; the run stays noted, the next one is tried
            problems.append(f"{told['run_id']}: {said(error)}")
            if cannot_be_written(sink):
                down.add(id(sink))
        else:
            done.add(told["run_id"])
    return Synced(len(done), 0, running, problems)


def places() -> list[Path]:
    """Where something may be pending: the store's root, and the spool."""
    current = settings.current()
    homes = [
        Path(registry.path_of(sink)) for sink in current.sinks if registry.is_files(sink) and sink.partition(":")[2]
    ]
    return list(dict.fromkeys([settings.store_root(current), *homes, settings.spool_root(current)]))


def cannot_be_written(target: Any) -> str | None:
    """Why nothing can be written there, as far as it can be tried without a run."""
    probe = getattr(target, "probe", None)
    try:
        if callable(probe):
            probe()
    except Exception as error:  # what a sink says is the answer
        return said(error)
    return None


def said(error: Exception) -> str:
    """An error in one line, our own without its type."""
    return str(error) if isinstance(error, RuncardError) else describe(error)
