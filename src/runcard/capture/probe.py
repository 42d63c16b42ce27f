"""One guard for every question put to a machine that may refuse to answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def probe(function: Callable[..., T], /, *args: object) -> T | None:
    """Call ``function``; None when it fails in whatever way. A `KeyboardInterrupt` goes through.

    A record with one fact missing is worth more than no record, so each fact is asked for alone and in silence.
    """
    try:
        return function(*args)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's module, a proxy object or a driver may raise anything, SystemExit included
        return None


def ask(thing: object, *names: str) -> Any:
    """Follow ``names`` from ``thing`` and call what is found; None when any of it fails.

    For libraries that differ between versions and systems: the attribute itself may be missing.
    """

    def answer() -> Any:
        found: Any = thing
        for name in names:
            found = getattr(found, name)
        return found()

    return probe(answer)


def known(facts: dict[str, T | None]) -> dict[str, T]:
    """The facts that were found: those that are not None."""
    return {name: fact for name, fact in facts.items() if fact is not None}


def read_text(path: Path | str, limit: int = 65_536) -> str | None:
    """The first ``limit`` bytes of a small file as text, None when it cannot be read."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            return (file.read(limit) or b"").decode("utf-8", "replace")
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None


def encodable(text: str) -> str:
    """``text`` with the surrogates of an undecodable file name escaped, so that UTF-8 takes it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
