"""What `runcard.capture.packages` says of installs of every kind."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from packaging.requirements import Requirement

from runcard.capture import packages

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Redactor:
    """Stands in for the real one: cuts the password out of a URL."""

    def url(self, text):
        return text.replace("me:hunter2@", "")


def install(folder, name, version, *, kind="dist-info", direct=None, metadata="Metadata-Version: 2.1\n"):
    info = folder / f"{name}-{version}.{kind}"
    info.mkdir(parents=True)
    (info / ("METADATA" if kind == "dist-info" else "PKG-INFO")).write_text(metadata)
    if direct is not None:
        (info / "direct_url.json").write_text(direct if isinstance(direct, str) else json.dumps(direct))
    return info


def found(*folders):
    return packages.capture(Redactor(), [str(folder) for folder in folders])


def repository(root, *, ref="refs/heads/main", commit=COMMIT, remote="https://me:hunter2@github.com/me/mine"):
    git = root / ".git"
    (git / ref).parent.mkdir(parents=True)
    (git / "HEAD").write_text(f"ref: {ref}\n")
    (git / ref).write_text(commit + "\n")
    (git / "config").write_text(f'[core]\n\tbare = false\n[remote "origin"]\n\turl = {remote}\n\tfetch = +x\n')
    return git


def test_names_and_versions_come_from_folder_names(tmp_path):
    """A package is its normalised name and the version of its metadata folder, sorted by name."""
    install(tmp_path, "zope.interface", "6.0")
    install(tmp_path, "My_Package", "1.0+cu121")
    install(tmp_path, "old", "0.3-py3.11", kind="egg-info")
    assert list(found(tmp_path).items()) == [("my-package", "1.0+cu121"), ("old", "0.3"), ("zope-interface", "6.0")]


def test_first_on_the_path_wins(tmp_path):
    """Of two installs of one name the one that an import finds is told."""
    install(tmp_path / "a", "one", "2.0")
    install(tmp_path / "b", "One", "1.0")
    assert found(tmp_path / "a", tmp_path / "b") == {"one": "2.0"}
    assert found(tmp_path / "b", tmp_path / "a") == {"one": "1.0"}


@pytest.mark.parametrize("metadata", [None, ""])
def test_metadata_that_is_missing_or_empty_is_broken(tmp_path, metadata):
    """A folder without readable metadata is listed, and marked."""
    info = install(tmp_path, "torn", "3.1", metadata=metadata or "")
    if metadata is None:
        (info / "METADATA").unlink()
    assert found(tmp_path) == {"torn": {"version": "3.1", "broken": True}}


def test_remains_of_an_interrupted_install_are_broken(tmp_path):
    """What pip leaves behind with a tilde, and a folder that has no version, do not pass for installed packages."""
    install(tmp_path, "~umpy", "1.0")
    (tmp_path / "nothing.dist-info").mkdir()
    assert found(tmp_path) == {"nothing": {"broken": True}, "~umpy": {"version": "1.0", "broken": True}}


def test_a_version_that_only_the_metadata_has_is_read(tmp_path):
    """A folder named without a version gets it from the metadata."""
    (tmp_path / "site-packages" / "plain.egg-info").mkdir(parents=True)
    (tmp_path / "site-packages" / "plain.egg-info" / "PKG-INFO").write_text("Name: plain\nVersion: 4.2\n")
    assert found(tmp_path / "site-packages") == {"plain": "4.2"}


def test_vcs_install_has_its_commit_and_no_credential(tmp_path):
    """An install from git tells the commit that pip recorded; the password in its URL is cut."""
    url = "https://me:hunter2@github.com/me/tool"
    vcs = {"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"}
    install(tmp_path, "tool", "1.0", direct={"url": url, "vcs_info": vcs, "subdirectory": "py"})
    assert found(tmp_path)["tool"] == {
        "version": "1.0",
        "url": "https://github.com/me/tool",
        "vcs": "git",
        "commit": COMMIT,
        "requested": "main",
        "subdirectory": "py",
    }


def test_editable_install_has_the_commit_of_its_repository(tmp_path):
    """An editable install tells its folder, and the commit that is checked out there now."""
    source = tmp_path / "my src"
    git = repository(source)
    url = f"file://{tmp_path}/my%20src"
    install(tmp_path / "site", "mine", "0.1", direct={"url": url, "dir_info": {"editable": True}})
    expected = {
        "version": "0.1",
        "editable": True,
        "path": str(source),
        "vcs": "git",
        "commit": COMMIT,
        "url": "https://github.com/me/mine",
        "pushed": False,
    }
    assert found(tmp_path / "site")["mine"] == expected
    later = COMMIT[::-1]
    (git / "refs/heads/main").write_text(later)
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{later} refs/remotes/origin/main\n^{COMMIT}\n")
    assert found(tmp_path / "site")["mine"] == {**expected, "commit": later, "pushed": True}


def test_commit_of_packed_detached_and_worktree_heads(tmp_path):
    """The commit is found where the reference is packed, where HEAD is detached, and in a linked worktree."""
    git = repository(tmp_path / "main")
    (git / "refs/heads/main").unlink()
    (git / "packed-refs").write_text(f"{COMMIT} refs/heads/main\n")
    private = git / "worktrees/side"
    private.mkdir(parents=True)
    (private / "HEAD").write_text("ref: refs/heads/main\n")
    (private / "commondir").write_text("../..\n")
    side = tmp_path / "side"
    side.mkdir()
    (side / ".git").write_text(f"gitdir: {private}\n")
    for folder in (tmp_path / "main", side):
        assert packages._repository(folder)["commit"] == COMMIT
    (private / "HEAD").write_text(COMMIT[::-1])
    assert packages._repository(side)["commit"] == COMMIT[::-1]
    (private / "HEAD").write_text("ref: refs/heads/.invalid\n")
    assert packages._repository(side) == {"vcs": "git"}


def test_older_ways_of_editable_installs(tmp_path):
    """An egg-link, an `__editable__` link without a URL, and a source tree's own egg-info are editable."""
    site, source = tmp_path / "site-packages", tmp_path / "source"
    (source / "dev_tool.egg-info").mkdir(parents=True)
    (source / "dev_tool.egg-info" / "PKG-INFO").write_text("Version: 0.7\n")
    site.mkdir()
    (site / "dev-tool.egg-link").write_text(f"{source}\n.\n")
    (site / "__editable__.linked-2.0.pth").write_text(f"{source}\n")
    install(site, "Linked", "2.0")
    editable = {"editable": True, "path": str(source)}
    assert found(site) == {"dev-tool": {"version": "0.7", **editable}, "linked": {"version": "2.0", **editable}}
    assert found(source) == {"dev-tool": {"version": "0.7", **editable}}


@pytest.mark.parametrize("direct", ["{", "[]", "{}", '{"url": 3, "vcs_info": {}}', b"\xff".decode("latin-1")])
def test_a_damaged_direct_url_leaves_the_version(tmp_path, direct):
    """A ``direct_url.json`` that cannot be read takes nothing away from the package, and raises nothing."""
    install(tmp_path, "odd", "1.0", direct=direct)
    entry = found(tmp_path)["odd"]
    assert (entry if isinstance(entry, str) else entry["version"]) == "1.0"


def test_scanned_again_only_when_a_folder_changes(tmp_path, monkeypatch):
    """One scan serves a process until a package is installed."""
    install(tmp_path, "one", "1.0")
    scans = []
    scan = packages._scan
    monkeypatch.setattr(packages, "_scan", lambda folders: scans.append(1) or scan(folders))
    assert found(tmp_path) == found(tmp_path) == {"one": "1.0"}
    assert len(scans) == 1
    time.sleep(0.02)  # file systems' clocks tick in milliseconds
    install(tmp_path, "two", "1.0")
    assert found(tmp_path) == {"one": "1.0", "two": "1.0"}


def test_nothing_on_the_path_raises(tmp_path):
    """Missing folders, files, zip archives, NULs and things that are no text are passed over."""
    file = tmp_path / "app.zip"
    file.write_bytes(b"PK")
    assert packages.capture(Redactor(), [str(tmp_path / "no"), str(file), "a\0b", 3, ""]) == packages.capture(
        Redactor(), [""]
    )


def test_five_thousand_packages(tmp_path):
    """A crowded environment is listed in full."""
    for number in range(5000):
        (tmp_path / f"p{number}-1.{number}.dist-info").mkdir()
    assert len(found(tmp_path)) == 5000


def test_agrees_with_importlib_metadata():
    """In this very environment the names and versions are those of the standard library."""
    from importlib import metadata

    expected = {packages.normalised(dist.name): dist.version for dist in reversed(list(metadata.distributions()))}
    seen = packages.capture(Redactor())
    assert {name: what if isinstance(what, str) else what["version"] for name, what in seen.items()} == expected


ODD = {
    "numpy": "2.4.6",
    "torch": "2.3.0+cu121",
    "tool": {
        "version": "1.0",
        "url": "https://github.com/me/tool",
        "vcs": "git",
        "commit": COMMIT,
        "subdirectory": "py",
    },
    "short": {"version": "1.0", "url": "git@github.com:me/short.git", "vcs": "git", "commit": COMMIT},
    "wheel-of": {"version": "1.0", "url": "https://x.org/w-1.0-py3-none-any.whl", "sha256": "ab" * 32},
    "here": {"version": "0.1", "editable": True, "path": "/home/me/here", "commit": COMMIT},
    "there": {
        "version": "0.1",
        "editable": True,
        "path": "/x",
        "commit": COMMIT,
        "vcs": "git",
        "url": "https://x.org/t",
    },
    "unpushed": {
        "version": "0.1",
        "editable": True,
        "path": "/x",
        "commit": COMMIT,
        "vcs": "git",
        "url": "https://x.org/u",
        "pushed": False,
    },
    "copied": {"version": "0.1", "local": True, "path": "/home/me/copied"},
    "torn": {"version": "3.1", "broken": True},
    "ev\nil": "1.0",
    "evil2": "1.0\nimport-me==6",
    "evil3": {"version": "1", "url": "https://x.org/a\n--index-url=https://evil.org", "vcs": "git", "commit": COMMIT},
    "cut": {"version": "1", "url": "https://[redacted]@x.org/a", "vcs": "git", "commit": COMMIT},
    "undated": "not a version",
}


def test_requirements_are_what_pip_takes():
    """Every line is a requirement of the standards, an editable, or a comment; nothing is smuggled in or lost."""
    lines = packages.requirements(ODD).splitlines()
    assert len(lines) == len(ODD)
    active = [line for line in lines if not line.startswith("#")]
    assert active == [
        "numpy==2.4.6",
        "torch==2.3.0  # installed: 2.3.0+cu121",
        f"tool @ git+https://github.com/me/tool@{COMMIT}#subdirectory=py",
        f"short @ git+ssh://git@github.com/me/short.git@{COMMIT}",
        f"wheel-of @ https://x.org/w-1.0-py3-none-any.whl#sha256={'ab' * 32}",
        f"-e git+https://x.org/t@{COMMIT}#egg=there",
    ]
    for line in active:
        if not line.startswith("-e"):
            Requirement(line.partition("  #")[0])
    assert f"# here: version 0.1, editable from /home/me/here, commit {COMMIT}" in lines


def test_pip_parses_the_file(tmp_path):
    """Pip itself reads the file without an error, and finds the packages in it."""
    file = tmp_path / "requirements.txt"
    file.write_text(packages.requirements(ODD))
    code = (
        "import sys; from pip._internal.req.req_file import parse_requirements as p; "
        "from pip._internal.network.session import PipSession as S; "
        "from pip._internal.req.constructors import install_req_from_parsed_requirement as r; "
        "print([r(x).name for x in p(sys.argv[1], session=S())])"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "['numpy', 'torch', 'tool', 'short', 'wheel-of', 'there']", answer.stderr
