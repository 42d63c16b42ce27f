"""What a rerun would do, and what of the run cannot be had again: read from the record, running nothing of it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard._call import Obstacle, file_of, how_to_run, parameters
from runcard._conditions import (
    inputs_now,
    interpreter,
    packages_here,
    packages_lost,
    python_of,
    relative,
    seeds_lost,
    variables,
    versions,
)
from runcard._paths import look_up, parts
from runcard._rebuild import Objects
from runcard._recorded_code import CannotRebuildError, code_of, commit_of, left_out, read_patch, why_no_commit
from runcard.errors import SettingError
from runcard.events import mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard.record import RunRecord

BLOB_LIMIT = 100_000_000  # bytes of a committed file that are hashed to see whether it is the recorded input


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rerun of a run would do.

    Attributes:
        run_id, name: The run.
        commit: The commit; None when there is none.
        source: Where the commit is to be had: a folder here, or a remote's URL (which was not asked).
        patch_bytes: The size of the uncommitted changes.
        how: ``function`` (called with its config), ``command`` (the recorded command line), or ``none``.
        call: The call or the command line, to be read.
        changes: Settings to change, by path.
        config: The config with them.
        python: The recorded version of Python.
        packages: Recorded packages: name → version.
        packages_here: Those that are another version here, or missing: name → (recorded, here or None).
        inputs: Files that were read, each with ``path``, ``sha256`` and ``state``: ``same``, ``changed``,
            ``missing``, ``in the code`` (the commit has it as it was), or ``unknown``.
        seed: What was seeded.
        variables: Environment variables that a rerun sets.
        cannot: What cannot be had again, each with why; what stops a rerun first.
    """

    run_id: str
    name: str
    commit: str | None
    branch: str | None
    source: str | None
    patch_bytes: int
    how: str
    call: str
    changes: dict[str, Any]
    config: dict[str, Any]
    python: str | None
    packages: dict[str, str]
    packages_here: dict[str, tuple[str | None, str | None]]
    inputs: list[dict[str, Any]]
    seed: dict[str, Any]
    variables: dict[str, str]
    cannot: list[Obstacle]

    @property
    def possible(self) -> bool:
        """Whether nothing stops a rerun."""
        return not any(obstacle.stops for obstacle in self.cannot)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        told = {name: getattr(self, name) for name in self.__slots__}
        told["cannot"] = [obstacle._asdict() for obstacle in self.cannot]
        told["packages_here"] = {name: list(pair) for name, pair in self.packages_here.items()}
        told["possible"] = self.possible
        marked = mark(told)
        assert isinstance(marked, dict)
        return marked


def plan(
    record: RunRecord,
    *,
    changes: Mapping[str, Any] | None = None,
    repository: str | os.PathLike[str] | None = None,
    venv: bool = False,
) -> Plan:
    """What a rerun of a run would do, and what cannot be had again. Runs nothing of the run, and asks no network.

    Args:
        record: The run.
        changes: Settings to change, by dotted path, as ``--set`` does.
        repository: A folder or URL that has the commit, instead of the recorded places.
        venv: Whether the packages would be installed anew, so that those here do not matter.

    Raises:
        SettingError: When a setting to change is not there.
    """
    obstacles: list[Obstacle] = []
    source, patch_bytes, blobs = _code(record, repository, obstacles)
    config = with_changes(record, dict(changes or {}))
    how, call = how_to_run(record, config, dict(changes or {}), obstacles)
    if record.process_rank is not None:
        obstacles.append(Obstacle("call", "it was a launch of several ranks; it is run again as one process"))
    recorded = versions(record)
    here = {} if venv else packages_here(recorded)
    inputs = list(inputs_now(record, blobs))
    obstacles += [
        Obstacle("input", f"{entry['path']} {_WORDS[entry['state']]}") for entry in inputs if entry["state"] in _WORDS
    ]
    for name, (then, now) in here.items():
        what = "is not installed here" if now is None else f"is {now} here"
        obstacles.append(Obstacle("package", f"{name} {then or ''}".rstrip() + f" {what}"))
    if record.rerun_of and any(entry["state"] == "missing" for entry in inputs):
        obstacles.append(Obstacle("input", f"a rerun's own folder is gone: run {record.rerun_of[-8:]} again instead"))
    obstacles += packages_lost(record)
    python = python_of(record)
    if python is not None and python != sys.version.split()[0] and not (venv and interpreter(python) != sys.executable):
        obstacles.append(Obstacle("python", f"it ran under Python {python}; this is {sys.version.split()[0]}"))
    seed = dict(record.seed or {})
    obstacles += seeds_lost(seed)
    git = code_of(record)
    return Plan(
        run_id=record.run_id,
        name=record.name,
        commit=commit_of(git),
        branch=str(git["branch"]) if git.get("branch") else None,
        source=source,
        patch_bytes=patch_bytes,
        how=how,
        call=call,
        changes=dict(changes or {}),
        config=config,
        python=python,
        packages=recorded,
        packages_here=here,
        inputs=inputs,
        seed={name: value for name, value in seed.items() if not isinstance(value, dict)},
        variables=variables(record),
        cannot=sorted(obstacles, key=lambda obstacle: not obstacle.stops),
    )


def with_changes(record: RunRecord, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config with some settings changed.

    Raises:
        SettingError: For a path that leads nowhere.
    """
    import copy

    config: dict[str, Any] = copy.deepcopy(dict(record.config))
    known = {parameter.name for parameter in parameters(record) or ()}
    for path, value in changes.items():
        steps = (path,) if path in config else parts(path)
        if not steps:
            raise SettingError(f"{path!r} is no setting's path; write lr=0.1, model.depth=3, or layers[0]=64")
        folders = steps[:-1]
        last: Any = steps[-1]
        inner: Any = look_up(config, folders)
        there = isinstance(inner, dict) and (last in inner or (not folders and last in known))
        there = there or (isinstance(inner, list) and type(last) is int and -len(inner) <= last < len(inner))
        if not there:
            names = ", ".join(config) or "none"
            raise SettingError(f"{path!r} is no setting of this run; there are: {names}")
        old = inner[last] if not isinstance(inner, dict) or last in inner else None
        inner[last] = float(value) if type(old) is float and type(value) is int else value
    return config


def _code(
    record: RunRecord, repository: str | os.PathLike[str] | None, obstacles: list[Obstacle]
) -> tuple[str | None, int, Mapping[str, str]]:
    """Where the commit is, the patch's size, and the hashes of the inputs that the code itself contains."""
    git = code_of(record)
    commit = commit_of(git)
    if git.get("state") in (None, "no-repository"):
        where = file_of(record)
        if where is None or not os.path.isfile(where):
            obstacles.append(Obstacle("code", f"{why_no_commit(git)}, and its file is not here", stops=True))
        else:
            obstacles.append(Obstacle("code", f"{why_no_commit(git)}: {where} is run as it is now"))
            if _edited(record, where):
                obstacles.append(Obstacle("code", f"{where} was edited since"))
        return None, 0, {}
    if commit is None and git.get("state") != "no-commits":
        obstacles.append(Obstacle("code", why_no_commit(git), stops=True))
        return None, 0, {}
    obstacles += [Obstacle("code", f"{entry['path']} is not in the record: {entry['why']}") for entry in left_out(git)]
    if git.get("incomplete") and not git.get("left_out"):
        obstacles.append(Obstacle("code", f"the uncommitted changes are incomplete{_edited_modules(git)}"))
    try:
        patch = read_patch(record)
        with Objects(commit) as objects:
            source = objects.find(record, repository, fetch=False) if commit is not None else None
            if source is not None and "://" in source and not source.startswith("file://"):
                return source, len(patch), {}
            index = objects.index(commit, patch) if _is_here(objects, commit) else None
            blobs = _blobs(objects, index, record) if index is not None else {}
    except CannotRebuildError as error:
        obstacles.append(Obstacle("code", str(error), stops=True))
        return None, 0, {}
    return source, len(patch), blobs


def _is_here(objects: Objects, commit: str | None) -> bool:
    return commit is None or (objects.folder / "objects" / "info" / "alternates").exists()


def _edited_modules(git: dict[str, object]) -> str:
    edited = git.get("edited")
    if isinstance(edited, list) and edited:
        return f": {', '.join(map(str, edited[:5]))} was edited after it was imported"
    if git.get("error"):
        return f": {git['error']}"
    return f": git gave no answer ({git['state']})" if git.get("dirty") is None else ""


def _blobs(objects: Objects, index: str, record: RunRecord) -> dict[str, str]:
    """Recorded inputs that lie in the code: path → hash of what the commit and the patch have there."""
    import hashlib

    from runcard.capture.git_program import NoAnswer

    root = str(code_of(record).get("root") or "")
    found: dict[str, str] = {}
    for entry in record.inputs:
        path = str(entry.get("path"))
        inside = relative(path, root)
        if inside is None:
            continue
        try:
            listed = objects.git.run("ls-files", "--stage", "-z", "--", inside, env={"GIT_INDEX_FILE": index})
            if not listed.startswith(b"100"):
                continue
            blob = listed.split()[1].decode("ascii")
            if int(objects.git.run("cat-file", "-s", blob)) <= BLOB_LIMIT:
                found[path] = hashlib.sha256(objects.git.run("cat-file", "blob", blob)).hexdigest()
        except (NoAnswer, ValueError):
            continue
    return found


def _edited(record: RunRecord, file: str) -> bool:
    """Whether the function's text is no longer in its file."""
    source = record.function.get("source") if record.function is not None else None
    if not isinstance(source, str):
        return False
    try:
        return source not in Path(file).read_text("utf-8", "replace")
    except OSError:
        return True


_WORDS = {"changed": "has changed since", "missing": "is not here", "unknown": "has no hash to compare with"}
