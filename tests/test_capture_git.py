"""The patch of uncommitted changes: complete, exact, bounded, and got without running what a repository configures."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest
from git_repositories import Plain, Repository, own_configuration, restored, small_repository, tree

from runcard.capture.git import capture, repository_of


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """The machine's own configuration of git does not count."""
    return own_configuration(tmp_path, monkeypatch)


@pytest.fixture
def repository(configuration, tmp_path):
    """A repository with three files and one commit."""
    return small_repository(tmp_path)


def everything(repository):
    """Every kind of change at once."""
    r = repository
    r.write("changed.py", b"first\n" + b"".join(b"line %d\n" % n for n in range(1, 39)) + b"no newline at the end")
    (r.root / "sub/deep.py").unlink()
    r.write("staged.py", b"staged\n")
    r.git("add", "staged.py")
    r.write("staged.py", b"staged\nand more\n")
    r.write("new.py", b"new\n")
    r.write("empty.py", b"")
    r.write("binary.bin", bytes(range(256)) * 20)
    r.write("with space.py", b"s\n")
    r.write('quote"and\ttab.py', b"q\n")
    r.write("new\nline.py", b"n\n")
    r.write("ünïcode.py", b"u\n")
    r.write(b"latin\xe9.py", b"l\n")
    r.write("-leading", b"l\n")
    r.write(":(top)magic", b"m\n")
    r.write("star*", b"m\n")
    r.write("deep/er/file.py", b"deep\n")
    r.write("tool.sh", b"#!/bin/sh\n").chmod(0o755)
    r.write("crlf.txt", b"a\r\nb\r\n")
    r.write("trailing.txt", b"space \t\n\n\n")
    (r.root / "link").symlink_to("nowhere")
    r.git("mv", "kept.py", "moved.py")
    r.write("intended.py", b"i\n")
    r.git("add", "-N", "intended.py")
    return r


def test_the_patch_gives_the_tree_byte_for_byte(repository, tmp_path):
    """Applied to a fresh clone, the patch gives every kind of staged, unstaged and untracked change."""
    snapshot = everything(repository).capture()
    assert snapshot.state["state"] == "dirty"
    assert snapshot.state["incomplete"] is False
    assert snapshot.state["left_out"] == []
    assert restored(repository, snapshot, tmp_path) == tree(repository.root)


def test_counts_and_hash_of_the_patch_are_told(repository):
    """The state names the patch, its size and hash, and how many files are staged, unstaged, untracked."""
    import hashlib

    repository.write("changed.py", b"c\n")
    repository.write("kept.py", b"k\n")
    repository.git("add", "kept.py")
    repository.write("new.py")
    state, patch = repository.capture()
    assert state["files"] == {"staged": 1, "unstaged": 1, "untracked": 1}
    assert (state["patch"], state["patch_bytes"]) == ("diff.patch", len(patch))
    assert state["patch_sha256"] == hashlib.sha256(patch).hexdigest()
    assert state["dirty"] is True


def test_a_clean_repository_has_no_patch(repository):
    """A clean tree is `clean`, with its commit and branch, and no patch."""
    state, patch = repository.capture()
    assert (state["state"], state["dirty"], patch, state["patch"]) == ("clean", False, None, None)
    assert state["commit"] == repository.git("rev-parse", "HEAD").decode().strip()
    assert (state["branch"], state["incomplete"]) == ("main", False)


def test_type_and_mode_changes(repository, tmp_path):
    """A file that becomes a link or a folder, a folder that becomes a file, and a mode come back."""
    root = repository.root
    (root / "kept.py").unlink()
    (root / "kept.py").symlink_to("changed.py")
    shutil.rmtree(root / "sub")
    repository.write("sub", b"a file now\n")
    (root / "changed.py").unlink()
    repository.write("changed.py/inner.py", b"a folder now\n")
    snapshot = repository.capture()
    assert restored(repository, snapshot, tmp_path) == tree(root)
    repository.commit()
    (root / "sub").chmod(0o755)
    snapshot = repository.capture()
    assert b"new mode 100755" in snapshot.patch
    assert restored(repository, snapshot, tmp_path) == tree(root)


@pytest.mark.parametrize(
    "setting",
    [
        "diff.noprefix=true",
        "diff.mnemonicPrefix=true",
        "diff.srcPrefix=from/",
        "color.ui=always",
        "color.diff=always",
        "core.quotePath=false",
        "diff.renames=copies",
        "diff.context=0",
        "diff.interHunkContext=20",
        "diff.algorithm=patience",
        "diff.relative=true",
        "diff.submodule=log",
        "diff.wordRegex=.",
        "diff.colorMoved=zebra",
        "diff.suppressBlankEmpty=true",
        "diff.ignoreSubmodules=all",
        "diff.external=false",
        "diff.autoRefreshIndex=false",
        "apply.whitespace=fix",
        "core.autocrlf=true",
        "core.autocrlf=input",
        "core.splitIndex=true",
        "core.untrackedCache=true",
        "core.pager=false",
        "status.showUntrackedFiles=no",
        "status.relativePaths=false",
        "status.short=true",
    ],
)
def test_no_setting_changes_the_patch(repository, setting, tmp_path):
    """The user's settings for diffs and line endings do not matter to the patch."""
    repository.git("config", "--global", *setting.split("=", 1))
    everything(repository)
    snapshot = repository.capture()
    assert b"rename from" not in snapshot.patch
    neutral = "-c", "core.autocrlf=false", "-c", "apply.whitespace=nowarn"
    assert restored(repository, snapshot, tmp_path, *neutral) == tree(repository.root)


def test_an_order_file_does_not_matter(repository, configuration, tmp_path):
    """An order file that is not there would make git fail; it is not asked."""
    repository.git("config", "diff.orderFile", str(tmp_path / "missing"))
    repository.write("new.py")
    assert repository.capture().patch


def test_staged_and_taken_back(repository):
    """What is staged and undone in the working tree is dirty, and its patch is empty, so there is none."""
    repository.write("kept.py", b"other\n")
    repository.git("add", "kept.py")
    repository.write("kept.py", b"a = 1\n")
    state, patch = repository.capture()
    assert (state["state"], patch, state["incomplete"]) == ("dirty", None, False)


def test_a_file_committed_and_then_changed_in_the_same_instant(repository):
    """A change of the same size in the same tick as the commit is seen (git's racy index)."""
    instant = (10**18, 10**18)
    repository.git("config", "core.trustctime", "false")
    file = repository.write("kept.py", b"a = 2\n")
    os.utime(file, ns=instant)
    repository.commit()
    os.utime(repository.root / ".git" / "index", ns=instant)
    repository.write("kept.py", b"a = 3\n")
    os.utime(file, ns=instant)
    assert b"+a = 3" in repository.capture().patch


def test_a_conflict_in_progress(repository, tmp_path):
    """During a merge conflict the patch gives the files as they lie there, markers included."""
    repository.git("checkout", "-q", "-b", "other")
    repository.write("kept.py", b"theirs\n")
    repository.git("rm", "-q", "changed.py")
    repository.commit()
    repository.git("checkout", "-q", "main")
    repository.write("kept.py", b"ours\n")
    repository.write("changed.py", b"ours too\n")
    repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "other")
    snapshot = repository.capture()
    assert snapshot.state["state"] == "dirty"
    assert snapshot.state["files"]["unmerged"] == 2
    assert restored(repository, snapshot, tmp_path) == tree(repository.root)


def test_nothing_is_written_into_the_repository(repository):
    """Neither the index nor an object nor any other file of .git is touched."""

    def contents():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in (repository.root / ".git").rglob("*")
            if path.is_file()
        }

    everything(repository)
    os.utime(repository.root / "sub", (1, 1))
    before = contents()
    repository.capture()
    assert contents() == before


def test_ignored_files_are_not_recorded(repository):
    """What .gitignore names is neither in the patch nor left out."""
    repository.write(".gitignore", b"*.log\nruns/\n")
    repository.commit()
    repository.write("x.log")
    repository.write("runs/1/x.txt")
    assert repository.capture().state["state"] == "clean"


def test_a_large_file_is_left_out_and_named(repository, tmp_path):
    """Above the limit a new, a changed and a deleted file are named with their sizes, and the patch is incomplete."""
    repository.write("old.bin", os.urandom(3000))
    repository.write("grown.bin", b"small")
    repository.commit()
    (repository.root / "old.bin").unlink()
    repository.write("grown.bin", bytes(2000))
    repository.write("new.bin", bytes(1001))
    repository.write("fits.bin", bytes(1000))
    state, patch = repository.capture(file_limit=1000)
    assert {entry["path"]: entry["bytes"] for entry in state["left_out"]} == {
        "old.bin": 3000,
        "grown.bin": 2000,
        "new.bin": 1001,
    }
    assert state["incomplete"] is True
    assert b"fits.bin" in patch
    assert b"new.bin" not in patch


def test_the_total_is_bounded(repository):
    """Files beyond the total are left out; what fits is kept."""
    for number in range(5):
        repository.write(f"{number}.txt", b"y" * 300)
    state, patch = repository.capture(total_limit=1000)
    assert len(state["left_out"]) == 2
    assert patch.count(b"diff --git") == 3
    assert state["incomplete"] is True


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        "prod.env",
        "id_rsa",
        "id_ed25519",
        "a.pem",
        "a.KEY",
        "a.p12",
        "a.pfx",
        ".netrc",
        ".npmrc",
        ".pypirc",
        "credentials.json",
        "credentials",
        ".git-credentials",
        "tls.crt",
        "kaggle.json",
    ],
)
def test_private_files_are_left_out(repository, name):
    """Files that hold credentials by custom are named, never copied."""
    repository.write(f"conf/{name}", b"hunter2\n")
    state, patch = repository.capture()
    assert patch is None
    assert [entry["path"] for entry in state["left_out"]] == [f"conf/{name}"]
    assert state["incomplete"] is True


@pytest.mark.parametrize("name", ["environment.py", "keys.py", "credentials.py", "id_rsa.pub", "monkey.txt"])
def test_ordinary_names_are_kept(repository, name):
    """A name that only resembles a private one is recorded."""
    repository.write(name, b"code\n")
    assert repository.capture().state["left_out"] == []


def test_a_tracked_private_file_is_left_out_too(repository):
    """A change to a committed .env is named, never copied."""
    repository.write(".env", b"A=1\n")
    repository.commit()
    repository.write(".env", b"A=hunter2\n")
    state, patch = repository.capture()
    assert (patch, state["left_out"][0]["path"]) == (None, ".env")


def test_what_the_redactor_says_is_told(repository):
    """The patch is the redactor's; what it leaves out is named and marks the patch incomplete."""

    class Finds(Plain):
        def patch(self, raw):
            return b"clean", True, ["secret.py"]

    repository.write("new.py")
    state, patch = capture(repository.root, Finds())
    assert patch == b"clean"
    assert state["incomplete"] is True
    assert state["left_out"][0]["path"] == "secret.py"


def test_a_broken_redactor_costs_the_patch(repository):
    """When the redactor fails nothing unredacted leaves, and the run goes on."""

    class Broken:
        def __getattr__(self, name):
            raise RuntimeError(name)

    repository.git("remote", "add", "origin", "https://user:secret@example.org/r.git")
    repository.write("new.py")
    state, patch = capture(repository.root, Broken())
    assert (patch, state["remote"], state["incomplete"], state["state"]) == (None, None, True, "dirty")


def test_a_nested_repository_is_named(repository):
    """An untracked folder with a repository of its own is not taken for a file."""
    inner = Repository(repository.root / "inner")
    inner.write("x.py")
    inner.commit()
    state, patch = repository.capture()
    assert patch is None
    assert state["left_out"] == [{"path": "inner/", "bytes": 0, "why": "a repository of its own"}]


def test_a_dirty_submodule_marks_the_patch_incomplete(repository, tmp_path):
    """A submodule's own changes are not in the patch, and the record says so."""
    other = Repository(tmp_path / "other")
    other.write("x.py")
    other.commit()
    repository.git("submodule", "--quiet", "add", str(other.root), "lib")
    repository.git("config", "diff.submodule", "log")
    repository.commit()
    assert repository.capture().state["state"] == "clean"
    assert repository.capture().state["submodules"][0]["dirty"] is False
    repository.write("lib/x.py", b"changed\n")
    state, _ = repository.capture()
    assert (state["dirty"], state["incomplete"]) == (True, True)
    assert state["left_out"][0]["path"] == "lib"
    repository.git("add", "-A", cwd=repository.root / "lib")
    repository.git("commit", "-q", "-m", "m", cwd=repository.root / "lib")
    state, patch = repository.capture()
    assert b"+Subproject commit " + state["submodules"][0]["commit"].encode() in patch


def test_lfs_pointers_are_told(repository, configuration):
    """The user's own LFS filter runs; a file that is in the patch as a pointer is named."""
    pointer = "version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 12345\\n"
    repository.git("config", "--global", "filter.lfs.clean", f"cat >/dev/null; printf '{pointer}' 7")
    repository.write(".gitattributes", b"*.bin filter=lfs\n")
    repository.commit()
    repository.write("model.bin", b"weights\n")
    state, patch = repository.capture()
    assert b"git-lfs" in patch
    assert state["left_out"] == [{"path": "model.bin", "bytes": 12345, "why": "kept by Git LFS: its pointer is there"}]


def test_nothing_the_repository_configures_runs(repository, tmp_path):
    """Monitors, hooks, textconv, external diffs, filters, askpass and transports of the repository never run."""
    marker = tmp_path / "ran"
    script = tmp_path / "evil"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> {marker}\ncat\n')
    script.chmod(0o755)
    evil = str(script)
    repository.write(".gitattributes", b"*.py filter=evil diff=evil\n*.odd filter=a=b\n*.inc filter=inc\n")
    repository.write("x.odd")
    repository.write("x.inc")
    repository.commit()
    for name in ("core.fsmonitor", "diff.external", "core.pager", "core.askPass", "core.sshCommand", "core.editor"):
        repository.git("config", name, evil)
    for kind in ("clean", "smudge", "process"):
        repository.git("config", f"filter.evil.{kind}", evil)
        repository.git("config", f"filter.a=b.{kind}", evil)
    repository.git("config", "filter.evil.required", "true")
    for kind in ("textconv", "command"):
        repository.git("config", f"diff.evil.{kind}", evil)
    included = tmp_path / "included"
    included.write_text(f'[filter "inc"]\n\tclean = {evil}\n')
    repository.git("config", "include.path", str(included))
    hooks = repository.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman", "post-checkout"):
        shutil.copy(script, hooks / hook)
    repository.write("changed.py", b"c\n")
    repository.write("x.odd", b"c\n")
    repository.write("x.inc", b"c\n")
    repository.write("new.py")
    marker.unlink(missing_ok=True)
    state, patch = repository.capture()
    assert not marker.exists()
    assert (state["state"], patch.count(b"diff --git")) == ("dirty", 4)
    assert state["not_run"] == ["filter.a=b", "filter.evil", "filter.inc"]


def test_the_filters_of_a_worktree_and_a_submodule_do_not_run(repository, tmp_path):
    """The configuration of a worktree, and of a submodule, counts as the repository's own."""
    marker = tmp_path / "ran"
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    script.chmod(0o755)
    other = Repository(tmp_path / "other")
    other.write("x.py")
    other.write(".gitattributes", b"*.py filter=inner\n")
    other.commit()
    repository.write(".gitattributes", b"*.py filter=evil\n")
    repository.git("submodule", "--quiet", "add", str(other.root), "lib")
    repository.commit()
    repository.git("config", "extensions.worktreeConfig", "true")
    repository.git("config", "--worktree", "filter.evil.clean", str(script))
    repository.git("config", "filter.inner.clean", str(script), cwd=repository.root / "lib")
    repository.git("config", "core.fsmonitor", str(script), cwd=repository.root / "lib")
    repository.write("changed.py", b"c\n")
    repository.write("lib/x.py", b"c\n")
    marker.unlink(missing_ok=True)
    state, _ = repository.capture()
    assert not marker.exists()
    assert state["submodules"][0]["dirty"] is True


def test_a_filter_of_the_users_own_still_runs_when_the_repository_overrides_it(repository):
    """Where the repository redefines a filter of the user's, the user's definition is the one that runs."""
    repository.git("config", "--global", "filter.up.clean", "tr a-z A-Z")
    repository.write(".gitattributes", b"*.up filter=up\n")
    repository.commit()
    repository.git("config", "filter.up.clean", "false")
    repository.write("new.up", b"text\n")
    assert b"+TEXT" in repository.capture().patch


def test_a_git_in_the_repository_is_not_run(repository, monkeypatch, tmp_path):
    """A relative entry of PATH does not let a program called git of the working tree run."""
    marker = tmp_path / "ran"
    repository.write("git", f"#!/bin/sh\ntouch {marker}\n".encode()).chmod(0o755)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(repository.root)
    assert repository.capture().state["files"]["untracked"] == 1
    assert not marker.exists()


def test_variables_of_a_hook_do_not_divert(repository, tmp_path, monkeypatch):
    """GIT_DIR and its kind, as a hook exports them, do not lead to another repository."""
    other = Repository(tmp_path / "other")
    other.write("x.py")
    other.commit()
    expected = repository.capture().state
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git" / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.root / ".git" / "objects"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    monkeypatch.setenv("GIT_DIFF_OPTS", "--unified=0")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.worktree=/'")
    assert repository.capture().state == expected


def test_the_users_environment_is_left_alone(repository):
    """os.environ is the same before and after."""
    before = dict(os.environ)
    repository.write("new.py")
    repository.capture()
    assert dict(os.environ) == before


def test_the_remote_has_no_credentials(repository):
    """The URL of origin, else the upstream's, else the first, as the redactor gives it."""
    assert repository.capture().state["remote"] is None
    repository.git("remote", "add", "first", "https://user:secret@example.org/first.git")
    assert repository.capture().state["remote"] == "https://example.org/first.git"
    repository.git("remote", "add", "second", "git@example.org:second.git")
    repository.git("config", "branch.main.remote", "second")
    assert repository.capture().state["remote"] == "git@example.org:second.git"
    repository.git("remote", "add", "origin", "ssh://example.org/origin.git")
    assert repository.capture().state["remote"] == "ssh://example.org/origin.git"


def test_many_untracked_files_fit_no_command_line_and_still_work(repository, tmp_path):
    """Thousands of long names are handled in portions."""
    for number in range(700):
        repository.write(f"many/{'n' * 200}{number}.txt", b"%d\n" % number)
    snapshot = repository.capture(limit_s=20)
    assert restored(repository, snapshot, tmp_path) == tree(repository.root)


def test_left_out_is_bounded(repository):
    """A record does not list ten thousand files: 200 are named, the rest counted."""
    for number in range(230):
        repository.write(f"{number}.pem")
    state, _ = repository.capture()
    assert (len(state["left_out"]), state["left_out_more"]) == (200, 30)


def test_repository_of_finds_the_nearest_root(repository, tmp_path):
    """The nearest folder above with a .git holds the path; without one there is none."""
    assert repository_of(repository.root / "sub/deep.py") == repository.root
    assert repository_of(repository.root) == repository.root
    inner = Repository(repository.root / "inner")
    assert repository_of(inner.root / "x.py") == inner.root
    assert repository_of(tmp_path / "nowhere.py") is None
    assert repository_of(repository.root / ".git/hooks/pre-commit") == repository.root


def test_installed_code_is_not_held_by_the_repository_around_its_environment(repository, tmp_path):
    """A package in a virtual environment inside the repository is none of its code."""
    assert repository_of(repository.root / ".venv/lib/python3.11/site-packages/p/m.py") is None
    below = Repository(tmp_path / "site-packages/p")
    assert repository_of(below.root / "m.py") == below.root


def test_repository_of_is_quick(repository):
    """It reads the file system only, and starts no program."""
    before = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)
        for _ in range(100):
            repository_of(repository.root / "sub/deep.py")
    assert time.perf_counter() - before < 5
