"""A real MLflow server in a process of its own, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import requests

# MLflow is imported once; each start is a fork that serves, so that a start after a kill takes no seconds.
PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
import uvicorn
from mlflow.server.fastapi_app import app
for line in sys.stdin:
    port = int(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
"""


class Server:
    """One server on the loopback interface, with SQLite and its artifacts in a folder."""

    def __init__(self, folder, port):
        self.folder, self.port = folder, port
        self.address = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
                "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
                "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/artifacts",
                "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
        )
        self._child = None
        self.start()

    def start(self):
        """Serve; return when the first request is answered."""
        print(self.port, file=self._process.stdin, flush=True)
        self._child = int(self._process.stdout.readline())
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
        """Take all away."""
        if self._child is not None:
            self.kill()
        self._process.kill()  # MLflow's own ending takes seconds
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

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
