"""The rerun as a shell script: tried in a fresh clone, and harmless whatever a record holds."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from git_repositories import own_configuration
from rerun_projects import TRAIN, Project, trained

from runcard import open_store, reproduce
from runcard.record import Fields
from runcard.reproduce import CannotRebuildError


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """Git as the test has it."""
    return own_configuration(tmp_path, monkeypatch)


def run_script(script, folder, *arguments, code=0):
    """Run a script with this interpreter, without making an environment; what it printed."""
    path = folder / "again.sh"
    path.write_text(script)
    done = subprocess.run(
        ["sh", str(path), *arguments],
        cwd=folder,
        env={**os.environ, "SKIP_VENV": "1", "PYTHON": sys.executable, "RUNCARD_DIR": str(folder / "again-store")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_fresh_clone_and_the_script_are_enough(tmp_path):
    """Patch, untracked and binary files, typed arguments: the same metrics, without a runcard command."""
    project = Project(tmp_path / "a", train=TRAIN)
    project.write("data.csv", b"1,2,3\n")
    project.commit()
    project.write("train.py", TRAIN.replace(b"weight = 0.0", b"weight = 1.0"))
    project.write("new.bin", bytes(range(256)))
    project.python("train.py", "0.3")
    script = project.runcard("rerun", "latest", "--script").stdout
    assert "runcard rerun" not in script
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0
    clone = tmp_path / "clone"
    project.git("clone", "-q", str(project.root), str(clone))
    run_script(script, clone)
    original, again = project.latest(), open_store(clone / "again-store").get("latest")
    assert again.metrics == original.metrics
    work = clone / f"again-{original.short_id}" / "code"
    assert (work / "new.bin").read_bytes() == bytes(range(256))
    assert again.config["data"] == str(work / "data.csv")


def test_a_command_line_is_run_as_it_was(tmp_path):
    """A block's script runs with its arguments, in its working directory."""
    project = Project(
        tmp_path / "a", job=b"import sys\nfrom runcard import run\nwith run('j') as r:\n    r.log(n=len(sys.argv[1]))\n"
    )
    project.write("sub/keep.txt")
    project.commit()
    project.python("../job.py", "it's a $(word)", cwd=project.root / "sub")
    clone = tmp_path / "clone"
    project.git("clone", "-q", str(project.root), str(clone))
    run_script(reproduce.script(project.latest()), clone, str(project.root), "elsewhere")
    assert open_store(clone / "again-store").get("latest").metrics == {"n": 14}


def test_a_program_that_had_changed_its_folder_is_found(tmp_path):
    """The working directory is that of the run's begin, as Hydra leaves it: the script is named by its own path."""
    program = b"import os, sys\nfrom runcard import run\nos.makedirs('out', exist_ok=True)\nos.chdir('out')\n"
    project = Project(tmp_path / "a", job=program + b"with run('j') as r:\n    r.log(n=len(sys.argv))\n")
    project.commit()
    project.python("-X", "dev", "job.py", "1", "--x=2")
    clone = tmp_path / "clone"
    project.git("clone", "-q", str(project.root), str(clone))
    run_script(reproduce.script(project.latest()), clone)
    assert open_store(clone / "again-store").get("latest").metrics == {"n": 3}


def test_a_module_that_was_started_by_name_keeps_its_package(tmp_path):
    """A function of `python -m package.module` is called with its relative imports working."""
    program = b"from runcard import tracked\nfrom .value import VALUE\n@tracked\ndef f(x=1):\n    return x * VALUE\n"
    project = Project(tmp_path / "a")
    project.write("pack/__init__.py", b"")
    project.write("pack/value.py", b"VALUE = 1.5\n")
    project.write("pack/train.py", program + b"if __name__ == '__main__':\n    f(2)\n")
    project.commit()
    project.python("-m", "pack.train")
    clone = tmp_path / "clone"
    project.git("clone", "-q", str(project.root), str(clone))
    run_script(reproduce.script(project.latest()), clone)
    assert open_store(clone / "again-store").get("latest").metrics == project.latest().metrics == {"result": 3.0}


TYPES = b"""\
import datetime, enum
from dataclasses import dataclass
from pathlib import Path
import numpy.random
import random
from runcard import tracked

class Mode(enum.Enum):
    FAST = "fast"

@dataclass
class Model:
    sizes: tuple = (3, 4)
    mode: Mode = Mode.FAST
    where: Path = Path("x/y")

@tracked
def f(model, when, *rest, names=frozenset(), table=None, span=None, bad=float("nan"), **more):
    assert type(model) is Model and type(model.sizes) is tuple and model.mode is Mode.FAST
    assert isinstance(model.where, Path) and isinstance(when, datetime.datetime)
    assert type(names) is frozenset and table == {1: "a", "1": "b"} and span == datetime.timedelta(1, 2, 3)
    assert rest == (1.5, None) and more == {"extra": [1, 2]} and bad != bad
    return {"a": random.random(), "b": float(numpy.random.rand())}
"""


def test_arguments_and_generators_are_written_out(tmp_path):
    """Types, NaN, starred arguments and the generators' state stand in the script as plain Python."""
    project = Project(tmp_path / "a", lib=TYPES)
    project.commit()
    call = (
        "f(Model(), datetime.datetime(2026, 1, 2), 1.5, None, names=frozenset('ab'), table={1: 'a', '1': 'b'},"
        " span=datetime.timedelta(1, 2, 3), extra=[1, 2])"
    )
    project.python("-c", f"import datetime\nfrom lib import *\n{call}")
    run_script(reproduce.script(project.latest()), tmp_path, str(project.root))
    assert open_store(tmp_path / "again-store").get("latest").metrics == project.latest().metrics


ALONE = b"""\
from runcard import tracked

@tracked
def spread(**config):
    return config["lr"]

@tracked
def placed(cfg, /):
    return cfg["lr"]

@tracked
def mixed(a, b, /, c=1, **more):
    return a + b + c + more["d"]
"""


@pytest.mark.parametrize("call", ["spread(lr=0.5)", "placed({'lr': 0.5})", "mixed(1, 2, d=4)"])
def test_arguments_are_written_as_the_function_takes_them(call, tmp_path):
    """A config that came by keywords goes back by keywords; what is taken by its place alone is given so."""
    project = Project(tmp_path / "a", lib=ALONE)
    project.commit()
    project.python("-c", f"from lib import *\n{call}")
    run_script(reproduce.script(project.latest()), tmp_path, str(project.root))
    assert open_store(tmp_path / "again-store").get("latest").metrics == project.latest().metrics


def test_a_hostile_record_stays_inside_its_quotes(tmp_path):
    """Names, values, paths and remotes of a record run nothing of their own in the script."""
    project = trained(tmp_path / "a")
    marker = tmp_path / "ran"
    evil = f"x'; touch {marker}; $(touch {marker}) `touch {marker}`\n touch {marker} #\nEND_OF_CALL\nEND_OF_PACKAGES"
    record = project.latest()
    environment = {
        **record.environment,
        "packages": {"evil": {"version": evil, "editable": True, "path": evil, "commit": evil}},
        "variables": {"OMP_NUM_THREADS": evil, f"OMP_{evil}": "1"},
        "git": {**record.environment["git"], "remote": evil},
    }
    hostile = replace(
        record,
        name=evil,
        environment=Fields(environment),
        config=Fields({**record.config, "lr": evil}),
        inputs=[*record.inputs, Fields(path=f"/nowhere/{evil}", sha256="0" * 64, bytes=1)],
        metrics=Fields({evil: 1.0}),
    )
    script = reproduce.script(hostile)
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0
    path = tmp_path / "again.sh"
    path.write_text(script)
    environ = {**os.environ, "SKIP_VENV": "1", "PYTHON": sys.executable, "RUNCARD_DIR": str(tmp_path / "s")}
    subprocess.run(["sh", str(path), str(project.root)], cwd=tmp_path, env=environ, capture_output=True)
    assert (tmp_path / f"again-{record.short_id}" / "code" / "train.py").exists()
    assert not marker.exists()


def test_what_has_no_commit_has_no_script(tmp_path):
    """Code of no repository cannot be cloned; the error says why."""
    project = trained(tmp_path / "a")
    record = project.latest()
    git = {"state": "no-repository"}
    with pytest.raises(CannotRebuildError, match="no commit"):
        reproduce.script(replace(record, environment=Fields({**record.environment, "git": git})))
