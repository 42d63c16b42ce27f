"""One measurement of `benchmarks.sinks`, in a process of its own: runcard into a sink, or the peer's own API.

``python -m benchmarks.sink_worker SUBJECT JSON``; the answer is one line of JSON. The work is the same for all:
runs of 10 config values and one step of 3 metrics, then one run of many steps of 3 metrics.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

CONFIG = {"lr": 1e-3, "width": 64, "depth": 3, "optimizer": "adam", "batch": 32, "epochs": 10, "seed": 7}
CONFIG |= {"dropout": 0.1, "data": "mnist", "warmup": 100}
METRICS = 3


def numbers(step):
    """What is logged at a step."""
    return {"loss": 1 / (step + 1), "accuracy": step / 1e6, "norm": step * 0.25}


def measured(one_run, steps_of_one_run, *, runs, steps):
    """Time a run, and a step up to where the other side has it; the first run is not counted."""
    one_run()
    began = time.perf_counter()
    for _ in range(runs):
        one_run()
    run_s = (time.perf_counter() - began) / runs
    return {"run_s": run_s, "step_s": steps_of_one_run(steps) / steps}


def runcard(url, folder, runs, steps):
    """Runs whose end waits until the sink has all of them."""
    from runcard import _parcels, configure, open_store, run

    os.environ["RUNCARD_DIR"] = str(Path(folder) / "runcards")
    off = [f"-{name}" for name in ("git", "packages", "host", "hardware", "command", "source", "inputs")]
    configure(sinks=["file:", url] if url else ["file:"], deadline=600, capture=off)

    def one_run():
        with run("bench", config=CONFIG) as r:
            r.log(numbers(0), step=0)

    def steps_of_one_run(steps):
        with run("steps", config=CONFIG) as r:
            began = time.perf_counter()
            for step in range(steps):
                r.log(numbers(step), step=step)
        return time.perf_counter() - began

    found = measured(one_run, steps_of_one_run, runs=runs, steps=steps)
    root = Path(os.environ["RUNCARD_DIR"])
    if _parcels.notes(root) or any(record.losses for record in open_store(root).runs()):
        raise SystemExit(f"not all was delivered to {url}")
    return found


def log_alone(url, folder, runs, steps):
    """What `log()` costs the user's thread, with a sink that cannot be reached or with none."""
    from runcard import configure, run

    os.environ["RUNCARD_DIR"] = str(Path(folder) / "runcards")
    configure(sinks=["file:", url] if url else ["file:"], deadline=0.1)
    warnings.simplefilter("ignore")
    count, taken = 10 * steps, 0.0  # long enough for the sink's thread to be in the way
    with run("steps", config=CONFIG) as r:
        time.sleep(min(2.0, steps / 100))  # the sink's packages are imported, once a process, while the run begins
        for step in range(count):
            point = numbers(step)
            began = time.perf_counter()
            r.log(point, step=step)
            taken += time.perf_counter() - began
    return {"log_s": taken / count}


def listing(url, folder, runs, steps):
    """A database of so many runs, listed and ranked: the best of five, since the machine is never idle."""
    import random
    from dataclasses import replace
    from datetime import UTC, datetime, timedelta

    from runcard import configure, open_store, run
    from runcard.sinks.sql import open_sink

    os.environ["RUNCARD_DIR"] = str(Path(folder) / "runcards")
    configure(sinks=["file:"])
    with run("bench", config=CONFIG) as r:
        r.log(numbers(0), step=0)
    pattern = open_store(os.environ["RUNCARD_DIR"]).get(r.run_id)
    chance, sink = random.Random(0), open_sink(url)

    def made(number):
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
        return replace(
            pattern,
            run_id=f"{started:%Y%m%dT%H%M%S}-{number:08d}",
            started_at=started,
            config=type(pattern.config)(pattern.config, lr=chance.random(), seed=number),
            metrics=type(pattern.metrics)({name: chance.random() for name in numbers(0)}),
        )

    for first in range(0, runs, 500):
        sink.take([(made(number), []) for number in range(first, min(first + 500, runs))])
    store = open_store(url)
    asked = {
        "listed_s": store.runs,
        "sorted_s": lambda: store.runs(sort="metrics.loss", limit=20),
        "where_s": lambda: store.runs("config.lr < 0.1 and metrics.loss < 0.1"),
        "ranked_s": lambda: store.rank("loss", "minimize"),
        "first_s": lambda: store.rank("loss", "minimize", limit=20),
    }
    return {name: min(_timed(ask) for _ in range(5)) for name, ask in asked.items()}


def _timed(work):
    began = time.perf_counter()
    found = work()
    taken = time.perf_counter() - began
    if not found:
        raise SystemExit("nothing was found")
    return taken


def sqlite_driver(url, folder, runs, steps):
    """A row a number through the driver, a transaction a step."""
    import sqlite3

    connection = sqlite3.connect(Path(folder) / "driver.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return _driver(connection.execute, "?", runs, steps)


def postgresql_driver(url, folder, runs, steps):
    """The same through psycopg."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        return _driver(connection.execute, "%s", runs, steps)


def _driver(execute, mark, runs, steps):
    execute("CREATE TABLE bench_runs (id TEXT PRIMARY KEY, config TEXT, status TEXT)")
    execute("CREATE TABLE bench_points (run TEXT, name TEXT, step BIGINT, value DOUBLE PRECISION)")
    names = iter(range(10**9))

    def begin():
        run_id = str(next(names))
        execute(f"INSERT INTO bench_runs VALUES ({mark}, {mark}, 'running')", (run_id, json.dumps(CONFIG)))
        return run_id

    def log(run_id, step):
        values = [value for name, number in numbers(step).items() for value in (run_id, name, step, number)]
        row = f"({mark}, {mark}, {mark}, {mark})"
        execute(f"INSERT INTO bench_points VALUES {', '.join([row] * METRICS)}", values)

    def one_run():
        run_id = begin()
        log(run_id, 0)
        execute(f"UPDATE bench_runs SET status = 'finished' WHERE id = {mark}", (run_id,))

    def steps_of_one_run(steps):
        run_id = begin()
        began = time.perf_counter()
        for step in range(steps):
            log(run_id, step)
        return time.perf_counter() - began

    return measured(one_run, steps_of_one_run, runs=runs, steps=steps)


def mlflow(url, folder, runs, steps):
    """MLflow's own calls, a request a step."""
    import mlflow as peer

    peer.set_tracking_uri(url.removeprefix("mlflow:"))
    peer.set_experiment("own")

    def one_run():
        with peer.start_run():
            peer.log_params(CONFIG)
            peer.log_metrics(numbers(0), step=0)

    def steps_of_one_run(steps):
        with peer.start_run():
            began = time.perf_counter()
            for step in range(steps):
                peer.log_metrics(numbers(step), step=step)
        return time.perf_counter() - began

    return measured(one_run, steps_of_one_run, runs=runs, steps=steps)


def wandb(url, folder, runs, steps):
    """W&B's own calls, offline."""
    import wandb as peer

    def begin():
        return peer.init(project="own", mode="offline", dir=folder, config=CONFIG)

    def one_run():
        with begin() as r:
            r.log(numbers(0), step=0)

    def steps_of_one_run(steps):
        with begin() as r:
            began = time.perf_counter()
            for step in range(steps):
                r.log(numbers(step), step=step)
        return time.perf_counter() - began

    return measured(one_run, steps_of_one_run, runs=runs, steps=steps)


def otlp(url, folder, runs, steps):
    """The SDK's spans and gauges: a span a run, exported at its end; an export of the gauges a step."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    base = url.removeprefix("otlp:")
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{base}/v1/traces")))
    tracer = traces.get_tracer("bench")
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{base}/v1/metrics"), 10**9)
    meters = MeterProvider([reader])
    gauges = {name: meters.get_meter("bench").create_gauge(name) for name in numbers(0)}

    def log(step):
        for name, value in numbers(step).items():
            gauges[name].set(value)
        meters.force_flush()

    def one_run():
        with tracer.start_as_current_span("bench", attributes=CONFIG):
            log(0)

    def steps_of_one_run(steps):
        with tracer.start_as_current_span("steps", attributes=CONFIG):
            began = time.perf_counter()
            for step in range(steps):
                log(step)
        return time.perf_counter() - began

    found = measured(one_run, steps_of_one_run, runs=runs, steps=steps)
    meters.shutdown()
    traces.shutdown()
    return found


def s3(url, folder, runs, steps):
    """A folder of the files of a run, put one after the other by s3fs; it has no steps."""
    import s3fs

    from runcard import configure, run

    os.environ["RUNCARD_DIR"] = str(Path(folder) / "runcards")
    off = [f"-{name}" for name in ("git", "packages", "host", "hardware", "command", "source", "inputs")]
    configure(sinks=["file:"], capture=off)
    with run("bench", config=CONFIG) as r:
        r.log(numbers(0), step=0)
    files = [path for path in Path(r.folder).rglob("*") if path.is_file()]
    system = s3fs.S3FileSystem()
    names = iter(range(10**9))

    def one_run():
        prefix = f"{url.removeprefix('s3://')}/own/{next(names)}"
        for path in files:
            system.put_file(str(path), f"{prefix}/{path.name}")

    return {**measured(one_run, lambda _: 0.0, runs=runs, steps=1), "step_s": None}


@contextmanager
def quiet():
    """Keep standard output for the answer: trackers print."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


SUBJECTS = {each.__name__: each for each in (runcard, log_alone, listing, mlflow, wandb, otlp, s3)}
SUBJECTS |= {"sqlite": sqlite_driver, "postgresql": postgresql_driver}


def main():
    subject, told = sys.argv[1], json.loads(sys.argv[2])
    with quiet():
        found = SUBJECTS[subject](told["url"], told["folder"], told["runs"], told["steps"])
    print(json.dumps(found), flush=True)
    with suppress(Exception):
        os._exit(0)  # what the peer's threads still have to do is not ours to wait for


if __name__ == "__main__":
    main()
