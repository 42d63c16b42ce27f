"""The peers, each in a virtual environment of its own outside the repository."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness import Subject

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A tracker beside runcard.

    Attributes:
        title: How tables call it, with the back end used.
        venv: The virtual environment; peers that differ in their back end alone share one.
        requirements: What pip installs there.
        distribution: The package whose version is told.
    """

    title: str
    venv: str
    requirements: tuple[str, ...]
    distribution: str


PEERS = {
    "mlflow_sqlite": Peer("MLflow, SQLite", "mlflow", ("mlflow",), "mlflow"),
    "mlflow_files": Peer("MLflow, files", "mlflow", ("mlflow",), "mlflow"),
    "mlflow_async": Peer("MLflow, async", "mlflow", ("mlflow",), "mlflow"),
    "wandb": Peer("wandb, offline", "wandb", ("wandb",), "wandb"),
    "aim": Peer("Aim", "aim", ("aim",), "aim"),
    "sacred": Peer("Sacred", "sacred", ("sacred", "setuptools<81"), "sacred"),
    "trackio": Peer("Trackio", "trackio", ("trackio",), "trackio"),
    "dvclive": Peer("DVCLive", "dvclive", ("dvclive",), "dvclive"),
    "tensorboardx": Peer("tensorboardX", "tensorboardx", ("tensorboardX",), "tensorboardX"),
    "opentelemetry": Peer("OpenTelemetry, memory", "opentelemetry", ("opentelemetry-sdk",), "opentelemetry-sdk"),
}


def prepare(names: list[str], folder: Path) -> list[Subject]:
    """Install the peers that are not there yet, one after another; those that cannot be installed are left out."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        sys.exit(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    subjects = []
    for name in names:
        peer = PEERS[name]
        python = folder / peer.venv / "bin" / "python"
        if _version(python, peer) is None:
            print(f"installing {', '.join(peer.requirements)}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", str(folder / peer.venv)], check=True)
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *peer.requirements]
            if subprocess.run(pip, check=False).returncode:
                print(f"{peer.title} cannot be installed here: left out", file=sys.stderr)
                continue
        subjects.append(Subject(name, f"{peer.title} {_version(python, peer)}", str(python)))
    return subjects


def _version(python: Path, peer: Peer) -> str | None:
    """The version installed, if it is."""
    if not python.exists():
        return None
    ask = f"from importlib.metadata import version; print(version({peer.distribution!r}))"
    done = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
