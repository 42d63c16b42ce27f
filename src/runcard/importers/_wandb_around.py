"""What surrounded a W&B run, and its files."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.capture.packages import normalised
from runcard.importers import Artifact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runcard.importers._wandb_file import Message

_SMALL = 16 << 20  # bytes of a file that is read whole
_READ = frozenset(("config.yaml", "requirements.txt", "runcard.json", "wandb-metadata.json", "wandb-summary.json"))
_OWN = "run-files"  # the type of the artifact that the sink makes of a run's files


def surroundings(around: Message, folders: Sequence[Path]) -> dict[str, Any]:
    """What was noted of program, machine and code: ``os python program args executable host username commit …``."""
    told = {**_from_metadata(folders), **_known(_from_message(around))}
    return _known(told)


def environment(told: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """The same, with the packages, in the record's form; only what there is of it."""
    implementation, _, version = str(told.get("python", "")).rpartition(" ")
    gpus = [{"name": name} for name in told.get("gpus", ())]
    parts: dict[str, Any] = {
        "python": {"version": version, "implementation": implementation, "executable": told.get("executable")},
        "platform": {"platform": told.get("os")},
        "command": {"entry": told.get("program"), "argv": [told["program"], *told.get("args", ())]}
        if told.get("program")
        else {},
        "hardware": {"cpu": {"physical": told.get("cpus"), "logical": told.get("logical_cpus")}, "gpus": gpus},
        "packages": _packages(folders),
    }
    return {name: found for name, part in parts.items() if (found := _kept(part))}


def stored(artifacts: Mapping[str, Message]) -> Iterator[Artifact]:
    """The files of artifacts: those that still lie here as they were, and the addresses of others."""
    for name, artifact in artifacts.items():
        for entry in artifact.message(12).messages(4):
            path, reference, size = entry.text(1), entry.text(3), entry.integer(4)
            lies = Path(entry.text(6)) if entry.text(6) else None
            yield Artifact(
                path if artifact.text(4) == _OWN else f"{name}/{path}",
                path=lies if lies is not None and _is(lies, size, entry.text(2)) else None,
                uri=reference or None,
                bytes=size,
            )


def files(folders: Iterable[Path]) -> Iterator[Artifact]:
    """The run's files, media among them, but for those that have their place in the record."""
    found: dict[str, Path] = {}
    for folder in folders:
        base = folder / "files"
        for where, inner, names in os.walk(base):
            inner.sort()
            for name in sorted(names):
                path = Path(where, name)
                relative = path.relative_to(base).as_posix()
                if relative not in _READ:
                    found[relative] = path
    for name, path in found.items():
        yield Artifact(f"files/{name}", path=path)


def _from_message(around: Message) -> dict[str, Any]:
    code = around.message(9)
    gpus = [gpu.text(1) for gpu in around.messages(24)]
    return {
        "os": around.text(1),
        "python": around.text(2),
        "args": around.texts(5),
        "program": around.text(6),
        "remote": code.text(1),
        "commit": code.text(2),
        "host": around.text(12),
        "username": around.text(13),
        "executable": around.text(14),
        "cpus": around.integer(16),
        "logical_cpus": around.integer(17),
        "gpus": gpus or [around.text(18)] * min(around.integer(19), 1_000),
    }


def _from_metadata(folders: Sequence[Path]) -> dict[str, Any]:
    """The same from the file of earlier versions."""
    try:
        told = json.loads(_text(folders, "wandb-metadata.json"))
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    code = told["git"] if isinstance(told.get("git"), dict) else {}
    texts = {name: told.get(name) for name in ("os", "python", "program", "host", "username", "executable")}
    texts |= {"remote": code.get("remote"), "commit": code.get("commit")}
    found: dict[str, Any] = {name: value for name, value in texts.items() if isinstance(value, str)}
    args = told.get("args")
    found["args"] = [each for each in args if isinstance(each, str)] if isinstance(args, list) else []
    for name, there in (("cpus", "cpu_count"), ("logical_cpus", "cpu_count_logical")):
        found[name] = told[there] if isinstance(told.get(there), int) else None
    gpu, count = told.get("gpu"), told.get("gpu_count")
    found["gpus"] = [gpu] * min(count, 1_000) if isinstance(gpu, str) and isinstance(count, int) else []
    return found


def _packages(folders: Sequence[Path]) -> dict[str, str]:
    """What pip would take, in the record's form; lines that are no ``name==version`` have no place."""
    lines = _text(folders, "requirements.txt").splitlines()
    pairs = (line.strip().partition("==") for line in lines)
    return dict(sorted((normalised(name), version) for name, found, version in pairs if found and name and version))


def _text(folders: Sequence[Path], name: str) -> str:
    for folder in reversed(folders):
        path = folder / "files" / name
        try:
            if not path.is_symlink() and path.stat().st_size <= _SMALL:
                return path.read_text("utf-8", "replace")
        except OSError:
            continue
    return ""


def _known(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value}


def _kept(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the environment without what is not known."""
    inner = {name: _kept(value) if isinstance(value, dict) else value for name, value in part.items()}
    return {name: value for name, value in inner.items() if value not in (None, "", {}, [], 0)}


def _is(path: Path, size: int, digest: str) -> bool:
    """Whether a file is the one that was logged: else a folder from elsewhere could name any file of this machine."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
            return False
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
    except OSError:
        return False
    return base64.b64encode(found).decode() == digest
