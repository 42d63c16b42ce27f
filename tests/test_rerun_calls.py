"""Runs run again in a process of their own: what is called, with what, in which code, and what is left alone."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from git_repositories import own_configuration, tree
from rerun_projects import TRAIN, Project, trained

from runcard import open_store, reproduce
from runcard.record import Fields


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """Git as the test has it."""
    return own_configuration(tmp_path, monkeypatch)


def test_a_run_is_run_again_in_its_own_code(tmp_path):
    """The recorded code runs, not the edited one; the result is identical; tree, store and links are as they should."""
    project = trained(tmp_path)
    project.write("train.py", b"raise SystemExit('the code of today')\n")
    before = tree(project.root)
    original = project.latest()
    verdict = project.rerun(ref=original.run_id)
    assert verdict["outcome"] == "identical"
    assert verdict["compared"] == {"metrics": 2, "points": 3, "artifacts": 1}
    assert verdict["artifacts"] == {"weight.txt": "same"}
    assert tree(project.root) == before
    store = open_store(project.store)
    again = store.get(verdict["rerun"])
    assert again.rerun_of == original.run_id
    assert again.metrics == original.metrics
    assert again.environment["git"]["commit"] == original.environment["git"]["commit"]
    for ref in (original.run_id, again.run_id):
        assert [each["outcome"] for each in store.get(ref).verdicts] == ["identical"]
    assert project.rerun(ref=again.run_id)["outcome"] == "identical"  # of a rerun, whose folder is gone


def test_a_changed_setting_is_recorded_and_named(tmp_path):
    """`--set` changes the argument, the verdict says so first, and the exit code is 1."""
    project = trained(tmp_path)
    verdict = project.rerun("--set", "lr=1", code=1)
    assert verdict["outcome"] == "different"
    assert verdict["changes"] == {"lr": 1}
    assert verdict["causes"][0] == {"kind": "setting", "what": "lr was set to 1"}
    again = open_store(project.store).get(verdict["rerun"])
    assert again.config["lr"] == 1.0
    assert again.verdicts[0]["changes"] == {"lr": 1}


def test_without_yes_and_without_a_terminal_nothing_runs(tmp_path):
    """It shows the commit and the patch's size, says what is missing, and exits with 2."""
    project = trained(tmp_path)
    project.write("extra.txt", b"extra\n")
    project.python("train.py")
    done = project.runcard("rerun", "latest", code=2)
    assert project.latest().environment["git"]["commit"][:12] in done.stderr
    assert "bytes of uncommitted changes" in done.stderr
    assert "--yes" in done.stderr
    assert len(open_store(project.store).runs()) == 2


TYPES = b"""\
import datetime, enum
from dataclasses import dataclass, field
from pathlib import Path
from runcard import tracked

class Mode(enum.Enum):
    FAST = "fast"

@dataclass(frozen=True)
class Model:
    sizes: tuple[int, ...] = (3, 4)
    mode: Mode = Mode.FAST
    where: Path = Path("x/y")

@tracked
def f(model, when, *rest, names=frozenset(), table=None, span=None, **more):
    assert type(model) is Model and type(model.sizes) is tuple and model.mode is Mode.FAST
    assert isinstance(model.where, Path) and isinstance(when, datetime.datetime) and when.tzinfo is not None
    assert type(names) is frozenset and table == {1: "a", "1": "b"} and span == datetime.timedelta(1, 2, 3)
    assert rest == (1.5, None) and more == {"extra": [1, 2]} and type(more["extra"]) is list
    return float(sum(model.sizes))

@tracked
def main(cfg: Model):
    return float(cfg.sizes[0])

@tracked
def spread(**config):
    return config["lr"]

@tracked
def placed(cfg, /):
    return cfg["lr"]

class Trainer:
    @classmethod
    @tracked
    def build(cls, depth=2):
        return float(depth)

    @staticmethod
    @tracked
    def fixed(depth=3):
        return float(depth)

    @tracked
    def fit(self, lr=0.5):
        return lr

@tracked
async def later(x=2):
    return float(x)

@tracked
def many(n=3):
    from runcard import log
    for i in range(n):
        log(i=i)
        yield i
"""

CALLS = [
    (
        "f(Model(), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), 1.5, None, names=frozenset('ab'),"
        " table={1: 'a', '1': 'b'}, span=datetime.timedelta(1, 2, 3), extra=[1, 2])"
    ),
    "main(Model(sizes=(7,)))",
    "spread(lr=0.5)",
    "placed({'lr': 0.5})",
    "Trainer.build(4)",
    "Trainer.fixed(5)",
    "Trainer().fit(0.25)",
    "asyncio.run(later(6))",
    "list(many(4))",
]
IDS = ["types", "whole", "spread", "placed", "classmethod", "static", "method", "async", "generator"]


@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_every_kind_of_callable_gets_its_arguments_back(tmp_path, call):
    """Types are made again from the record; methods, coroutines and generators run to their end."""
    project = Project(tmp_path, lib=TYPES)
    project.commit()
    project.python("-c", f"import asyncio, datetime\nfrom lib import *\n{call}")
    record = project.latest()
    assert record.error is None
    verdict = reproduce.rerun(record)
    assert (verdict.outcome, verdict.reason) == ("identical", None)
    assert verdict.compared["metrics"] >= 1


def test_a_script_with_argparse_and_a_block_runs_by_its_command_line(tmp_path):
    """A block has no function: the recorded script runs with its arguments, relative files at hand."""
    script = b"""\
import argparse, random
from pathlib import Path
from runcard import run
parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path)
parser.add_argument("--lr", type=float)
args = parser.parse_args()
print("the program's own output")
for name in ("first", "second"):
    with run(name, config=args, experiment="blocks") as r:
        with run("inner"):
            pass
        r.log(loss=random.random() * args.lr + len(args.data.read_text()))
"""
    project = Project(tmp_path, job=script)
    project.write(".gitignore", b"*.csv\n")
    project.commit()
    project.write("data/train.csv", b"1,2,3\n")
    project.python("job.py", "--data", "data/train.csv", "--lr", "0.5")
    store = open_store(project.store)
    first, second = sorted((run for run in store.runs(experiment="blocks")), key=lambda run: run.started_at)
    assert reproduce.plan(second).how == "command"
    done = project.runcard("rerun", second.run_id, "--yes", "--json")
    verdict = json.loads(done.stdout)
    assert "the program's own output" in done.stderr
    assert verdict["outcome"] == "identical"
    linked = [run for run in store.runs() if run.rerun_of is not None]
    assert [(run.name, run.rerun_of) for run in linked] == [("second", second.run_id)]
    assert "takes no --set" in project.runcard("rerun", first.run_id, "--yes", "--set", "lr=1", code=2).stderr
    assert (project.root / "data" / "train.csv").read_bytes() == b"1,2,3\n"


def test_a_program_that_takes_its_arguments_away_gets_them_back(tmp_path):
    """`sys.argv` may be changed before the run begins: a rerun gives the words of the command line, and their files."""
    project = Project(
        tmp_path,
        job=b"import sys\nfrom runcard import run\nfile = sys.argv.pop(1)\nwith run('j') as r:\n"
        b"    r.log(n=len(open(file).read()), words=len(sys.argv))\n",
    )
    project.commit()
    project.write("ignored.txt", b"abc")
    (project.root / ".git" / "info").mkdir(exist_ok=True)
    (project.root / ".git" / "info" / "exclude").write_text("ignored.txt\n")
    project.python("-X", "dev", "job.py", "ignored.txt", "--x=1")
    assert project.rerun()["outcome"] == "identical"


KINDS = b"""\
import sys
from pathlib import Path
from runcard import tracked
space = {"tracked": tracked}
exec("@tracked\\ndef made(x): return x", space)
class Base:
    @classmethod
    @tracked
    def of_class(cls, x):
        return x
class Derived(Base):
    pass
@tracked
def read(path: Path):
    return len(path.read_text())
if __name__ == "__main__":
    exec(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("call", "how", "said"),
    [
        ("space['made'](2)", "command", "made belongs to no module; its command line is run instead"),
        ("tracked(lambda x: x)(2)", "command", "a lambda has no name to be found by; its command line is run instead"),
        ("Derived.of_class(2)", "function", "the class of the call is not in the record; Base is taken"),
    ],
)
def test_what_cannot_be_called_as_it_was_is_said(tmp_path, call, how, said):
    """A function of no module and a lambda run by their command line; a class method's class is its own."""
    project = Project(tmp_path, job=KINDS)
    project.commit()
    project.python("job.py", call)
    planned = reproduce.plan(project.latest())
    assert (planned.how, [each.why for each in planned.cannot if each.what == "call"]) == (how, [said])
    assert project.rerun()["outcome"] == "identical"


def test_a_rerun_of_a_rerun_whose_inputs_went_with_its_folder_names_the_original(tmp_path):
    """Inputs that no commit has were copied beside the rerun's code, which is gone: the plan says what to run."""
    project = Project(tmp_path, job=KINDS)
    project.write(".gitignore", b"data.txt\n")
    project.commit()
    project.write("data.txt", b"abc")
    project.python("job.py", "read(Path('data.txt'))")
    original = project.latest()
    project.rerun()
    planned = reproduce.plan(project.latest())
    assert f"a rerun's own folder is gone: run {original.short_id} again instead" in [
        each.why for each in planned.cannot
    ]
    assert not any("instead" in each.why for each in reproduce.plan(original).cannot)


def test_a_run_of_a_database_keeps_its_verdict_there(tmp_path):
    """The new run lies in the folder of runs, since a database takes none; both have the verdict."""
    project = trained(tmp_path)
    database = f"sqlite:///{tmp_path}/runs.db"
    original = project.latest()
    project.runcard("sync", str(project.store), database)
    shutil.rmtree(original.folder)
    found = open_store(database)
    verdict = reproduce.rerun(found.get(original.run_id), store=found)
    assert verdict.outcome == "identical"
    made = open_store().get(verdict.rerun)
    for record in (found.get(original.run_id), made):
        assert [each["rerun"] for each in record.verdicts] == [made.run_id]


def test_unseeded_generators_go_on_from_their_recorded_state(tmp_path):
    """Without `seed=`, `random` and numpy start a rerun where they stood when the run began."""
    lib = b"""\
import random
import numpy.random
from runcard import tracked
@tracked
def f():
    return {"a": random.random(), "b": float(numpy.random.rand()), "c": random.gauss()}
"""
    project = Project(tmp_path, lib=lib)
    project.commit()
    project.python("-c", "import lib, random\nrandom.random(); random.gauss()\nlib.f()")
    assert project.rerun()["outcome"] == "identical"


def test_numpy_s_generator_goes_on_though_the_rerun_has_not_loaded_it(tmp_path):
    """It is loaded at its first use, here by lines that a rerun leaves out: its state is put back all the same."""
    project = Project(
        tmp_path,
        job=b"import numpy as np\nfrom runcard import tracked\n@tracked\ndef f():\n    return float(np.random.rand())\n"
        b"if __name__ == '__main__':\n    np.random.rand(3)\n    f()\n",
    )
    project.commit()
    project.python("job.py")
    assert project.rerun()["outcome"] == "identical"


def test_an_unseeded_generator_of_its_own_is_the_last_cause(tmp_path):
    """What nothing records cannot be had: the verdict is different and says what is left."""
    lib = b"""\
import numpy
from runcard import tracked
@tracked
def f():
    return float(numpy.random.default_rng().random())
"""
    project = Project(tmp_path, lib=lib)
    project.commit()
    project.python("-c", "import lib\nlib.f()")
    verdict = project.rerun(code=1)
    assert verdict["outcome"] == "different"
    assert [cause["kind"] for cause in verdict["causes"]] == ["seed"]


def test_a_changed_input_does_not_stop_it_and_is_named(tmp_path):
    """The rerun takes the file as it is, differs, and names it as the likeliest cause."""
    project = Project(tmp_path, train=TRAIN)
    project.commit()
    data = tmp_path / "outside.csv"
    data.write_text("1,2\n")
    project.python("-c", f"import pathlib, train; train.train(pathlib.Path({str(data)!r}))")
    data.write_text("1,2,3,4\n")
    verdict = project.rerun(code=1)
    assert verdict["outcome"] == "different"
    assert verdict["causes"][0]["kind"] == "input"
    assert "outside.csv" in verdict["causes"][0]["what"]


def test_a_rerun_that_fails_says_so(tmp_path):
    """A missing input makes the code raise: failed, with the error, exit code 1."""
    project = Project(tmp_path, train=TRAIN)
    project.commit()
    data = tmp_path / "outside.csv"
    data.write_text("1,2\n")
    project.python("-c", f"import pathlib, train; train.train(pathlib.Path({str(data)!r}))")
    data.unlink()
    verdict = project.rerun(code=1)
    assert verdict["outcome"] == "failed"
    assert "FileNotFoundError" in verdict["reason"]
    assert verdict["causes"][0]["kind"] == "input"


def test_a_run_that_failed_fails_again(tmp_path):
    """The same error at the same place is the same result."""
    lib = b"from runcard import log, tracked\n@tracked\ndef f(x=1):\n    log(a=x)\n    raise ValueError(x)\n"
    project = Project(tmp_path, lib=lib)
    project.commit()
    project.python("-c", "import lib\nlib.f()", code=1)
    assert project.rerun()["outcome"] == "identical"


def test_a_package_installed_editable_from_a_second_repository(tmp_path):
    """Its recorded commit is used, wherever the code of the run imports it from, not what lies there now."""
    other = Project(tmp_path / "other", helper=b"VALUE = 1.0\n")
    other.commit()
    lib = b"from helper import VALUE\nfrom runcard import tracked\n@tracked\ndef f():\n    return VALUE\n"
    project = Project(tmp_path, lib=lib)
    project.commit()
    path = {"PYTHONPATH": str(other.root)}
    project.python("-c", "import lib\nlib.f()", **path)
    record = project.latest()
    commit = other.git("rev-parse", "HEAD").decode().strip()
    editable = {"version": "1", "editable": True, "path": str(other.root), "vcs": "git", "commit": commit}
    packages = {**record.environment["packages"], "helper": editable}
    record = replace(record, environment=Fields({**record.environment, "packages": packages}))
    other.write("helper.py", b"VALUE = 2.0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(other.root))
        verdict = reproduce.rerun(record)
        assert verdict.outcome == "identical"
        packages["helper"] = {**editable, "commit": None}
        assert reproduce.rerun(record).outcome == "different"


def test_a_package_below_src_is_imported_from_the_rebuilt_code(tmp_path):
    """An import path that leads into the user's tree, as an editable install's does, leads into the rebuilt one."""
    project = Project(tmp_path)
    project.write("src/pack/__init__.py", b"")
    project.write("src/pack/value.py", b"VALUE = 1.0\n")
    project.write(
        "src/pack/job.py",
        b"from runcard import tracked\n@tracked\ndef f():\n    from pack.value import VALUE\n    return VALUE\n",
    )
    project.commit()
    path = {"PYTHONPATH": str(project.root / "src")}
    project.python("-c", "import pack.job\npack.job.f()", **path)
    project.write("src/pack/value.py", b"VALUE = 2.0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path["PYTHONPATH"])
        assert reproduce.rerun(project.latest()).outcome == "identical"


@pytest.mark.parametrize(("started", "file"), [("pack.train", "train"), ("pack", "__main__")])
def test_what_a_module_s_name_started_keeps_its_package(tmp_path, started, file):
    """A function of `python -m package.module` is called in its package: relative imports work, nothing is shadowed."""
    project = Project(tmp_path)
    project.write("pack/__init__.py", b"")
    project.write("pack/random.py", b"raise SystemExit('not the standard one')\n")
    project.write("pack/value.py", b"VALUE = 1.5\n")
    program = b"import random\nfrom runcard import tracked\nfrom .value import VALUE\n"
    program += b"@tracked\ndef f(x=1):\n    return x * VALUE\nif __name__ == '__main__':\n    f(2)\n"
    project.write(f"pack/{file}.py", program)
    project.commit()
    project.python("-m", started)
    planned = reproduce.plan(project.latest())
    assert (planned.how, planned.call) == ("function", f"pack.{file}.f(x=2)")
    assert project.rerun()["outcome"] == "identical"


def test_from_a_bare_clone_alone(tmp_path):
    """The run's folder, carried to where only a bare clone of the repository is, is enough."""
    project = trained(tmp_path)
    project.git("clone", "-q", "--bare", str(project.root), str(tmp_path / "bare.git"))
    record = project.latest()
    carried = tmp_path / "carried" / record.run_id
    shutil.copytree(record.folder, carried)
    shutil.rmtree(project.root)
    verdict = reproduce.rerun(open_store(tmp_path).get(str(carried)), repository=tmp_path / "bare.git")
    assert verdict.outcome == "identical"


def test_code_in_no_repository_runs_as_it_is(tmp_path):
    """Without git there is nothing to rebuild: the plan says so, and the file runs where it lies."""
    folder = tmp_path / "plain"
    project = Project(tmp_path)
    folder.mkdir()
    (folder / "train.py").write_bytes(TRAIN)
    (folder / "data.csv").write_text("1,2\n")
    project.python("train.py", cwd=folder)
    found = reproduce.plan(project.latest())
    assert found.possible
    assert any("no git repository" in obstacle.why for obstacle in found.cannot)
    assert reproduce.rerun(project.latest()).outcome == "identical"


def test_resume_auto_begins_a_run_of_its_own(tmp_path):
    """A rerun never goes on with the crashed run that it repeats."""
    lib = b"""\
import os
from runcard import log, tracked
@tracked(resume="auto")
def f(x=1):
    log(a=x)
    os._exit(int(os.environ.get("DIE", 0)))
"""
    project = Project(tmp_path, lib=lib)
    project.commit()
    project.python("-c", "import lib\nlib.f()", code=9, DIE="9")
    record = project.latest()
    verdict = reproduce.rerun(record)
    assert verdict.rerun not in (None, record.run_id)
    assert open_store(project.store).get(record.run_id).attempts[-1].attempt == 1


def test_a_recorded_type_is_never_called_when_it_holds_no_data(tmp_path):
    """`config_types` of a hostile record names functions and classes that do things: none is called."""
    project = trained(tmp_path)
    marker = tmp_path / "ran"
    record = project.latest()
    for kind in ("os:system", "subprocess:Popen", "runcard.store:open_store", "builtins:exec"):
        hostile = replace(record, config={**record.config, "lr": f"touch {marker}"}, config_types={"lr": kind})
        assert reproduce.rerun(hostile).outcome == "failed"
    assert not marker.exists()


def test_a_config_that_names_paths_outside_writes_nothing_there(tmp_path):
    """Inputs and arguments whose paths climb out of the code are not copied to where they lead."""
    project = trained(tmp_path / "a" / "b")
    record = project.latest()
    root = record.environment["git"]["root"]
    name = f"escaped-from-{record.run_id}"
    source = Path(root).parents[1] / name / "secret.csv"  # what two steps up from the recorded code leads to
    source.parent.mkdir()
    source.write_text("1,2,3\n")
    climbing = f"{root}/../../{name}/secret.csv"
    inputs = [*record.inputs, Fields(path=climbing, sha256="0" * 64, bytes=6)]
    config = Fields({**record.config, "data": f"{root}/../../{name}/lost.csv"})
    assert reproduce.rerun(replace(record, inputs=inputs)).outcome == "identical"
    assert reproduce.rerun(replace(record, config=config)).outcome == "failed"
    assert not Path(tempfile.gettempdir(), name).exists()  # two steps up from the rebuilt code


def test_inputs_are_not_copied_through_a_link_of_the_code(tmp_path):
    """A link in the commit that leads out of the code takes no copy of an input."""
    outside = tmp_path / "outside"
    outside.mkdir()
    project = trained(tmp_path)
    (project.root / "door").symlink_to(outside)
    project.commit()
    project.python("train.py")
    record = project.latest()
    (project.root / "door").unlink()
    project.write("door/x.csv", b"1,2\n")
    inputs = [*record.inputs, Fields(path=str(project.root / "door" / "x.csv"), sha256="0" * 64, bytes=4)]
    assert reproduce.rerun(replace(record, inputs=inputs)).outcome == "identical"
    assert list(outside.iterdir()) == []
