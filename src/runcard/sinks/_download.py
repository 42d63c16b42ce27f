"""A run's folder from an object store: what a copy to somewhere that keeps files needs."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from runcard.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def found_below(system: Any, place: str) -> dict[str, str]:
    """The objects below a place of a file system of fsspec: name from there on → path."""
    try:
        paths = [str(path) for path in system.find(place)]
    except FileNotFoundError:
        return {}
    return {path[len(place) + 1 :]: path for path in paths if path.startswith(f"{place}/")}


def fetch(system: Any, place: str, folder: Path) -> None:
    """Download all that is below a place.

    Args:
        system: The file system of fsspec.
        place: Where the run lies.
        folder: Where to; it is made.

    Raises:
        StoreError: For a name that would lead out of the folder.
    """
    for name, path in found_below(system, place).items():
        parts = PurePosixPath(name).parts
        if ".." in parts or name.startswith("/") or "\\" in name or "\0" in name:
            raise StoreError(f"{name!r} is no name of a file in a run's folder")
        target = folder.joinpath(*parts)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        system.get_file(path, str(target))
