"""What can be told of a run, and had back of it, without running any of it: plan, verify, restore, code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from git_repositories import own_configuration, tree
from rerun_projects import TRAIN, Project, trained

from runcard import open_store, reproduce
from runcard.record import Fields
from runcard.reproduce import CannotRebuildError


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """Git as the test has it."""
    return own_configuration(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A project with a run, for tests that change nothing in it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("shared")
        own_configuration(folder, patch)
        return trained(folder)


def dirty(folder):
    """A run of a tree with staged, unstaged, untracked and binary changes and a rename; the tree as it was then."""
    project = Project(folder, train=TRAIN)
    project.write("data.csv", b"1,2,3\n")
    project.write("old name.txt", b"renamed\n" * 9)
    project.write("gone.txt", b"gone\n")
    project.commit()
    project.git("mv", "old name.txt", "new name.txt")
    project.write("staged.py", b"staged = 1\n")
    project.git("add", "staged.py")
    (project.root / "gone.txt").unlink()
    project.write("train.py", TRAIN + b"# changed\n")
    project.write("sub/untracked.bin", bytes(range(256)) * 9)
    project.write("run.sh", b"#!/bin/sh\n").chmod(0o755)
    (project.root / "link").symlink_to("train.py")
    project.python("train.py")
    return project, tree(project.root)


def test_plan_names_what_a_rerun_would_do(shared):
    """Commit, call, Python, packages, inputs with their state, and the seed are in the plan, and nothing stops it."""
    found = reproduce.plan(shared.latest())
    assert found.possible
    assert found.commit == shared.git("rev-parse", "HEAD").decode().strip()
    assert found.how == "function"
    assert "lr=0.2" in found.call
    assert found.seed["seed"] == 3
    assert found.packages["numpy"]
    assert [(Path(entry["path"]).name, entry["state"]) for entry in found.inputs] == [("data.csv", "in the code")]
    assert json.loads(json.dumps(found.to_dict()))["possible"] is True


def test_plan_says_what_cannot_be_had(tmp_path):
    """A missing input, a package that is not installed and another Python are named; none of them stops a rerun."""
    project = trained(tmp_path)
    record = project.latest()
    environment = Fields({**record.environment, "python": {"version": "3.10.9"}, "packages": {"no-such-thing": "1.0"}})
    inputs = [Fields(path=str(tmp_path / "lost.csv"), sha256="0" * 64, bytes=3)]
    found = reproduce.plan(replace(record, environment=environment, inputs=inputs))
    told = {obstacle.what: obstacle.why for obstacle in found.cannot}
    assert "lost.csv is not here" in told["input"]
    assert "no-such-thing 1.0 is not installed here" in told["package"]
    assert "Python 3.10.9" in told["python"]
    assert found.possible


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"commit": "1" * 40}, "cannot be found"),
        ({"state": "no-repository"}, "no git repository"),
        ({"state": "timeout", "commit": None}, "no commit"),
        ({"patch": "diff.patch", "patch_sha256": "0" * 64}, "missing"),
    ],
)
def test_plan_stops_where_the_code_is_gone(shared, change, why):
    """An unknown commit, no repository, or a lost patch stop a rerun, and the plan says which."""
    record = shared.latest()
    function = Fields({**record.function, "file": "/nowhere/train.py"})
    git = {**record.environment["git"], **change}
    lost = replace(record, function=function, environment=Fields({**record.environment, "git": git}))
    found = reproduce.plan(lost)
    assert not found.possible
    assert found.cannot[0].stops
    assert any(why in obstacle.why for obstacle in found.cannot)


def test_plan_stops_at_an_argument_that_is_only_a_summary(tmp_path):
    """A large array is in the record by its shape alone: without a command line to run, there is no rerun."""
    project = Project(tmp_path, lib=b"from runcard import tracked\n@tracked\ndef f(x):\n    return 1.0\n")
    project.commit()
    project.python("-c", "import lib, numpy\nlib.f(numpy.zeros(99))")
    record = project.latest()
    assert reproduce.plan(record).how == "command"
    command = Fields({**record.environment["command"], "kind": "notebook"})
    found = reproduce.plan(replace(record, environment=Fields({**record.environment, "command": command})))
    assert not found.possible
    assert any("only as a summary" in obstacle.why for obstacle in found.cannot)


def test_an_unknown_setting_is_refused(shared):
    """`--set` with a name that the run does not have says which there are."""
    with pytest.raises(ValueError, match="data, lr, epochs"):
        reproduce.plan(shared.latest(), changes={"learning": 1})


def test_restore_gives_the_tree_of_the_run(tmp_path):
    """Staged, unstaged, untracked, binary, renamed, deleted, executable and linked files come back byte for byte."""
    project, then = dirty(tmp_path)
    project.git("add", "-A")
    project.git("commit", "-qm", "later")
    project.write("train.py", b"something else\n")
    before = tree(project.root), project.git("status", "--porcelain"), project.git("rev-parse", "HEAD")
    found = reproduce.restore(project.latest(), tmp_path / "restored")
    assert tree(tmp_path / "restored") == then
    assert found.missing == []
    assert (tree(project.root), project.git("status", "--porcelain"), project.git("rev-parse", "HEAD")) == before


def test_restore_leaves_the_users_git_folder_alone(tmp_path):
    """Nothing is written into the repository: no worktree, no object, no reference."""
    project, _ = dirty(tmp_path)

    def files():
        return {path: path.is_file() and path.read_bytes() for path in (project.root / ".git").rglob("*")}

    before = files()
    reproduce.restore(project.latest(), tmp_path / "restored")
    reproduce.code(project.latest())
    assert files() == before


def test_restore_from_a_bare_clone_alone(tmp_path):
    """A record carried to where only a bare clone is finds its commit in the remote."""
    project, then = dirty(tmp_path)
    project.git("clone", "-q", "--bare", str(project.root), str(tmp_path / "bare.git"))
    record = project.latest()
    shutil.move(project.root, tmp_path / "elsewhere")
    with pytest.raises(CannotRebuildError, match="cannot be found"):
        reproduce.restore(record, tmp_path / "none")
    reproduce.restore(record, tmp_path / "one", repository=tmp_path / "bare.git")
    git = {**record.environment["git"], "remote": (tmp_path / "bare.git").as_uri()}
    reproduce.restore(replace(record, environment=Fields(git=git)), tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two") == then


def test_restore_into_a_full_folder_is_refused(shared, tmp_path):
    """A folder with anything in it is left as it is."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(CannotRebuildError, match="not an empty folder"):
        reproduce.restore(shared.latest(), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def hostile(shared, tmp_path, patch):
    """The run with another patch, whose hash the record confirms."""
    record = shared.latest()
    folder = tmp_path / record.run_id
    folder.mkdir()
    (folder / "diff.patch").write_bytes(patch)
    git = {**record.environment["git"], "patch": "diff.patch", "patch_sha256": hashlib.sha256(patch).hexdigest()}
    return replace(record, environment=Fields({**record.environment, "git": git}), folder=str(folder))


def new_file(name, content=b"+x\n", mode=b"100644"):
    """A patch that makes one file."""
    return (
        b"diff --git a/%b b/%b\nnew file mode %b\nindex 0000000..1111111\n--- /dev/null\n+++ b/%b\n@@ -0,0 +1 @@\n%b"
        % (name, name, mode, name, content)
    )


@pytest.mark.parametrize(
    "name",
    [b"../outside", b"/tmp/runcard-outside", b"a/../../outside", b".git/hooks/post-checkout", b"sub/.GIT/config"],
)
@pytest.mark.parametrize("preflight", [True, False])
def test_a_patch_cannot_write_outside(shared, tmp_path, monkeypatch, name, preflight):
    """Paths that leave the folder, or lead into .git, are refused by our check, and by git's without it."""
    if not preflight:
        monkeypatch.setattr("runcard._rebuild.check_patch", lambda _: None)
    target = tmp_path / "deep" / "target"
    target.parent.mkdir()
    with pytest.raises(CannotRebuildError, match=r"outside|do not apply"):
        reproduce.restore(hostile(shared, tmp_path, new_file(name)), target)
    assert list(target.rglob("*")) == []
    assert list(target.parent.iterdir()) == [target]
    assert not Path("/tmp/runcard-outside").exists()


def test_a_patch_cannot_write_through_a_link(shared, tmp_path):
    """A link and a file below it, in one patch, reach nothing outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link = new_file(b"door", b"+" + os.fsencode(outside) + b"\n\\ No newline at end of file\n", b"120000")
    with pytest.raises(CannotRebuildError):
        reproduce.restore(hostile(shared, tmp_path, link + new_file(b"door/file")), tmp_path / "target")
    assert list(outside.iterdir()) == []


def test_a_remote_that_is_a_program_is_not_run(shared, tmp_path):
    """A recorded remote such as ``ext::sh -c …`` or an option is no place to look."""
    marker = tmp_path / "ran"
    record = shared.latest()
    for remote in (f"ext::sh -c 'touch {marker}'", f"--upload-pack=touch {marker}", f"fd::7 {marker}"):
        git = {**record.environment["git"], "root": "/nowhere", "remote": remote}
        with pytest.raises(CannotRebuildError, match="no repository here"):
            reproduce.restore(replace(record, environment=Fields(git=git)), tmp_path / "target")
        shutil.rmtree(tmp_path / "target")
    assert not marker.exists()


def test_nothing_that_the_repository_configures_is_run(tmp_path):
    """Hooks, filters, textconv and file monitors leave no trace of plan, verify, restore and code."""
    project, then = dirty(tmp_path)
    marker = tmp_path / "ran"
    program = project.folder / "program"
    program.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    program.chmod(0o755)
    record = project.latest()
    for setting in ("filter.x.clean", "filter.x.smudge", "diff.x.textconv", "core.fsmonitor", "diff.external"):
        project.git("config", setting, str(program))
    hooks = project.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    shutil.copy(program, hooks / "post-checkout")
    (project.root / ".git" / "info").mkdir(exist_ok=True)
    (project.root / ".git" / "info" / "attributes").write_text("* filter=x diff=x\n")
    (project.root / ".gitattributes").write_text("* filter=x diff=x\n")
    reproduce.plan(record)
    reproduce.verify(record)
    reproduce.restore(record, tmp_path / "target")
    reproduce.code(record)
    assert not marker.exists()
    assert tree(tmp_path / "target") == then


def test_code_is_the_difference_to_now(tmp_path):
    """Nothing at first; then the edit and the new file, ignored files not, and applying it backwards undoes it."""
    project, then = dirty(tmp_path)
    record = project.latest()
    assert reproduce.code(record) == ""
    project.write("train.py", TRAIN + b"# changed again\n")
    project.write("fresh.txt", b"fresh\n")
    (project.root / ".git" / "info").mkdir(exist_ok=True)
    (project.root / ".git" / "info" / "exclude").write_text("ignored.txt\n")
    project.write("ignored.txt", b"ignored\n")
    found = reproduce.code(record)
    assert "+# changed again" in found
    assert "+fresh" in found
    assert "ignored" not in found
    project.git("apply", "-R", given=found.encode())
    (project.root / "ignored.txt").unlink()
    assert tree(project.root) == then


def test_without_git_the_plan_says_that_changes_are_not_known(tmp_path, monkeypatch):
    """A run that was recorded without a git program names the state; one that is needed now and missing, too."""
    project = trained(tmp_path)
    project.python("train.py", PATH="/nowhere")
    (why,) = [each.why for each in reproduce.plan(project.latest()).cannot if each.what == "code"]
    assert why == "the uncommitted changes are incomplete: git gave no answer (no-git)"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotRebuildError, match="git is needed: no git program is on the path"):
        reproduce.restore(project.latest(), tmp_path / "out")


def test_changes_that_a_store_does_not_have_are_said_to_lie_elsewhere(tmp_path):
    """A database keeps no patch: the message says what to name instead."""
    project, _ = dirty(tmp_path)
    database = f"sqlite:///{tmp_path}/runs.db"
    project.runcard("sync", str(project.store), database)
    with pytest.raises(CannotRebuildError, match="name that folder or a zip of it as the run"):
        reproduce.restore(open_store(database).get("latest"), tmp_path / "out")


def test_what_code_prints_can_be_applied_whatever_is_in_the_files(tmp_path):
    """Binary files, other encodings, escape sequences, and a user whose own diffs have no prefixes: `git apply -R`."""
    files = {"b.bin": b"\0\1", "latin.txt": b"caf\xe9\n", "esc.txt": b"\x1b[31mred\n", "crlf.txt": b"a\r\n"}
    project = trained(tmp_path)
    for name, content in files.items():
        project.write(name, content)
    project.python("train.py")
    then = tree(project.root)
    for name, content in files.items():
        project.write(name, content * 2)
    project.write("new.bin", b"\0new")
    project.git("config", "--global", "diff.noprefix", "true")
    assert "caf\\xe9" in json.loads(project.runcard("code", "latest", "--json").stdout)["diff"]
    arguments = [sys.executable, "-m", "runcard", "code", "latest", "--store", str(project.store)]
    printed = subprocess.run(arguments, cwd=project.root, capture_output=True, check=True).stdout
    project.git("-c", "diff.noprefix=false", "apply", "-R", given=printed)
    assert tree(project.root) == then


def test_verify_finds_what_was_changed(tmp_path):
    """An intact run is intact; then a changed artifact, input, patch and journal are each named."""
    project, _ = dirty(tmp_path)
    record = project.latest()
    assert reproduce.verify(record).intact
    folder = Path(record.folder)
    (folder / "artifacts" / "weight.txt").write_text("forged")
    (folder / "diff.patch").write_bytes((folder / "diff.patch").read_bytes() + b"\n")
    with (folder / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"crc":"00000000","n":99}\n')
    found = reproduce.verify(open_store(project.store).get("latest"))
    states = {check.kind: check.state for check in found.checks}
    assert not found.intact
    assert states == {"journal": "damaged", "patch": "changed", "artifact": "changed", "input": "same"}
    assert found.checks[0].detail == "1 line damaged"
    assert not found.plan.possible


def test_verify_finds_a_changed_input(tmp_path):
    """An input outside of the code that has other content now is named, and one that is gone."""
    project = Project(tmp_path, train=TRAIN)
    project.commit()
    data = tmp_path / "outside.csv"
    data.write_text("1,2\n")
    project.python("-c", f"import pathlib, train; train.train(pathlib.Path({str(data)!r}))")
    record = project.latest()
    assert [check.state for check in reproduce.verify(record).checks if check.kind == "input"] == ["same"]
    data.write_text("3,4\n")
    assert [check.state for check in reproduce.verify(record).checks if check.kind == "input"] == ["changed"]
    data.unlink()
    assert [check.state for check in reproduce.verify(record).checks if check.kind == "input"] == ["missing"]


def test_verify_does_not_follow_an_artifact_out_of_the_folder(shared):
    """An artifact's path that leaves the run's folder is not looked at."""
    record = replace(shared.latest(), artifacts=[Fields(path="../../etc/passwd", sha256="0" * 64)])
    (found,) = (check for check in reproduce.verify(record).checks if check.kind == "artifact")
    assert found.state == "unknown"


def test_the_commands(shared, tmp_path):
    """verify, restore and code on the command line, with their exit codes and JSON."""
    assert "intact" in shared.runcard("verify", "latest").stdout
    assert json.loads(shared.runcard("verify", "latest", "--json").stdout)["intact"] is True
    told = json.loads(shared.runcard("restore", "latest", "--to", str(tmp_path / "to"), "--json").stdout)
    assert told["commit"] == shared.latest().environment["git"]["commit"]
    assert (tmp_path / "to" / "train.py").read_bytes() == TRAIN
    shared.runcard("restore", "latest", "--to", str(tmp_path / "to"), code=2)
    assert shared.runcard("code", "latest").stdout == ""
    assert json.loads(shared.runcard("code", "latest", "--json").stdout) == {
        "run_id": shared.latest().run_id,
        "diff": "",
    }
    plan = json.loads(shared.runcard("rerun", "latest", "--plan", "--json").stdout)
    assert plan["how"] == "function"
    assert subprocess.run(["git", "-C", shared.root, "status", "--porcelain"], capture_output=True).stdout == b""
