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

from runcard._call import module_of
from runcard._conditions import decides, interpreter, variables
from runcard._plan import plan
from runcard._rebuild import build_tree
from runcard._recorded_code import CannotRebuildError, code_of
from runcard._rerun_place import editables, import_path, place_inputs, recorded_command, started, working_folder
from runcard._verdict import Tolerance, Verdict, compare_runs, failed
from runcard.errors import StoreError, describe, warn
from runcard.events import mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard._plan import Plan
    from runcard.record import RunRecord


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
    _keep(verdict, record, made, home, store)
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
    roots += editables(record, scratch, root)
    cwd = working_folder(record, roots, scratch)
    place_inputs(record, planned, roots, cwd)
    function = dict(record.function) if record.function is not None else None
    if function is not None:
        function.pop("source", None)
    path = import_path(record, roots) if planned.how == "function" else []
    return {
        "run_id": record.run_id,
        "how": planned.how,
        "roots": roots,
        "path": path,
        "cwd": str(cwd),
        "function": function,
        "module": module_of(record) if function is not None else None,
        "config": mark(planned.config),
        "config_types": record.config_types,
        "command": record.environment.get("command"),
        "experiment": record.experiment if planned.how == "command" else None,
        "nth": _nth(record) if planned.how == "command" else 0,
        "seed": record.seed or {},
        "changes": mark(planned.changes),
        "report": str(scratch / "made.json"),
    }


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
        if (started(each), each.run_id) < (started(record), record.run_id)
    ]
    return len(earlier)


def _qualname(record: RunRecord) -> str | None:
    return record.function.get("qualname") if record.function is not None else None


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


def _keep(verdict: Verdict, record: RunRecord, made: RunRecord | None, home: Any, store: Any) -> None:
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
            else:  # the original may lie in a database, where no rerun is recorded
                (store if each is record and store is not None else home).append(each.run_id, event)
        except (StoreError, OSError) as error:
            warn(f"the verdict could not be added to {each.short_id}: {describe(error)}")
