"""What of a store is the owner's alone, and what the group's too: all, where the root is the group's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def share(root: Path, path: Path, mode: int) -> None:
    """Give a path its mode, past the umask: the owner's alone, or the group's too. Raises `OSError`."""
    shared = root.stat().st_mode & 0o2020
    path.chmod(mode | (mode >> 3 if shared else 0))


def make_folder(folder: Path) -> None:
    """Make a folder in a store's root, where it is not there, for all who may write to the store. Raises `OSError`."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return  # whoever made it gave it its mode
    share(folder.parent, folder, 0o700)


def open_to_group(fd: int, mode: int) -> None:
    """Give a shared store's file its permissions, past the umask; a file that is another's has them already."""
    if hasattr(os, "fchmod"):
        try:
            os.fchmod(fd, mode)
        except OSError:
            pass  # made by another of the group
