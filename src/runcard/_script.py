"""A rerun as a plain shell script, which needs git, Python and pip, and no runcard command."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any

from runcard._conditions import relative, variables
from runcard._plan import plan
from runcard._recorded_code import CannotRebuildError, code_of, read_patch
from runcard._script_call import call_source
from runcard.capture.command import arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard._plan import Plan
    from runcard.record import RunRecord


def script(record: RunRecord, *, changes: Mapping[str, Any] | None = None) -> str:
    """A shell script that runs a run again: clone, patch, environment, inputs checked, then the call.

    ``sh again.sh [REPOSITORY [FOLDER]]`` clones the repository (a path or URL; by default the working directory's,
    when it has the commit, else the recorded remote) into the folder. The recorded code may import runcard, which is
    then among the packages.

    Args:
        record: The run.
        changes: Settings to change, by dotted path.

    Raises:
        CannotRebuildError: When there is no commit, or nothing to call.
    """
    planned = plan(record, changes=changes, venv=True)
    git = code_of(record)
    stops = [obstacle.why for obstacle in planned.cannot if obstacle.stops and "cannot be found" not in obstacle.why]
    if planned.commit is None and not stops:
        stops = ["there is no commit to clone"]
    if stops:
        raise CannotRebuildError(f"{record.short_id} cannot be written as a script: {'; '.join(stops)}")
    root = str(git.get("root") or "")
    parts = [
        _head(record, planned),
        _clone(record, planned, git),
        _patch(read_patch(record)),
        _packages(record, planned),
        _inputs(planned, root),
        _variables(record),
        _call(record, planned, root),
        _result(record),
    ]
    return "\n".join(part for part in parts if part)


def _head(record: RunRecord, planned: Plan) -> str:
    lines = [
        "#!/bin/sh",
        f"# Runs {record.run_id} ({comment(record.name)}) again, from what was recorded of it.",
        "#   sh again.sh [REPOSITORY [FOLDER]]",
        "# REPOSITORY: a clone or URL that has the commit. FOLDER: where to work, not there yet.",
        "# Needs git, python and pip. PYTHON=python3.11 chooses the interpreter, and SKIP_VENV=1",
        "# uses it as it is, without installing anything.",
    ]
    if planned.cannot:
        lines.append("# What cannot be had again, so that the result may differ:")
        lines += [f"#   {comment(obstacle.why)}" for obstacle in planned.cannot]
    return "\n".join([*lines, "set -eu", ""])


def _clone(record: RunRecord, planned: Plan, git: Mapping[str, object]) -> str:
    remote = str(git.get("remote") or git.get("root") or "")
    commit = str(planned.commit)
    return f"""commit={commit}
if git cat-file -e "$commit" 2>/dev/null; then here=$(git rev-parse --git-dir); else here={quoted(remote)}; fi
repository=${{1:-$here}}
work=${{2:-{quoted(f"again-{record.short_id}")}}}
mkdir "$work"
work=$(cd "$work" && pwd)
code=$work/code

# The code: the commit, with the changes that were not committed.
git clone --quiet --no-checkout -- "$repository" "$code"
git -C "$code" -c core.autocrlf=false checkout --quiet --detach "$commit"
"""


def _patch(patch: bytes) -> str:
    if not patch:
        return ""
    end = "END_OF_PATCH"
    while end.encode() in patch:
        end += "_"
    text = patch.decode("utf-8", "replace")
    if text.encode() == patch and patch.endswith(b"\n") and b"\0" not in patch and b"\r" not in patch:
        return f"git -C \"$code\" apply --whitespace=nowarn - <<'{end}'\n{text}{end}\n"
    import base64

    lines = base64.encodebytes(patch).decode("ascii")
    decode = "import base64, sys; sys.stdout.buffer.write(base64.b64decode(sys.stdin.read()))"
    return (
        "# The patch is binary, so that it stands here in base64.\n"
        f'"${{PYTHON:-python3}}" -c {quoted(decode)} <<\'{end}\' > "$work/diff.patch"\n{lines}{end}\n'
        'git -C "$code" apply --whitespace=nowarn "$work/diff.patch"\n'
    )


def _packages(record: RunRecord, planned: Plan) -> str:
    from runcard.capture.packages import requirements

    packages = dict(record.environment.get("packages") or {})
    root = str(code_of(record).get("root") or "")
    own, local = [], []
    for name, what in list(packages.items()):
        path = what.get("path") if isinstance(what, dict) and what.get("editable") else None
        inside = relative(str(path), root) if path else None
        if inside is not None:
            del packages[name]
            own.append(inside)
        elif path and isinstance(what, dict) and what.get("commit") and what.get("pushed") is not True:
            below = f"#subdirectory={what['subdirectory']}" if what.get("subdirectory") else ""
            folder = str(path).removesuffix(f"/{what.get('subdirectory')}")
            local.append(f"git+file://{folder}@{what['commit']}{below}")  # what only this machine has
    listed = requirements(packages)
    minor = ".".join((planned.python or "3").split(".")[:2])
    lines = [
        f"# The environment: Python {planned.python or 'of an unknown version'} with these packages.",
        f"python=${{PYTHON:-$(command -v python{minor} || command -v python3)}}",
        'if [ -z "${SKIP_VENV:-}" ]; then',
        '  "$python" -m venv "$work/venv"',
        "  python=$work/venv/bin/python",
        "  cat > \"$work/requirements.txt\" <<'END_OF_PACKAGES'",
        listed.rstrip("\n"),
        "END_OF_PACKAGES",
        '  "$python" -m pip install --quiet -r "$work/requirements.txt"',
        *(f'  "$python" -m pip install --quiet --no-deps -e {_below(inside)}' for inside in own),
        *(f'  "$python" -m pip install --quiet --no-deps {quoted(url)}' for url in local),
        "fi",
        "",
    ]
    return "\n".join(lines)


def _inputs(planned: Plan, root: str) -> str:
    wanted = [entry for entry in planned.inputs if entry["sha256"] and entry["state"] != "in the code"]
    if not wanted:
        return ""
    lines = [
        "# The inputs: each is compared with its recorded hash; those of the code's folder are copied into it.",
        "check() {",
        f'  now=$("$python" -c {quoted(_HASH)} "$1" 2>/dev/null || echo missing)',
        '  [ "$now" = "$2" ] || echo "warning: $1 is not what it was ($now)" >&2',
        "}",
    ]
    for entry in wanted:
        path, inside = str(entry["path"]), relative(str(entry["path"]), root)
        if inside is not None:
            target = _below(inside)
            lines.append(f'mkdir -p "$(dirname {target})" && [ -e {target} ] || cp {quoted(path)} {target} || true')
            lines.append(f"check {target} {entry['sha256']}")
        else:
            lines.append(f"check {quoted(path)} {entry['sha256']}")
    return "\n".join([*lines, ""])


def _variables(record: RunRecord) -> str:
    found = variables(record)
    if not found:
        return ""
    lines = [f"export {name}={quoted(value)}" for name, value in found.items() if re.fullmatch(r"\w+", name)]
    return "\n".join(["# What decides results.", *lines, ""])


def _call(record: RunRecord, planned: Plan, root: str) -> str:
    command: Mapping[str, Any] = record.environment.get("command") or {}
    inside = relative(str(command.get("cwd") or ""), root)
    cwd = _below(inside) if inside is not None else '"$work"'
    lines = ["# The run.", f"mkdir -p {cwd} && cd {cwd}"]
    if planned.how == "function":
        source = call_source(record, planned, root)
        end = "END_OF_CALL"
        while end in source:
            end += "_"
        lines += [
            f"cat > \"$work/call.py\" <<'{end}'",
            source.rstrip("\n"),
            end,
            'CODE=$code "$python" "$work/call.py"',
        ]
    else:
        words = [str(word) for word in command.get("orig_argv") or ()][1:]
        if words and command.get("kind") == "script":  # by its own path: the program may have changed its folder
            words[-len(arguments(["", *words])) - 1] = str(command.get("entry"))
        lines.append(" ".join(['"$python"', *(_word(word, root) for word in words)]))
    return "\n".join([*lines, ""])


def _word(word: str, root: str) -> str:
    """A word of the command line; a path inside the code, as it lies now."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    inside = relative(value, root) if os.path.isabs(value) else None
    if inside is None:
        return quoted(word)
    return f"{quoted(option + equals) if option else ''}{_below(inside)}"


def _result(record: RunRecord) -> str:
    lines = ["# What came out, the first time:"]
    lines += [f"#   {comment(name)} = {value!r}" for name, value in list(record.metrics.items())[:50]]
    return "\n".join([*lines, ""]) if len(lines) > 1 else ""


_HASH = 'import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], "rb"), "sha256").hexdigest())'


def _below(inside: str) -> str:
    """A path below the code, as a word of the shell."""
    return '"$code"' if inside == "." else f'"$code"/{quoted(inside)}'


def quoted(text: str) -> str:
    """A text as one word of a shell."""
    return shlex.quote(text.replace("\0", ""))


def comment(text: str) -> str:
    """A text that stays on its line of comment."""
    return re.sub(r"[^\x20-\x7e\xa0-\u2027\u202f-\ud7ff\ue000-\ufffd]", "?", text)[:300]
