"""What is measured: each work does one trial for one subject, and gives samples for one row or more."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Samples, Subject, WorkFailedError, bytes_below, folder_of_its_own
from benchmarks.stores import make_repository, make_store

if TYPE_CHECKING:
    from collections.abc import Callable

Trial = dict[str, Samples]
_OWN = "runcard"


@dataclass(frozen=True)
class Work:
    """A trial and how often it is repeated.

    Attributes:
        key: Its name for ``--only``.
        trial: Does it once.
        rounds: How many trials in the full mode, and in the quick one.
        own: Whether it is for runcard alone.
        without: Subjects that cannot do it, or do the same as another.
    """

    key: str
    trial: Callable[[Subject, bool], Trial]
    rounds: tuple[int, int]
    own: bool = False
    without: tuple[str, ...] = ()


def time_import(subject: Subject, quick: bool) -> Trial:
    """The interpreter with the import, and the interpreter alone, in turn."""
    text = _module_imports(subject.key)
    found = Samples()
    with folder_of_its_own() as folder:
        for _ in range(3):
            alone = _wall([subject.python, "-c", "pass"], subject, folder)
            whole = _wall([subject.python, "-c", text], subject, folder)
            found.values.append((whole - alone) * 1e3)
            found.raw.append(alone * 1e3)
    return {"import": found}


def time_runs(subject: Subject, quick: bool) -> Trial:
    """Empty runs in one process."""
    with folder_of_its_own() as folder:
        answer = subject.do("empty_runs", folder, count=_RUNS.get(subject.key, 30))
    return {"empty": Samples(_times(answer["runs"], 1e3), _times(answer["raw"], 1e3))}


def time_first_run(subject: Subject, quick: bool) -> Trial:
    """The first run of a process whose working directory is a repository of 500 files, one of them changed."""
    with folder_of_its_own() as folder:
        repository = make_repository(folder / "repository", files=500)
        (folder / "runs").mkdir()
        start = time.perf_counter()
        subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True, check=True)
        raw = time.perf_counter() - start
        theirs = replace(subject, worker=repository / "worker.py")
        answer = theirs.do("empty_runs", folder / "runs", cwd=repository, count=0)
    return {"first": Samples([answer["first"] * 1e3], [raw * 1e3])}


def time_log(subject: Subject, quick: bool) -> Trial:
    """Batches of one scalar, ten scalars and bare writes."""
    with folder_of_its_own() as folder:
        answer = subject.do("logging", folder, batches=_BATCHES.get(subject.key, 40), size=_BATCH.get(subject.key, 25))
    one = _times(answer["one"], 1e6)
    return {"log1": Samples(one, _times(answer["raw"], 1e6)), "log10": Samples(_times(answer["ten"], 1e6), one)}


def kill_flat_out(subject: Subject, quick: bool) -> Trial:
    """As fast as it goes for a second."""
    return {"lost": _kill(subject, 0, 1.0)}


def kill_at_pace(subject: Subject, quick: bool) -> Trial:
    """A hundred steps a second, for three."""
    return {"lost100": _kill(subject, 100, 1.0 if quick else 3.0)}


def weigh(subject: Subject, quick: bool) -> Trial:
    """Bytes on disk of one run."""
    count = _STEPS.get(subject.key, 10_000)
    with folder_of_its_own() as folder:
        subject.do("steps", folder, count=count, metrics=3)
        found = {"disk": Samples([bytes_below(folder) / count], note=_fewer(count))}
        if subject.key == _OWN:
            journals = [path.stat().st_size for path in folder.rglob("journal*.jsonl")]
            found["journal"] = Samples([sum(journals) / count])
    return found


def run_side_by_side(subject: Subject, quick: bool) -> Trial:
    """Eight processes begin at once; the raw block is eight processes that do nothing in between."""
    with folder_of_its_own() as folder:
        try:
            raw = _together(subject, folder, 0)
            took = _together(subject, folder, 25)
            found = subject.do("count", folder)["found"]
        except WorkFailedError as error:
            return {"missing": Samples([200.0], note=str(error).splitlines()[-1][-80:])}
    return {"parallel": Samples([took], [raw]), "missing": Samples([200.0 - found])}


def weigh_memory(subject: Subject, quick: bool) -> Trial:
    """The peak of a run, over the peak of a process with the same imports."""
    count = _STEPS.get(subject.key, 10_000)
    with folder_of_its_own() as folder:
        done = subject.do("steps", folder, count=count, metrics=10)
        bare = subject.do("imports", folder, names=done["imported"])
    return {"memory": Samples([(done["peak"] - bare["peak"]) / 1e6], note=_fewer(count))}


def list_own(runs: int) -> Callable[[Subject, bool], Trial]:
    """A store of so many finished runs, listed and ranked; the first listing makes the index."""

    def trial(subject: Subject, quick: bool) -> Trial:
        with folder_of_its_own() as folder:
            make_store(folder, runs)
            subject.do("listing", folder, repeats=1)
            again = subject.do("listing", folder, repeats=6)
            ranked = subject.do("ranking", folder, repeats=6)
            found = {
                f"list{runs}": Samples(_times(again["times"][1:], 1e3)),
                f"rank{runs}": Samples(_times(ranked["times"][1:], 1e3)),
            }
            if runs == 100_000:
                make_store(folder, 1_000, start=runs)
                new = subject.do("listing", folder, repeats=1)
                found["new100000"] = Samples(_times(new["times"], 1e3))
                found["rss100000"] = Samples([again["peak"] / 1e6])
            if runs == 1_000:
                found["ls"] = _whole_ls(subject, folder, 3 if quick else 9)
        return found

    return trial


def list_made(subject: Subject, quick: bool) -> Trial:
    """A thousand runs made by the tracker itself, then its own listing in a new process."""
    with folder_of_its_own() as folder:
        subject.do("empty_runs", folder, count=999)
        first, again = subject.do("listing", folder, repeats=2)["times"]
    return {"query1000": Samples([first * 1e3]), "again1000": Samples([again * 1e3])}


def weigh_installation(subject: Subject, quick: bool) -> Trial:
    """What an installation brings, by the metadata of the packages themselves."""
    with folder_of_its_own() as folder:
        answer = subject.do("footprint", folder, distribution=DISTRIBUTIONS.get(subject.key, subject.key))
    return {"packages": Samples([float(answer["packages"])]), "megabytes": Samples([answer["bytes"] / 1e6])}


WORKS = (
    Work("import", time_import, (3, 5), without=("mlflow_files", "mlflow_async")),
    Work("empty", time_runs, (3, 3), without=("mlflow_async",)),
    Work("first", time_first_run, (2, 5), without=("mlflow_async",)),
    Work("log", time_log, (3, 3)),
    Work("lost", kill_flat_out, (2, 1)),
    Work("lost100", kill_at_pace, (2, 1)),
    Work("bytes", weigh, (1, 1), without=("mlflow_async", "opentelemetry")),
    Work("parallel", run_side_by_side, (2, 1), without=("mlflow_async", "opentelemetry")),
    Work("memory", weigh_memory, (1, 1), without=("mlflow_async",)),
    Work("list1000", list_own(1_000), (3, 1), own=True),
    Work("list10000", list_own(10_000), (1, 1), own=True),
    Work("list100000", list_own(100_000), (1, 0), own=True),
    Work("install", weigh_installation, (1, 1), without=("mlflow_files", "mlflow_async")),
    Work("query", list_made, (1, 0), without=("wandb", "mlflow_async", "opentelemetry")),
)

DISTRIBUTIONS = {"mlflow_files": "mlflow", "mlflow_sqlite": "mlflow", "mlflow_async": "mlflow"}
DISTRIBUTIONS |= {"opentelemetry": "opentelemetry-sdk"}
_STEPS = {"mlflow_sqlite": 500, "mlflow_files": 1_000, "dvclive": 1_000, "aim": 2_000}
_RUNS = {"mlflow_sqlite": 8, "mlflow_files": 8, "mlflow_async": 3, "wandb": 5, "aim": 5}  # the slow ones do fewer
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


def _times(seconds: list[float], unit: float) -> list[float]:
    return [value * unit for value in seconds]


def _wall(command: list[str], subject: Subject, cwd: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=subject.environment(), cwd=cwd, capture_output=True, check=True)
    return time.perf_counter() - start


def _kill(subject: Subject, rate: float, seconds: float) -> Samples:
    with folder_of_its_own() as folder:
        count = folder / "acknowledged"
        count.write_bytes(bytes(8))
        command = subject.command("acknowledge", folder, {"rate": rate})
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=subject.environment(), cwd=folder, **quiet)
        limit = time.monotonic() + 60
        while not any(count.read_bytes()) and time.monotonic() < limit and process.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        acknowledged = int.from_bytes(count.read_bytes(), "little")
        if not acknowledged:
            raise WorkFailedError(f"{subject.title}: no step was acknowledged in a minute")
        try:
            found = subject.do("recovered", folder)
        except WorkFailedError:
            found = {"steps": 0, "state": "not readable"}
    lost = max(0, acknowledged - found["steps"])
    return Samples([float(lost)], note=f"of {acknowledged:,}; shown as {found['state']}")


def _together(subject: Subject, folder: Path, count: int) -> float:
    for old in (*folder.glob("ready*"), *folder.glob("go")):
        old.unlink()
    command = subject.command("several", folder, {"count": count})
    begin = {"env": subject.environment(), "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, **begin) for _ in range(8)]
    while len(list(folder.glob("ready*"))) < 8 and all(process.poll() is None for process in processes):
        time.sleep(0.01)
    start = time.perf_counter()
    (folder / "go").touch()
    said = [process.communicate(timeout=300)[1] for process in processes]
    took = time.perf_counter() - start
    failed = [text for process, text in zip(processes, said, strict=True) if process.returncode]
    if failed:
        last = failed[0].decode(errors="replace").strip().splitlines()[-1:]
        raise WorkFailedError(f"{len(failed)} of 8 processes failed: {' '.join(last)}")
    return took


def _whole_ls(subject: Subject, store: Path, count: int) -> Samples:
    found = Samples()
    for _ in range(count):
        alone = _wall([subject.python, "-c", "pass"], subject, store)
        listing = [subject.python, "-m", "runcard", "ls", "--store", os.fspath(store)]
        found.values.append(_wall(listing, subject, store) * 1e3)
        found.raw.append(alone * 1e3)
    return found
