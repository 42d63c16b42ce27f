"""What the code of a rerun finds around it: its working folder, its inputs, and where its imports lead."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard._call import module_of
from runcard._conditions import relative
from runcard._rebuild import build_tree
from runcard._recorded_code import CannotRebuildError
from runcard.capture.command import arguments
from runcard.errors import describe, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runcard._plan import Plan
    from runcard.record import RunRecord


COPY_LIMIT = 1 << 30  # bytes of one input that are copied to where the code looks for it; a larger one is linked to


def editables(record: RunRecord, scratch: Path, root: str) -> list[list[str]]:
    """Other repositories that packages were installed editable from, each at its recorded commit."""
    packages = record.environment.get("packages")
    roots: list[list[str]] = []
    for name, what in packages.items() if isinstance(packages, dict) else ():
        if not isinstance(what, dict) or not what.get("editable") or not what.get("commit") or name == "runcard":
            continue
        path, below = str(what.get("path") or ""), str(what.get("subdirectory") or "")
        if not os.path.isabs(path) or relative(path, root) is not None:
            continue
        repository = path.removesuffix(f"/{below}") if below else path
        target = scratch / f"editable-{len(roots)}"
        try:
            _checkout(str(what["commit"]), [repository, str(what.get("url") or "")], target)
        except CannotRebuildError as error:
            warn(f"{name}: {error}; the one installed here is used")
            continue
        roots.append([repository, str(target)])
    return roots


def _checkout(commit: str, places: list[str], target: Path) -> None:
    """Another repository's commit in a folder."""
    from runcard.record import Fields, RunRecord

    git = {"state": "clean", "commit": commit, "root": places[0], "remote": places[1]}
    build_tree(RunRecord(run_id="", environment=Fields(git=git)), target)


def working_folder(record: RunRecord, roots: list[list[str]], scratch: Path) -> Path:
    """The working directory of the rerun: the recorded one in the rebuilt code, else an empty one."""
    recorded = str(recorded_command(record).get("cwd") or "")
    for root, tree in roots:
        inside = relative(recorded, root)
        if inside is not None:
            folder = Path(tree, inside)
            if _is_inside(folder, Path(tree)):
                folder.mkdir(parents=True, exist_ok=True)
                return folder
    folder = scratch / "cwd"
    folder.mkdir()
    return folder


def place_inputs(record: RunRecord, planned: Plan, roots: list[list[str]], cwd: Path) -> None:
    """Put files that the code will look for beside it, and that no commit has, where it will look.

    They are copies: what the rerun writes to them does not reach the user's own.
    """
    recorded_cwd = str(recorded_command(record).get("cwd") or "")
    moves = [*roots, [recorded_cwd, str(cwd)]] if recorded_cwd else roots
    inputs = [entry["path"] for entry in planned.inputs]
    began = started(record)
    for path in dict.fromkeys([*inputs, *_paths(record, planned, recorded_cwd)]):
        for root, folder in moves:
            inside = relative(path, root)
            if inside is None:
                continue
            if inside != "." and _is_inside(Path(folder, inside), Path(folder)):
                _copy(Path(path), Path(folder, inside), began, link=path in inputs)
            break


def _paths(record: RunRecord, planned: Plan, cwd: str) -> Iterator[str]:
    """Absolute paths that the arguments name, relative ones taken from the recorded working directory."""
    texts = list(_texts(planned.config))
    if planned.how == "command":
        given = arguments([str(word) for word in recorded_command(record).get("orig_argv") or ()])
        texts += [word.partition("=")[2] or word for word in given]
    for text in texts:
        if text and len(text) < 4096 and "\0" not in text and "\n" not in text:
            yield os.path.normpath(os.path.join(cwd or os.sep, text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _copy(source: Path, target: Path, began: float, *, link: bool) -> None:
    """Copy a file, or the files of a folder that were there when the run began; what is there already stays."""
    try:
        if source.is_dir():
            for found in source.rglob("*"):
                place = target / found.relative_to(source)
                if found.is_file() and not found.is_symlink() and found.stat().st_mtime < began:
                    _copy(found, place, began, link=link)
        elif source.is_file() and not target.exists() and not target.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.stat().st_size <= COPY_LIMIT:
                shutil.copy2(source, target)
            elif link:
                target.symlink_to(source.resolve())
    except OSError as error:
        warn(f"{source} could not be put beside the code: {describe(error)}", once=f"place {source}")


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path stays in a folder when the links on its way are followed."""
    return path.resolve().is_relative_to(folder.resolve())


def import_path(record: RunRecord, roots: list[list[str]]) -> list[str]:
    """The folder from which the function's module is imported, and that of the script, both in the rebuilt code."""
    function: Mapping[str, Any] = record.function or {}
    found = []
    file, module = str(function.get("file") or ""), module_of(record)
    command = recorded_command(record)
    entry = command.get("entry") if command.get("kind") == "script" else None
    if module and file:
        parts = module.split(".")
        stem = Path(file).with_suffix("")
        names = parts if stem.name != "__init__" else [*parts, "__init__"]
        if list(stem.parts[-len(names) :]) == names and not {"site-packages", "dist-packages"} & set(stem.parts):
            found.append(str(Path(*stem.parts[: -len(names)])))
    found.append(os.path.dirname(entry) if isinstance(entry, str) else str(command.get("cwd") or ""))
    from_variable = str((record.environment.get("variables") or {}).get("PYTHONPATH") or "")
    found += [each for each in from_variable.split(os.pathsep) if each]
    moved = []
    for folder in found:
        inside = [(tree, part) for root, tree in roots if (part := relative(folder, root)) is not None]
        place = os.path.normpath(os.path.join(*inside[0])) if inside else folder
        if os.path.isabs(place):
            moved.append(place)
    return list(dict.fromkeys(moved))


def recorded_command(record: RunRecord) -> dict[str, Any]:
    """The record's ``environment.command``; empty when there is none."""
    command = record.environment.get("command")
    return command if isinstance(command, dict) else {}


def started(record: RunRecord) -> float:
    return record.started_at.timestamp() if record.started_at else 0.0
