"""What a rerun would do, and what of the run cannot be had again: read from the record, running nothing of it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard._call import REDACTED, Obstacle, file_of, how_to_run, parameters
from runcard._paths import look_up, parts
from runcard._rebuild import CannotRebuildError, Objects, code_of, commit_of, left_out, read_patch, why_no_commit
from runcard.errors import SettingError
from runcard.events import mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
    here = {} if venv else _here(recorded)
    inputs = list(_inputs(record, blobs))
    obstacles += [
        Obstacle("input", f"{entry['path']} {_WORDS[entry['state']]}") for entry in inputs if entry["state"] in _WORDS
    ]
    for name, (then, now) in here.items():
        what = "is not installed here" if now is None else f"is {now} here"
        obstacles.append(Obstacle("package", f"{name} {then or ''}".rstrip() + f" {what}"))
    obstacles += _packages(record)
    python = _python(record)
    if python is not None and python != sys.version.split()[0] and not (venv and interpreter(python) != sys.executable):
        obstacles.append(Obstacle("python", f"it ran under Python {python}; this is {sys.version.split()[0]}"))
    seed = dict(record.seed or {})
    obstacles += _seed(seed)
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


def variables(record: RunRecord) -> dict[str, str]:
    """The recorded environment variables that decide results and mean the same on every machine."""
    told = record.environment.get("variables")
    if not isinstance(told, dict):
        return {}
    return {
        str(name): str(value)
        for name, value in told.items()
        if decides(str(name)) and REDACTED not in str(value) and "\0" not in str(value)
    }


def decides(name: str) -> bool:
    """Whether a variable may change a result, and says nothing of one machine's folders and devices."""
    return name in _DECIDING or name.startswith(_DECIDING_PREFIXES)


def interpreter(version: str | None) -> str:
    """The path of a Python of a version's first two numbers; this one, when there is none."""
    import shutil

    minor = ".".join((version or "").split(".")[:2])
    if not minor or minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    return (shutil.which(f"python{minor}") if re.fullmatch(r"3\.\d+", minor) else None) or sys.executable


def versions(record: RunRecord) -> dict[str, str]:
    """The recorded packages with their versions."""
    packages = record.environment.get("packages")
    if not isinstance(packages, dict):
        return {}
    return {
        str(name): str(what.get("version") or "" if isinstance(what, dict) else what) for name, what in packages.items()
    }


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
    return f": {git['error']}" if git.get("error") else ""


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


def relative(path: str, root: str) -> str | None:
    """The part of a path below a folder, with slashes; None when it is not below."""
    if not root:
        return None
    if path == root:
        return "."
    prefix = root.rstrip("/\\") + "/"
    path = path.replace("\\", "/") if os.name == "nt" else path
    inside = path[len(prefix) :] if path.startswith(prefix) else None
    return None if inside is None or ".." in inside.split("/") else inside


def _edited(record: RunRecord, file: str) -> bool:
    """Whether the function's text is no longer in its file."""
    source = record.function.get("source") if record.function is not None else None
    if not isinstance(source, str):
        return False
    try:
        return source not in Path(file).read_text("utf-8", "replace")
    except OSError:
        return True


def _here(recorded: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Recorded packages that are another version here, or missing."""
    from runcard.capture import packages
    from runcard.redact import Redactor

    found = packages.capture(Redactor())
    here = {
        name: str(what.get("version") or "") if isinstance(what, dict) else str(what) for name, what in found.items()
    }
    return {name: (then, here.get(name)) for name, then in recorded.items() if here.get(name) != then}


def _packages(record: RunRecord) -> Iterator[Obstacle]:
    """Packages whose very code no index has: editable installs."""
    packages = record.environment.get("packages")
    git = code_of(record)
    for name, what in packages.items() if isinstance(packages, dict) else ():
        if not isinstance(what, dict) or not what.get("editable") or name == "runcard":
            continue
        path = str(what.get("path") or "")
        if relative(path, str(git.get("root") or "")) is not None:
            continue  # the run's own repository
        if what.get("commit"):
            why = f"{name} was installed editable from {path}; changes that were not committed there are not recorded"
        else:
            why = f"{name} was installed editable from {path}, which is in no repository: it is taken as it is now"
        yield Obstacle("package", why)


def _inputs(record: RunRecord, blobs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    from runcard.capture.inputs import describe

    for entry in record.inputs:
        path, digest = str(entry.get("path")), entry.get("sha256")
        told = {"path": path, "sha256": digest, "bytes": entry.get("bytes")}
        if digest and blobs.get(path) == digest:
            yield {**told, "state": "in the code"}
            continue
        now = describe(path, limit=sys.maxsize if digest else 0)
        if entry.get("missing"):
            state = "same" if now.get("missing") else "changed"
        elif now.get("missing"):
            state = "missing"
        elif digest and now.get("sha256"):
            state = "same" if now["sha256"] == digest else "changed"
        elif entry.get("bytes") is not None and entry.get("mtime"):
            alike = (now.get("bytes"), now.get("mtime")) == (entry.get("bytes"), entry.get("mtime"))
            state = "same" if alike else "changed"
        else:
            state = "unknown"
        yield {**told, "state": state}


def _python(record: RunRecord) -> str | None:
    python = record.environment.get("python")
    version = python.get("version") if isinstance(python, dict) else None
    return version if isinstance(version, str) else None


def _seed(seed: Mapping[str, Any]) -> Iterator[Obstacle]:
    if seed.get("seed") is None and not any(isinstance(seed.get(name), dict) for name in ("random", "numpy", "torch")):
        yield Obstacle("seed", "no seed was set and no generator's state was recorded")


_WORDS = {"changed": "has changed since", "missing": "is not here", "unknown": "has no hash to compare with"}
_DECIDING = frozenset(("PYTHONHASHSEED", "PYTHONUTF8", "PYTHON_GIL", "LANG", "LC_ALL", "LC_NUMERIC", "TZ"))
_DECIDING_PREFIXES = (
    *(
        "OMP_",
        "MKL_",
        "KMP_AFFINITY",
        "OPENBLAS_",
        "BLIS_",
        "GOTO_",
        "VECLIB_",
        "NUMEXPR_",
        "NUMBA_NUM",
        "NUMBA_DISABLE",
    ),
    *(
        "CUBLAS_",
        "CUDNN_",
        "CUDA_LAUNCH",
        "NVIDIA_TF32",
        "TF_CUDNN",
        "TF_DETERMINISTIC",
        "TF_ENABLE",
        "TF_NUM_",
        "XLA_FLAGS",
    ),
    *(
        "JAX_ENABLE_X64",
        "JAX_DEFAULT_MATMUL",
        "JAX_THREEFRY",
        "TORCH_ALLOW_TF32",
        "TORCH_COMPILE_DISABLE",
        "POLARS_MAX",
    ),
    *("RAYON_NUM", "LOKY_MAX", "FLASH_ATTENTION_", "KERAS_BACKEND", "SOURCE_DATE_EPOCH", "MPLBACKEND"),
)
