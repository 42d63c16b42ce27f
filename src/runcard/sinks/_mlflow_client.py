"""MLflow's own client in a process beside: for databases and folders, and for servers that need its plug-ins.

Imported into the training it would cost seconds of its processor time, print, warn, log and report usage, and its
settings would have to be changed for the user's own MLflow too. The process is started when it is first asked, ends
with this one, and is given its address through a pipe: nobody sees it among the processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.errors import StoreError
from runcard.sinks._mlflow_service import Batch, Found, Gone, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

START_S = 120.0  # MLflow's import and a new database, on a busy machine
ANSWER_S = 60.0
UPLOAD_S = 3_600.0
_ENVIRONMENT = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # the user names a folder: that is the consent it asks for
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # whoever delivers tries again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class ClientService:
    """MLflow's client for one tracking URI."""

    def __init__(self, uri: str, folder: Path | None, secret: str | None) -> None:
        """Take the address; nothing is started yet.

        Args:
            uri: MLflow's tracking URI.
            folder: Where a local database lies.
            secret: The password in the URI, which no message may hold.
        """
        self._uri, self._folder, self._secret = uri, folder, secret
        self._process: subprocess.Popen[str] | None = None
        self._end: weakref.finalize[..., Any] | None = None

    def experiment(self, name: str) -> str:
        """The id of an experiment, made when it is not there."""
        found = self._ask("experiment", name=name)
        if found["deleted"]:
            raise StoreError(f"the experiment {name!r} lies in MLflow's trash: `mlflow experiments restore` it")
        return str(found["id"])

    def experiments(self) -> list[str]:
        """The ids of all."""
        return list(self._ask("experiments"))

    def find(self, experiments: Sequence[str], run_id: str) -> Found | None:
        """The run that carries our id, deleted ones too."""
        found = self._ask("find", experiments=list(experiments), run_id=run_id)
        return None if found is None else Found(**found)

    def create(self, experiment: str, name: str, started: int | None, tags: dict[str, str]) -> Found:
        """A new run."""
        return Found(**self._ask("create", experiment=experiment, name=name, started=started, tags=tags))

    def log(self, run: Found, batch: Batch, *, again: bool) -> None:
        """Add to a run; ``again``: some of it may be there already."""
        self._ask(
            "log",
            run=run.id,
            metrics=list(batch.metrics),
            params=list(batch.params),
            tags=list(batch.tags),
            again=again,
        )

    def update(
        self, run: Found, *, status: str | None = None, ended: int | None = None, name: str | None = None
    ) -> None:
        """Change a run's own fields."""
        self._ask("update", run=run.id, status=status, ended=ended, name=name)

    def delete_tag(self, run: Found, key: str) -> None:
        """Take a tag away; one that is not there is no error."""
        self._ask("delete_tag", run=run.id, key=key)

    def datasets(self, run: Found, datasets: list[dict[str, Any]]) -> None:
        """Add inputs; those that are there change nothing."""
        self._ask("datasets", run=run.id, datasets=datasets)

    def upload(self, run: Found, path: str, source: Path | bytes) -> None:
        """Put a file among the artifacts, or a new one in its place."""
        content = source.decode("utf-8", "replace") if isinstance(source, bytes) else None
        where = str(source.absolute()) if isinstance(source, Path) else None
        self._ask("upload", UPLOAD_S, run=run.id, path=path, source=where, content=content)

    def probe(self) -> None:
        """Reach it; of a local place, see whether it may be written."""
        if self._folder is not None and not os.access(self._folder, os.W_OK | os.X_OK):
            raise StoreError(f"{self._folder} cannot be written")
        self._ask("probe")

    def close(self) -> None:
        """End the process."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _ask(self, do: str, limit_s: float = ANSWER_S, **question: Any) -> Any:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        return self._exchange({"do": do, **question}, limit_s)

    def _start(self) -> None:
        found = find_spec("mlflow")
        if not sys.executable or found is None or found.origin is None:
            raise StoreError("MLflow's client needs a Python interpreter of its own, and there is none to be found")
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("_mlflow_child.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                encoding="utf-8",
                start_new_session=True,  # a Ctrl-C is the training's
            )
        except OSError as error:
            raise StoreError(f"MLflow's client cannot be started: {error}") from None
        self._process = process
        self._end = weakref.finalize(self, _end, process, os.getpid())
        try:
            self._exchange(
                {
                    "do": "open",
                    "uri": self._uri,
                    "folder": str(self._folder) if self._folder is not None else None,
                    "packages": str(Path(found.origin).parent.parent),
                },
                START_S,
            )
        except StoreError:
            self.close()
            raise

    def _exchange(self, question: dict[str, Any], limit_s: float) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise StoreError("MLflow's client was not started")
        timer = threading.Timer(limit_s, process.kill)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):
            line = ""
        finally:
            timer.cancel()
        if not line:
            self.close()
            raise StoreError("MLflow's client ended, or did not answer in time")
        told = json.loads(line)
        if "error" in told:
            raise _error(told["error"], self._clean(told["message"]))
        return told["answer"]

    def _clean(self, message: str) -> str:
        from runcard.redact import Redactor

        if self._secret:
            message = message.replace(self._secret, "[redacted]")
        return Redactor().text(message)[0]


def _error(code: str, message: str) -> StoreError:
    if code == "RESOURCE_DOES_NOT_EXIST":
        return Gone(message)
    return (Refused if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE") else StoreError)(message)


def _end(process: subprocess.Popen[str], owner: int) -> None:
    """Let the process end by itself; in a forked child it is not ours to end."""
    if process.stdin is not None:
        try:
            process.stdin.close()
        except (OSError, ValueError):
            pass  # broken: it has ended
    if os.getpid() != owner:
        process.returncode = 0  # the parent waits for it
        return
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()  # last: a thread that reads holds it until the process is gone
