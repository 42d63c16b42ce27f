"""The process beside: MLflow's own client, asked in lines of JSON on standard input, answering on standard output.

Run by its path, not imported: here ``import mlflow`` means the real one, whatever lies beside this file. It ends with
its input. Nothing of runcard is imported.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer one line with one line, until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what MLflow prints goes where nobody looks
    warnings.simplefilter("ignore")
    client: Client | None = None
    for line in sys.stdin:
        question = json.loads(line)
        do = question.pop("do")
        try:
            if do == "open":
                client = Client(**question)
                answer: Any = None
            else:
                answer = getattr(client, do)(**question)
            told = {"answer": answer}
        except Exception as error:  # whatever it is, the asker is told
            told = {"error": _kind(error), "message": f"{type(error).__name__}: {error}"[:2000]}
        answers.write(json.dumps(told) + "\n")
        answers.flush()
    os._exit(0)  # what was answered is written; MLflow's own ending takes its time


class Client:
    """The questions that there are; the arguments and answers are plain data."""

    def __init__(self, uri: str, folder: str | None, packages: str) -> None:
        """Connect.

        Args:
            uri: MLflow's tracking URI.
            folder: Where a database beside which files are kept lies: MLflow keeps them in the working directory.
            packages: Where MLflow is installed, for an interpreter that would not find it.
        """
        if folder is not None:
            os.chdir(folder)
        try:
            import mlflow  # noqa: F401 - whether it is there
        except ImportError:
            sys.path.append(packages)
        from mlflow import MlflowClient

        logging.disable(logging.CRITICAL)
        if uri.startswith(("postgresql", "mysql", "mssql")):
            from mlflow.store.db import utils

            utils.MAX_RETRY_COUNT = 1  # not ten, which take 100 s: whoever delivers tries again
        self._client = MlflowClient(uri)
        self._is_files = uri.startswith("file:")

    def experiment(self, name: str) -> dict[str, Any]:
        """An experiment by name, made when it is not there."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return {"id": self._client.create_experiment(name), "deleted": False}
        return {"id": found.experiment_id, "deleted": found.lifecycle_stage == "deleted"}

    def experiments(self) -> list[str]:
        """The ids of all."""
        found: list[str] = []
        token: str | None = ""
        while token is not None:
            page = self._client.search_experiments(max_results=1000, page_token=token or None)
            found += [experiment.experiment_id for experiment in page]
            token = page.token or None
        return found

    def find(self, experiments: list[str], run_id: str) -> dict[str, Any] | None:
        """The run with our id."""
        from mlflow.entities import ViewType

        found = self._client.search_runs(
            experiments, f"tags.`runcard.run_id` = '{run_id}'", run_view_type=ViewType.ALL, max_results=10
        )
        known = sorted((_told(run) for run in found), key=lambda run: (run["deleted"], run["id"]))
        return known[0] if known else None

    def create(self, experiment: str, name: str, started: int | None, tags: dict[str, str]) -> dict[str, Any]:
        """A new run."""
        return _told(self._client.create_run(experiment, start_time=started, tags=tags, run_name=name))

    def log(self, run: str, metrics: list[Any], params: list[Any], tags: list[Any], *, again: bool) -> None:
        """Add to a run; to a store of files a point that is there already is not added again."""
        from mlflow.entities import Metric, Param, RunTag

        if again and self._is_files:
            metrics = self._without_known(run, metrics)
        self._client.log_batch(
            run,
            metrics=[Metric(key, value, at, step) for key, value, at, step in metrics],
            params=[Param(key, value) for key, value in params],
            tags=[RunTag(key, value) for key, value in tags],
        )

    def update(self, run: str, status: str | None, ended: int | None, name: str | None) -> None:
        """Change a run's own fields."""
        if ended is not None:
            self._client.set_terminated(run, status, ended)
        if name is not None or ended is None:
            self._client.update_run(run, None if ended is not None else status, name)

    def delete_tag(self, run: str, key: str) -> None:
        """Take a tag away."""
        if key in self._client.get_run(run).data.tags:
            self._client.delete_tag(run, key)

    def datasets(self, run: str, datasets: list[dict[str, Any]]) -> None:
        """Add inputs."""
        from mlflow.entities import Dataset, DatasetInput

        self._client.log_inputs(run, [DatasetInput(Dataset(**entry), []) for entry in datasets])

    def upload(self, run: str, path: str, source: str | None, content: str | None) -> None:
        """Put a file among the artifacts."""
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            given = Path(scratch) / name  # under the name that it shall have
            if source is None:
                given.write_text(content or "", encoding="utf-8")
            elif Path(source).name == name:
                given = Path(source)
            else:
                given.symlink_to(source)
            self._client.log_artifact(run, str(given), folder or None)

    def probe(self) -> None:
        """Whether it answers."""
        self._client.search_experiments(max_results=1)

    def _without_known(self, run: str, metrics: list[Any]) -> list[Any]:
        left = []
        known: dict[str, list[Any]] = {}
        for key, value, at, step in metrics:
            if key not in known:
                known[key] = [
                    (repr(point.value), point.timestamp, point.step)
                    for point in self._client.get_metric_history(run, key)
                ]
            if (repr(value), at, step) in known[key]:
                known[key].remove((repr(value), at, step))
            else:
                left.append((key, value, at, step))
        return left


def _told(run: Any) -> dict[str, Any]:
    return {
        "id": run.info.run_id,
        "experiment": run.info.experiment_id,
        "artifacts": run.info.artifact_uri or "",
        "status": run.info.status,
        "name": run.info.run_name or "",
        "deleted": run.info.lifecycle_stage == "deleted",
        "params": dict(run.data.params),
        "tags": dict(run.data.tags),
        "steps": {metric.key: metric.step for metric in run.data._metric_objs},  # noqa: SLF001 - `metrics` has no steps
    }


def _kind(error: Exception) -> str:
    """MLflow's word for what went wrong."""
    text = str(error)
    if "File exists" in text or "Is a directory" in text or "Not a directory" in text:
        return "INVALID_PARAMETER_VALUE"  # in a store of files, metrics `a` and `a/b` cannot both be
    return str(getattr(error, "error_code", ""))


if __name__ == "__main__":
    main()
