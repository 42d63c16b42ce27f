"""A disk that loses power: the file operations of a program, and every state they may leave behind.

The model is what POSIX promises and no more. Data is safe when its file was fsynced after, a name when its folder
was; everything else may be there, be missing, be there in part, or be zeros, each on its own and in any order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

CALLS = "openat,write,fsync,rename,link,mkdir,unlink,ftruncate"
OPTIONS = ("-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}")
_LINE = re.compile(r"\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PATH_OF = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")


def operations(trace: Path, below: Path) -> list[tuple[Any, ...]]:
    """What a program did below a folder, from the output of strace with `OPTIONS`."""
    found: list[tuple[Any, ...]] = []
    for line in trace.read_text("ascii", "replace").splitlines():
        matched = _LINE.match(line)
        if matched is None or int(matched[3]) < 0:
            continue
        call, arguments = matched[1], matched[2]
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
        held = _PATH_OF.match(arguments)
        paths = [Path(text.decode()) for text in texts]
        if held is not None:
            paths = [Path(bytes.fromhex(held[1].replace("\\x", "")).decode())]
        if not paths or not paths[0].is_relative_to(below):
            continue
        if call == "openat":
            if "O_CREAT" in arguments:
                found.append(("open", paths[0], "O_TRUNC" in arguments))
        elif call == "write":
            found.append(("write", paths[0], texts[0]))
        else:
            found.append((call, *paths))
    return found


@dataclass
class File:
    """A file's content: what was synced, and the writes since."""

    synced: bytes = b""
    size: int = 0
    pending: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass
class Folder:
    """A folder's names: what was synced, the changes since, and what a program sees now."""

    synced: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[str, str, File | Folder]] = field(default_factory=list)  # name that goes, that comes, of what
    now: dict[str, File | Folder] = field(default_factory=dict)


class Disk:
    """A folder on a disk, operation by operation."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = Folder()

    def apply(self, operation: tuple[Any, ...]) -> None:
        """Do one operation as a program sees it."""
        call, path, *rest = operation
        if call == "mkdir":
            self._name("", path, Folder())
        elif call == "open":
            found = self._find(path)
            if found is None:
                self._name("", path, File())
            elif rest[0] and found.size:
                raise NotImplementedError("a file is emptied in place")
        elif call == "write":
            file = self._find(path)
            file.pending.append((file.size, rest[0]))
            file.size += len(rest[0])
        elif call == "fsync":
            found = self._find(path)
            if isinstance(found, Folder):
                found.synced, found.pending = dict(found.now), []
            else:
                found.synced, found.pending = _content(found, lambda data: data), []
        elif call == "link":
            self._name("", rest[0], self._find(path))
        elif call == "rename":
            assert path.parent == rest[0].parent
            self._name(path.name, rest[0], self._find(path))
        elif call == "unlink":
            folder = self._find(path.parent)
            folder.pending.append((path.name, "", folder.now.pop(path.name)))
        else:
            raise NotImplementedError(call)

    def write(self, target: Path, fate: Fate) -> None:
        """Write what the disk may hold after a power cut, as `fate` decides."""
        _write(self.root, target, fate)

    def _find(self, path: Path) -> Any:
        found: Any = self.root
        for name in path.relative_to(self.base).parts:
            if found is None:
                return None
            found = found.now.get(name)
        return found

    def _name(self, old: str, path: Path, what: File | Folder) -> None:
        folder = self._find(path.parent)
        folder.pending.append((old, path.name, what))
        folder.now.pop(old, None)
        folder.now[path.name] = what


class Fate:
    """What becomes of what was not synced: ``lost``, ``kept``, ``zeros``, ``torn`` or ``chance``."""

    def __init__(self, kind: str, chance: random.Random) -> None:
        self.kind = kind
        self.chance = chance

    def name(self) -> bool:
        """Whether a change of a name reached the disk."""
        return self.kind != "lost" and (self.kind != "chance" or self.chance.random() < 0.7)

    def data(self, data: bytes) -> bytes | None:
        """What of one write reached the disk; None when the file did not even grow."""
        kind = self.kind if self.kind != "chance" else self.chance.choice(["lost", "kept", "kept", "zeros", "torn"])
        if kind == "torn":
            return data[: self.chance.randrange(len(data) + 1)]
        return {"lost": None, "kept": data, "zeros": bytes(len(data))}[kind]


def _content(file: File, fate: Any) -> bytes:
    content = bytearray(file.synced)
    for offset, data in file.pending:
        there = fate(data)
        if there:
            content.extend(bytes(max(0, offset + len(there) - len(content))))
            content[offset : offset + len(there)] = there
    return bytes(content)


def _write(folder: Folder, target: Path, fate: Fate) -> None:
    target.mkdir()
    names = dict(folder.synced)
    for old, new, what in folder.pending:
        if fate.name():
            names.pop(old, None)
            if new:
                names[new] = what
    for name, what in names.items():
        if isinstance(what, Folder):
            _write(what, target / name, fate)
        else:
            (target / name).write_bytes(_content(what, fate.data))
