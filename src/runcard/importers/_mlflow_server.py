"""An MLflow server, or a database other than SQLite, asked by MLflow's own client, which this file alone imports."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from runcard.errors import MissingExtra, SettingError, StoreError, describe
from runcard.importers import Artifact
from runcard.importers.mlflow import Stored, imported, origin
from runcard.redact import Redactor
from runcard.sinks._mlflow_mapping import RUN_ID
from runcard.sinks.registry import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runcard.importers import Imported

_PAGE = 1_000  # runs a request
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}


def runs(uri: str) -> Iterator[Imported]:
    """The runs that a tracking URI leads to.

    Raises:
        MissingExtra: When MLflow is not installed; `SettingError` for a URI that it does not accept; `StoreError` when
            it cannot be reached.
    """
    with _settings():
        yield from _runs(uri)


def _runs(uri: str) -> Iterator[Imported]:
    source = without_credentials(uri)
    try:
        from mlflow.entities import ViewType
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError:
        message = f'{source} needs MLflow, which is not installed: pip install "runcard[mlflow]"'
        raise MissingExtra(message) from None
    try:
        _ask_databases_once()
        client = MlflowClient(tracking_uri=uri)
        found = []
        for experiment in _all(client.search_experiments, view_type=ViewType.ALL):
            ask = partial(client.search_runs, [experiment.experiment_id], run_view_type=ViewType.ALL)
            found += [(experiment, run) for run in _all(ask, max_results=_PAGE)]
    except MlflowException as error:
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise SettingError(f"MLflow does not accept {source}: {_said(uri, error)}") from None
        raise StoreError(f"{source} cannot be read: {_said(uri, error)}") from None
    except Exception as error:  # of whatever drives the database, which MLflow lets through
        raise StoreError(f"{source} cannot be read: {_said(uri, error)}") from None
    origins = {
        run.info.run_id: origin(run.info.run_id, run.info.start_time, run.data.tags.get(RUN_ID)) for _, run in found
    }
    server = _Server(client, partial(_said, uri), MlflowException)
    for experiment, run in sorted(found, key=lambda pair: pair[1].info.start_time or 0):
        yield imported(server.stored(experiment, run), source, origins)


@contextmanager
def _settings() -> Iterator[None]:
    """Settings of MLflow's client, where the user has none: as delivered it tries a dead server for four minutes."""
    added = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _ask_databases_once() -> None:
    """As delivered, MLflow tries one that is not there ten times, for 100 seconds."""
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 1


def _all(ask: Any, **options: Any) -> list[Any]:
    """Every page of what a search gives."""
    page = ask(**options)
    found = list(page)
    while page.token:
        page = ask(**options, page_token=page.token)
        found += page
    return found


class _Server:
    """Asks for what a run has, when it is wanted: a run that is here already costs no request of its own."""

    def __init__(self, client: Any, said: Callable[[BaseException], str], failure: type[Exception]) -> None:
        self._client, self._said, self._failure = client, said, failure

    def stored(self, experiment: Any, run: Any) -> Stored:
        """One run."""
        outputs = getattr(run, "outputs", None)
        models = len(getattr(outputs, "model_outputs", None) or ())
        inputs = getattr(run, "inputs", None)
        return Stored(
            id=run.info.run_id,
            name=run.info.run_name,
            experiment=experiment.name,
            status=run.info.status,
            start_ms=run.info.start_time,
            end_ms=run.info.end_time,
            user=run.info.user_id,
            deleted="deleted" in (run.info.lifecycle_stage, experiment.lifecycle_stage),
            tags=dict(run.data.tags),
            params=dict(run.data.params),
            metrics=partial(self._history, run),
            datasets=[_dataset(each) for each in getattr(inputs, "dataset_inputs", None) or ()],
            artifacts=self._artifacts(run),
            uri=run.info.artifact_uri,
            left_out={"logged models": models} if models else {},
        )

    def _history(self, run: Any) -> Iterator[tuple[str, int, float, int]]:
        for name in run.data.metrics:
            for metric in self._asked("get_metric_history", run.info.run_id, name):
                yield metric.key, metric.timestamp, metric.value, metric.step

    def _artifacts(self, run: Any, below: str | None = None) -> Iterator[Artifact]:
        """The files of a run, folder by folder; each is fetched when it is to be copied."""
        for entry in self._asked("list_artifacts", run.info.run_id, below):
            if entry.is_dir:
                yield from self._artifacts(run, entry.path)
            else:
                yield Artifact(
                    entry.path,
                    uri=f"{run.info.artifact_uri.rstrip('/')}/{entry.path}",
                    fetch=partial(self._fetch, run.info.run_id, entry.path),
                    bytes=entry.file_size,
                )

    def _fetch(self, run_id: str, name: str, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="runcard-import-") as folder:
            shutil.move(self._asked("download_artifacts", run_id, name, folder), path)

    def _asked(self, what: str, *arguments: Any) -> Any:
        """What the client answers. Raises `OSError`, without credentials."""
        try:
            return getattr(self._client, what)(*arguments)
        except self._failure as error:
            raise OSError(self._said(error)) from None


def _dataset(given: Any) -> dict[str, Any]:
    dataset = given.dataset
    context = next((tag.value for tag in given.tags or () if tag.key == "mlflow.data.context"), None)
    told = {"name": dataset.name, "digest": dataset.digest, "source": dataset.source, "context": context}
    return {**told, "source_type": dataset.source_type}


def _said(uri: str, error: BaseException) -> str:
    """An error's text, in which the URI stands without its credentials."""
    return Redactor().text(describe(error).replace(uri, without_credentials(uri)))[0]
