"""A real MLflow server in a process of its own, that can be killed and started again; and a run to send to it."""

from __future__ import annotations

import atexit
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing

import requests

from runcard import run
from runcard.journal import Reading

# MLflow is imported once; each start of a server is a fork that serves, so that it takes no seconds.
PROGRAM = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import uvicorn
from mlflow.server.fastapi_app import app
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever was killed is gone
children = []
for line in sys.stdin:
    port, folder = line.rstrip("\\n").split(" ", 1)
    child = os.fork()
    if child == 0:
        os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = f"{folder}/artifacts"
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error")
        os._exit(0)
    children.append(child)
    print(child, flush=True)
for child in children:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
os._exit(0)  # MLflow's own ending takes seconds
"""
_forks = []  # the process that serves, once there is one


def _forking():
    """The process that has MLflow imported; it ends with the tests, when its standard input does."""
    if not _forks:
        settings = {
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **settings},
        )
        _forks.append(process)
        atexit.register(_end, process)
    return _forks[0]


def _end(process):
    process.stdin.close()
    process.wait()
    process.stdout.close()


class Server:
    """One server on the loopback interface, with SQLite and its artifacts in a folder."""

    def __init__(self, folder):
        self.folder = folder
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._child = None
        self.start()

    def start(self):
        """Serve; return when the first request is answered."""
        process = _forking()
        print(self.port, self.folder, file=process.stdin, flush=True)
        self._child = int(process.stdout.readline())
        for _ in range(600):
            try:
                self.ask("experiments/search", max_results=1)
            except (requests.RequestException, AssertionError):
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the server does not answer")

    def kill(self):
        """SIGKILL."""
        os.kill(self._child, signal.SIGKILL)
        self._child = None

    def stop(self):
        """Take it away."""
        if self._child is not None:
            self.kill()

    def ask(self, what, **body):
        """What MLflow's REST interface answers."""
        answer = requests.post(f"{self.address}/api/2.0/mlflow/{what}", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, what, **parameters):
        """The same, of what is asked for by GET."""
        answer = requests.get(f"{self.address}/api/2.0/mlflow/{what}", params=parameters, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def runs(self, experiment, clause="", view="ACTIVE_ONLY"):
        """The runs of an experiment by name, as `Seen`, oldest first."""
        found = self.get("experiments/get-by-name", experiment_name=experiment)["experiment"]
        answer = self.ask(
            "runs/search",
            experiment_ids=[found["experiment_id"]],
            filter=clause,
            run_view_type=view,
            order_by=["start_time ASC"],
        )
        return [Seen(self, run) for run in answer.get("runs", [])]


class Seen:
    """A run as the server shows it."""

    def __init__(self, server, run):
        self._server = server
        self.info = run["info"]
        data = run.get("data", {})
        self.params = {entry["key"]: entry["value"] for entry in data.get("params", [])}
        self.tags = {entry["key"]: entry["value"] for entry in data.get("tags", [])}
        self.metrics = {entry["key"]: entry["value"] for entry in data.get("metrics", [])}
        self.inputs = [entry["dataset"] for entry in run.get("inputs", {}).get("dataset_inputs", [])]

    def history(self, key):
        """(step, value, milliseconds) of each point, by step."""
        answer = self._server.get("metrics/get-history", run_id=self.info["run_id"], metric_key=key)
        return sorted((point["step"], point["value"], point["timestamp"]) for point in answer.get("metrics", []))

    def artifacts(self, folder=""):
        """Path → bytes of the content."""
        below = {"path": folder} if folder else {}
        found = {}
        for entry in self._server.get("artifacts/list", run_id=self.info["run_id"], **below).get("files", []):
            if entry["is_dir"]:
                found.update(self.artifacts(entry["path"]))
            else:
                path = f"{self.info['artifact_uri'].removeprefix('mlflow-artifacts:/')}/{entry['path']}"
                answer = requests.get(f"{self._server.address}/api/2.0/mlflow-artifacts/artifacts/{path}", timeout=60)
                found[entry["path"]] = answer.content
        return found


CONFIG = {
    "lr": 0.1,
    "model": {"layers": [1, {"units": 2}], "deep": {"x.y": None, "flag": True}},
    "nan": math.nan,
    "big": 2**70,
    "empty": {},
    "prompt": "é" * 7_000,
    "odd name!": 1,
}


def train(name, url, **options):
    """A run with all that MLflow has a place for."""
    with run("train", experiment=name, config=CONFIG, sinks=["file:", url], **options) as r:
        for step in range(3):
            r.log(loss=1.0 / (step + 1), step=step)
        r.log({"odd": math.nan, "up": math.inf, "down": -math.inf, "acc@1": 0.5, "big": 2**2000}, step=-7)
        r.artifact_path("plots/roc.txt").write_text("a curve")
        r.artifact_path("empty.bin").write_bytes(b"")
        r.log_config({"late": "x"})
        r.tag("better")
        r.keep("good")
    return r


def events_of(r):
    """The events of a run as a sink is given them."""
    return [{**event, "writer": "journal"} for event in Reading(r.folder / "journal.jsonl")]


def until(holds, seconds=60):
    """Wait for what another thread or process does; it fails when that does not come about."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except AssertionError:
            pass  # the experiment is not there yet
        time.sleep(0.05)
    raise AssertionError("it did not come about")
