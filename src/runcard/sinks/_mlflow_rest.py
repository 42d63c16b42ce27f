"""An MLflow server over its REST interface: a few requests, each tried once, with a time limit.

MLflow's own client costs a second and more to import, repeats a failed request for minutes, and reports usage; none of
this belongs into a training. The settings it reads for servers (``MLFLOW_TRACKING_USERNAME`` and so on) hold here too.
"""

from __future__ import annotations

import configparser
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from runcard.errors import StoreError
from runcard.sinks._mlflow_service import Batch, Found, Gone, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONNECT_S = 5.0
ANSWER_S = 20.0
UPLOAD_S = 300.0  # until a server that was sent a file says so
_PAGE = 1_000
_DUPLICATE = "RESOURCE_ALREADY_EXISTS"


class RestService:
    """One server.

    Args:
        address: ``http://host:5000``, without credentials, perhaps with a path before MLflow's own.
        user, password: From the URL; None means those that MLflow's client would take.
        client: Gives MLflow's own client, for artifacts that no server takes in its place.
    """

    def __init__(self, address: str, user: str | None, password: str | None, client: Callable[[], Any]) -> None:
        import requests

        self._address = address.rstrip("/")
        self._client = client
        self._session = requests.Session()
        self._failures: tuple[type[Exception], ...] = (requests.RequestException,)
        self._session.auth = _auth(user, password)
        self._session.verify = _verify()
        self._session.cert = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None
        self._session.headers["User-Agent"] = "runcard"

    def experiment(self, name: str) -> str:
        """The id of an experiment, made when it is not there."""
        for _ in range(2):
            try:
                found = self._get("experiments/get-by-name", experiment_name=name)["experiment"]
            except Gone:
                try:
                    return str(self._post("experiments/create", name=name)["experiment_id"])
                except _Duplicate:
                    continue  # another process made it meanwhile
            if found.get("lifecycle_stage") == "deleted":
                raise StoreError(f"the experiment {name!r} lies in MLflow's trash: `mlflow experiments restore` it")
            return str(found["experiment_id"])
        raise StoreError(f"the experiment {name!r} can be neither found nor made")

    def experiments(self) -> list[str]:
        """The ids of all."""
        found: list[str] = []
        token = None
        while True:
            page = self._post("experiments/search", max_results=_PAGE, **({"page_token": token} if token else {}))
            found += [str(entry["experiment_id"]) for entry in page.get("experiments", ())]
            token = page.get("next_page_token")
            if not token:
                return found

    def find(self, experiments: Sequence[str], run_id: str) -> Found | None:
        """The run that carries our id, deleted ones too."""
        answer = self._post(
            "runs/search",
            experiment_ids=list(experiments),
            filter=f"tags.`runcard.run_id` = '{run_id}'",
            run_view_type="ALL",
            max_results=10,
        )
        found = sorted((_found(run) for run in answer.get("runs", ())), key=lambda run: (run.deleted, run.id))
        return found[0] if found else None

    def create(self, experiment: str, name: str, started: int | None, tags: dict[str, str]) -> Found:
        """A new run."""
        answer = self._post(
            "runs/create",
            experiment_id=experiment,
            run_name=name,
            user_id=tags.get("mlflow.user", ""),
            tags=[{"key": key, "value": value} for key, value in tags.items()],
            **({} if started is None else {"start_time": started}),
        )
        return _found(answer["run"])

    def log(self, run: Found, batch: Batch, *, again: bool) -> None:  # noqa: ARG002 - a server's database knows a point again
        """Add to a run; a point that is there already changes nothing."""
        self._post(
            "runs/log-batch",
            run_id=run.id,
            metrics=[
                {"key": key, "value": _json_number(value), "timestamp": at, "step": step}
                for key, value, at, step in batch.metrics
            ],
            params=[{"key": key, "value": value} for key, value in batch.params],
            tags=[{"key": key, "value": value} for key, value in batch.tags],
        )

    def update(
        self, run: Found, *, status: str | None = None, ended: int | None = None, name: str | None = None
    ) -> None:
        """Change a run's own fields."""
        fields = {"status": status, "end_time": ended, "run_name": name}
        self._post("runs/update", run_id=run.id, **{key: value for key, value in fields.items() if value is not None})

    def delete_tag(self, run: Found, key: str) -> None:
        """Take a tag away; one that is not there is no error."""
        try:
            self._post("runs/delete-tag", run_id=run.id, key=key)
        except Gone:
            pass  # it is what was wanted

    def datasets(self, run: Found, datasets: list[dict[str, Any]]) -> None:
        """Add inputs; those that are there change nothing."""
        self._post("runs/log-inputs", run_id=run.id, datasets=[{"tags": [], "dataset": entry} for entry in datasets])

    def upload(self, run: Found, path: str, source: Path | bytes) -> None:
        """Put a file among the artifacts: through the server where it takes them, else as MLflow's client does."""
        scheme, _, rest = run.artifacts.partition(":")
        if scheme in ("http", "https"):
            address = run.artifacts.rstrip("/")
        elif scheme == "mlflow-artifacts":
            split = urlsplit(rest)
            below = split.path.strip("/")
            address = f"{self._address}/api/2.0/mlflow-artifacts/artifacts/{quote(below)}"
            if split.netloc:
                address = f"{urlsplit(self._address).scheme}://{split.netloc}{address[len(_origin(self._address)) :]}"
        else:
            self._client().upload(run, path, source)
            return
        if _origin(address) != _origin(self._address):
            self._client().upload(run, path, source)  # our credentials are for the one server
            return
        target = f"{address}/{quote(path)}"
        if isinstance(source, bytes):
            self._send("PUT", target, data=source, timeout=(CONNECT_S, UPLOAD_S))
            return
        with source.open("rb") as file:
            self._send("PUT", target, data=file, timeout=(CONNECT_S, UPLOAD_S))

    def probe(self) -> None:
        """Ask for experiments, and to write to a run that there is not: a server that forbids writing says so."""
        self._post("experiments/search", max_results=1)
        try:
            self._post("runs/set-tag", run_id="0" * 32, key="runcard.probe", value="")
        except (Gone, Refused):
            pass  # as it should be

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _get(self, what: str, **parameters: Any) -> Any:
        return self._send("GET", f"{self._address}/api/2.0/mlflow/{what}", params=parameters)

    def _post(self, what: str, **body: Any) -> Any:
        return self._send("POST", f"{self._address}/api/2.0/mlflow/{what}", json=body)

    def _send(self, method: str, url: str, **options: Any) -> Any:
        options.setdefault("timeout", (CONNECT_S, ANSWER_S))
        try:
            response = self._session.request(method, url, **options)
            status, text = response.status_code, response.text
        except self._failures as error:
            raise StoreError(f"{self._address} cannot be reached: {_reason(error)}") from None
        if status == 200 and not text.strip():
            return {}
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if status == 200 and isinstance(answer, dict):
            return answer
        raise _error(self._address, status, answer)


class _Duplicate(StoreError):  # noqa: N818 - reads as what happened
    """It is there already."""


def _error(address: str, status: int, answer: Any) -> StoreError:
    """What an answer that is none means."""
    told = answer if isinstance(answer, dict) else {}
    code, message = str(told.get("error_code", "")), str(told.get("message", ""))[:500]
    if status in (401, 403):
        return StoreError(
            f"{address} does not let us in ({status}): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or MLFLOW_TRACKING_TOKEN"
        )
    if code == _DUPLICATE:
        return _Duplicate(message)
    if code == "RESOURCE_DOES_NOT_EXIST":
        return Gone(f"{address}: {message}")
    if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "ENDPOINT_NOT_FOUND") or status in (
        400,
        413,
        422,
    ):
        return Refused(f"{address} refuses it: {message or status}")
    if answer is None:
        return StoreError(f"{address} answers ({status}), but not as an MLflow server")
    return StoreError(f"{address} answers {status} {code}: {message}")


def _found(run: dict[str, Any]) -> Found:
    info, data = run["info"], run.get("data", {})
    return Found(
        id=str(info["run_id"]),
        experiment=str(info["experiment_id"]),
        artifacts=str(info.get("artifact_uri", "")),
        status=str(info.get("status", "")),
        name=str(info.get("run_name", "")),
        deleted=info.get("lifecycle_stage") == "deleted",
        params={entry["key"]: entry.get("value", "") for entry in data.get("params", ())},
        tags={entry["key"]: entry.get("value", "") for entry in data.get("tags", ())},
        steps={entry["key"]: int(entry.get("step", 0)) for entry in data.get("metrics", ())},
    )


def _json_number(value: float) -> float | str:
    """A double in the JSON of protocol buffers, which is strict."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _origin(address: str) -> str:
    split = urlsplit(address)
    return f"{split.scheme}://{split.netloc}"


def _reason(error: Exception) -> str:
    """The last of what an error of the network says of itself: requests wraps them several deep."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[0], BaseException):
        cause = cause.args[0]
    reason = getattr(cause, "reason", None)
    text = str(reason if reason is not None else cause)
    return re.sub(r"^<?HTTPS?Connection\S*( object at \w+|\(.*?\))?>?: ", "", text) or type(error).__name__


def _verify() -> bool | str:
    """As MLflow's client: its variables, which no file of a repository can set."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


def _auth(user: str | None, password: str | None) -> Callable[[Any], Any] | None:
    """The URL's user and password, else those of the variables, else of ``~/.mlflow/credentials``, else a token."""
    stored = configparser.ConfigParser(interpolation=None)
    try:
        stored.read(Path("~/.mlflow/credentials").expanduser(), encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError, RuntimeError):
        pass  # not to be read: as if it were not there
    if user is None:
        name = "mlflow_tracking_username"
        user = os.environ.get(name.upper()) or stored.get("mlflow", name, fallback=None)
        name = "mlflow_tracking_password"
        password = os.environ.get(name.upper()) or stored.get("mlflow", name, fallback=None)
    if user and password:
        from requests.auth import HTTPBasicAuth

        return HTTPBasicAuth(user.encode(), password.encode())
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return _Bearer(token) if token else None


class _Bearer:
    """A token, set where requests would let ``~/.netrc`` go before it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request
