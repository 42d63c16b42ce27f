"""The rerun itself: the code in a temporary folder, its inputs beside it, a process of its own, then the verdict."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard._call import MAIN
from runcard._plan import decides, interpreter, plan, relative, variables
from runcard._rebuild import CannotRebuildError, build_tree, code_of
from runcard._verdict import Tolerance, Verdict, compare_runs, failed
from runcard.errors import StoreError, describe, warn
from runcard.events import mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runcard._plan import Plan
    from runcard.record import RunRecord

COPY_LIMIT = 1 << 30  # bytes of one input that are copied to where the code looks for it; a larger one is linked to


def rerun(
    record: RunRecord,
    *,
    changes: Mapping[str, Any] | None = None,
    venv: bool = False,
    repository: str | os.PathLike[str] | None = None,
    tolerance: Tolerance | None = None,
    store: Any = None,
    output: int | None = None,
) -> Verdict:
    """Run a recorded run again, in a temporary folder, and compare. This executes the recorded code: ask first.

    Args:
        record: The run.
        changes: Settings to change, by dotted path.
        venv: Install the recorded packages into an environment of its own, instead of using those here.
        repository: A folder or URL that has the commit, instead of the recorded places.
        tolerance: How far metrics may be apart; see `Tolerance`.
        store: Where the new run is recorded and the verdict kept; by default the store the record lies in.
        output: A file descriptor for the program's standard output; by default it is inherited.

    Raises:
        CannotRebuildError: When the plan says that it is not possible, or the code or environment cannot be built.
    """
    planned = plan(record, changes=changes, repository=repository, venv=venv)
    if not planned.possible:
        why = "; ".join(obstacle.why for obstacle in planned.cannot if obstacle.stops)
        raise CannotRebuildError(f"{record.short_id} cannot be run again: {why}")
    tolerance = tolerance or Tolerance()
    home = _store_of(record, store)
    scratch = Path(os.path.realpath(tempfile.mkdtemp(prefix="runcard-rerun-")))
    try:
        told = prepare(record, planned, scratch, repository=repository)
        python = _environment(record, scratch, told) if venv else sys.executable
        code = _run(record, told, scratch, python, home, output)
        report = _report(scratch)
        made = _made(report, home)
        if made is None:
            verdict = failed(record, planned, f"the program ended with exit code {code} and left no record", tolerance)
        else:
            verdict = compare_runs(record, made, planned, tolerance, moved=told["roots"])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _keep(verdict, record, made, home)
    return verdict


def prepare(
    record: RunRecord, planned: Plan, scratch: Path, *, repository: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Build the code, put the inputs where it looks for them, and write down what the child is to do.

    Raises:
        CannotRebuildError: When the code cannot be built.
    """
    tree = scratch / "code"
    git = code_of(record)
    root = str(git.get("root") or "")
    roots: list[list[str]] = []
    if planned.commit is not None or git.get("state") == "no-commits":
        build_tree(record, tree, repository=repository, with_git=True)
        roots.append([root, str(tree)])
        real = os.path.realpath(root)
        if real != root:
            roots.append([real, str(tree)])
    roots += _editables(record, scratch, root)
    cwd = _cwd(record, roots, scratch)
    _place_inputs(record, planned, roots, cwd)
    function = dict(record.function) if record.function is not None else None
    if function is not None:
        function.pop("source", None)
    path = _import_path(record, roots) if planned.how == "function" else []
    return {
        "run_id": record.run_id,
        "how": planned.how,
        "roots": roots,
        "path": path,
        "cwd": str(cwd),
        "function": function,
        "config": mark(planned.config),
        "config_types": record.config_types,
        "command": record.environment.get("command"),
        "experiment": record.experiment if planned.how == "command" else None,
        "nth": _nth(record) if planned.how == "command" else 0,
        "seed": record.seed or {},
        "changes": mark(planned.changes),
        "report": str(scratch / "made.json"),
    }


def _editables(record: RunRecord, scratch: Path, root: str) -> list[list[str]]:
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


def _cwd(record: RunRecord, roots: list[list[str]], scratch: Path) -> Path:
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


def _place_inputs(record: RunRecord, planned: Plan, roots: list[list[str]], cwd: Path) -> None:
    """Put files that the code will look for beside it, and that no commit has, where it will look.

    They are copies: what the rerun writes to them does not reach the user's own.
    """
    recorded_cwd = str(recorded_command(record).get("cwd") or "")
    moves = [*roots, [recorded_cwd, str(cwd)]] if recorded_cwd else roots
    inputs = [entry["path"] for entry in planned.inputs]
    started = _started(record)
    for path in dict.fromkeys([*inputs, *_paths(record, planned, recorded_cwd)]):
        for root, folder in moves:
            inside = relative(path, root)
            if inside is None:
                continue
            if inside != "." and _is_inside(Path(folder, inside), Path(folder)):
                _copy(Path(path), Path(folder, inside), started, link=path in inputs)
            break


def _paths(record: RunRecord, planned: Plan, cwd: str) -> Iterator[str]:
    """Absolute paths that the arguments name, relative ones taken from the recorded working directory."""
    texts = list(_texts(planned.config))
    if planned.how == "command":
        argv = recorded_command(record).get("argv") or ()
        texts += [str(word).partition("=")[2] or str(word) for word in argv][1:]
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


def _copy(source: Path, target: Path, started: float, *, link: bool) -> None:
    """Copy a file, or the files of a folder that were there when the run began; what is there already stays."""
    try:
        if source.is_dir():
            for found in source.rglob("*"):
                place = target / found.relative_to(source)
                if found.is_file() and not found.is_symlink() and found.stat().st_mtime < started:
                    _copy(found, place, started, link=link)
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


def _import_path(record: RunRecord, roots: list[list[str]]) -> list[str]:
    """The folder from which the function's module is imported, and that of the script, both in the rebuilt code."""
    function: Mapping[str, Any] = record.function or {}
    found = []
    file, module = str(function.get("file") or ""), str(function.get("module") or "")
    command = recorded_command(record)
    entry = command.get("entry") if command.get("kind") == "script" else None
    if module and module not in MAIN and file:
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


def _nth(record: RunRecord) -> int:
    """How many runs of the same function and experiment the recorded process had made before this one."""
    if record.folder is None or not record.attempts:
        return 0
    from runcard.store import open_store

    alive = record.attempts[0].get("alive")
    qualname = _qualname(record)
    earlier = [
        each
        for each in open_store(Path(record.folder).parent).runs(experiment=record.experiment)
        if each.attempts and each.attempts[0].get("alive") == alive and each.run_id != record.run_id
        if _qualname(each) == qualname
        if (_started(each), each.run_id) < (_started(record), record.run_id)
    ]
    return len(earlier)


def recorded_command(record: RunRecord) -> dict[str, Any]:
    """The record's ``environment.command``; empty when there is none."""
    command = record.environment.get("command")
    return command if isinstance(command, dict) else {}


def _qualname(record: RunRecord) -> str | None:
    return record.function.get("qualname") if record.function is not None else None


def _started(record: RunRecord) -> float:
    return record.started_at.timestamp() if record.started_at else 0.0


def _run(record: RunRecord, told: dict[str, Any], scratch: Path, python: str, home: Any, output: int | None) -> int:
    instructions = scratch / "rerun.json"
    instructions.write_text(json.dumps(told), "utf-8")
    flags = _flags(record) if told["how"] == "command" else []
    command = [python, *flags, "-P", "-m", "runcard._rerun_child", str(instructions)]
    environment = _variables(record, told, scratch, home)
    with subprocess.Popen(command, cwd=told["cwd"], env=environment, stdout=output) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # the program gets it too, and ends as it likes
            except BaseException:
                process.kill()
                raise


def _flags(record: RunRecord) -> list[str]:
    """The interpreter's own options of the recorded command line: ``-O``, ``-X dev``, ``-W error``."""
    command = recorded_command(record)
    flags: list[str] = []
    words = iter([str(word) for word in command.get("orig_argv") or ()][1:])
    for word in words:
        if not word.startswith("-") or word == "-" or word.startswith("--") or word[1] in "cmiq":
            break
        flags.append(word)
        if word in ("-X", "-W"):
            flags.append(next(words, ""))
    return [flag for flag in flags if flag not in ("-", "-P")]


def _variables(record: RunRecord, told: dict[str, Any], scratch: Path, home: Any) -> dict[str, str]:
    """The environment of the child: this one's, with the variables that decide results as they were."""
    own = ("RUNCARD_DISABLED", "RUNCARD_PARENT", "RUNCARD_RESUME", "RUNCARD_SINKS", "RUNCARD_DIR", "RUNCARD_RERUN_OF")
    launch = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in own and name not in launch and not (decides(name) and name not in ("LANG", "LC_ALL", "TZ"))
    }
    kept |= variables(record)
    root = home.root if home is not None and home.root is not None else scratch / "runcards"
    kept["RUNCARD_DIR"] = str(root)
    kept["RUNCARD_SINKS"] = "file:"
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    shim = told.get("shim")
    if shim:
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (kept.get("PYTHONPATH"), shim)))
    return kept


def _environment(record: RunRecord, scratch: Path, told: dict[str, Any]) -> str:
    """A virtual environment with the recorded packages; its interpreter.

    Raises:
        CannotRebuildError: With pip's last words.
    """
    from runcard.capture.packages import requirements

    packages = dict(record.environment.get("packages") or {})
    packages.pop("runcard", None)
    for name in [name for name, what in packages.items() if isinstance(what, dict) and what.get("editable")]:
        packages.pop(name)  # their code is built from their repositories
    listed = scratch / "requirements.txt"
    listed.write_text(requirements(packages), "utf-8")
    folder = scratch / "venv"
    uv = shutil.which("uv")
    wanted = str((record.environment.get("python") or {}).get("version") or "")
    if uv is not None:
        python = ["--python", ".".join(wanted.split(".")[:2])] if re.match(r"3\.\d+", wanted) else []
        _install([uv, "venv", "--quiet", *python, str(folder)])
        _install([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(listed)])
    else:
        _install([interpreter(wanted), "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _install([*pip, "-r", str(listed)])
    shim = scratch / "shim"  # the instrument itself: this one, beside the recorded packages
    shim.mkdir()
    (shim / "runcard").symlink_to(Path(__file__).parent, target_is_directory=True)
    told["shim"] = str(shim)
    return str(folder / "bin" / "python")


def _install(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip()[-500:]
        raise CannotRebuildError(f"the recorded packages could not be installed: {last}")


def _store_of(record: RunRecord, store: Any) -> Any:
    """Where the rerun is recorded: the given store, that of the record's folder, else the setting's."""
    from runcard.identity import is_run_id
    from runcard.store import open_store

    if store is not None and store.root is not None:
        return store
    if record.folder is not None and is_run_id(Path(record.folder).name):
        return open_store(Path(record.folder).parent)
    return open_store()


def _report(scratch: Path) -> dict[str, Any] | None:
    try:
        told = json.loads((scratch / "made.json").read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _made(report: dict[str, Any] | None, home: Any) -> RunRecord | None:
    """The record of the new run."""
    from runcard.sinks.files import read_run

    if report is None:
        return None
    try:
        if report.get("folder"):
            return read_run(Path(report["folder"]), report["run_id"])
        found = home.get(report["run_id"])
    except (OSError, StoreError):
        return None
    return found if found is None or hasattr(found, "run_id") else None


def _keep(verdict: Verdict, record: RunRecord, made: RunRecord | None, home: Any) -> None:
    """Append the verdict to both runs; where one cannot be written to, it is said."""
    from runcard.sinks.files import FilesSource

    event = {"kind": "verdict", **verdict.event()}
    for each in (record, made):
        if each is None:
            continue
        try:
            if each.folder is not None and Path(each.folder).name == each.run_id:
                from runcard.store import Store

                Store(FilesSource(Path(each.folder).parent)).append(each.run_id, event)
            else:
                home.append(each.run_id, event)
        except (StoreError, OSError) as error:
            warn(f"the verdict could not be added to {each.short_id}: {describe(error)}")
