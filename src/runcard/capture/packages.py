"""Which packages were installed: read from the names of metadata folders, in well under a millisecond a hundred.

`importlib.metadata` opens every METADATA file (60 ms in a usual environment); the folder ``numpy-2.4.6.dist-info``
already says all that is asked. Only ``direct_url.json``, which editable and VCS installs have, is opened.

A package is its version, or a mapping where a version does not tell what was installed::

    {"numpy": "2.4.6",
     "mine": {"version": "0.1", "editable": true, "path": "/home/me/mine", "vcs": "git", "commit": "…",
              "url": "https://github.com/me/mine", "pushed": false},
     "tool": {"version": "1.0", "url": "https://github.com/me/tool", "vcs": "git", "commit": "…"},
     "torn": {"version": "3.1", "broken": true}}

``pushed`` is false where the commit is at the tip of no remote branch that this clone knows of: another machine may
then be unable to fetch it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from runcard.capture.probe import encodable, probe, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runcard.redact import Redactor
    from runcard.values import Json

_Found: TypeAlias = "str | dict[str, Any]"
_scans: dict[tuple[object, ...], dict[str, _Found]] = {}


def capture(redactor: Redactor, path: Sequence[str] | None = None) -> dict[str, Any]:
    """The installed packages by normalised name, sorted; the first on the path wins, as in an import.

    Scanned once a process, and again when the path or one of its folders has changed.

    Args:
        redactor: Takes the credentials out of the URLs.
        path: Folders to look in; `sys.path` by default.
    """
    folders = [entry or os.curdir for entry in (sys.path if path is None else path) if isinstance(entry, str)]
    key = (probe(os.getcwd), *((folder, _mtime(folder)) for folder in folders))
    found = _scans.get(key)
    if found is None:
        found = _scan(folders)
        _scans.clear()  # one scan is kept: the path as it is now
        _scans[key] = found
    repositories: dict[str, dict[str, Any]] = {}
    return {
        name: what if isinstance(what, str) else _told(what, redactor, repositories)
        for name, what in sorted(found.items())
    }


def requirements(packages: Mapping[str, Json]) -> str:
    """The packages as a requirements file that pip takes, one a line.

    What pip could not install from it is a comment: local editables (with path and commit), broken metadata,
    names and versions outside the standards. A local version label, ``2.3.0+cu121``, becomes a comment behind
    the public version, since the public index has no such file.
    """
    return "".join(f"{_requirement(name, what)}\n" for name, what in packages.items())


_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_EGG_TAG = re.compile(r"-py\d[\d.]*(?:-.+)?$")
_VERSION = re.compile(
    r"v?(?:\d+!)?\d+(?:\.\d+)*(?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?"
    r"(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?(?:[-_.]?dev[-_.]?\d*)?",
    re.IGNORECASE,
)
_INSTALLED = {"site-packages", "dist-packages"}
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def _mtime(folder: str) -> int | None:
    try:
        return os.stat(folder).st_mtime_ns
    except (OSError, ValueError):
        return None


def _scan(folders: Iterable[str]) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for folder in dict.fromkeys(folders):
        if folder.endswith(".egg"):  # an old zipped or unpacked egg is itself the entry of the path
            _add(found, Path(folder).name[:-4], None)
            continue
        try:
            # a folder beside nothing but code costs one listing; zip files and missing folders end here
            names = os.listdir(folder)
        except (OSError, ValueError):
            continue
        for name in sorted(names, key=lambda name: (not name.startswith("__editable__"), name)):
            if name.endswith((".dist-info", ".egg-info")):
                _add(found, name.rpartition(".")[0], f"{folder}/{name}")
            elif name.endswith(".egg-link"):
                _add_link(found, name[:-9], f"{folder}/{name}")
            elif name.startswith("__editable__.") and name.endswith(".pth"):
                _add_pth(found, name[13:-4], f"{folder}/{name}")
    return found


def _add(found: dict[str, _Found], stem: str, info: str | None) -> None:
    """One metadata folder, named ``name-version``; in a source tree, an ``.egg-info`` of just ``name``."""
    egg = info is None or info.endswith(".egg-info")
    if egg:
        stem = _EGG_TAG.sub("", stem)
    name, dash, version = stem.rpartition("-")
    if not dash:
        name, version = stem, ""
    key = normalised(name)
    earlier = found.get(key)
    if earlier is not None and not (isinstance(earlier, dict) and earlier.pop("only_pth", False)):
        return
    if info is None:
        found[key] = encodable(version) if version else {"broken": True}
        return
    headers = info if egg and not os.path.isdir(info) else f"{info}/{'PKG-INFO' if egg else 'METADATA'}"
    readable = probe(os.stat, headers)
    if not version:
        version = _version_in(headers) or ""
    if readable is None or not readable.st_size or not version or name.startswith("~"):  # ~: an interrupted pip
        found[key] = {"version": encodable(version), "broken": True} if version else {"broken": True}
        return
    version = encodable(version)
    direct = None if egg else _direct(f"{info}/direct_url.json")
    if direct is not None:
        found[key] = {"version": version, **direct}
    elif isinstance(earlier, dict):  # an old-style `__editable__` link to it was seen: keep where it points
        found[key] = {**earlier, "version": version}
    elif egg and not dash and Path(info).absolute().parent.name not in _INSTALLED:
        found[key] = {"version": version, "editable": True, "path": str(Path(info).absolute().parent)}
    else:
        found[key] = version


def _add_link(found: dict[str, _Found], name: str, link: str) -> None:
    """``setup.py develop``: a file whose first line is the source folder, which has the ``.egg-info``."""
    target = (read_text(link, 8192) or "").partition("\n")[0].strip()
    key = normalised(name)
    if key in found:
        return
    infos = (f"{target}/{stem}.egg-info/PKG-INFO" for stem in (name, name.replace("-", "_")))
    version = next(filter(None, map(_version_in, infos)), None) if target else None
    found[key] = (
        {"version": encodable(version), "editable": True, "path": encodable(target)} if version else {"broken": True}
    )


def _add_pth(found: dict[str, _Found], stem: str, pth: str) -> None:
    """An editable install by setuptools, ``__editable__.name-version.pth``, whose metadata has no URL."""
    name, _, version = stem.rpartition("-")
    target = (read_text(pth, 8192) or "").partition("\n")[0].strip()
    key = normalised(name)
    if not name or key in found:
        return
    what: dict[str, Any] = {"version": encodable(version), "editable": True, "only_pth": True}
    if os.path.isabs(target):
        what["path"] = encodable(target)
    found[key] = what


def normalised(name: str) -> str:
    """A package's name as pip compares it."""
    return encodable(re.sub(r"[-_.]+", "-", name).lower())


def _version_in(headers: str) -> str | None:
    match = re.search(r"^Version:\s*(\S+)", read_text(headers, 16_384) or "", re.MULTILINE)
    return match[1] if match else None


def _direct(path: str) -> dict[str, Any] | None:
    """What PEP 610's ``direct_url.json`` says; None without one."""
    try:
        with open(path, "rb", buffering=0) as file:
            raw = file.read(65_536)
    except (OSError, ValueError):
        return None
    return probe(_direct_url, raw)


def _direct_url(raw: bytes) -> dict[str, Any]:
    import json
    from urllib.parse import unquote, urlsplit

    said = json.loads(raw)
    url = str(said["url"])
    what: dict[str, Any] = {}
    if url.startswith("file:"):
        local = unquote(urlsplit(url).path)
        if os.name == "nt":
            local = local.lstrip("/")
        what["path"] = encodable(local)
        what["editable" if said.get("dir_info", {}).get("editable") is True else "local"] = True
    else:
        what["url"] = encodable(url)
    vcs = said.get("vcs_info")
    if isinstance(vcs, dict):
        what |= {"vcs": str(vcs.get("vcs", "git")), "commit": str(vcs["commit_id"])}
        if vcs.get("requested_revision"):
            what["requested"] = encodable(str(vcs["requested_revision"]))
    digest = said.get("archive_info", {}).get("hashes", {}).get("sha256")
    if isinstance(digest, str):
        what["sha256"] = digest
    if isinstance(said.get("subdirectory"), str):
        what["subdirectory"] = encodable(said["subdirectory"])
    return what


def _told(what: dict[str, Any], redactor: Redactor, repositories: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An entry for the record: the commit an editable's repository is at now, and no credential."""
    told = {name: value for name, value in what.items() if name != "only_pth"}
    if told.get("editable") and "path" in told and "commit" not in told:
        path = told["path"]
        if path not in repositories:
            repositories[path] = probe(_repository, Path(path)) or {}
        told |= repositories[path]
    if "url" in told:
        told["url"] = probe(redactor.url, told["url"]) or "[redacted]"
    return told


def _repository(folder: Path) -> dict[str, Any]:
    """Commit and remote of the repository that holds ``folder``, by reading git's files: no process is started."""
    root = next((up for up in (folder, *folder.parents) if (up / ".git").exists()), None)
    if root is None:
        return {}
    git = root / ".git"
    if git.is_file():  # a worktree or a submodule
        git = root / (read_text(git, 4096) or "").removeprefix("gitdir:").strip()
    common = git / (read_text(git / "commondir", 4096) or ".").strip()
    head = (read_text(git / "HEAD", 4096) or "").strip()
    refs = (line.partition(" ") for line in (read_text(common / "packed-refs", 16_000_000) or "").splitlines())
    packed = {ref: commit for commit, _, ref in refs if commit != "#"}
    if head.startswith("ref:"):
        ref = head[4:].strip()
        commit = (read_text(git / ref, 128) or read_text(common / ref, 128) or packed.get(ref, "")).strip()
    else:
        commit = head
    if not _COMMIT.fullmatch(commit):
        return {"vcs": "git"}
    told: dict[str, Any] = {"vcs": "git", "commit": commit}
    config = re.search(
        r'^\[remote "origin"\]\n(?:[ \t]+.*\n)*?[ \t]+url *= *(.+)$', read_text(common / "config") or "", re.MULTILINE
    )
    if config:
        told["url"] = encodable(config[1].strip())
        tips = {commit for ref, commit in packed.items() if ref.startswith("refs/remotes/")}
        loose = (read_text(file, 128) for file in list((common / "refs/remotes").rglob("*"))[:2000] if file.is_file())
        told["pushed"] = commit in tips or any(tip is not None and tip.strip() == commit for tip in loose)
        if folder != root:
            told["subdirectory"] = encodable(folder.relative_to(root).as_posix())
    return told


def _requirement(name: str, what: Json) -> str:
    entry: dict[str, Any] = what if isinstance(what, dict) else {"version": what}
    version, url, commit = (str(entry.get(key) or "") for key in ("version", "url", "commit"))
    comment = _one_line(f"# {name}: version {version or 'unknown'}")
    if entry.get("broken") or not _NAME.fullmatch(name):
        return _one_line(f"{comment}, its metadata is broken")
    source = _git_url(url) if entry.get("vcs") == "git" else ""
    below = f"subdirectory={entry['subdirectory']}" if entry.get("subdirectory") else ""
    if entry.get("editable"):
        line = f"-e {source}@{commit}#egg={name}" + (f"&{below}" if below else "")
        if source and commit and _plain(line[3:]) and entry.get("pushed") is not False:
            return line
        at = f", commit {commit}" if commit else ""
        return _one_line(f"{comment}, editable from {entry.get('path', 'an unknown folder')}{at}")
    if source and commit:
        line = f"{source}@{commit}" + (f"#{below}" if below else "")
        return f"{name} @ {line}" if _plain(line) else _one_line(f"{comment}, from {line}")
    if url:
        vcs = f"{entry['vcs']}+" if entry.get("vcs") else ""
        line = f"{vcs}{url}" + (f"@{commit}" if commit else "")
        digest = f"#sha256={entry['sha256']}" if entry.get("sha256") else ""
        return f"{name} @ {line}{digest}" if _plain(line + digest) else _one_line(f"{comment}, from {line}")
    if entry.get("local"):
        return _one_line(f"{comment}, installed from {entry.get('path')}")
    public, plus, _ = version.partition("+")
    if not _VERSION.fullmatch(public):
        return comment
    return _one_line(f"{name}=={public}  # installed: {version}") if plus else f"{name}=={public}"


def _git_url(url: str) -> str:
    """The URL as pip wants it: ``git+…``, and ``host:path`` written out as ssh."""
    short = re.fullmatch(r"((?:[\w.-]+@)?[\w.-]+):(?!//)([^\s]+)", url)
    if short:
        return f"git+ssh://{short[1]}/{short[2].lstrip('/')}"
    return f"git+{url}" if re.match(r"(?:https?|ssh|git)://", url) else ""


def _plain(line: str) -> bool:
    """Whether a URL stands in a requirements line as it is: no blanks, nothing cut out by the redactor."""
    return re.fullmatch(r"[!-~]+", line) is not None and "[redacted]" not in line and "${" not in line


def _one_line(text: str) -> str:
    """No line break of a hostile name may become a line that pip obeys."""
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", "?", encodable(text)).rstrip("\\")
