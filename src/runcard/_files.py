"""Names and paths of artifacts: inside the run's folder and nowhere else, whatever a name says."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

_PART = 200  # bytes of one part of a name; file systems take 255


def checked_name(name: Any) -> str:
    """An artifact's name, as a relative path with slashes.

    Raises:
        ValueError: With what is wrong, for names that are absolute, leave the folder, or hold control characters.
    """
    text = os.fspath(name)
    if not isinstance(text, str) or not text:
        raise ValueError("a name is a text")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("a name holds no control characters")
    text = text.replace("\\", "/")
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive or PureWindowsPath(text).root:
        raise ValueError("a name is no absolute path")
    parts = text.split("/")
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(f"a name has no part {part!r}")
        if part != part.strip() or part.endswith("."):
            raise ValueError("a part of a name neither begins nor ends with a space, nor ends with a dot")
        try:
            length = len(part.encode("utf-8"))
        except UnicodeEncodeError:
            raise ValueError("a name is valid text") from None
        if length > _PART:
            raise ValueError(f"a part of a name has at most {_PART} bytes")
    return "/".join(parts)


def inside(folder: Path, name: str) -> Path:
    """The path of a checked name below ``folder``, its parents made.

    Raises:
        ValueError: When a link on the way would lead out of the folder.
    """
    path = folder.joinpath(*name.split("/"))
    below = folder
    for part in name.split("/")[:-1]:
        below /= part
        if not below.exists():
            below.mkdir(mode=0o700, exist_ok=True)
            os.chmod(below, folder.stat().st_mode & 0o7777)  # as the run's folder: its owner's, or the group's
    root = folder.resolve()
    if root != path.parent.resolve() and root not in path.parent.resolve().parents:
        raise ValueError("a link leads out of the run's folder")
    if path.is_symlink():
        raise ValueError("there is a link of that name")
    return path


def temporary_path(name: Any) -> Path:
    """A writable path of that file name, in a temporary folder of its own: for when no run takes the file."""
    import tempfile

    try:
        text = checked_name(name).rpartition("/")[2]
    except (TypeError, ValueError):
        text = "artifact"
    return Path(tempfile.mkdtemp(prefix="runcard-")) / text
