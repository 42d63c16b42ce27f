"""Small projects with runs in them, for the tests of running again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from git_repositories import Repository

from runcard import open_store

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = b"""\
import random
from pathlib import Path
from runcard import artifact_path, log, tracked

@tracked(seed=3)
def train(data: Path = Path(__file__).parent / "data.csv", lr: float = 0.1, epochs: int = 3) -> dict[str, float]:
    weight = 0.0
    for epoch in range(epochs):
        weight += lr * random.random() + len(data.read_text())
        log(loss=weight, step=epoch)
    artifact_path("weight.txt").write_text(repr(weight))
    return {"val": weight}

if __name__ == "__main__":
    import sys
    train(lr=float(sys.argv[1]) if len(sys.argv) > 1 else 0.1)
"""


class Project(Repository):
    """A repository whose programs leave runs in a store outside of it."""

    def __init__(self, folder: Path, **files: bytes) -> None:
        super().__init__(folder / "project")
        self.folder = folder
        self.store = folder / "store"
        for name, content in files.items():
            self.write(f"{name}.py", content)

    def python(self, *arguments, cwd=None, code=0, **variables):
        """Run Python in the project; returns what it printed."""
        environment = {**os.environ, "RUNCARD_DIR": str(self.store), "PYTHONDONTWRITEBYTECODE": "1", **variables}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=cwd or self.root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    def latest(self):
        """The newest run's record."""
        return open_store(self.store).get("latest")

    def runcard(self, *arguments, code=0, cwd=None, **options):
        """Run the command line; returns the finished process."""
        done = subprocess.run(
            [sys.executable, "-m", "runcard", *arguments, "--store", str(self.store)],
            cwd=cwd or self.root,
            env={**os.environ, "RUNCARD_DIR": str(self.store), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            **options,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def rerun(self, *arguments, ref="latest", code=0):
        """``runcard rerun REF --yes --json``; the verdict as data."""
        return json.loads(self.runcard("rerun", ref, "--yes", "--json", *arguments, code=code).stdout)


def trained(folder: Path, **variables) -> Project:
    """A project with one committed training and one run of it."""
    project = Project(folder, train=TRAIN)
    project.write("data.csv", b"1,2,3\n")
    project.commit()
    project.python("train.py", "0.2", **variables)
    return project
