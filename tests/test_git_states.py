"""Every odd repository gives a state word, in time, and never an exception."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest
from git_repositories import Plain, Repository, own_configuration, restored, small_repository, tree

from runcard.capture import git as subject
from runcard.capture import git_patch, git_program
from runcard.capture.git import capture, repository_of


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """The machine's own configuration of git does not count."""
    return own_configuration(tmp_path, monkeypatch)


@pytest.fixture
def repository(configuration, tmp_path):
    """A repository with three files and one commit."""
    return small_repository(tmp_path)


def state_of(root, **options):
    """The state, after checking what holds for every state."""
    started = time.monotonic()
    found, patch = capture(root, Plain(), **options)
    assert time.monotonic() - started < options.get("limit_s", 2.0) + 5  # a hang, not a slow machine, fails this
    wanted = {"state", "commit", "branch", "dirty", "remote", "root", "patch", "incomplete", "left_out", "files"}
    assert wanted <= set(found)
    assert (found["patch"] is None) == (patch is None)
    return found


@pytest.fixture
def no_memory(monkeypatch):
    """As in a fresh process: no git has answered yet."""
    monkeypatch.setattr(git_program, "_answered", set())


def program(tmp_path, text):
    """A folder with a program called git."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "git").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "git").chmod(0o755)
    return folder


def test_no_commits(tmp_path):
    """Before the first commit the patch starts from the empty tree."""
    made = Repository(tmp_path / "fresh")
    assert state_of(made.root)["state"] == "no-commits"
    made.write("staged.py")
    made.git("add", ".")
    made.write("new.py", b"n\n")
    snapshot = made.capture()
    assert (snapshot.state["state"], snapshot.state["commit"], snapshot.state["branch"]) == ("no-commits", None, "main")
    assert snapshot.state["dirty"] is True
    assert restored(made, snapshot, tmp_path) == tree(made.root)


def test_detached(repository):
    """A detached HEAD has a commit and no branch."""
    repository.git("checkout", "-q", "--detach")
    found = state_of(repository.root)
    assert (found["state"], found["branch"]) == ("clean", None)
    assert found["commit"] == repository.git("rev-parse", "HEAD").decode().strip()


def test_bare(repository, tmp_path):
    """A bare repository has a commit and nothing that could be dirty."""
    repository.git("clone", "-q", "--bare", str(repository.root), str(tmp_path / "bare"))
    root = repository_of(tmp_path / "bare" / "hooks")
    assert root == tmp_path / "bare"
    found = state_of(root)
    assert (found["state"], found["dirty"], found["branch"]) == ("bare", None, "main")
    assert found["commit"] == repository.git("rev-parse", "HEAD").decode().strip()


def test_worktree(repository, tmp_path):
    """A linked worktree has its own branch, changes and root."""
    repository.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "kept.py").write_text("b = 2\n")
    assert repository_of(tmp_path / "side" / "sub" / "deep.py") == tmp_path / "side"
    found = state_of(tmp_path / "side")
    assert (found["state"], found["branch"], found["patch"]) == ("dirty", "side", "diff.patch")
    assert state_of(repository.root)["state"] == "clean"


def test_submodule(repository, tmp_path):
    """Code in a submodule belongs to the submodule's repository."""
    other = Repository(tmp_path / "other")
    other.write("x.py")
    other.commit()
    repository.git("submodule", "--quiet", "add", str(other.root), "lib")
    root = repository_of(repository.root / "lib" / "x.py")
    assert root == repository.root / "lib"
    (root / "x.py").write_text("changed\n")
    found = state_of(root)
    assert (found["state"], found["commit"]) == ("dirty", other.git("rev-parse", "HEAD").decode().strip())


def test_shallow(repository, tmp_path):
    """A shallow clone works, and is marked."""
    repository.commit()
    repository.git("clone", "-q", "--depth=1", f"file://{repository.root}", str(tmp_path / "shallow"))
    found = state_of(tmp_path / "shallow")
    assert (found["state"], found["shallow"]) == ("clean", True)
    assert found["remote"] == f"file://{repository.root}"


def test_partial_clone_fetches_nothing(repository, tmp_path):
    """A partial clone that lacks a blob is told, and no transport is started to fetch it."""
    repository.git("config", "uploadpack.allowFilter", "true")
    repository.git(
        "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{repository.root}", str(tmp_path / "p")
    )
    clone = tmp_path / "p"
    marker = tmp_path / "ran"
    evil = program(tmp_path, f"touch {marker}; exit 1") / "git"
    repository.git("config", "remote.origin.uploadpack", str(evil), cwd=clone)
    repository.git("config", "remote.origin.url", f"ext::{evil} x", cwd=clone)
    repository.git("config", "protocol.ext.allow", "always", cwd=clone)
    found = state_of(clone)
    assert not marker.exists()
    assert (found["state"], found["incomplete"]) == ("dirty", True)


def test_sparse_checkout(repository):
    """What a sparse checkout leaves out is not taken for deleted."""
    repository.git("sparse-checkout", "set", "sub")
    repository.write("sub/deep.py", b"changed\n")
    found, patch = repository.capture()
    assert (found["files"]["unstaged"], patch.count(b"diff --git")) == (1, 1)


def test_dubious_owner(repository, monkeypatch):
    """Another user's repository is named as such; the commit is still read."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = state_of(repository.root)
    assert (found["state"], found["dirty"], found["incomplete"]) == ("dubious-owner", None, True)
    assert (found["branch"], len(found["commit"])) == ("main", 40)


def test_safe_directory_from_the_environment_counts(repository, monkeypatch):
    """A safe.directory that CI sets through GIT_CONFIG_COUNT is honoured."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "*")
    assert state_of(repository.root)["state"] == "clean"


def test_names_that_are_no_utf8(repository):
    """A branch, a file and a left-out file whose names are no UTF-8 are told in text that encodes."""
    repository.git("checkout", "-q", "-b", b"caf\xe9")
    repository.write(b"k\xe9y.pem")
    found = state_of(repository.root)
    assert (found["branch"], found["left_out"][0]["path"]) == ("caf\\xe9", "k\\xe9y.pem")


@pytest.mark.parametrize("damage", ["HEAD", "index", "config", "empty", "objects", "gitfile", "ref"])
def test_damaged(repository, damage):
    """A broken HEAD, index, configuration, object store, .git file or reference is `damaged`, and the run goes on."""
    git_dir = repository.root / ".git"
    if damage in {"HEAD", "index", "config"}:
        (git_dir / damage).write_bytes(b"\0garbage [\n" * 20)
    elif damage == "ref":
        (git_dir / "refs/heads/main").write_text("zzz\n")
    elif damage == "objects":
        shutil.rmtree(git_dir / "objects")
    else:
        shutil.rmtree(git_dir)
        git_dir.mkdir() if damage == "empty" else git_dir.write_text("gitdir: /nowhere\n")
    found = state_of(repository.root)
    assert (found["state"], found["incomplete"], found["patch"]) == ("damaged", True, None)


def test_a_missing_commit_is_damaged(repository):
    """A branch that points at a commit the object store lacks is no clean repository."""
    (repository.root / ".git/refs/heads/main").write_text("1" * 40 + "\n")
    repository.write("new.py")
    found = state_of(repository.root)
    assert found["state"] in {"damaged", "dirty"}
    assert found["incomplete"] is True


def test_a_damaged_repository_is_not_replaced_by_the_one_around_it(repository):
    """Git does not walk on to an outer repository when the inner one is broken."""
    (repository.root / "inner" / ".git").mkdir(parents=True)
    assert state_of(repository.root / "inner")["state"] == "damaged"


def test_deleted_meanwhile(repository):
    """A repository that is gone gives a word."""
    shutil.rmtree(repository.root)
    assert state_of(repository.root)["state"] == "no-repository"


def test_deleted_between_two_commands(repository, monkeypatch):
    """A repository that goes while it is read gives a word."""
    status = subject._status

    def gone(git, *arguments):
        shutil.rmtree(repository.root)
        return status(git, *arguments)

    monkeypatch.setattr(subject, "_status", gone)
    assert state_of(repository.root)["state"] == "no-repository"


def test_no_repository(tmp_path):
    """A folder without a repository gives a word."""
    assert state_of(tmp_path)["state"] == "no-repository"


def test_git_missing(repository, tmp_path, monkeypatch, no_memory):
    """Without git the commit is still read from the files."""
    commit = repository.git("rev-parse", "HEAD").decode().strip()
    monkeypatch.setenv("PATH", str(tmp_path))
    found = state_of(repository.root)
    assert (found["state"], found["commit"], found["branch"], found["incomplete"]) == ("no-git", commit, "main", True)


def test_packed_references_are_read_without_git(repository, tmp_path, monkeypatch, no_memory):
    """A branch that is packed is found too."""
    commit = repository.git("rev-parse", "HEAD").decode().strip()
    repository.git("pack-refs", "--all")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert state_of(repository.root)["commit"] == commit


def test_git_missing_in_a_fresh_process(repository, tmp_path):
    """GitPython's ImportError without git does not reach the user."""
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom runcard.capture.git import capture\n"
        "print(capture(Path(sys.argv[1]), None).state['state'], 'GIT_PYTHON_REFRESH' in os.environ)"
    )
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(repository.root)],
        env=environment,
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"no-git False\n", b"")


def test_a_hanging_git_in_a_fresh_process(repository, tmp_path):
    """A git that hangs costs the limit, even before GitPython is imported, and no process is left."""
    folder = program(tmp_path, f"sleep 1234 & echo $! > {tmp_path}/child; wait")
    code = (
        "import sys\nfrom pathlib import Path\nfrom runcard.capture.git import capture\n"
        "print(capture(Path(sys.argv[1]), None, limit_s=0.5).state['state'])"
    )
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(repository.root)], env=environment, capture_output=True, check=True, timeout=20
    )
    assert done.stdout == b"timeout\n", done.stderr
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(200):
            os.kill(child, 0)
            time.sleep(0.01)


@pytest.mark.parametrize("command", ["config", "status", "diff"])
def test_a_command_that_hangs(repository, tmp_path, monkeypatch, command, no_memory):
    """Whichever command hangs, a word comes in time, with the commit."""
    real = shutil.which("git")
    repository.write("new.py")
    folder = program(tmp_path, f'case " $* " in *" {command} "*) sleep 1234;; esac; exec {real} "$@"')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    found = state_of(repository.root, limit_s=0.8)
    assert found["state"] == ("dirty" if command == "diff" else "timeout")
    assert found["incomplete"] is True
    assert len(found["commit"]) == 40


def test_too_many_untracked_files_to_list(repository, tmp_path, monkeypatch, no_memory):
    """When only the listing of untracked files hangs, the tracked changes are recorded and the rest is said."""
    real = shutil.which("git")
    repository.write("kept.py", b"changed\n")
    folder = program(tmp_path, f'case " $* " in *"untracked-files=all"*) sleep 1234;; esac; exec {real} "$@"')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    found = state_of(repository.root, limit_s=1.5)
    assert (found["state"], found["patch"], found["incomplete"]) == ("dirty", "diff.patch", True)
    assert "untracked" in found["left_out"][0]["why"]


def test_git_cannot_prompt(repository, tmp_path, monkeypatch, no_memory):
    """Git has no terminal, no standard input, and is told not to ask."""
    seen = tmp_path / "seen"
    folder = program(tmp_path, f"(cat; (: </dev/tty) 2>/dev/null && echo tty; env | grep PROMPT) > {seen}; exit 1")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert state_of(repository.root)["state"] == "damaged"
    assert seen.read_text() == "GIT_TERMINAL_PROMPT=0\n"


def test_a_git_that_writes_nonsense(repository, tmp_path, monkeypatch, no_memory):
    """Output that is not git's gives a word."""
    folder = program(tmp_path, "printf '1 x\\0u y\\0# branch.oid \\377'")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert state_of(repository.root)["state"] in {"damaged", "dirty", "clean"}


def test_a_users_module_called_git_is_not_imported(repository, tmp_path):
    """A git.py beside the user's script is not run by recording."""
    (tmp_path / "git.py").write_text("print('imported')\n")
    code = (
        "import sys\nfrom pathlib import Path\nfrom runcard.capture.git import capture\n"
        "print(capture(Path(sys.argv[1]), None).state['state'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(repository.root)],
        env=environment,
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == b"clean\n"


def test_gitpython_starts_git(repository, monkeypatch):
    """Git is started through GitPython's launcher where it can be imported."""
    from git.cmd import safer_popen

    started = []
    monkeypatch.setattr(git_program, "_answered", set())
    monkeypatch.setattr(git_program, "_launchers", [])
    monkeypatch.setattr(
        "git.cmd.safer_popen", lambda command, **rest: started.append(command) or safer_popen(command, **rest)
    )
    repository.write("new.py")
    repository.capture()
    assert [command[-1] for command in started if "status" in command] == ["--untracked-files=all"]
    assert len(started) == 5


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_files_that_git_was_told_not_to_look_at(repository, tmp_path, flag):
    """An edit hidden from `git status` is in the patch; the repository's own index stays as it was."""
    repository.git("update-index", flag, "changed.py", "kept.py", "sub/deep.py")
    repository.write("changed.py", b"edited\n")
    (repository.root / "kept.py").chmod(0o755)
    (repository.root / "sub/deep.py").unlink()
    before = (repository.root / ".git/index").read_bytes()

    snapshot = repository.capture()

    assert (snapshot.state["state"], snapshot.state["dirty"], snapshot.state["incomplete"]) == ("dirty", True, False)
    if flag == "--skip-worktree":  # what a sparse checkout leaves away is no change
        (repository.root / "sub/deep.py").write_bytes(b"deep\n")
    assert restored(repository, snapshot, tmp_path) == tree(repository.root)
    assert (repository.root / ".git/index").read_bytes() == before


def test_a_program_that_is_no_git(repository, tmp_path, monkeypatch, no_memory):
    """A git that says nothing of the commit is not believed when it says that nothing has changed."""
    folder = program(tmp_path, "echo hello")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    found = state_of(repository.root)

    assert (found["state"], found["incomplete"], found["dirty"]) == ("damaged", True, None)


def test_keyboard_interrupt_goes_through(repository, monkeypatch):
    """The user's Ctrl-C during the capture is the user's."""

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(subject, "_status", interrupted)
    with pytest.raises(KeyboardInterrupt):
        repository.capture()


def test_a_temporary_folder_that_cannot_be_made(repository, monkeypatch):
    """Without room for the copied index the changes are told, and the patch is said to be missing."""
    monkeypatch.setattr(
        git_patch.tempfile, "TemporaryDirectory", lambda **_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    repository.write("new.py")
    found = state_of(repository.root)
    assert (found["state"], found["patch"], found["incomplete"]) == ("dirty", None, True)
