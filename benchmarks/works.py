"""What is measured: each work does one trial for one subject, and gives samples for one row or more."""

from __future__ import annotations

import ast
import os
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Extent, OutOfTimeError, Subject, WorkFailedError, bytes_below, end, folder_of_its_own
from benchmarks.results import Samples
from benchmarks.stores import make_repository, make_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Trial = dict[str, Samples]
_OWN = "runcard"


def in_milliseconds(seconds: list[float]) -> list[float]:
    """Seconds in the unit of most rows."""
    return [value * 1e3 for value in seconds]


@dataclass(frozen=True)
class Work:
    """A trial, how often it is repeated, and how long that may take.

    Attributes:
        key: Its name for ``--only``.
        trial: Does it once.
        rounds: How many trials in the full mode, and in the quick one.
        budget_s: Seconds of the full mode for all trials of all subjects; what is not done then is cut.
        rows: Where it is said that a subject could not do it.
        own: Whether it is for runcard alone.
        without: Subjects that cannot do it and why, or with an empty text those that do the same as another.
    """

    key: str
    trial: Callable[[Subject, Extent], Trial]
    rounds: tuple[int, int]
    budget_s: float
    rows: tuple[str, ...] = ()
    own: bool = False
    without: Mapping[str, str] = field(default_factory=dict)


def time_import(subject: Subject, extent: Extent) -> Trial:
    """The interpreter with the import, and the interpreter alone, in turn."""
    text = _module_imports(subject.key)
    found = Samples()
    with folder_of_its_own() as folder:
        for _ in range(3):
            alone = _wall([subject.python, "-c", "pass"], subject, folder, "an empty program")
            whole = _wall([subject.python, "-c", text], subject, folder, "import")
            found.values.append((whole - alone) * 1e3)
            found.raw.append(alone * 1e3)
    return {"import": found}


def time_runs(subject: Subject, extent: Extent) -> Trial:
    """Empty runs in one process."""
    with folder_of_its_own() as folder:
        answer = subject.do("empty_runs", folder, count=_RUNS.get(subject.key, 100))
    return {"empty": Samples(in_milliseconds(answer["runs"]), in_milliseconds(answer["raw"]))}


def time_first_run(subject: Subject, extent: Extent) -> Trial:
    """The first run of a process whose working directory is a repository of 500 files, one of them changed."""
    with folder_of_its_own() as folder:
        repository = make_repository(folder / "repository", files=500, until=subject.until)
        (folder / "runs").mkdir()
        start = time.perf_counter()
        subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True, check=True)
        raw = time.perf_counter() - start
        theirs = replace(subject, worker=repository / "worker.py")
        answer = theirs.do("empty_runs", folder / "runs", cwd=repository, count=0)
    return {"first": Samples([answer["first"] * 1e3], [raw * 1e3])}


def time_log(subject: Subject, extent: Extent) -> Trial:
    """Batches of one scalar, ten scalars and bare writes."""
    with folder_of_its_own() as folder:
        answer = subject.do("logging", folder, batches=_BATCHES.get(subject.key, 40), size=_BATCH.get(subject.key, 25))
    one = _in_microseconds(answer["one"])
    return {
        "log1": Samples(one, _in_microseconds(answer["raw"])),
        "log10": Samples(_in_microseconds(answer["ten"]), one),
    }


def kill_flat_out(subject: Subject, extent: Extent) -> Trial:
    """As fast as it goes for a second."""
    return {"lost": _kill(subject, 0, 1.0)}


def kill_at_pace(subject: Subject, extent: Extent) -> Trial:
    """A hundred steps a second, for three."""
    return {"lost100": _kill(subject, 100, 1.0 if extent.quick else 3.0)}


def weigh(subject: Subject, extent: Extent) -> Trial:
    """Bytes on disk of one run."""
    count = _STEPS.get(subject.key, 10_000)
    with folder_of_its_own() as folder:
        subject.do("steps", folder, count=count, metrics=3)
        found = {"disk": Samples([bytes_below(folder) / count], note=_fewer(count))}
        if subject.key == _OWN:
            journals = [path.stat().st_size for path in folder.rglob("journal*.jsonl")]
            found["journal"] = Samples([sum(journals) / count])
    return found


def run_side_by_side(subject: Subject, extent: Extent) -> Trial:
    """Eight processes begin at once in a store that is not there yet; the raw block is eight that make no run."""
    with folder_of_its_own() as folder:
        raw, _ = _together(subject, folder, 0)
    with folder_of_its_own() as folder:
        took, failed = _together(subject, folder, 25)
        try:
            found = subject.do("count", folder)["found"]
        except OutOfTimeError:
            raise
        except WorkFailedError as error:
            failed, found = failed or subject.reason(error), 0
    missing = Samples([200.0 - found], note=failed)
    return {"parallel": Samples(failures=[failed]) if failed else Samples([took], [raw]), "missing": missing}


def weigh_memory(subject: Subject, extent: Extent) -> Trial:
    """The peak of a run, over the peak of a process with the same imports."""
    count = _STEPS.get(subject.key, 10_000)
    with folder_of_its_own() as folder:
        done = subject.do("steps", folder, count=count, metrics=10)
        bare = subject.do("imports", folder, names=done["imported"])
    return {"memory": Samples([(done["peak"] - bare["peak"]) / 1e6], note=_fewer(count))}


def time_ls(subject: Subject, store: Path, count: int) -> Samples:
    """The whole process of `runcard ls`."""
    found = Samples()
    for _ in range(count):
        alone = _wall([subject.python, "-c", "pass"], subject, store, "an empty program")
        listing = [subject.python, "-m", "runcard", "ls", "--store", os.fspath(store)]
        found.values.append(_wall(listing, subject, store, "runcard ls") * 1e3)
        found.raw.append(alone * 1e3)
    return found


def list_made(subject: Subject, extent: Extent) -> Trial:
    """A thousand runs made by the tracker itself, then its own listing in a new process."""
    with folder_of_its_own(large=True) as folder:
        subject.do("empty_runs", folder, count=999)
        return _listed(subject, folder, 1_000, repeats=2)


def list_copied(subject: Subject, extent: Extent) -> Trial:
    """The same of ten thousand: a hundred runs by the tracker itself, and copies as it would have written them."""
    with folder_of_its_own(large=True) as folder:
        subject.do("empty_runs", folder, count=99)
        if subject.key == _OWN:
            make_store(folder, 9_900, until=subject.until)
        else:
            subject.do("multiply", folder, times=99)
        return _listed(subject, folder, 10_000, repeats=1)


def weigh_installation(subject: Subject, extent: Extent) -> Trial:
    """What an installation brings, by the metadata of the packages themselves."""
    with folder_of_its_own() as folder:
        answer = subject.do("footprint", folder, distribution=DISTRIBUTIONS.get(subject.key, subject.key))
    return {"packages": Samples([float(answer["packages"])]), "megabytes": Samples([answer["bytes"] / 1e6])}


_ASYNC = {"mlflow_async": ""}  # differs from MLflow on SQLite in how it logs
_IMPORT = _ASYNC | {"mlflow_files": ""}
_NOT_ON_DISK = {"opentelemetry": "nothing on disk"}
_NO_QUERY = {
    "wandb": "no query of offline runs before they are synchronised",
    "sacred": "no query: its file observer has none",
    "dvclive": "no query outside a DVC repository",
    "tensorboardx": "no query: it only writes",
    "opentelemetry": "no query: nothing on disk",
}
_SLOW = {"mlflow_files": "10,000 runs would take minutes to make", "aim": "10,000 runs would take minutes to make"}

WORKS = (
    Work("import", time_import, (3, 5), 75, ("import",), without=_IMPORT),
    Work("empty", time_runs, (3, 3), 70, ("empty",), without=_ASYNC),
    Work("first", time_first_run, (2, 5), 70, ("first",), without=_ASYNC),
    Work("log", time_log, (3, 3), 120, ("log1", "log10")),
    Work("lost", kill_flat_out, (2, 1), 90, ("lost",)),
    Work("lost100", kill_at_pace, (2, 1), 150, ("lost100",)),
    Work("bytes", weigh, (1, 1), 50, ("disk",), without=_ASYNC | _NOT_ON_DISK),
    Work("parallel", run_side_by_side, (2, 1), 170, ("parallel",), without=_ASYNC | _NOT_ON_DISK),
    Work("memory", weigh_memory, (1, 1), 80, ("memory",), without=_ASYNC),
    Work("install", weigh_installation, (1, 1), 12, ("packages", "megabytes"), without=_IMPORT),
    Work("query", list_made, (1, 0), 270, ("query1000",), without=_ASYNC | _NO_QUERY),
    Work("query10000", list_copied, (1, 0), 110, ("query10000",), without=_ASYNC | _NO_QUERY | _SLOW),
)

DISTRIBUTIONS = {"mlflow_files": "mlflow", "mlflow_sqlite": "mlflow", "mlflow_async": "mlflow"}
DISTRIBUTIONS |= {"opentelemetry": "opentelemetry-sdk"}
_STEPS = {"mlflow_sqlite": 500, "mlflow_files": 1_000, "dvclive": 1_000, "aim": 2_000}
_RUNS = {"mlflow_sqlite": 8, "mlflow_files": 8, "mlflow_async": 3, "wandb": 5, "aim": 5, "trackio": 30}  # the slow ones
_BATCHES = {"runcard": 200, "sacred": 200, "trackio": 200, "opentelemetry": 200}
_BATCH = {
    "mlflow_sqlite": 5,
    "mlflow_files": 10,
    "mlflow_async": 10,
    "dvclive": 10,
}  # a batch is shorter than a slice of time


def _module_imports(key: str) -> str:
    """What a user's script imports; read, not run, since the tracker is in another virtual environment."""
    source = (Path(__file__).with_name("subjects") / f"{key}.py").read_text("utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "IMPORTS":
            return str(ast.literal_eval(statement.value))
    raise LookupError(f"{key} does not say its imports")


def _fewer(count: int) -> str:
    return "" if count == 10_000 else f"of {count:,} steps"


def _in_microseconds(seconds: list[float]) -> list[float]:
    return [value * 1e6 for value in seconds]


def _wall(command: list[str], subject: Subject, cwd: Path, what: str) -> float:
    start = time.perf_counter()
    subject.finish(subject.start(command, cwd), what)
    return time.perf_counter() - start


def _kill(subject: Subject, rate: float, seconds: float) -> Samples:
    with folder_of_its_own() as folder:
        count = folder / "acknowledged"
        count.write_bytes(bytes(8))
        process = subject.start(subject.command("acknowledge", folder, {"rate": rate}), folder, heard=False)
        try:
            limit = time.monotonic() + min(60.0, subject.left())
            while not any(count.read_bytes()) and time.monotonic() < limit and process.poll() is None:
                time.sleep(0.01)
            time.sleep(seconds)
            process.kill()  # it alone: what it has started may still write what it has
            process.wait()
            acknowledged = int.from_bytes(count.read_bytes(), "little")
            if not acknowledged:
                raise WorkFailedError(f"{subject.title}, a run to kill: failed: no step was acknowledged in a minute")
            try:
                found = subject.do("recovered", folder)
            except OutOfTimeError:
                raise
            except WorkFailedError:
                found = {"steps": 0, "state": "not readable"}
        finally:
            end(process)
    lost = max(0, acknowledged - found["steps"])
    return Samples([float(lost)], note=f"of {acknowledged:,}; shown as {found['state']}")


def _together(subject: Subject, folder: Path, count: int) -> tuple[float, str]:
    """Seconds from the moment when eight processes are ready, and how they failed if they did."""
    command = subject.command("several", folder, {"count": count})
    processes = [subject.start(command, folder) for _ in range(8)]
    words = []
    try:
        while len(list(folder.glob("ready*"))) < 8 and all(process.poll() is None for process in processes):
            if not subject.left():
                raise OutOfTimeError(f"{subject.title}, 8 processes: cut while they began")
            time.sleep(0.01)
        start = time.perf_counter()
        (folder / "go").touch()
        for process in processes:
            try:
                subject.finish(process, "8 processes")
            except OutOfTimeError:
                raise
            except WorkFailedError as error:
                words.append(subject.reason(error))
        return time.perf_counter() - start, f"{len(words)} of {words[0]}" if words else ""
    finally:
        for process in processes:
            end(process)


def _listed(subject: Subject, folder: Path, runs: int, repeats: int) -> Trial:
    answer = subject.do("listing", folder, repeats=repeats)
    if answer["found"] != runs:
        raise WorkFailedError(f"{subject.title}, listing: failed: {answer['found']:,} of {runs:,} runs were found")
    times = in_milliseconds(answer["times"])
    again = {f"again{runs}": Samples(times[1:])} if times[1:] else {}
    return {f"query{runs}": Samples(times[:1]), **again}
