"""Where the MLflow sink writes: servers, databases and folders, and how it is let in."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_server import events_of, train, until

from runcard import configure, open_store
from runcard._doctor import examine
from runcard._open_sinks import sink_at
from runcard.errors import MissingExtra, SettingError, StoreError
from runcard.sinks import mlflow, registry

pytestmark = pytest.mark.usefixtures("patient")


def test_the_training_neither_imports_nor_hears_mlflow(mlflow_server, mlflow_url, name, tmp_path):
    """No module of MLflow is loaded, nothing is printed, and its settings are as they were."""
    code = (
        "import os, sys, runcard\n"
        "before = dict(os.environ)\n"
        "with runcard.run('r', experiment=sys.argv[1], sinks=['file:', sys.argv[2]]) as r: r.log(loss=1)\n"
        "assert 'mlflow' not in sys.modules and dict(os.environ) == before\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, name, mlflow_url], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mlflow_server.runs(name)[0].info["status"] == "FINISHED"
    code = "import sys, runcard, runcard.sinks.registry; assert not {'mlflow', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_artifacts_that_the_server_does_not_take(mlflow_server, mlflow_url, name, tmp_path):
    """Where an experiment's artifacts lie elsewhere, MLflow's own client puts them there."""
    mlflow_server.ask("experiments/create", name=name, artifact_location=(tmp_path / "elsewhere").as_uri())
    sink = mlflow.open_sink(mlflow_url)
    r = train(name, "memory:")
    here = open_store(r.folder.parent).get(r.run_id)
    sink.finish(here)
    sink._beside.close()
    (seen,) = mlflow_server.runs(name)
    assert seen.info["status"] == "FINISHED"
    (plot,) = (tmp_path / "elsewhere").rglob("roc.txt")
    assert plot.read_text() == "a curve"
    assert json.loads(next((tmp_path / "elsewhere").rglob("record.json")).read_text())["run_id"] == r.run_id


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_without_a_server(mlflow_server, kind, name, tmp_path, capfd, store):
    """A database and a folder take the same; what is delivered twice is there once."""
    where = f"sqlite:///{mlflow_server.folder}/mlflow.db" if kind == "sqlite" else f"file:{tmp_path}/mlruns"
    r = train(name, f"mlflow:{where}", tags=["quick"])
    sink = sink_at(f"mlflow:{where}", None)  # the one that the run had: a second client would take seconds
    sink.start(store.get(r.run_id))
    sink._runs[r.run_id].delivered = {}  # as if the count had not been written
    sink.extend(r.run_id, events_of(r))
    sink.finish(store.get(r.run_id))
    sink._service.close()
    if kind == "sqlite":
        (seen,) = mlflow_server.runs(name)
        assert (seen.info["status"], seen.params["model.deep.x.y"], seen.tags["quick"]) == ("FINISHED", "None", "true")
        assert [(step, value) for step, value, _ in seen.history("loss")] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
        assert len(seen.history("odd")) == 1
        with closing(sqlite3.connect(mlflow_server.folder / "mlflow.db")) as connection:
            found = connection.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [seen.info["run_id"]])
            artifacts = Path(found.fetchone()[0])
        assert mlflow_server.folder in artifacts.parents
    else:
        (folder,) = (path.parent for path in (tmp_path / "mlruns").glob("*/*/params"))
        artifacts = folder / "artifacts"
        points = (folder / "metrics" / "loss").read_text().splitlines()
        assert [line.split()[1:] for line in points] == [["1.0", "0"], ["0.5", "1"], [repr(1 / 3), "2"]]
        assert [line.split()[1] for line in (folder / "metrics" / "up").read_text().splitlines()] == ["inf"]
        assert (folder / "params" / "model.deep.x.y").read_text() == "None"
        assert (folder / "tags" / "quick").read_text() == "true"
    assert (artifacts / "plots" / "roc.txt").read_text() == "a curve"
    assert (artifacts / "empty.bin").read_bytes() == b""
    assert "prompt" in json.loads((artifacts / "runcard" / "config.json").read_text())
    out, err = capfd.readouterr()
    assert "mlflow" not in (out + err).lower()


def test_the_process_beside_ends_with_ours(tmp_path):
    """Whether the training ends or is killed, MLflow's client ends too."""
    code = (
        "import os, signal, sys\n"
        "from runcard.sinks import mlflow\n"
        "os.makedirs(sys.argv[1], exist_ok=True)\n"
        "sink = mlflow.open_sink('mlflow:file:' + sys.argv[1])\n"
        "sink.probe()\n"
        "print(sink._service._process.pid, flush=True)\n"
        "if sys.argv[2] == 'kill': os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "mlruns")]
    both = [
        subprocess.Popen([*command, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for how in ("end", "kill")
    ]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert err == ""
        until(lambda child=int(out): not _lives(child), 30)


def _lives(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_relative_place_stays_where_it_was_named(tmp_path, monkeypatch):
    """Paths are made absolute at once, and MLflow's variable and default are asked for when none is named."""
    monkeypatch.chdir(tmp_path)
    assert registry.resolve("mlflow:./mlruns").url == f"mlflow:file://{tmp_path}/mlruns"
    assert registry.resolve("mlflow:sqlite:///x.db").url == f"mlflow:sqlite:///{tmp_path}/x.db"
    assert registry.resolve("mlflow:").url == f"mlflow:sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("")
    assert registry.resolve("mlflow:").url == f"mlflow:file://{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ana:hunter2secret@host:5000/prefix")
    assert registry.resolve("mlflow:").url == "mlflow:http://host:5000/prefix"
    assert registry.resolve("mlflow:?diff=1")._address.diff is True
    assert registry.resolve("mlflow:databricks").url == "mlflow:databricks"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mlflow:ftp://host/x", "no store for 'ftp'"),
        ("mlflow:http://", "names no host"),
        ("mlflow:http://host:port", "no valid host and port"),
        ("mlflow:http//host:5000", "lacks a colon after http"),
        ("mlflow:http://host/?verify=0", "settings are diff, experiment, output"),
        ("mlflow:http://host/?diff=maybe", "diff=1"),
        ("mlflow:sqlite://x.db", "names no file"),
        ("mlflow:sqlite:///:memory:", "names no file"),
        ("mlflow:file://ana:hunter2@elsewhere/data", "names a host"),
        ("mlflow:http://ana:hun/ter2@host:5000", "no valid host and port"),
    ],
)
def test_a_bad_url_is_refused_when_it_is_set(url, told):
    """configure() says what is wrong, without connecting and without a password."""
    with pytest.raises(SettingError, match=told) as refused:
        configure(sinks=[url])
    assert "ter2" not in str(refused.value)


def test_a_missing_package_names_the_extra(monkeypatch):
    """Without MLflow, the message says what to install."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'pip install "runcard\[mlflow\]"'):
        configure(sinks=["mlflow:http://host-without-mlflow:5000"])


def test_doctor_says_how_it_stands(mlflow_server, mlflow_url):
    """A server that answers is fine; a wrong address and a wrong password are told apart."""
    assert examine(mlflow_url)[1:3] == (True, "can be reached and written")
    assert not examine("mlflow:http://127.0.0.1:1").fine
    assert "not as an MLflow server" in examine(f"{mlflow_url}/nowhere").said


def test_a_database_that_does_not_answer_is_said_at_once():
    """MLflow's client asks it once, where it would try for 100 seconds; no password is shown."""
    found = examine("mlflow:postgresql+psycopg://ana:hunter2@127.0.0.1:1/runs")
    assert "Connection refused" in found.said
    assert "hunter2" not in f"{found}"


def test_doctor_makes_nothing(tmp_path):
    """Of a database or a folder that is not there yet it is said whether the first run can make it."""
    (tmp_path / "file").touch()
    for place in ("sqlite:///{}/deep/mlflow.db", "{}/deep/mlruns"):
        assert examine(f"mlflow:{place.format(tmp_path)}").fine
        said = examine(f"mlflow:{place.format(tmp_path / 'file')}").said
        assert re.fullmatch(r"\S+/file cannot be written, where ml\S+ would be made", said)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "Basic YW5hOnB3"), ({"MLFLOW_TRACKING_USERNAME": "bo", "MLFLOW_TRACKING_PASSWORD": "x"}, "Basic YW5hOnB3")],
)
def test_credentials_in_the_url_go_before_the_variables(environment, expected, monkeypatch):
    """They are sent as a header, and the request's own URL has none."""
    assert _asked(monkeypatch, "mlflow:http://ana:pw@{host}", environment)["Authorization"] == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "bo", "MLFLOW_TRACKING_PASSWORD": "x"}, "Basic Ym86eA=="),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        ({}, None),
    ],
)
def test_mlflows_own_variables_let_us_in(environment, expected, monkeypatch, tmp_path):
    """User and password, or a token, are those that MLflow's client would send; a wrong one is said."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    (tmp_path / ".netrc").chmod(0o600)
    if expected is None:
        (tmp_path / ".netrc").unlink()
    assert _asked(monkeypatch, "mlflow:http://{host}", environment).get("Authorization") == expected


def _asked(monkeypatch, url, environment):
    """The headers of a request to a server that lets nobody in."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Closed(BaseHTTPRequestHandler):
        def do_POST(self):
            found.append((self.path, dict(self.headers)))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_):
            pass

    found = []
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with HTTPServer(("127.0.0.1", 0), Closed) as answering:
        thread = threading.Thread(target=answering.serve_forever, args=(0.01,))
        thread.start()
        sink = mlflow.open_sink(url.format(host=f"127.0.0.1:{answering.server_port}"))
        try:
            with pytest.raises(StoreError, match="MLFLOW_TRACKING_TOKEN"):
                sink.probe()
        finally:
            answering.shutdown()
            thread.join()
            sink._service.close()
    assert found[0][0] == "/api/2.0/mlflow/experiments/search"
    return found[0][1]


def test_only_a_variable_switches_the_verification_of_certificates_off(monkeypatch):
    """A URL has no setting for it, so that no file of a repository can."""
    assert mlflow.open_sink("mlflow:https://host")._asked._session.verify is True
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/etc/ca.pem")
    assert mlflow.open_sink("mlflow:https://host")._asked._session.verify == "/etc/ca.pem"
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert mlflow.open_sink("mlflow:https://host")._asked._session.verify is False
