"""The sinks that are open in this process: one a URL, what each is called, and whether it follows runs as they go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runcard.sinks.registry import name_of, resolve

if TYPE_CHECKING:
    from pathlib import Path

_opened: dict[str, Any] = {}  # by URL: the sinks opened so far, one a process and URL


def sink_at(url: str, root: Path | None) -> Any:
    """The sink of a URL, opened once a process. Raises what the sink's own opening raises."""
    key = f"{url} {root}" if url == "file:" else url
    sink = _opened.get(key)
    if sink is None:
        found = resolve(url, root=root)
        sink = _opened[key] = found.as_sink() if hasattr(found, "as_sink") else found
    return sink


def has_address(sink: Any) -> bool:
    """Whether another process can reach the sink too: a live one that was opened by its URL."""
    return is_live(sink) and any(sink is opened for opened in list(_opened.values()))


def name_of_sink(sink: Any, url: str | None = None) -> str:
    """What a sink is called in messages and notes: by its address, without credentials, when it has one."""
    if url is None:
        url = next((key for key, opened in list(_opened.items()) if opened is sink), None)
    return getattr(sink, "url", None) or name_of(sink if url is None else url)


def is_live(sink: Any) -> bool:
    """Whether a sink follows runs from their start; a store that takes late events has an `append` too."""
    return all(callable(getattr(sink, method, None)) for method in ("start", "append", "finish"))


def forget() -> None:
    """Open every sink anew when it is asked for again."""
    _opened.clear()
